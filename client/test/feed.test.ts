import assert from "node:assert/strict";
import { test } from "node:test";
import { Feed } from "../src/feed.ts";

const at = (seq: number, epoch = "a") => ({ epoch, seq });

test("what the snapshot covers is not delivered again", () => {
  const feed = new Feed<string>();
  feed.startAt(at(5));
  assert.deepEqual(feed.push(at(4), "old"), []);
  assert.deepEqual(feed.push(at(5), "covered"), []);
  assert.deepEqual(feed.push(at(6), "new"), ["new"]);
  assert.deepEqual(feed.push(at(6), "again"), []);
  assert.deepEqual(feed.position, at(6));
});

test("positions used up by the client's own changes are no gap to wait for", () => {
  const feed = new Feed<string>();
  feed.startAt(at(1));
  assert.deepEqual(feed.push(at(4), "later"), ["later"]);
});

test("what arrives before the join's answer waits for it", () => {
  const feed = new Feed<string>();
  assert.deepEqual(feed.push(at(7), "covered"), []);
  assert.deepEqual(feed.push(at(9), "new"), []);
  assert.deepEqual(feed.startAt(at(8)), ["new"]);
});

test("a resumed feed goes on where it was and takes each missed notification once", () => {
  const feed = new Feed<string>();
  feed.startAt(at(3));
  feed.hold();
  feed.push(at(3), "seen before the cut");
  assert.deepEqual(feed.goOn(), []);
  assert.deepEqual(feed.push(at(4), "missed"), ["missed"]);
  assert.deepEqual(feed.position, at(4));
});

test("another epoch makes the feed outdated until a snapshot starts it anew", () => {
  const feed = new Feed<string>();
  feed.startAt(at(10));
  assert.deepEqual(feed.push(at(1, "b"), "covered"), []);
  assert.equal(feed.outdated, true);
  assert.deepEqual(feed.push(at(3, "b"), "after"), []);
  feed.hold();
  assert.deepEqual(feed.startAt(at(2, "b")), ["after"]);
  assert.equal(feed.outdated, false);
  assert.deepEqual(feed.position, at(3, "b"));
});

test("kept notifications of the epoch before are dropped", () => {
  const feed = new Feed<string>();
  feed.startAt(at(10));
  feed.hold();
  feed.push(at(11), "of the lost log");
  assert.deepEqual(feed.startAt(at(1, "b")), []);
  assert.equal(feed.outdated, false);
});

test("what has no position is always delivered, in its place", () => {
  const feed = new Feed<string>();
  feed.startAt(at(1));
  assert.deepEqual(feed.push(undefined, "speakers"), ["speakers"]);
  assert.deepEqual(feed.position, at(1));
});

test("a server without positions is taken at its word", () => {
  const feed = new Feed<string>();
  feed.push(undefined, "first");
  assert.deepEqual(feed.startAt(undefined), ["first"]);
  assert.deepEqual(feed.push(undefined, "second"), ["second"]);
});

test("a flood before the answer is not kept without end: the snapshot is asked for again", () => {
  const feed = new Feed<number>();
  for (let i = 1; i <= 5000; i++) feed.push(at(i), i);
  assert.deepEqual(feed.startAt(at(10)), []);
  assert.equal(feed.outdated, true);
  feed.hold();
  feed.push(at(5001), 5001);
  assert.deepEqual(feed.startAt(at(5000)), [5001]);
  assert.equal(feed.outdated, false);
});
