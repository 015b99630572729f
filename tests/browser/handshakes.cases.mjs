// A hundred connections each at 0, 10 and 30 % loss both ways: every one must come up. Writes how long they took to
// target/test-results/handshakes.json.

import assert from 'node:assert/strict';
import { writeFileSync } from 'node:fs';
import { after, before, test } from 'node:test';
import { fileURLToPath } from 'node:url';
import { openTab, startChromium } from './rig/chromium.mjs';
import { population } from './rig/metrics.mjs';
import { countUdp, dropArrivingUdp, raiseLoopback } from './rig/namespace.mjs';
import { startSluice } from './rig/sluice.mjs';
import { until } from './rig/waiting.mjs';

const COUNT = 100;
/** At a time: few enough that two cores do not make the times, enough that 30 % loss is over in a minute. */
const AT_ONCE = { 0: 1, 10: 2, 30: 4 };
/**
 * A connection that is not up by then has failed. DTLS resends after 1, 2, 4, 8 … s, and at 30 % both ways half of all
 * exchanges need a resend.
 */
const GIVE_UP_MS = 60_000;
const RESULTS = fileURLToPath(new URL('../../target/test-results/handshakes.json', import.meta.url));

let server;
let browser;
let page;
const results = [];

before(async () => {
  raiseLoopback();
  server = await startSluice({ args: ['--media-ip', '127.0.0.1'] });
  browser = await startChromium();
  page = await openTab(browser, { url: new URL('/healthz', server.url).href });
  await page.evaluate(connectPublisher, server.socketUrl('publisher'));
});
after(async () => {
  dropArrivingUdp(0);
  await browser?.close();
  writeFileSync(RESULTS, `${JSON.stringify({ browser: 'chromium', what: 'publish answered to connected, ms', results }, null, 2)}\n`);
  await server?.stop();
});

/** In the page: a member that publishes without the SDK, whose recovery would hide a handshake that failed. */
async function connectPublisher(url) {
  const socket = new WebSocket(url);
  await new Promise((resolve, reject) => {
    socket.onopen = resolve;
    socket.onerror = reject;
  });
  const waiting = new Map();
  let ids = 0;
  socket.onmessage = ({ data }) => {
    const frame = JSON.parse(data);
    waiting.get(frame.id)?.(frame);
    waiting.delete(frame.id);
  };
  const ask = (method, data) =>
    new Promise((resolve, reject) => {
      ids += 1;
      waiting.set(ids, (frame) => (frame.ok ? resolve(frame.data) : reject(new Error(`${method}: ${frame.errorReason}`))));
      socket.send(JSON.stringify({ request: true, id: ids, method, data: { rid: 'handshakes', ...data } }));
    });
  await ask('join', {});
  const [track] = (await navigator.mediaDevices.getUserMedia({ audio: true })).getAudioTracks();

  window.handshake = async (giveUpMs) => {
    const connection = new RTCPeerConnection();
    try {
      connection.addTransceiver(track, { direction: 'sendonly' });
      await connection.setLocalDescription();
      const { mid, jsep } = await ask('publish', {
        jsep: { type: 'offer', sdp: connection.localDescription.sdp },
        minfo: { audio: true, video: false, audiotype: 0, videotype: 0 },
      });
      const started = performance.now();
      const outcome = new Promise((resolve) => {
        const timer = setTimeout(() => resolve(null), giveUpMs);
        connection.onconnectionstatechange = () => {
          if (!['connected', 'failed'].includes(connection.connectionState)) return;
          clearTimeout(timer);
          resolve(connection.connectionState === 'connected' ? performance.now() - started : null);
        };
      });
      await connection.setRemoteDescription(jsep);
      const ms = await outcome;
      const seen = ms === null ? `${connection.iceConnectionState}, DTLS ${connection.getSenders()[0].transport?.state}` : '';
      await ask('unpublish', { mid });
      return { ms, seen };
    } finally {
      connection.close();
    }
  };
  window.handshakes = async (count, atOnce, giveUpMs) => {
    const done = [];
    let begun = 0;
    const worker = async () => {
      while (begun < count) {
        begun += 1;
        done.push(await window.handshake(giveUpMs));
      }
    };
    await Promise.all(Array.from({ length: atOnce }, worker));
    return done;
  };
}

const percentile = (sorted, share) => Math.round(sorted[Math.min(sorted.length - 1, Math.ceil(sorted.length * share) - 1)]);

for (const loss of [0, 10, 30]) {
  test(`${COUNT} connections come up at ${loss} % loss both ways`, async () => {
    dropArrivingUdp(loss);
    const done = await page.evaluate((...args) => window.handshakes(...args), COUNT, AT_ONCE[loss], GIVE_UP_MS);
    if (loss > 0) {
      const { dropped, passed } = countUdp();
      const share = (100 * dropped) / (dropped + passed);
      assert.ok(Math.abs(share - loss) < loss / 4 + 1, `${share.toFixed(1)} % were really lost`);
    }
    const failed = done.filter(({ ms }) => ms === null);
    const times = done.flatMap(({ ms }) => (ms === null ? [] : [ms])).sort((a, b) => a - b);
    const result = {
      loss, count: done.length, completed: times.length,
      p50: percentile(times, 0.5), p95: percentile(times, 0.95), max: percentile(times, 1),
    };
    results.push(result);
    console.log(JSON.stringify(result));
    assert.equal(failed.length, 0, `not up: ${failed.map(({ seen }) => seen)}`);
    const alive = async () => (await population(server)).sluice_sfu_shard_transports;
    await until(async () => (await alive()) === 0, { what: 'none of the connections being left in the server' });
  });
}
