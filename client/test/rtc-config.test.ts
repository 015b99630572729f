import assert from "node:assert/strict";
import { test } from "node:test";
import { RtcConfig, readIceServers } from "../src/rtc-config.ts";
import type { TokenSource } from "../src/signalling.ts";
import { VirtualClock } from "./support/virtual-time.ts";

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
    { iceServers: [{ urls: ["stun:s.example:3478?transport=udp", "stuns:s.example?transport=tcp"] }] },
  ]) {
    assert.deepEqual(readIceServers(answer), []);
  }
});

test("more than a browser can use are not taken", () => {
  const iceServers = Array.from({ length: 100 }, (_, i) => ({ urls: [`turn:r${i}.example`] }));
  assert.equal(readIceServers({ iceServers }).length, 8);
});

const SOCKET = "wss://calls.example/a/ws?x=1";

/** What is asked of a server that is not the page's, in `times` tries, and what is made of its last answer. */
async function asked(token: TokenSource | undefined, answer: () => Promise<unknown>, times = 1) {
  const requests: { url: string; headers: unknown }[] = [];
  const real = globalThis.fetch;
  globalThis.fetch = (async (url: URL, { headers }: RequestInit) => {
    requests.push({ url: String(url), headers });
    return answer();
  }) as unknown as typeof fetch;
  try {
    const rtc = new RtcConfig(token, new VirtualClock());
    for (let i = 1; i < times; i++) await rtc.get(SOCKET);
    const configuration = await rtc.get(SOCKET);
    return { requests, configuration };
  } finally {
    globalThis.fetch = real;
  }
}

test("the token goes in a header, never in the address, whatever the page's origin", async () => {
  for (const token of ["aa.bb.cc", async () => "aa.bb.cc"]) {
    const { requests, configuration } = await asked(token, async () => ({
      ok: true,
      json: async () => ({ iceServers: [{ urls: "stun:s.example" }] }),
    }));
    assert.deepEqual(requests, [
      { url: "https://calls.example/a/rtc-config", headers: { authorization: "Bearer aa.bb.cc" } },
    ]);
    assert.deepEqual(configuration, { iceServers: [{ urls: ["stun:s.example"] }] });
  }
});

test("without a token nothing but a simple request is made", async () => {
  const { requests } = await asked(undefined, async () => ({ ok: false, status: 404 }));
  assert.deepEqual(requests, [{ url: "https://calls.example/a/rtc-config", headers: {} }]);
});

test("a server that does not answer leaves a connection without ICE servers", async () => {
  const { configuration } = await asked("t", () => Promise.reject(new TypeError("Failed to fetch")));
  assert.deepEqual(configuration, {});
});

test("a server that cannot say now is asked again; one that has nothing to say is not", async () => {
  const iceServers = [{ urls: ["stun:s.example"] }];
  for (const [status, questions] of [
    [404, 1],
    [401, 2],
    [500, 2],
    [503, 2],
  ] as const) {
    let first = true;
    const answer = async () => {
      if (!first) return { ok: true, status: 200, json: async () => ({ iceServers }) };
      first = false;
      return { ok: false, status };
    };
    const { requests, configuration } = await asked("t", answer, 2);
    assert.equal(requests.length, questions, `${status}`);
    assert.deepEqual(configuration, questions === 2 ? { iceServers } : {});
  }
});
