import assert from "node:assert/strict";
import { test } from "node:test";
import { Client } from "../src/client.ts";
import type { JsonObject } from "../src/frames.ts";
import { Server } from "./support/server.ts";
import { VirtualClock } from "./support/virtual-time.ts";

const EVENTS = ["peer-joined", "peer-left", "stream-added", "stream-removed", "stream-updated"] as const;

function bench(token?: () => string) {
  const clock = new VirtualClock();
  const server = new Server();
  server.rules.join = () => ({ ok: joined(3) });
  server.rules.keepalive = () => ({ ok: {} });
  server.rules.leave = () => ({ ok: {} });
  const client = new Client(
    { url: "ws://server/ws", peer: "me", ...(token ? { token } : {}) },
    clock,
    server.connect,
    async () => ({}),
  );
  const room = client.room("tea");
  const heard: string[] = [];
  for (const type of EVENTS) {
    room.on(type, (event) => heard.push(`${type} ${"uid" in event ? event.uid : event.stream.mid}`));
  }
  room.on("state", ({ state, error }) => heard.push(error ? `${state} ${error.name}` : state));
  room.on("broadcast", ({ uid, data }) => heard.push(`${uid} says ${JSON.stringify(data)}`));
  room.on("kicked", ({ reason }) => heard.push(`kicked ${reason}`));
  room.on("resynced", () => heard.push("resynced"));
  return { clock, server, client, room, heard };
}

function joined(seq: number, more: JsonObject = {}): JsonObject {
  const pubs = [{ mid: "bob#1", uid: "bob", sfuid: "s", minfo: { audio: true, video: true, videotype: 1 } }];
  return {
    users: [{ uid: "bob" }],
    pubs,
    own: { pubs: [], subs: [] },
    session: "s",
    epoch: "e",
    seq,
    ...more,
  };
}

async function inRoom() {
  const all = bench();
  const done = all.room.join();
  await all.clock.advance(0);
  await done;
  all.heard.length = 0;
  return all;
}

test("joining tells of everybody and everything that is there", async () => {
  const { clock, room, heard } = bench();
  const done = room.join();
  await clock.advance(0);
  await done;
  assert.deepEqual(heard, ["connecting", "peer-joined bob", "stream-added bob#1", "connected"]);
  assert.deepEqual(room.peers, ["bob"]);
  assert.equal(room.streams[0]?.source, "screen");
});

test("joining waits for a server out of reach, however long, and keeps saying so", async () => {
  const { clock, server, room, heard } = bench();
  server.accepting = false;
  let there = false;
  void room.join().then(() => {
    there = true;
  });
  await clock.advance(600_000);
  assert.equal(there, false);
  assert.ok(heard.length > 5 && heard.every((state) => state === "connecting"));
  server.accepting = true;
  await clock.advance(60_000);
  assert.equal(there, true);
});

test("joining a room that refuses rejects with the refusal", async () => {
  const { clock, server, room, heard } = bench();
  server.rules.join = () => ({ error: 403, name: "forbidden" });
  const outcome = assert.rejects(room.join(), { code: 403, name: "forbidden" });
  await clock.advance(0);
  await outcome;
  assert.deepEqual(heard, ["connecting", "closed forbidden"]);
});

test("a stream's object stays the same while it is muted and unmuted", async () => {
  const { server, room, heard } = await inRoom();
  const [stream] = room.streams;
  const minfo = { audio: true, video: true, videotype: 1, muted: { audio: true } };
  server.last.notify("stream-update", { rid: "tea", uid: "bob", mid: "bob#1", minfo, epoch: "e", seq: 4 });
  assert.deepEqual(heard, ["stream-updated bob#1"]);
  assert.deepEqual(stream?.muted, { audio: true, video: false });
  assert.equal(room.streams[0], stream);
});

test("broadcasts come once each, in the order of the room", async () => {
  const { server, heard } = await inRoom();
  for (const seq of [4, 5, 5, 4, 7]) {
    server.last.notify("broadcast", { rid: "tea", uid: "bob", data: { n: seq }, epoch: "e", seq });
  }
  assert.deepEqual(heard, ['bob says {"n":4}', 'bob says {"n":5}', 'bob says {"n":7}']);
});

