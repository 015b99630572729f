import assert from "node:assert/strict";
import { test } from "node:test";
import { readIceServers } from "../src/rtc-config.ts";

test("ICE servers are taken with their credentials", () => {
  const iceServers = [{ urls: ["turn:relay.example:3478?transport=tcp"], username: "u", credential: "c" }];
  assert.deepEqual(readIceServers({ iceServers, limits: {} }), iceServers);
});

test("a single address is taken as well", () => {
  assert.deepEqual(readIceServers({ iceServers: [{ urls: "stun:s.example" }] }), [
    { urls: ["stun:s.example"] },
  ]);
});

test("what a peer connection would refuse is left out", () => {
  for (const answer of [
    null,
    [],
    "x",
    {},
    { iceServers: "turn:x" },
    { iceServers: [null, 3, {}, { urls: [] }, { urls: ["http://x"] }, { urls: [5] }] },
  ]) {
    assert.deepEqual(readIceServers(answer), []);
  }
});

test("more than a browser can use are not taken", () => {
  const iceServers = Array.from({ length: 100 }, (_, i) => ({ urls: [`turn:r${i}.example`] }));
  assert.equal(readIceServers({ iceServers }).length, 8);
});
