import assert from "node:assert/strict";
import { test } from "node:test";
import { Incoming } from "../demo/incoming.ts";
import { Emitter } from "../src/emitter.ts";
import { SluiceError } from "../src/error.ts";
import type { RemoteStream } from "../src/remote-stream.ts";
import type { Room, RoomEvents } from "../src/room.ts";
import type { Subscription, SubscriptionEvents } from "../src/subscription.ts";
import { VirtualClock } from "./support/virtual-time.ts";

class FakeSubscription extends Emitter<SubscriptionEvents> {
  end(error: SluiceError | undefined): void {
    this.emit("ended", { error });
  }
}

/** A room whose server answers a subscribe as `answer` says. */
class FakeRoom extends Emitter<RoomEvents> {
  answer: () => FakeSubscription | SluiceError = () => new FakeSubscription();
  asked = 0;

  async subscribe(): Promise<FakeSubscription> {
    this.asked += 1;
    const answer = this.answer();
    if (answer instanceof SluiceError) throw answer;
    return answer;
  }

  add(stream: RemoteStream): void {
    this.emit("stream-added", { stream });
  }

  remove(stream: RemoteStream): void {
    this.emit("stream-removed", { stream });
  }
}

function bench() {
  const clock = new VirtualClock();
  clock.draw = () => 0.999;
  const room = new FakeRoom();
  const told: string[] = [];
  const events = {
    changed: () => undefined,
    subscribed: () => told.push("subscribed"),
    ended: () => told.push("ended"),
    refused: ({ name }: SluiceError) => told.push(`refused ${name}`),
  };
  const incoming = new Incoming(room as unknown as Room, events, clock);
  const stream = { mid: "ann#1", uid: "ann" } as RemoteStream;
  return { clock, room, incoming, stream, told };
}

test("a stream that may not be watched is asked for once, and that is told", async () => {
  const { clock, room, incoming, stream, told } = bench();
  room.answer = () => SluiceError.local("forbidden", "no");
  room.add(stream);
  await clock.advance(3_600_000);
  assert.equal(room.asked, 1);
  assert.deepEqual(told, ["refused forbidden"]);
  assert.equal(incoming.refused(stream), true);
  assert.equal(incoming.of(stream), undefined);
  room.remove(stream);
  assert.equal(incoming.refused(stream), false);
});

test("what may pass is tried again, ever more seldom, until it comes", async () => {
  const { clock, room, incoming, stream, told } = bench();
  room.answer = () => SluiceError.local("no_sfu", "not now");
  room.add(stream);
  await clock.advance(5_000);
  assert.equal(room.asked, 2);
  await clock.advance(10_000);
  assert.equal(room.asked, 3);
  await clock.advance(600_000);
  assert.ok(room.asked <= 15, `asked ${room.asked} times`);
  assert.deepEqual(told, []);
  assert.equal(incoming.refused(stream), false);
  room.answer = () => new FakeSubscription();
  await clock.advance(60_000);
  assert.deepEqual(told, ["subscribed"]);
  assert.ok(incoming.of(stream));
});

test("many that were refused at once do not come back at once", async () => {
  const waits = new Set<number>();
  for (const draw of [0.1, 0.4, 0.9]) {
    const { clock, room, stream } = bench();
    clock.draw = () => draw;
    room.answer = () => SluiceError.local("no_sfu", "not now");
    room.add(stream);
    while (room.asked < 2) await clock.advance(10);
    waits.add(clock.now());
  }
  assert.equal(waits.size, 3);
});

test("a server that says when is not asked sooner", async () => {
  const { clock, room, stream } = bench();
  clock.draw = () => 0;
  room.answer = () => new SluiceError(429, "rate_limited", "slow down", 20_000);
  room.add(stream);
  await clock.advance(19_000);
  assert.equal(room.asked, 1);
  await clock.advance(1_000);
  assert.equal(room.asked, 2);
});

test("a subscription that fails later is asked for again, one whose stream goes is not", async () => {
  const { clock, room, incoming, stream, told } = bench();
  room.add(stream);
  await clock.advance(0);
  (incoming.of(stream) as Subscription & FakeSubscription).end(SluiceError.local("timeout", ""));
  assert.equal(incoming.of(stream), undefined);
  await clock.advance(5_000);
  assert.deepEqual(told, ["subscribed", "ended", "subscribed"]);
  (incoming.of(stream) as Subscription & FakeSubscription).end(undefined);
  room.remove(stream);
  await clock.advance(3_600_000);
  assert.equal(room.asked, 2);
  assert.equal(clock.pending, 0);
});

test("after leaving nothing is asked for", async () => {
  const { clock, room, incoming, stream } = bench();
  room.answer = () => SluiceError.local("no_sfu", "not now");
  room.add(stream);
  await clock.advance(0);
  incoming.close();
  assert.equal(clock.pending, 0);
  room.add({ mid: "ben#1", uid: "ben" } as RemoteStream);
  await clock.advance(3_600_000);
  assert.equal(room.asked, 1);
});
