import assert from "node:assert/strict";
import { test } from "node:test";
import { Recovery } from "../src/recovery.ts";

/** The machine with its clock. Actions are collected; the test answers them. */
class Bench {
  now = 0;
  readonly recovery: Recovery;
  readonly done: string[] = [];

  constructor(random: () => number = () => 0.5) {
    this.recovery = new Recovery(random);
  }

  /** Lets time pass and returns what was wanted on the way. */
  run(ms: number): string[] {
    const end = this.now + ms;
    const actions = this.#take();
    for (
      let at = this.recovery.pollTimeout();
      at !== undefined && at <= end;
      at = this.recovery.pollTimeout()
    ) {
      this.now = Math.max(this.now, at);
      this.recovery.handleTimeout(this.now);
      actions.push(...this.#take());
    }
    this.now = end;
    return actions;
  }

  /** As far as media flowing. */
  connected(): this {
    this.recovery.handleSignalling(this.now, true);
    this.recovery.handleStart(this.now);
    assert.deepEqual(this.run(0), ["negotiate"]);
    this.recovery.handleNegotiated(this.now);
    this.recovery.handleIceConnected();
    this.recovery.handleSecured();
    assert.equal(this.recovery.mediaState, "connected");
    return this;
  }

  #take(): string[] {
    const actions: string[] = [];
    for (let action = this.recovery.pollAction(); action; action = this.recovery.pollAction()) {
      if (action.do === "end" && action.failed) actions.push("fail");
      else actions.push(action.do === "negotiate" && action.keep ? "negotiate keep" : action.do);
    }
    return actions;
  }
}

test("without signalling it waits, and starts when signalling is there", () => {
  const bench = new Bench();
  bench.recovery.handleStart(0);
  assert.deepEqual(bench.run(60_000), []);
  bench.recovery.handleSignalling(bench.now, true);
  assert.deepEqual(bench.run(0), ["negotiate"]);
});

test("a connection that comes up before the answer is handled counts when the answer is", () => {
  const bench = new Bench();
  bench.recovery.handleSignalling(0, true);
  bench.recovery.handleStart(0);
  bench.run(0);
  bench.recovery.handleIceConnected();
  bench.recovery.handleSecured();
  bench.recovery.handleNegotiated(10);
  assert.equal(bench.recovery.mediaState, "connected");
  assert.deepEqual(bench.run(60_000), []);
});

test("a short interruption passes without a restart", () => {
  const bench = new Bench().connected();
  bench.recovery.handleIceDisconnected(bench.now);
  assert.equal(bench.recovery.mediaState, "reconnecting");
  assert.deepEqual(bench.run(1_400), []);
  bench.recovery.handleIceConnected();
  assert.equal(bench.recovery.mediaState, "connected");
  assert.deepEqual(bench.run(60_000), []);
});

test("an interruption of 1.5 s brings an ICE restart", () => {
  const bench = new Bench().connected();
  bench.recovery.handleIceDisconnected(bench.now);
  assert.deepEqual(bench.run(1_500), ["restart"]);
  bench.recovery.handleRestarted(bench.now);
  bench.recovery.handleIceConnected();
  assert.equal(bench.recovery.mediaState, "connected");
});

test("failed ICE and a changed network bring a restart at once", () => {
  for (const handle of ["handleIceFailed", "handleNetworkChanged"] as const) {
    const bench = new Bench().connected();
    bench.recovery[handle](bench.now);
    assert.deepEqual(bench.run(0), ["restart"]);
  }
});

test("a restart while signalling is away waits for it, and is dropped if media comes back by itself", () => {
  const bench = new Bench().connected();
  bench.recovery.handleSignalling(bench.now, false);
  bench.recovery.handleIceFailed(bench.now);
  assert.deepEqual(bench.run(5_000), []);
  bench.recovery.handleIceConnected();
  bench.recovery.handleSignalling(bench.now, true);
  assert.deepEqual(bench.run(60_000), []);

  bench.recovery.handleSignalling(bench.now, false);
  bench.recovery.handleIceFailed(bench.now);
  bench.run(5_000);
  bench.recovery.handleSignalling(bench.now, true);
  assert.deepEqual(bench.run(0), ["restart"]);
});

test("lost signalling alone does not touch media that flows", () => {
  const bench = new Bench().connected();
  bench.recovery.handleSignalling(bench.now, false);
  assert.deepEqual(bench.run(600_000), []);
  assert.equal(bench.recovery.mediaState, "connected");
});

test("three restarts without success, then a new connection", () => {
  const bench = new Bench().connected();
  bench.recovery.handleIceFailed(bench.now);
  for (let i = 0; i < 3; i++) {
    const wanted = i === 0 ? bench.run(0) : bench.run(6_000);
    assert.deepEqual(wanted, ["restart"], `restart ${i + 1}`);
    bench.recovery.handleRestarted(bench.now);
  }
  assert.deepEqual(bench.run(7_000), ["negotiate"]);
  assert.equal(bench.recovery.mediaState, "reconnecting");
});

