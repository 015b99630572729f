import assert from "node:assert/strict";
import { test } from "node:test";
import { Client } from "../src/client.ts";
import type { TokenSource } from "../src/signalling.ts";
import { Server } from "./support/server.ts";
import { VirtualClock } from "./support/virtual-time.ts";

/** A connected client whose server renews tokens. */
async function connected(token: TokenSource) {
  const clock = new VirtualClock();
  const server = new Server();
  server.rules.refresh = () => ({ ok: {} });
  const client = new Client({ url: "ws://server/ws", peer: "me", token }, clock, server.connect, async () => ({}));
  await clock.advance(0);
  const refreshed = () => server.of("refresh").map(({ data }) => data.access_token);
  return { clock, server, client, refreshed };
}

/** Tokens `t0`, `t1`, … */
function numbered(): () => string {
  let n = 0;
  return () => `t${n++}`;
}

test("a token that nears its end is renewed on the live connection, well before", async () => {
  const { clock, server, refreshed } = await connected(numbered());
  server.last.notify("token-expiring", { inMs: 60_000 });
  await clock.advance(20_000);
  assert.deepEqual(refreshed(), ["t1"]);
  await clock.advance(40_000);
  server.last.notify("token-expiring", { inMs: 60_000 });
  await clock.advance(20_000);
  assert.deepEqual(refreshed(), ["t1", "t2"]);
  assert.equal(server.connections.length, 1);
});

test("clients whose tokens end together do not ask for others all at once", async () => {
  const { clock, server, refreshed } = await connected(numbered());
  clock.draw = () => 0.9;
  server.last.notify("token-expiring", { inMs: 60_000 });
  await clock.advance(17_999);
  assert.deepEqual(refreshed(), []);
  await clock.advance(1);
  assert.deepEqual(refreshed(), ["t1"]);
});

test("what fails is tried again until the token has ended, then no more", async () => {
  let n = 0;
  const { clock, server, refreshed } = await connected(() => {
    if (n++ > 0) throw new Error("no login");
    return "t0";
  });
  server.last.notify("token-expiring", { inMs: 30_000 });
  await clock.advance(30_000);
  const asked = n;
  assert.ok(asked > 4, `asked ${asked} times`);
  await clock.advance(60_000);
  assert.equal(n, asked);
  assert.deepEqual(refreshed(), []);
});

test("a server that refuses for now is asked again; one that knows no refresh is not", async () => {
  const { clock, server, refreshed } = await connected(numbered());
  server.rules.refresh = () => ({ error: 11, name: "store_unavailable" });
  server.last.notify("token-expiring", { inMs: 60_000 });
  await clock.advance(30_000);
  assert.ok(refreshed().length > 1);
  const old = await connected(numbered());
  old.server.rules.refresh = () => ({ error: -1, name: "unknown_method" });
  old.server.last.notify("token-expiring", { inMs: 60_000 });
  await old.clock.advance(60_000);
  assert.deepEqual(old.refreshed(), ["t1"]);
});

test("a lost connection ends the renewal: the next one has a fresh token anyway", async () => {
  const { clock, server, refreshed } = await connected(numbered());
  server.last.notify("token-expiring", { inMs: 60_000 });
  server.last.drop();
  await clock.advance(60_000);
  assert.deepEqual(refreshed(), []);
  assert.deepEqual(server.connections[1]?.protocols, ["protoo", "bearer.t1"]);
});

test("a token that is text has no successor, and nonsense from the server is no reason to ask for one", async () => {
  const text = await connected("only");
  text.server.last.notify("token-expiring", { inMs: 60_000 });
  const { clock, server, refreshed } = await connected(numbered());
  for (const inMs of [0, -1, "soon", null]) server.last.notify("token-expiring", { inMs });
  await text.clock.advance(60_000);
  await clock.advance(60_000);
  assert.deepEqual([...text.refreshed(), ...refreshed()], []);
});

test("closing while a token is renewed leaves no timer", async () => {
  const { clock, server, client } = await connected(numbered());
  server.last.notify("token-expiring", { inMs: 60_000 });
  const closing = client.close();
  await clock.advance(0);
  await closing;
  assert.equal(clock.pending, 0);
});
