import assert from "node:assert/strict";
import { test } from "node:test";
import { type MediaInfo, readInfo, type StreamRecord } from "../src/messages.ts";
import { type Change, Roster } from "../src/roster.ts";

const stream = (uid: string, n: number, info: Partial<MediaInfo> = {}): StreamRecord => ({
  mid: `${uid}#${n}`,
  uid,
  info: readInfo({ audio: true, video: true, ...info }),
});

const told = (changes: Change[]) =>
  changes.map((change) => `${change.kind} ${"uid" in change ? change.uid : change.stream.mid}`);

test("a first snapshot shows everybody, each before their streams", () => {
  const roster = new Roster("me");
  assert.deepEqual(told(roster.reconcile(["bob", "eve"], [stream("bob", 1)])), [
    "peer-joined bob",
    "peer-joined eve",
    "stream-added bob#1",
  ]);
});

test("the same snapshot again changes nothing", () => {
  const roster = new Roster("me");
  roster.reconcile(["bob"], [stream("bob", 1)]);
  assert.deepEqual(told(roster.reconcile(["bob"], [stream("bob", 1)])), []);
});

test("after a cut only what differs changes: leaving before coming", () => {
  const roster = new Roster("me");
  roster.reconcile(["bob", "eve", "kim"], [stream("bob", 1), stream("eve", 1), stream("kim", 1)]);
  const after = [stream("bob", 2), stream("kim", 1, { muted: { audio: true } }), stream("zoe", 1)];
  assert.deepEqual(told(roster.reconcile(["bob", "kim", "zoe"], after)), [
    "stream-removed bob#1",
    "stream-removed eve#1",
    "peer-left eve",
    "peer-joined zoe",
    "stream-added bob#2",
    "stream-updated kim#1",
    "stream-added zoe#1",
  ]);
});

test("a notification told twice counts once", () => {
  const roster = new Roster("me");
  assert.deepEqual(told(roster.apply({ method: "peer-join", uid: "bob" })), ["peer-joined bob"]);
  assert.deepEqual(told(roster.apply({ method: "peer-join", uid: "bob" })), []);
  assert.deepEqual(told(roster.apply({ method: "stream-add", stream: stream("bob", 1) })), [
    "stream-added bob#1",
  ]);
  assert.deepEqual(told(roster.apply({ method: "stream-add", stream: stream("bob", 1) })), []);
  assert.deepEqual(told(roster.apply({ method: "stream-remove", mid: "bob#1", uid: "bob", reason: "unpublished" })), [
    "stream-removed bob#1",
  ]);
  assert.deepEqual(told(roster.apply({ method: "stream-remove", mid: "bob#1", uid: "bob", reason: "unpublished" })), []);
});

test("whoever leaves takes their streams along", () => {
  const roster = new Roster("me");
  roster.reconcile(["bob"], [stream("bob", 1), stream("bob", 2)]);
  assert.deepEqual(told(roster.apply({ method: "peer-leave", uid: "bob" })), [
    "stream-removed bob#1",
    "stream-removed bob#2",
    "peer-left bob",
  ]);
  assert.equal(roster.users.size + roster.streams.size, 0);
});

test("a stream of someone unheard of brings them along", () => {
  const roster = new Roster("me");
  assert.deepEqual(told(roster.apply({ method: "stream-add", stream: stream("bob", 1) })), [
    "peer-joined bob",
    "stream-added bob#1",
  ]);
});

test("oneself is never listed", () => {
  const roster = new Roster("me");
  assert.deepEqual(told(roster.reconcile(["me"], [stream("me", 1)])), []);
  assert.deepEqual(told(roster.apply({ method: "stream-add", stream: stream("me", 2) })), []);
});

test("an update of a stream that is gone is of no interest", () => {
  const roster = new Roster("me");
  assert.deepEqual(
    roster.apply({ method: "stream-update", mid: "bob#1", info: readInfo({ audio: true }) }),
    [],
  );
});
