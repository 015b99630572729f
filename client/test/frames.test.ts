import assert from "node:assert/strict";
import { test } from "node:test";
import { SluiceError } from "../src/error.ts";
import { decodeFrame, encodeRequest } from "../src/frames.ts";
import { readInfo, readJoined, readNotification, readPosition } from "../src/messages.ts";

test("a request is written as the contract has it", () => {
  const text = encodeRequest(0, "join", { rid: "tea", session: undefined });
  assert.equal(text, '{"request":true,"id":0,"method":"join","data":{"rid":"tea"}}');
});

test("a request the server would refuse for its size is refused here", () => {
  assert.throws(
    () => encodeRequest(1, "broadcast", { data: "ä".repeat(140_000) }),
    (error) => error instanceof SluiceError && error.name === "too_large" && error.code === 413,
  );
  assert.ok(encodeRequest(1, "broadcast", { data: "a".repeat(250_000) }));
});

test("an error answer keeps code, name, reason and when to retry", () => {
  const frame = decodeFrame(
    '{"response":true,"id":3,"ok":false,"errorCode":429,"error":"rate_limited","errorReason":"slow down","data":{"retryAfterMs":1500}}',
  );
  assert.ok(frame?.kind === "error");
  assert.equal(frame.id, 3);
  const { code, name, reason, retryAfterMs, passing } = frame.error;
  assert.deepEqual(
    { code, name, reason, retryAfterMs, passing },
    {
      code: 429,
      name: "rate_limited",
      reason: "slow down",
      retryAfterMs: 1500,
      passing: true,
    },
  );
});

test("an error answer without a name gets it from its code", () => {
  const frame = decodeFrame('{"response":true,"id":3,"ok":false,"errorCode":3,"errorReason":"no"}');
  assert.ok(frame?.kind === "error");
  assert.equal(frame.error.name, "bad_mid");
  assert.equal(frame.error.passing, false);
});

test("what is no frame of the contract is dropped", () => {
  for (const text of [
    "",
    "nonsense",
    "null",
    "[]",
    "3",
    '"text"',
    "{}",
    '{"response":true,"ok":true}',
    '{"response":true,"id":"1","ok":true}',
    '{"notification":true}',
    '{"notification":true,"method":7}',
    '{"response":1,"id":1,"ok":true}',
    `{"notification":true,"method":"${"x".repeat(1_100_000)}"}`,
  ]) {
    assert.equal(decodeFrame(text), undefined, text.slice(0, 60));
  }
  assert.equal(decodeFrame(new ArrayBuffer(8)), undefined);
});

test("data that is no object is read as an empty one", () => {
  assert.deepEqual(decodeFrame('{"response":true,"id":0,"ok":true,"data":[1]}'), {
    kind: "response",
    id: 0,
    data: {},
  });
});

test("a join's answer is read, leaving out what lacks its ids", () => {
  const joined = readJoined({
    users: [{ uid: "bob" }, { uid: 3 }, null, "eve"],
    pubs: [{ mid: "bob#1", uid: "bob", sfuid: "s1", minfo: { audio: true, x: [1] } }, { mid: "no uid" }],
    own: { pubs: [{ mid: "me#1" }], subs: ["me#2"] },
    session: "s",
    epoch: "e",
    seq: 7,
  });
  assert.deepEqual(joined.users, ["bob"]);
  assert.deepEqual(joined.streams, [
    {
      mid: "bob#1",
      uid: "bob",
      info: { audio: true, video: true, audiotype: 0, videotype: 0, x: [1] },
    },
  ]);
  assert.deepEqual([...(joined.own?.mids ?? [])], ["me#1"]);
  assert.deepEqual([...(joined.own?.sids ?? [])], ["me#2"]);
  assert.deepEqual(joined.position, { epoch: "e", seq: 7 });
  assert.equal(joined.resync, false);
});

test("the answer of a server of the seed's protocol is read as well", () => {
  const joined = readJoined({ users: [], pubs: [] });
  assert.equal(joined.own, undefined);
  assert.equal(joined.position, undefined);
  assert.equal(joined.session, undefined);
});

test("notifications of unknown methods or without their ids are none", () => {
  assert.equal(readNotification("speakers", {}), undefined);
  assert.equal(readNotification("peer-join", { uid: 5 }), undefined);
  assert.equal(readNotification("stream-add", { mid: "a#1" }), undefined);
  assert.deepEqual(readNotification("broadcast", { uid: "bob" }), {
    method: "broadcast",
    uid: "bob",
    data: null,
  });
});

test("half a position is none", () => {
  assert.equal(readPosition({ epoch: "e" }), undefined);
  assert.equal(readPosition({ seq: 1 }), undefined);
  assert.equal(readPosition({ epoch: {}, seq: 1 }), undefined);
});

test("what a minfo does not say of audio and video may be there", () => {
  const types = { audiotype: 0, videotype: 0 };
  assert.deepEqual(readInfo(undefined), { audio: true, video: true, ...types });
  assert.deepEqual(readInfo({ audio: true }), { audio: true, video: true, ...types });
  assert.deepEqual(readInfo({ audio: true, video: false }), { audio: true, video: false, ...types });
});
