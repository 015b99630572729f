import assert from "node:assert/strict";
import { test } from "node:test";
import { Client } from "../src/client.ts";
import type { Room } from "../src/room.ts";
import { held } from "./support/memory.ts";
import { Server } from "./support/server.ts";
import { VirtualClock } from "./support/virtual-time.ts";

const ROOMS = ["tea", "coffee", "cake"];

function bench() {
  const clock = new VirtualClock();
  const server = new Server();
  server.rules = {
    join: () => ({ ok: { users: [], pubs: [], own: { pubs: [], subs: [] }, session: "s", epoch: "e", seq: 3 } }),
    keepalive: () => ({ ok: {} }),
    leave: () => ({ ok: {} }),
  };
  const client = new Client({ url: "ws://server/ws", peer: "me" }, clock, server.connect, async () => ({}));
  /** Asks to join them all; nothing here keeps one that `then` does not. */
  const join = async (then: (room: Room) => void = () => undefined): Promise<WeakRef<Room>[]> => {
    const references = ROOMS.map((name) => {
      const room = client.room(name);
      room.join().catch(() => undefined);
      return new WeakRef(room);
    });
    await clock.advance(0);
    for (const reference of references) then(reference.deref() as Room);
    await clock.advance(0);
    return references;
  };
  return { clock, server, client, join };
}

test("a room is kept while it is joined, and forgotten when it was left", async () => {
  const { clock, server, client, join } = bench();
  const rooms = await join();
  assert.equal(await held(rooms), ROOMS.length);
  for (const name of ROOMS) void client.room(name).leave();
  await clock.advance(0);
  assert.equal(server.of("leave").length, ROOMS.length);
  assert.equal(await held(rooms), 0);
  assert.equal(client.state.name, "open");
});

test("a room that did not let in, or put out, is forgotten", async () => {
  const refusing = bench();
  refusing.server.rules.join = () => ({ error: 403, name: "forbidden" });
  assert.equal(await held(await refusing.join()), 0);
  assert.equal(refusing.client.state.name, "open");
  const putting = bench();
  const rooms = await putting.join();
  for (const rid of ROOMS) putting.server.last.notify("peer-kick", { rid, uid: "me", reason: "enough", epoch: "e", seq: 4 });
  await putting.clock.advance(0);
  assert.equal(await held(rooms), 0);
  assert.equal(putting.client.state.name, "open");
});

test("a room that could not be told that it was left is forgotten with the connection", async () => {
  const { clock, server, client, join } = bench();
  server.rules.leave = () => undefined;
  const rooms = await join((room) => void room.leave());
  await clock.advance(5_000);
  server.last.drop();
  await clock.advance(10_000);
  assert.equal(client.state.name, "open");
  assert.equal(await held(rooms), 0);
});

test("of a room that is joined again before it was told that it was left, only the former is forgotten", async () => {
  const { clock, server, client, join } = bench();
  server.rules.leave = () => undefined;
  const former = await join((room) => void room.leave());
  const present = await join();
  for (const request of server.of("leave")) server.last.answer(request, { ok: {} });
  await clock.advance(0);
  assert.equal(await held(former), 0);
  assert.equal(await held(present), ROOMS.length);
  // And when that one is left in its turn, the goodbye is its own: it is repeated as any other.
  for (const name of ROOMS) void client.room(name).leave();
  const before = server.of("leave").length;
  await clock.advance(30_000);
  assert.ok(server.of("leave").length > before);
});
