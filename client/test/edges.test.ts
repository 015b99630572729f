import assert from "node:assert/strict";
import { test } from "node:test";
import { Client } from "../src/client.ts";
import { Edges } from "../src/edges.ts";
import { Server } from "./support/server.ts";
import { VirtualClock } from "./support/virtual-time.ts";

const URLS = ["wss://a.example/ws", "wss://b.example/ws", "wss://c.example/ws"];

/** A sequence that looks random and is the same in each run. */
function seeded(seed: number): () => number {
  let state = seed;
  return () => {
    state = (state * 48_271) % 0x7fffffff;
    return state / 0x7fffffff;
  };
}

/** A client of three edges, in a room. */
async function inRoom(draw = seeded(7)) {
  const clock = new VirtualClock();
  clock.draw = draw;
  const server = new Server();
  server.rules.join = () => ({ ok: { users: [], pubs: [], session: "s", epoch: "e", seq: 3 } });
  server.rules.keepalive = () => ({ ok: {} });
  const client = new Client({ url: URLS, peer: "me" }, clock, server.connect, async () => ({}));
  const room = client.room("tea");
  const done = room.join();
  await clock.advance(0);
  await done;
  const hosts = () => server.connections.map(({ url }) => new URL(url).host);
  return { clock, server, client, room, hosts };
}

test("every edge has its turn before one is tried again", () => {
  const edges = new Edges(URLS, seeded(3));
  const tried = URLS.map(() => {
    const { current } = edges;
    edges.next();
    return current;
  });
  assert.deepEqual([...tried].sort(), URLS);
  assert.equal(edges.current, tried[0]);
});

test("clients spread over all edges, and those of a dead edge over all that are left", () => {
  const random = seeded(11);
  const first = new Map<string, number>();
  const second = new Map<string, number>();
  for (let i = 0; i < 3_000; i++) {
    const edges = new Edges(URLS, random);
    first.set(edges.current, (first.get(edges.current) ?? 0) + 1);
    if (edges.current !== URLS[0]) continue;
    edges.next();
    second.set(edges.current, (second.get(edges.current) ?? 0) + 1);
  }
  for (const url of URLS) assert.ok(Math.abs((first.get(url) ?? 0) - 1_000) < 150, `${url} has ${first.get(url)}`);
  assert.equal(second.get(URLS[0] as string), undefined);
  for (const count of second.values()) assert.ok(Math.abs(count - 500) < 150, `${count}`);
});

test("a connection that dies is resumed on another edge, where the room goes on from what was seen last", async () => {
  const { clock, server, room, hosts } = await inRoom();
  server.last.notify("peer-join", { rid: "tea", uid: "bob", epoch: "e", seq: 4 });
  server.last.drop();
  await clock.advance(1_000);
  assert.equal(hosts().length, 2);
  assert.notEqual(hosts()[0], hosts()[1]);
  assert.deepEqual(server.of("join")[1]?.data, { rid: "tea", session: "s", since: { epoch: "e", seq: 4 } });
  assert.equal(room.state, "connected");
});

test("an edge that goes away is left for another within half a second, however bad the time before was", async () => {
  const { clock, server, room, hosts } = await inRoom();
  server.accepting = false;
  server.last.drop();
  for (let i = 0; i < 9; i++) {
    await clock.advance(20_000);
    server.last.drop();
  }
  server.accepting = true;
  await clock.advance(20_000);
  assert.equal(room.state, "connected");
  await clock.advance(1_000);
  const before = hosts().length;
  server.last.drop(1001, "going away");
  await clock.advance(500);
  assert.equal(hosts().length, before + 1);
  assert.notEqual(hosts()[before], hosts()[before - 1]);
  assert.equal(room.state, "connected");
});

test("edges that send everybody away at once are asked ever more slowly", async () => {
  const { clock, server } = await inRoom();
  server.accepting = false;
  server.last.drop(1001);
  const busy = async (ms: number) => {
    const before = server.connections.length;
    for (let i = 0; i < ms / 10; i++) {
      await clock.advance(10);
      const { last } = server;
      if (last.readyState !== 0) continue;
      last.open();
      last.drop(1001);
    }
    return server.connections.length - before;
  };
  const first = await busy(10_000);
  await busy(120_000);
  const later = await busy(10_000);
  assert.ok(first > 2 * later && later >= 1, `${first} connections in the first 10 s, ${later} two minutes later`);
});

test("what is taken too slowly is not asked for again before a second has passed", async () => {
  const { clock, server, hosts } = await inRoom(() => 0);
  server.last.drop(1013, "too slow");
  await clock.advance(999);
  assert.equal(hosts().length, 1);
  await clock.advance(1);
  assert.equal(hosts().length, 2);
});

test("with all edges out of reach each is tried within two seconds, and again without end", async () => {
  const { clock, server, hosts } = await inRoom(() => 0.999);
  server.accepting = false;
  server.last.drop();
  const refuse = async (ms: number) => {
    for (let i = 0; i < ms / 10; i++) {
      await clock.advance(10);
      if (server.last.readyState === 0) server.last.drop();
    }
  };
  await refuse(2_000);
  assert.deepEqual(new Set(hosts()).size, 3);
  await refuse(600_000);
  const before = hosts().length;
  await refuse(60_000);
  const more = hosts().length - before;
  assert.ok(more >= 3 && more <= 4, `${more} tries a minute`);
});

test("an edge that does not even refuse is left for the next after 5 s", async () => {
  const { clock, server, hosts } = await inRoom(() => 0);
  server.accepting = false;
  server.last.drop();
  await clock.advance(4_999);
  assert.equal(hosts().length, 2);
  await clock.advance(1);
  assert.equal(hosts().length, 3);
});

test("a token that takes longer than an edge may take to open costs no edge its turn", async () => {
  const clock = new VirtualClock();
  const server = new Server();
  server.accepting = false;
  let asked = 0;
  const token = () => {
    asked += 1;
    return new Promise<string>((resolve) => clock.setTimer(() => resolve(`token-${asked}`), 9_000));
  };
  const client = new Client({ url: URLS, peer: "me", token }, clock, server.connect, async () => ({}));
  await clock.advance(9_000);
  assert.equal(server.connections.length, 1);
  // The edge has its whole time.
  await clock.advance(4_999);
  assert.equal(server.last.closed, false);
  server.last.open();
  assert.equal(client.state.name, "open");
  assert.equal(asked, 1);
});

test("a token that does not come within 10 s is told, and the same edge is tried with the next", async () => {
  const clock = new VirtualClock();
  const server = new Server();
  let asked = 0;
  const token = () => (++asked === 1 ? new Promise<string>(() => {}) : "token");
  const { current: first } = new Edges(URLS, clock.random);
  const client = new Client({ url: URLS, peer: "me", token }, clock, server.connect, async () => ({}));
  await clock.advance(10_000);
  assert.ok(client.state.name === "reconnecting");
  assert.equal(client.state.error?.name, "token_unavailable");
  await clock.advance(500);
  assert.equal(client.state.name, "open");
  assert.deepEqual(server.connections.map(({ url }) => new URL(url).host), [new URL(first).host]);
});

test("a list without an address, or with a bad one, is refused at once", () => {
  for (const url of [[], ["ftp://calls.example"], ["wss://a.example/ws", "nonsense://"]]) {
    const make = () => new Client({ url, peer: "me" }, new VirtualClock(), new Server().connect, async () => ({}));
    assert.throws(make, { name: "bad_url" });
  }
});
