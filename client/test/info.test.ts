import assert from "node:assert/strict";
import { test } from "node:test";
import { makeInfo, mutedOf, sourceOf } from "../src/info.ts";
import { readInfo } from "../src/messages.ts";

const BOTH = { audio: true, video: true };

test("what a publisher tells is what a subscriber reads", () => {
  for (const source of ["camera", "screen"] as const) {
    const info = makeInfo(source, BOTH, { audio: true, video: false }, { title: "x" });
    assert.equal(sourceOf(info), source);
    assert.deepEqual(mutedOf(info), { audio: true, video: false });
    assert.equal(info.title, "x");
  }
  assert.equal(
    sourceOf(makeInfo("microphone", { audio: true, video: false }, { audio: false, video: false })),
    "microphone",
  );
});

test("further keys do not change what the stream is", () => {
  const info = makeInfo(
    "camera",
    BOTH,
    { audio: false, video: false },
    { video: false, videotype: 1, muted: true },
  );
  assert.equal(info.video, true);
  assert.equal(sourceOf(info), "camera");
  assert.deepEqual(mutedOf(info), { audio: false, video: false });
});

test("a stream of another client, or of strange shape, is not muted", () => {
  for (const muted of [undefined, null, true, [true], { audio: "yes" }, { audio: 1 }]) {
    assert.deepEqual(mutedOf(readInfo({ audio: true, ...(muted === undefined ? {} : { muted }) })), {
      audio: false,
      video: false,
    });
  }
});
