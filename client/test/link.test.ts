import assert from "node:assert/strict";
import { test } from "node:test";
import { Link, type LinkAction } from "../src/link.ts";

/** The machine with its clock: `run` lets time pass and collects what it wants done. A socket is there as soon as it is wanted. */
function start(random = () => 0.5, edges = 1) {
  const link = new Link(random, edges);
  let now = 0;
  const take = () => {
    const actions: LinkAction["do"][] = [];
    for (let action = link.pollAction(); action; action = link.pollAction()) {
      actions.push(action.do);
      if (action.do === "open") link.handleOpening(now);
    }
    return actions;
  };
  const run = (ms: number) => {
    const end = now + ms;
    const actions = take();
    for (let at = link.pollTimeout(); at !== undefined && at <= end; at = link.pollTimeout()) {
      now = Math.max(now, at);
      link.handleTimeout(now);
      actions.push(...take());
    }
    now = end;
    return actions;
  };
  link.handleStart();
  return { link, run, take, now: () => now };
}

test("it opens, and probes every 20 s while answers come", () => {
  const { link, run } = start();
  assert.deepEqual(run(0), ["open"]);
  link.handleOpened(0);
  for (let i = 0; i < 10; i++) {
    assert.deepEqual(run(20_000), ["probe"]);
    link.handleAlive();
  }
  assert.equal(link.state.name, "open");
});

test("a connection that answers no probe for 10 s is given up", () => {
  const { link, run } = start();
  run(0);
  link.handleOpened(0);
  assert.deepEqual(run(29_999), ["probe"]);
  assert.equal(link.state.name, "open");
  assert.deepEqual(run(1), ["abandon"]);
  assert.equal(link.state.name, "waiting");
});

test("a socket that does not open within 10 s is given up", () => {
  const { link, run } = start();
  assert.deepEqual(run(9_999), ["open"]);
  assert.deepEqual(run(1), ["abandon"]);
  assert.deepEqual(run(250), ["open"]);
  assert.equal(link.state.name, "connecting");
});

test("how long a socket may take to open counts from when there is one", () => {
  for (const [edges, within] of [[1, 10_000], [3, 5_000]] as const) {
    const link = new Link(() => 0.5, edges);
    link.handleStart();
    assert.deepEqual(link.pollAction(), { do: "open" });
    assert.equal(link.pollTimeout(), undefined);
    link.handleOpening(8_000);
    assert.equal(link.pollTimeout(), 8_000 + within);
  }
});

test("it tries without end, never waiting longer than the cap", () => {
  const { link, run, now } = start(() => 0.999);
  run(0);
  for (let i = 0; i < 500; i++) {
    link.handleLost(now(), 1006, "");
    assert.equal(link.state.name, "waiting");
    const until = link.pollTimeout() ?? Number.POSITIVE_INFINITY;
    assert.ok(until - now() <= 20_000, `try ${i} waits ${until - now()} ms`);
    assert.deepEqual(run(until - now()), ["open"]);
  }
});

test("close code 4000 is the last word", () => {
  const { link, run } = start();
  run(0);
  link.handleOpened(0);
  link.handleLost(5, 4000, "token expired");
  assert.deepEqual(link.state, { name: "closed", code: 4000, reason: "token expired" });
  link.handleHint(10);
  assert.deepEqual(run(3_600_000), []);
});

test("4000 before the connection opened is final, too", () => {
  const { link, run } = start();
  run(0);
  link.handleLost(1, 4000, "bad token");
  assert.equal(link.state.name, "closed");
});

test("a server that accepts and closes at once is not hammered", () => {
  const { link, run, now } = start(() => 0.999);
  let opened = 0;
  run(0);
  while (now() < 60_000) {
    if (link.state.name === "connecting") {
      opened += 1;
      link.handleOpened(now());
      link.handleLost(now(), 1001, "draining");
    }
    run(100);
  }
  assert.ok(opened <= 9, `${opened} connections in a minute`);
});

test("after a connection that held, the first retry is quick again", () => {
  const { link, run, now } = start(() => 0.999);
  run(0);
  for (let i = 0; i < 6; i++) {
    link.handleLost(now(), 1006, "");
    run(20_000);
  }
  link.handleOpened(now());
  run(10_000);
  link.handleLost(now(), 1006, "");
  assert.ok((link.pollTimeout() ?? 0) - now() <= 500);
});

test("a hint while waiting brings the next try within half a second", () => {
  const { link, run, now } = start(() => 0.999);
  run(0);
  for (let i = 0; i < 6; i++) {
    link.handleLost(now(), 1006, "");
    if (i < 5) run(20_000);
  }
  link.handleHint(now());
  assert.deepEqual(run(500), ["open"]);
});

test("a hint while open asks for a sign of life and does not wait long for it", () => {
  const { link, run, now } = start();
  run(0);
  link.handleOpened(0);
  run(5_000);
  link.handleHint(now());
  assert.deepEqual(run(3_999), ["probe"]);
  assert.deepEqual(run(1), ["abandon"]);
});

test("stopping lets go of the socket and of all timers", () => {
  const { link, run, take } = start();
  run(0);
  link.handleOpened(0);
  link.handleStop("left");
  assert.deepEqual(take(), ["abandon"]);
  assert.equal(link.pollTimeout(), undefined);
  link.handleLost(1, 1006, "");
  assert.equal(link.state.name, "closed");
});

test("hints one after the other are one question, answered in the time of the first", () => {
  const { link, run, now } = start();
  run(0);
  link.handleOpened(0);
  for (let i = 0; i < 20; i++) link.handleHint(now());
  assert.deepEqual(run(2_000), ["probe"]);
  link.handleHint(now());
  assert.deepEqual(run(2_000), ["abandon"]);
});

test("close code 4000 of a token that can be had anew is a lost connection", () => {
  const { link, run } = start();
  run(0);
  link.handleOpened(0);
  link.handleLost(5, 4000, "token expired", true);
  assert.equal(link.state.name, "waiting");
  assert.deepEqual(run(500), ["open"]);
});
