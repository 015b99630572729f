import assert from "node:assert/strict";
import { test } from "node:test";
import { Edges } from "../src/edges.ts";
import { Signalling, type SignallingState, type TokenSource } from "../src/signalling.ts";
import { Server } from "./support/server.ts";
import { VirtualClock } from "./support/virtual-time.ts";

function bench(token?: TokenSource) {
  const clock = new VirtualClock();
  const server = new Server();
  const signalling = new Signalling({
    edges: new Edges(["ws://server/ws"], clock.random),
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
    edges: new Edges(["ws://server/ws"], clock.random),
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

test("a token that runs out is replaced by the function's next, and the connection comes back", async () => {
  let asked = 0;
  const { clock, server, signalling } = bench(() => `token-${++asked}`);
  server.rules.ping = () => ({ ok: {} });
  signalling.start();
  await clock.advance(0);
  await signalling.request("ping", {});
  // Also of a laptop that slept: closed on the live connection, and by the next with a token from before.
  for (const reason of ["token expired", "access token expired"]) {
    server.last.drop(4000, reason);
    assert.ok(signalling.state.name === "reconnecting");
    assert.equal(signalling.state.error?.reason, reason);
    await clock.advance(20_000);
    assert.equal(signalling.state.name, "open");
  }
  assert.deepEqual(server.last.protocols, ["protoo", "bearer.token-3"]);
});

test("a function that gives nothing but expired tokens is asked a few times, ever more slowly, and then no more", async () => {
  let asked = 0;
  const { clock, server, signalling } = bench(() => `token-${++asked}`);
  const times: number[] = [];
  signalling.on("state", ({ name }) => {
    if (name !== "open") return;
    times.push(clock.now());
    queueMicrotask(() => server.last.drop(4000, "access token expired"));
  });
  signalling.start();
  await clock.advance(3_600_000);
  assert.equal(asked, 6);
  assert.ok(signalling.state.name === "closed");
  assert.equal(signalling.state.error.reason, "access token expired");
  const gaps = times.slice(1).map((time, index) => time - (times[index] ?? 0));
  assert.deepEqual(gaps, [250, 500, 1_000, 2_000, 4_000]);
});

test("an expired token that is text, and any other refusal, is final", async () => {
  for (const [token, reason] of [
    ["text", "token expired"],
    [() => "fresh", "access token is for another peer"],
    [() => "fresh", "newer connection"],
  ] as const) {
    const { clock, server, signalling } = bench(token);
    signalling.start();
    await clock.advance(0);
    server.last.drop(4000, reason);
    await clock.advance(3_600_000);
    assert.equal(signalling.state.name, "closed", reason);
    assert.equal(server.connections.length, 1);
  }
});

test("a token function that fails is told while it is tried again, and until it does not", async () => {
  let working = false;
  const { clock, server, signalling } = bench(() => (working ? "fine" : Promise.reject(new Error("no session"))));
  signalling.start();
  await clock.advance(60_000);
  assert.ok(signalling.state.name === "reconnecting");
  const { error } = signalling.state;
  assert.equal(error?.name, "token_unavailable");
  assert.match(error?.reason ?? "", /no session/);
  assert.equal(error?.passing, true);
  working = true;
  server.accepting = false;
  await clock.advance(35_000);
  assert.ok(signalling.state.name === "reconnecting");
  assert.equal(signalling.state.error, undefined, "what is missing now is the server");
});
