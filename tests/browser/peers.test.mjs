// WebRTC stacks that are not browsers: libwebrtc from npm and aiortc from PyPI publish and subscribe, media counted and read.

import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import { startAiortc } from './rig/aiortc-peer.mjs';
import { connect } from './rig/raw-client.mjs';
import { startSluice } from './rig/sluice.mjs';
import { until } from './rig/waiting.mjs';
import { publish, subscribe } from './rig/wrtc-peer.mjs';

const RID = 'peers';
const MINFO = { audio: true, video: true, audiotype: 0, videotype: 0 };

let server;
const members = [];

async function member(uid) {
  const client = await connect(server.socketUrl(uid));
  await client.ask('join', { rid: RID });
  members.push(client);
  return client;
}

before(async () => {
  server = await startSluice();
});
after(async () => {
  for (const client of members) client.cut();
  assert.equal((await server.stop()).code, 0);
});

test('libwebrtc publishes, libwebrtc and aiortc subscribe: pictures move, each ear hears its tone', async () => {
  const publisher = await member('libwebrtc');
  const stream = await publish(publisher, RID);
  const viewer = await subscribe(await member('libwebrtc-viewer'), RID, stream);
  const python = await member('aiortc-viewer');
  const snake = await startAiortc('subscribe', async (jsep) => (await python.ask('subscribe', { rid: RID, mid: stream.mid, jsep })).jsep);
  try {
    await Promise.all([stream.connected(), viewer.connected()]);
    await until(() => viewer.received.numbers.size >= 20, { within: 20_000, what: '20 different pictures at libwebrtc' });
    assert.ok(viewer.received.numbers.size >= viewer.received.pictures * 0.5 || viewer.received.numbers.size === 64, 'pictures are the film, and move');
    await until(() => viewer.received.left.length >= 48_000 && viewer.loudness(440).left > -20, { within: 10_000, what: 'a second of sound at libwebrtc' });
    assert.equal(viewer.received.channels, 2);
    const [low, high] = [viewer.loudness(440), viewer.loudness(880)];
    assert.ok(low.left - low.right > 30, `440 Hz belongs to the left: ${JSON.stringify(low)}`);
    assert.ok(high.right - high.left > 30, `880 Hz belongs to the right: ${JSON.stringify(high)}`);
    const report = await snake.reports((seen) => seen.pictures >= 20 && seen.sounds >= 50 && seen.loud > 3_000, 'aiortc seeing and hearing libwebrtc');
    assert.equal(report.state, 'connected');
    assert.ok(report.shades >= 10, 'the pictures differ');
  } finally {
    snake.stop();
    viewer.close();
    stream.close();
  }
});

test('aiortc publishes and libwebrtc subscribes', async () => {
  const python = await member('aiortc');
  let stream;
  const snake = await startAiortc('publish', async (jsep) => {
    stream = await python.ask('publish', { rid: RID, jsep, minfo: MINFO });
    return stream.jsep;
  });
  const viewer = await subscribe(await member('libwebrtc-viewer-2'), RID, stream);
  try {
    await viewer.connected();
    await until(() => viewer.received.pictures >= 20, { within: 20_000, what: '20 pictures from aiortc' });
    await until(() => viewer.received.left.length >= 48_000 && viewer.loudness(440).left > -20, { within: 10_000, what: 'the tone of aiortc' });
    const report = await snake.report();
    assert.equal(report.state, 'connected');
    assert.ok(report.sent > 50);
  } finally {
    snake.stop();
    viewer.close();
  }
});