test("a refused restart brings a new connection at once, one that failed for now another restart", () => {
  const refused = new Bench().connected();
  refused.recovery.handleIceFailed(0);
  refused.run(0);
  refused.recovery.handleRestartFailed(0, false);
  assert.deepEqual(refused.run(0), ["negotiate"]);

  const later = new Bench().connected();
  later.recovery.handleIceFailed(0);
  later.run(0);
  later.recovery.handleRestartFailed(0, true, 2_000);
  assert.deepEqual(later.run(1_999), []);
  assert.deepEqual(later.run(1), ["restart"]);
});

test("failed DTLS brings a new connection: a restart would keep it", () => {
  const bench = new Bench().connected();
  bench.recovery.handleTransportFailed(bench.now);
  assert.deepEqual(bench.run(500), ["negotiate"]);
});

test("a stream the server removed is published anew, spread over a second", () => {
  const waits = [0, 0.5, 0.999].map((draw) => {
    const bench = new Bench(() => draw).connected();
    bench.recovery.handleGone(bench.now);
    let waited = 0;
    while (bench.run(1).length === 0) waited += 1;
    return waited;
  });
  assert.ok((waits[0] ?? 0) <= 1 && (waits[1] ?? 0) >= 490 && (waits[2] ?? 0) >= 990, `${waits}`);
});

test("removed twice is published anew once", () => {
  const bench = new Bench().connected();
  bench.recovery.handleGone(bench.now);
  bench.recovery.handleGone(bench.now);
  assert.deepEqual(bench.run(1_000), ["negotiate"]);
  bench.recovery.handleGone(bench.now);
  bench.recovery.handleNegotiated(bench.now);
  bench.recovery.handleSecured();
  assert.deepEqual(bench.run(60_000), []);
});

test("a connection that does not come up in 12 s is tried again, without end", () => {
  const bench = new Bench();
  bench.recovery.handleSignalling(0, true);
  bench.recovery.handleStart(0);
  for (let i = 0; i < 50; i++) {
    assert.deepEqual(bench.run(12_000 + 15_000 - 1), ["negotiate"], `try ${i}`);
    bench.recovery.handleNegotiated(bench.now);
    assert.equal(bench.recovery.mediaState, "connecting");
  }
});

test("a handshake that hangs although ICE has a way is no connection, and is tried again after 12 s", () => {
  const bench = new Bench();
  bench.recovery.handleSignalling(0, true);
  bench.recovery.handleStart(0);
  assert.deepEqual(bench.run(0), ["negotiate"]);
  bench.recovery.handleNegotiated(bench.now);
  bench.recovery.handleIceConnected();
  assert.deepEqual([bench.run(11_999), bench.recovery.mediaState], [[], "connecting"]);
  assert.deepEqual(bench.run(1), []);
  // What the old connection had, or has after all, says nothing of the new one.
  bench.recovery.handleSecured();
  assert.deepEqual(bench.run(1_000), ["negotiate"]);
  bench.recovery.handleNegotiated(bench.now);
  bench.recovery.handleIceConnected();
  assert.equal(bench.recovery.mediaState, "connecting");
  bench.recovery.handleSecured();
  assert.equal(bench.recovery.mediaState, "connected");
});

test("a first negotiation refused for good ends at once, for passing reasons after four tries", () => {
  const refused = new Bench();
  refused.recovery.handleSignalling(0, true);
  refused.recovery.handleStart(0);
  refused.run(0);
  refused.recovery.handleNegotiationFailed(0, false);
  assert.deepEqual(refused.run(0), ["fail"]);
  assert.equal(refused.recovery.mediaState, "ended");

  const unlucky = new Bench();
  unlucky.recovery.handleSignalling(0, true);
  unlucky.recovery.handleStart(0);
  const wanted = [];
  for (let i = 0; i < 4; i++) {
    wanted.push(...unlucky.run(15_000));
    unlucky.recovery.handleNegotiationFailed(unlucky.now, true);
  }
  wanted.push(...unlucky.run(0));
  assert.deepEqual(wanted, ["negotiate", "negotiate", "negotiate", "negotiate", "fail"]);
});

test("a stream that was there before is retried without end while the reason may pass", () => {
  const bench = new Bench().connected();
  bench.recovery.handleGone(bench.now);
  for (let i = 0; i < 100; i++) {
    assert.deepEqual(bench.run(15_000), ["negotiate"], `try ${i}`);
    bench.recovery.handleNegotiationFailed(bench.now, true);
  }
});

test("the server's wish when to retry is kept", () => {
  const bench = new Bench().connected();
  bench.recovery.handleGone(bench.now);
  bench.run(1_000);
  bench.recovery.handleNegotiationFailed(bench.now, true, 9_000);
  assert.deepEqual(bench.run(8_999), []);
  assert.deepEqual(bench.run(1), ["negotiate"]);
});

test("closing ends it in every state, once", () => {
  const bench = new Bench().connected();
  bench.recovery.handleClose();
  bench.recovery.handleClose();
  assert.deepEqual(bench.run(0), ["end"]);
  bench.recovery.handleIceFailed(bench.now);
  bench.recovery.handleGone(bench.now);
  bench.recovery.handleSignalling(bench.now, false);
  bench.recovery.handleSignalling(bench.now, true);
  assert.deepEqual(bench.run(60_000), []);
});

