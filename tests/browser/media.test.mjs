// What RTCP does for a call between two Chromium tabs: publishers learn what the network takes and how it treats them,
// subscribers what was said at the moment they see.

import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import { openTab, startChromium } from './rig/chromium.mjs';
import { joinWithSdk } from './rig/sdk-page.mjs';
import { startSluice } from './rig/sluice.mjs';
import { until } from './rig/waiting.mjs';

const KINDS = ['audio', 'video'];

let server;
let browser;
let ann;
let ben;

before(async () => {
  server = await startSluice();
  browser = await startChromium();
  ann = await joinWithSdk(await openTab(browser), server, { peer: 'ann', roomName: 'media' });
  ben = await joinWithSdk(await openTab(browser), server, { peer: 'ben', roomName: 'media', publish: false });
  await ben.seesMoving('ann');
});
after(async () => {
  await browser?.close();
  await server?.stop();
});

/** The reports of `type` of a page's only connection, one of each kind, by kind. */
async function byKind(who, type) {
  const reports = await who.page.evaluate((wanted) => rig.stats(rig.connections[0], wanted), type);
  return Object.fromEntries(reports.map((report) => [report.kind, report]));
}

test('a publisher is told the round trip and the loss of what it sends, of both kinds', async () => {
  const first = await until(async () => {
    const reports = await byKind(ann, 'remote-inbound-rtp');
    return KINDS.every((kind) => reports[kind]?.roundTripTime < 0.1) && reports;
  }, { what: 'a round trip of this machine in the reports of both kinds' });
  for (const kind of KINDS) {
    const { fractionLost, packetsLost, jitter } = first[kind];
    assert.ok(fractionLost >= 0 && fractionLost < 0.1 && packetsLost < 100 && jitter < 1, JSON.stringify(first[kind]));
  }
  await until(async () => {
    const reports = await byKind(ann, 'remote-inbound-rtp');
    return KINDS.every((kind) => reports[kind].roundTripTimeMeasurements > first[kind].roundTripTimeMeasurements);
  }, { what: 'further reports of both kinds' });
});

test('a subscriber gets sender reports of both kinds, by a clock that runs', async () => {
  const NEAR_MS = 200;
  const last = {};
  const drifts = { audio: [], video: [] };
  const backwards = [];
  await until(async () => {
    const reports = await byKind(ben, 'remote-outbound-rtp');
    for (const kind of KINDS) {
      const [one, two] = [last[kind], reports[kind]];
      if (!two?.reportsSent || two.reportsSent === one?.reportsSent) continue;
      last[kind] = two;
      if (!one) continue;
      if (!['packetsSent', 'bytesSent', 'remoteTimestamp'].every((name) => two[name] > one[name])) backwards.push([one, two]);
      drifts[kind].push(Math.round(two.remoteTimestamp - one.remoteTimestamp - (two.timestamp - one.timestamp)));
    }
    // A browser that is held up is late in noting when a report came: some pairs are apart, but not all.
    return KINDS.every((kind) => drifts[kind].some((drift) => Math.abs(drift) < NEAR_MS));
  }, { within: 20_000, every: 100, what: `reports of both kinds, less than ${NEAR_MS} ms apart from the time of arrival` }).catch((error) => {
    throw new Error(`${error.message}; apart by ${JSON.stringify(drifts)} ms`);
  });
  assert.deepEqual(backwards, []);
});

test('lips are in sync', async () => {
  const SAMPLES = 20;
  const APART_MS = 100;
  const offsets = [];
  const median = () => [...offsets].sort((one, other) => one - other)[SAMPLES / 2];
  await until(async () => {
    const { audio, video } = await byKind(ben, 'inbound-rtp');
    if (audio.estimatedPlayoutTimestamp && video.estimatedPlayoutTimestamp) {
      offsets.push(Math.abs(audio.estimatedPlayoutTimestamp - video.estimatedPlayoutTimestamp));
    }
    // The last five seconds count: while it measures, a receiver moves one towards the other.
    if (offsets.length > SAMPLES) offsets.shift();
    return offsets.length === SAMPLES && median() <= APART_MS;
  }, { within: 30_000, every: 250, what: `at most ${APART_MS} ms between what is heard and what is seen` }).catch((error) => {
    throw new Error(`${error.message}; apart by ${offsets} ms`);
  });
});

test('a publisher is told of every packet how it arrived, and sends all that the network takes', async () => {
  const TAKEN = 1_500_000;
  const SENT = 1_200_000;
  /** Receiver reports are one or two. */
  const FEEDBACKS_PER_SECOND = 5;
  const page = await openTab(browser);
  // Without the hint of the SDK to Chromium, which then begins with 300 kbit/s.
  await page.evaluateOnNewDocument(() => {
    const native = RTCPeerConnection.prototype.setRemoteDescription;
    RTCPeerConnection.prototype.setRemoteDescription = function set({ type, sdp }) {
      return native.call(this, { type, sdp: sdp.replace(/^a=fmtp:\d+ x-google-start-bitrate=\d+\r\n/gm, '') });
    };
  });
  const cat = await joinWithSdk(page, server, { peer: 'cat', roomName: 'bandwidth', publish: false });
  await page.evaluate(async () => {
    // Noise, which takes all the bandwidth that a codec is given.
    const canvas = Object.assign(document.createElement('canvas'), { width: 640, height: 360 });
    const paper = canvas.getContext('2d');
    const pictures = Array.from({ length: 8 }, () => {
      const picture = paper.createImageData(canvas.width, canvas.height);
      for (let at = 0; at < picture.data.length; at += 65_536) crypto.getRandomValues(picture.data.subarray(at, at + 65_536));
      for (let at = 3; at < picture.data.length; at += 4) picture.data[at] = 255;
      return picture;
    });
    let number = 0;
    setInterval(() => paper.putImageData(pictures[(number += 1) % pictures.length], 0, 0), 66);
    const [video] = canvas.captureStream(15).getVideoTracks();
    await window.call.room.publish({ source: 'screen', video, maxVideoBitrate: 3_000_000 });
  });
  const look = () => page.evaluate(async () => {
    const stats = await rig.connections[0].getStats();
    const all = [...stats.values()];
    const transport = all.find(({ type }) => type === 'transport');
    const sent = all.find(({ type }) => type === 'outbound-rtp');
    const pair = stats.get(transport?.selectedCandidatePairId);
    return { at: transport?.timestamp, bitrate: pair?.availableOutgoingBitrate, bytes: sent?.bytesSent, received: transport?.packetsReceived };
  });
  await until(async () => (await look()).bitrate >= TAKEN, { within: 20_000, what: `the network being found to take ${TAKEN} bit/s` });
  let from = await look();
  await until(async () => {
    const now = await look();
    const seconds = (now.at - from.at) / 1000;
    if (seconds < 2) return false;
    const seen = { sent: (8 * (now.bytes - from.bytes)) / seconds, told: (now.received - from.received) / seconds };
    from = now;
    return seen.sent >= SENT && seen.told >= FEEDBACKS_PER_SECOND && seen;
  }, { within: 20_000, every: 250, what: `${SENT} bit/s being sent, and ${FEEDBACKS_PER_SECOND} packets of feedback a second` });
  await page.browserContext().close();
});
