import assert from "node:assert/strict";
import { test } from "node:test";
import { Signalling, type SignallingState, type TokenSource } from "../src/signalling.ts";
import { Server } from "./support/server.ts";
import { VirtualClock } from "./support/virtual-time.ts";

function bench(token?: TokenSource) {
  const clock = new VirtualClock();
  const server = new Server();
  const signalling = new Signalling({
    url: "ws://server/ws",
    peer: "me & you",
    token,
    clock,
    socket: server.connect,
  });
  const states: SignallingState["name"][] = [];
  signalling.on("state", (state) => {
    states.push(state.name);
  });
  return { clock, server, signalling, states };
}

test("it names the peer and offers protoo", async () => {
  const { clock, server, signalling } = bench();
  signalling.start();
  await clock.advance(0);
  assert.equal(server.last.url, "ws://server/ws?peer=me+%26+you");
  assert.deepEqual(server.last.protocols, ["protoo"]);
});

test("a token goes as a subprotocol, where no access log sees it", async () => {
  const { clock, server, signalling } = bench("aa.bb-_.cc");
  signalling.start();
  await clock.advance(0);
  assert.deepEqual(server.last.protocols, ["protoo", "bearer.aa.bb-_.cc"]);
  assert.ok(!server.last.url.includes("token"));
});

test("a token that is no subprotocol goes into the query", async () => {
  const { clock, server, signalling } = bench("a b=");
  signalling.start();
  await clock.advance(0);
  assert.equal(new URL(server.last.url).searchParams.get("access_token"), "a b=");
});

test("a provider is asked for each connection; one that fails or hangs only costs that try", async () => {
  const answers = [
    () => "one",
    () => Promise.reject(new Error("away")),
    () => new Promise<string>(() => {}),
    () => "four",
  ];
  let asked = 0;
  const { clock, server, signalling } = bench(() => (answers[asked++] ?? (() => "more"))());
  signalling.start();
  await clock.advance(0);
  server.last.drop();
  await clock.advance(30_000);
  assert.equal(asked, 4);
  assert.deepEqual(
    server.connections.map((connection) => connection.protocols[1]),
    ["bearer.one", "bearer.four"],
  );
});

test("states tell of connecting, of waiting with its time, and of the end", async () => {
  const { clock, server, signalling, states } = bench();
  signalling.start();
  await clock.advance(0);
  server.last.drop();
  assert.deepEqual(signalling.state, { name: "reconnecting", retryInMs: 250 });
  await clock.advance(1_000);
  signalling.stop("done");
  assert.deepEqual(states, ["open", "reconnecting", "reconnecting", "open", "closed"]);
});

test("answers find their requests in any order; strange ones are ignored", async () => {
  const { clock, server, signalling } = bench();
  signalling.start();
  await clock.advance(0);
  const [a, b] = [signalling.request("a", {}), signalling.request("b", {})];
  const [first, second] = server.requests;
  assert.ok(first && second);
  server.last.deliver({ response: true, id: 999, ok: true, data: {} });
  server.last.deliver("not a frame");
  server.last.answer(second, { ok: { n: 2 } });
  server.last.answer(first, { ok: { n: 1 } });
  assert.deepEqual(await Promise.all([a, b]), [{ n: 1 }, { n: 2 }]);
});

test("a request on a dead connection is told so, and the connection is found dead", async () => {
  const { clock, server, signalling } = bench();
  signalling.start();
  await clock.advance(0);
  const outcome = assert.rejects(signalling.request("publish", {}), { name: "timeout" });
  await clock.advance(12_000);
  await outcome;
  const dead = server.last;
  await clock.advance(5_000);
  assert.equal(dead.closed, true);
  assert.notEqual(server.last, dead);
});

test("what a connection says after it was given up is not heard", async () => {
  const { clock, server, signalling } = bench();
  signalling.start();
  await clock.advance(0);
  const old = server.last;
  let heard = 0;
  signalling.on("notification", () => {
    heard += 1;
  });
  await clock.advance(40_000);
  assert.equal(old.closed, true);
  old.notify("peer-join", { uid: "bob" });
  old.drop(4000, "late");
  assert.equal(heard, 0);
  assert.notEqual(signalling.state.name, "closed");
});

test("at most 256 requests wait at once", async () => {
  const { clock, signalling } = bench();
  signalling.start();
  await clock.advance(0);
  const all = Array.from({ length: 300 }, () => signalling.request("x", {}).catch((error) => error.name));
  assert.equal(await all[299], "rate_limited");
  await clock.advance(60_000);
  const outcomes = await Promise.all(all);
  assert.equal(outcomes.filter((name) => name === "rate_limited").length, 44);
});

test("a connection the browser forbids ends it with the browser's reason", async () => {
  const clock = new VirtualClock();
  const signalling = new Signalling({
    url: "ws://server/ws",
    peer: "me",
    token: undefined,
    clock,
    socket: () => {
      throw new Error("insecure WebSocket from a secure page");
    },
  });
  signalling.start();
  await clock.advance(0);
  assert.ok(signalling.state.name === "closed");
  assert.equal(signalling.state.error.reason, "insecure WebSocket from a secure page");
});

test("each try is told twice at most: that it is waited for, and that it is made", async () => {
  const { clock, server, signalling, states } = bench();
  clock.draw = () => 0.123456;
  server.accepting = false;
  signalling.start();
  for (let i = 0; i < 10; i++) {
    await clock.advance(0.4);
    server.last.drop();
    assert.ok(signalling.state.name === "reconnecting");
    await clock.advance(signalling.state.retryInMs);
  }
  assert.equal(server.connections.length, 11);
  assert.equal(states.length, 20);
});