test("a stream that is to move keeps its media while the new connection is made, and lets go of the old one after", () => {
  const bench = new Bench().connected();
  bench.recovery.handleMigrate(bench.now);
  assert.equal(bench.recovery.mediaState, "connected");
  assert.deepEqual(bench.run(1_000), ["negotiate keep"]);
  assert.equal(bench.recovery.mediaState, "connected");
  bench.recovery.handleNegotiated(bench.now);
  assert.equal(bench.recovery.mediaState, "connected");
  bench.recovery.handleSecured();
  bench.recovery.handleIceConnected();
  assert.deepEqual(bench.run(0), ["settle"]);
  assert.equal(bench.recovery.mediaState, "connected");
});

test("told again to move while it waits to, or while the new connection is made, it keeps the old one all the same", () => {
  const bench = new Bench().connected();
  const tell = (times: number) => {
    for (let i = 0; i < times; i++) bench.recovery.handleMigrate(bench.now);
  };
  tell(2);
  assert.equal(bench.recovery.mediaState, "connected");
  assert.deepEqual(bench.run(500), ["negotiate keep"], "and is not put off by it");
  tell(1);
  bench.recovery.handleNegotiationFailed(bench.now, true);
  tell(1);
  assert.deepEqual(bench.run(1_000), ["negotiate keep"]);
  assert.equal(bench.recovery.mediaState, "connected");
  bench.recovery.handleNegotiated(bench.now);
  bench.recovery.handleIceConnected();
  bench.recovery.handleSecured();
  assert.deepEqual(bench.run(0), ["settle"]);
});

test("a move that fails is tried again while the old connection carries the media", () => {
  const bench = new Bench().connected();
  bench.recovery.handleMigrate(bench.now);
  bench.run(1_000);
  bench.recovery.handleNegotiationFailed(bench.now, true);
  assert.deepEqual(bench.run(1_000), ["negotiate keep"]);
  bench.recovery.handleNegotiated(bench.now);
  // The new one never comes up.
  assert.deepEqual(bench.run(13_000), ["negotiate keep"]);
  assert.equal(bench.recovery.mediaState, "connected");
});

test("an old connection that dies before the move is made is not kept, and seen as lost", () => {
  const deaths: ((recovery: Recovery, now: number) => void)[] = [
    (recovery, now) => recovery.handleIceDisconnected(now),
    (recovery, now) => recovery.handleIceFailed(now),
    (recovery, now) => recovery.handleTransportFailed(now),
    (recovery, now) => recovery.handleGone(now),
  ];
  for (const die of deaths) {
    const bench = new Bench().connected();
    bench.recovery.handleMigrate(bench.now);
    die(bench.recovery, bench.now);
    assert.equal(bench.recovery.mediaState, "reconnecting");
    assert.deepEqual(bench.run(1_000), ["negotiate"]);
  }
});

test("an old connection that dies during the move leaves the new one to come up", () => {
  const bench = new Bench().connected();
  bench.recovery.handleMigrate(bench.now);
  bench.run(1_000);
  bench.recovery.handleFormerLost(bench.now);
  assert.equal(bench.recovery.mediaState, "reconnecting");
  bench.recovery.handleNegotiated(bench.now);
  bench.recovery.handleIceConnected();
  bench.recovery.handleSecured();
  assert.deepEqual(bench.run(0), []);
  assert.equal(bench.recovery.mediaState, "connected");
});

/** One whose move the server refuses until the pauses between tries are at their longest. */
function refused(retryAfterMs?: number): Bench {
  const bench = new Bench().connected();
  bench.recovery.handleMigrate(bench.now);
  assert.deepEqual(bench.run(1_000), ["negotiate keep"]);
  for (let tries = 0; tries < 8; tries += 1) {
    bench.recovery.handleNegotiationFailed(bench.now, true);
    assert.deepEqual(bench.run(15_000), ["negotiate keep"]);
  }
  bench.recovery.handleNegotiationFailed(bench.now, true, retryAfterMs);
  assert.equal(bench.recovery.mediaState, "connected");
  return bench;
}

test("a move that was refused is tried again as soon as the old connection is lost", () => {
  const bench = refused();
  assert.deepEqual(bench.run(1_000), []);
  bench.recovery.handleFormerLost(bench.now);
  assert.equal(bench.recovery.mediaState, "reconnecting");
  assert.deepEqual(bench.run(1_000), ["negotiate"]);
});

test("but not before the server wants to be asked again", () => {
  const bench = refused(10_000);
  bench.recovery.handleFormerLost(bench.now);
  assert.deepEqual(bench.run(9_999), []);
  assert.deepEqual(bench.run(1), ["negotiate"]);
});

test("a stream whose media does not flow moves as one that is gone", () => {
  const bench = new Bench().connected();
  bench.recovery.handleIceDisconnected(bench.now);
  bench.recovery.handleMigrate(bench.now);
  assert.deepEqual(bench.run(1_000), ["negotiate"]);
});
