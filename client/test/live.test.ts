/** How the live view words what it is told. */

import assert from "node:assert/strict";
import { test } from "node:test";
import { bitrate, count, percent, type Stream, streamWords } from "../demo/live-model.ts";
import { isOfThisMachine } from "../demo/page-options.ts";

const stream: Stream = {
  mid: "m",
  node: "n",
  audio: true,
  video: true,
  muted: { audio: false, video: false },
  recorded: false,
};

test("a stream is told of by what it carries now", () => {
  assert.equal(streamWords(stream), "sound, picture");
  assert.equal(streamWords({ ...stream, muted: { audio: true, video: true } }), "microphone off, camera off");
  assert.equal(streamWords({ ...stream, video: false, recorded: true }), "sound · recorded");
  assert.equal(streamWords({ ...stream, audio: false, video: false }), "no media");
});

test("rates and shares have three digits at most, and little is not nothing", () => {
  const rates = [0, 999, 1_000, 12_345, 999_499, 999_500, 2_500_000_000].map(bitrate);
  assert.deepEqual(rates, [
    "0 bit/s",
    "999 bit/s",
    "1.00 kbit/s",
    "12.3 kbit/s",
    "999 kbit/s",
    "1.00 Mbit/s",
    "2.50 Gbit/s",
  ]);
  assert.deepEqual([0, 0.001, 0.5, 1].map(percent), ["0 %", "< 1 %", "50 %", "100 %"]);
  assert.deepEqual([count(1, "room"), count(1200, "room")], ["1 room", "1,200 rooms"]);
});

test("only a page of this machine looks for the operators' view by itself", () => {
  const hosts = ["localhost", "127.0.0.1", "[::1]", "a.localhost", "192.168.1.2", "example.org", "127.example.org"];
  assert.deepEqual(hosts.map(isOfThisMachine), [true, true, true, true, false, false, false]);
});
