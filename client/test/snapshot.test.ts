import assert from "node:assert/strict";
import { test } from "node:test";
import type { JsonObject } from "../src/frames.ts";
import { readJoined, readNotification } from "../src/messages.ts";
import { Snapshot } from "../src/snapshot.ts";

const at = (seq: number, epoch = "e") => ({ epoch, seq });
const of = (rest: JsonObject) =>
  new Snapshot(readJoined({ users: [{ uid: "ann" }], pubs: [], epoch: "e", seq: 5, ...rest }));
const comes = (uid: string) => readNotification("peer-join", { uid });

test("an answer without a rest is whole, and takes nothing", () => {
  for (const rest of [{}, { rest: 0 }, { rest: -1 }, { rest: "3" }, { rest: null }]) {
    const snapshot = of(rest);
    assert.equal(snapshot.isWhole, true);
    assert.equal(snapshot.take(at(5), comes("eve")), false);
    assert.deepEqual(snapshot.joined.users, ["ann"]);
  }
});

test("an answer with a rest is whole when all of it has come, what cannot be read included", () => {
  const snapshot = of({ rest: 3 });
  assert.equal(snapshot.take(at(5), comes("bob")), true);
  assert.equal(snapshot.take(at(5), readNotification("stream-add", { uid: "bob", mid: "bob#1", minfo: {} })), true);
  assert.equal(snapshot.isWhole, false);
  assert.equal(snapshot.take(at(5), comes("")), true);
  assert.equal(snapshot.isWhole, true);
  const { users, streams, rest } = snapshot.joined;
  assert.deepEqual([users, streams.map(({ mid }) => mid), rest], [["ann", "bob"], ["bob#1"], 0]);
});

test("what stands elsewhere in the log, or nowhere, is no part of it", () => {
  const snapshot = of({ rest: 1 });
  for (const where of [undefined, at(4), at(6), at(5, "f")]) assert.equal(snapshot.take(where, comes("eve")), false);
  assert.equal(snapshot.isWhole, false);
});