test("another room's notifications on the same connection are not this room's", async () => {
  const { server, heard } = await inRoom();
  server.last.notify("peer-join", { rid: "coffee", uid: "eve", epoch: "e", seq: 4 });
  assert.deepEqual(heard, []);
});

test("a resumed connection changes nothing on the screen", async () => {
  const { clock, server, heard } = await inRoom();
  server.last.drop();
  await clock.advance(1_000);
  assert.deepEqual(
    heard.filter((event) => event !== "reconnecting"),
    ["connected"],
  );
});

test("after a resync only what differs is told, and that it was one", async () => {
  const { clock, server, heard } = await inRoom();
  server.rules.join = () => ({
    ok: joined(1, { epoch: "f", resync: true, users: [{ uid: "bob" }, { uid: "eve" }] }),
  });
  server.last.drop();
  await clock.advance(1_000);
  assert.deepEqual(
    heard.filter((event) => event !== "reconnecting"),
    ["peer-joined eve", "connected", "resynced"],
  );
});

test("a stream of one's own that nobody here knows is taken off the server", async () => {
  const { clock, server, room } = bench();
  server.rules.join = () => ({ ok: joined(3, { own: { pubs: [{ mid: "me#1" }], subs: [] } }) });
  void room.join();
  await clock.advance(0);
  assert.equal(server.of("unpublish")[0]?.data.mid, "me#1");
});

test("put out is out: told once, and not tried again", async () => {
  const { clock, server, heard } = await inRoom();
  server.last.notify("peer-kick", { rid: "tea", uid: "me", reason: "newer connection" });
  server.last.drop(4000, "kicked");
  await clock.advance(3_600_000);
  assert.deepEqual(heard, ["kicked newer connection", "closed refused"]);
  assert.equal(server.connections.length, 1);
});

test("someone else put out is none of our business", async () => {
  const { server, heard, room } = await inRoom();
  server.last.notify("peer-kick", { rid: "tea", uid: "bob", reason: "x" });
  assert.deepEqual(heard, []);
  assert.equal(room.state, "connected");
});

test("what needs a joined room says so before and after", async () => {
  const { room } = bench();
  await assert.rejects(room.broadcast("x"), { name: "closed" });
  await assert.rejects(room.subscribe("bob#1"), { name: "closed" });
  const { room: left, clock } = await inRoom();
  await assert.rejects(left.subscribe("nobody#1"), { name: "bad_mid" });
  await assert.rejects(left.publish({ source: "camera" }), { name: "unsupported" });
  const leaving = left.leave();
  await clock.advance(0);
  await leaving;
  await assert.rejects(left.broadcast("x"), { name: "closed" });
  await assert.rejects(left.join(), { name: "closed" });
});

test("closing leaves every room, then the connection, and leaves no timer", async () => {
  const { clock, server, client, heard } = await inRoom();
  const closing = client.close();
  await clock.advance(0);
  await closing;
  assert.equal(server.of("leave").length, 1);
  assert.equal(server.last.closed, true);
  assert.equal(clock.pending, 0);
  assert.deepEqual(heard, ["closed"]);
});

test("a token about to expire is replaced on the live connection", async () => {
  let n = 0;
  const { clock, server, room } = bench(() => `token-${n++}`);
  server.rules.refresh = () => ({ ok: {} });
  void room.join();
  await clock.advance(0);
  server.last.notify("token-expiring", { inMs: 60_000 });
  await clock.advance(0);
  assert.deepEqual(server.of("refresh")[0]?.data, { access_token: "token-1" });
});

test("a peer or room the server would refuse is refused at once", () => {
  const { client } = bench();
  for (const name of ["", "a/b", "a#b", "a\nb", "x".repeat(129)]) {
    assert.throws(() => client.room(name), { name: "not_in_room" });
    assert.throws(
      () =>
        new Client(
          { url: "ws://s/", peer: name },
          new VirtualClock(),
          () => assert.fail(),
          async () => ({}),
        ),
      {
        name: "bad_uid",
      },
    );
  }
});

test("a connection without a room is kept alive as well", async () => {
  const clock = new VirtualClock();
  const server = new Server();
  server.rules.keepalive = () => ({ error: 2, name: "not_in_room" });
  const client = new Client({ url: "ws://server/ws", peer: "me" }, clock, server.connect, async () => ({}));
  await clock.advance(120_000);
  assert.equal(server.connections.length, 1);
  assert.equal(client.state.name, "open");
});
