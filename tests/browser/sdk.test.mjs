// Chromium to SFU to Chromium, on pages built on the SDK: what the server is for.

import assert from 'node:assert/strict';
import { after, afterEach, before, beforeEach, test } from 'node:test';
import { isDeepStrictEqual } from 'node:util';
import { openTab, startChromium } from './rig/chromium.mjs';
import { MINFO, offer } from './rig/offers.mjs';
import { privatePath } from './rig/private-dir.mjs';
import { connect } from './rig/raw-client.mjs';
import { delivered, fault } from './rig/recorded.mjs';
import { startRelay } from './rig/relay.mjs';
import { joinWithSdk } from './rig/sdk-page.mjs';
import { startSluice } from './rig/sluice.mjs';
import { holds, until } from './rig/waiting.mjs';

let server;
let browser;
let pages = [];
let rooms = 0;
let roomName;

/** A fresh tab in the test's room. */
async function join(peer, options = {}) {
  const page = await openTab(browser);
  page.peer = peer;
  pages.push(page);
  return joinWithSdk(page, options.server ?? server, { peer, roomName, ...options, server: undefined });
}

before(async () => {
  server = await startSluice();
  browser = await startChromium({ left: 440, right: 880 });
});
after(async () => {
  await browser?.close();
  const { code, ms } = (await server?.stop()) ?? {};
  assert.equal(code, 0);
  assert.ok(ms < 2_000, `sluice took ${ms} ms to end`);
});
beforeEach(() => {
  rooms += 1;
  roomName = `room-${rooms}`;
});
afterEach(async (context) => {
  // What the pages said is only of interest when something went wrong; the runner prints it with the failure.
  for (const page of pages) {
    for (const line of page.said) context.diagnostic?.(`${page.peer}: ${line}`);
    await page.browserContext().close();
  }
  pages = [];
});

test('two tabs see each other move and hear each tone in its own ear, under an AEAD cipher', async () => {
  const ann = await join('ann', { stereo: true });
  const ben = await join('ben', { stereo: true });
  const [film] = await Promise.all([ann.seesMoving('ben', { frames: 20 }), ben.seesMoving('ann', { frames: 20 })]);
  const [red, green, blue] = film.colour;
  assert.ok(red > 180 && green < 140 && blue < 120, `the film is red below its bars: ${film.colour}`);
  for (const [who, whom] of [[ann, 'ben'], [ben, 'ann']]) {
    await who.hears(whom, { left: 440, right: 880, apart: 30 });
    const ciphers = await who.ciphers();
    assert.equal(ciphers.length, 2, 'one connection to publish, one to subscribe');
    for (const cipher of ciphers) assert.match(cipher, /^SRTP_AEAD_AES_(128|256)_GCM$/);
  }
});

test('a late joiner has a picture within a second of subscribing', async () => {
  const ann = await join('ann');
  // Long enough in the call that no keyframe is due by itself.
  await until(() => ann.page.evaluate(async () => {
    const [video] = (await rig.stats(rig.connections[0], 'outbound-rtp')).filter((report) => report.kind === 'video');
    return video?.framesEncoded > 45;
  }), { what: 'ann having sent for three seconds' });
  const waits = [];
  for (const name of ['late-1', 'late-2', 'late-3']) {
    const late = await join(name, { publish: false });
    waits.push(await until(() => late.page.evaluate(() => window.call.waited('ann')), { what: 'the first picture' }));
    await late.seesMoving('ann');
    await pages.pop().browserContext().close();
  }
  assert.ok(waits.every((ms) => ms < 1_000), `first pictures after ${waits} ms`);
});

test('three in a room see one another', async () => {
  const all = [await join('ann'), await join('ben'), await join('cat')];
  for (const who of all) {
    for (const whom of ['ann', 'ben', 'cat'].filter((peer) => peer !== who.peer)) await who.seesMoving(whom);
    assert.equal((await who.shows()).length, 2);
  }
  await all[2].page.evaluate(() => window.call.client.close());
  for (const who of all.slice(0, 2)) {
    await until(async () => (await who.shows()).length === 1, { what: `${who.peer} seeing cat leave` });
    assert.equal((await who.told()).filter(({ name, uid }) => name === 'peer-left' && uid === 'cat').length, 1);
  }
});

test('a change of network restarts ICE on the same connection, and the call goes on', async () => {
  const ann = await join('ann');
  const ben = await join('ben');
  await Promise.all([ann.seesMoving('ben'), ben.seesMoving('ann')]);
  const fragments = () => ann.page.evaluate(() => rig.connections.map((one) => [one.localDescription, one.remoteDescription].map(({ sdp }) => /ice-ufrag:(\S+)/.exec(sdp)[1])));
  const before = await fragments();
  await ann.page.evaluate(() => window.dispatchEvent(new Event('online')));
  const later = await until(async () => {
    const now = await fragments();
    return now.every((pair, index) => pair.every((ufrag, side) => ufrag !== before[index][side])) && now;
  }, { what: 'new ICE credentials on both sides of both connections' });
  assert.equal(later.length, before.length, 'no connection was made anew');
  await until(() => ann.page.evaluate(() => rig.connections.every(({ connectionState }) => connectionState === 'connected')), { what: 'all connected' });
  await Promise.all([ann.seesMoving('ben', { frames: 10 }), ben.seesMoving('ann', { frames: 10 })]);
});

test('a tab that is reloaded is back in the call, and leaves no ghost', async () => {
  const ann = await join('ann');
  let ben = await join('ben');
  await Promise.all([ann.seesMoving('ben'), ben.seesMoving('ann')]);
  ben = await joinWithSdk(ben.page, server, { peer: 'ben', roomName });
  await Promise.all([ann.seesMoving('ben', { frames: 10 }), ben.seesMoving('ann', { frames: 10 })]);
  await until(async () => (await ann.shows()).join() === 'ben', { what: 'one ben only' });
  await holds(async () => assert.deepEqual(await ann.shows(), ['ben']), 1_000);
  assert.deepEqual(await ann.page.evaluate(() => window.call.room.peers), ['ben']);
});

test('muting is seen by the others, silences and darkens, and is undone', async () => {
  const ann = await join('ann');
  const ben = await join('ben');
  await ben.seesMoving('ann');
  await ann.page.evaluate(() => Promise.all([window.call.publication.mute('video'), window.call.publication.mute('audio')]));
  const marks = () => ben.page.evaluate(() => window.call.room.streams.find(({ uid }) => uid === 'ann').muted);
  await until(async () => { const { audio, video } = await marks(); return audio && video; }, { what: 'both marks' });
  await until(() => ben.page.evaluate(() => rig.film(document.querySelector('video')) === null), { what: 'the film going dark' });
  await until(() => ben.page.evaluate(() => window.call.ears('ann').every(({ db }) => db < -70)), { what: 'silence' });
  await ann.page.evaluate(() => Promise.all([window.call.publication.unmute('video'), window.call.publication.unmute('audio')]));
  await until(async () => { const { audio, video } = await marks(); return !audio && !video; }, { what: 'no marks' });
  await ben.seesMoving('ann');
});

test('what is broadcast arrives once, at the others only', async () => {
  const ann = await join('ann', { publish: false });
  const ben = await join('ben', { publish: false });
  await ann.page.evaluate(() => window.call.room.broadcast({ text: 'hello', list: [1, null] }));
  const heard = async (who) => (await who.told()).filter(({ name }) => name === 'broadcast');
  await until(async () => (await heard(ben)).length === 1, { what: 'the broadcast' });
  assert.deepEqual((await heard(ben))[0].data, { text: 'hello', list: [1, null] });
  assert.deepEqual(await heard(ann), []);
});

test('signalling that is cut and comes back is resumed: media never stopped, nobody noticed', async () => {
  const relay = await startRelay(server.port);
  try {
    const ann = await join('ann');
    const ben = await join('ben', { url: `ws://127.0.0.1:${relay.port}/ws` });
    await Promise.all([ann.seesMoving('ben'), ben.seesMoving('ann')]);
    const before = (await ann.told()).length;
    relay.cut();
    await until(() => ben.page.evaluate(() => window.call.room.state === 'reconnecting'), { what: 'ben noticing the cut' });
    await ann.page.evaluate(() => window.call.room.broadcast('while you were away'));
    await Promise.all([ann.seesMoving('ben', { frames: 20 }), ben.seesMoving('ann', { frames: 20 })]);
    relay.mend();
    await until(() => ben.page.evaluate(() => window.call.room.state === 'connected'), { within: 20_000, what: 'ben resuming' });
    await until(async () => (await ben.told()).some(({ name, data }) => name === 'broadcast' && data === 'while you were away'), { what: 'what ben missed' });
    assert.deepEqual((await ann.told()).slice(before), [], 'ann was told nothing');
    assert.ok(!(await ben.told()).some(({ name }) => name === 'resynced'));
    assert.equal(await ben.page.evaluate(() => rig.connections.length), 2, 'no connection was made anew');
    await ben.seesMoving('ann');
  } finally {
    relay.stop();
  }
});

test('a room too large for one frame is known whole, and after an outage what happened in it meanwhile', async () => {
  const relay = await startRelay(server.port);
  const rid = roomName;
  const crowd = [];
  const publish = async (member) => {
    const minfo = { ...MINFO, description: 'x'.repeat(4_000) };
    return (await member.ask('publish', { rid, jsep: offer(), minfo })).mid;
  };
  try {
    const mids = [];
    for (const uid of ['ann', 'ben']) {
      const member = await connect(server.socketUrl(uid));
      crowd.push(member);
      await member.ask('join', { rid });
      for (let n = 0; n < 16; n += 1) mids.push(await publish(member));
    }
    const eve = await join('eve', { url: `ws://127.0.0.1:${relay.port}/ws`, publish: false, watch: false });
    const streams = () => eve.page.evaluate(() => window.call.room.streams.map(({ mid }) => mid).sort());
    assert.deepEqual(await streams(), [...mids].sort(), 'all are there when the join is done');
    relay.cut();
    await until(() => eve.page.evaluate(() => window.call.room.state === 'reconnecting'), { what: 'eve noticing the cut' });
    const [ann, ben] = crowd;
    const gone = mids.shift();
    await ann.ask('unpublish', { rid, mid: gone });
    mids.push(await publish(ann));
    await ben.ask('broadcast', { rid, data: 'while you were away' });
    relay.mend();
    await until(async () => (await eve.told()).some(({ name }) => name === 'broadcast'), { within: 20_000, what: 'what eve missed' });
    assert.deepEqual(await streams(), [...mids].sort());
    const told = (await eve.told()).filter(({ name }) => ['stream-removed', 'resynced'].includes(name));
    assert.deepEqual(told.map(({ name, mid }) => [name, mid]), [['stream-removed', gone]]);
  } finally {
    for (const member of crowd) member.cut();
    relay.stop();
  }
});

test('what a page has recorded, from its beginning or from later on, is told to all and delivered with a manifest', async () => {
  const directory = privatePath('recordings');
  const recorder = await startSluice({ args: ['--recordings', directory] });
  try {
    const [ann, ben] = [await join('ann', { server: recorder, publish: false }), await join('ben', { server: recorder, publish: false })];
    const first = await ann.page.evaluate(async () => {
      const { call } = window;
      const media = await navigator.mediaDevices.getUserMedia({ audio: true, video: { width: 320, height: 180 } });
      const [audio] = media.getAudioTracks();
      call.camera = await call.room.publish({ source: 'camera', audio, video: media.getVideoTracks()[0], record: true });
      call.microphone = await call.room.publish({ source: 'microphone', audio: audio.clone() });
      return call.camera.recording;
    });
    assert.ok(first, 'it is recorded when it is published');
    /** Waits until of each of these tracks, which the page's connection `n` sends, 50 packets more have been sent. */
    const sends = async (n, kinds) => {
      const sent = () => ann.page.evaluate(async (at) => {
        const reports = await rig.stats(rig.connections[at], 'outbound-rtp');
        return Object.fromEntries(reports.map(({ kind, packetsSent }) => [kind, packetsSent]));
      }, n);
      const before = await sent();
      await until(async () => {
        const now = await sent();
        return kinds.every((kind) => now[kind] >= (before[kind] ?? 0) + 50);
      }, { within: 20_000, what: `ann sending ${kinds.join(' and ')}` });
    };
    const second = await ann.page.evaluate(() => window.call.room.record(window.call.microphone, true));
    const shown = () => ben.page.evaluate(() => Object.fromEntries(window.call.room.streams.map(({ source, recording }) => [source, recording])));
    await until(async () => isDeepStrictEqual(await shown(), { camera: first, microphone: second }), { what: 'ben knowing of both' });
    await Promise.all([sends(0, ['audio', 'video']), sends(1, ['audio'])]);

    const ended = await ben.page.evaluate(() => {
      const { room } = window.call;
      return room.record(room.streams.find(({ source }) => source === 'camera'), false);
    });
    assert.equal(ended, first, 'ben may end what ann has begun');
    await until(() => ann.page.evaluate(() => window.call.camera.recording === undefined), { what: 'ann knowing that it has ended' });
    assert.equal(await ann.page.evaluate(() => window.call.room.record(window.call.microphone, false)), second);
    assert.equal(await ann.page.evaluate(() => window.call.microphone.recording), undefined);
    await until(async () => Object.values(await shown()).every((recording) => recording === undefined), { what: 'ben knowing that both have ended' });

    const mids = await ann.page.evaluate(() => [window.call.camera.mid, window.call.microphone.mid]);
    for (const [recording, mid, endings] of [[first, mids[0], ['ogg', 'webm']], [second, mids[1], ['ogg']]]) {
      const file = await delivered(directory, recording);
      assert.equal(fault(file), null);
      const { room, uid, reason, tracks } = file.manifest;
      assert.deepEqual([room, uid, file.manifest.mid, reason], [roomName, 'ann', mid, 'stopped']);
      assert.deepEqual(Object.keys(file.files).sort(), endings);
      const { packets, dropped, duration_ms: length } = tracks.find(({ kind }) => kind === 'audio');
      assert.ok(packets >= 40 && length >= 800 && dropped === 0, JSON.stringify(tracks));
    }
  } finally {
    await recorder.stop();
  }
});

test('a server that is stopped and started again gets its call back', async () => {
  const first = await startSluice();
  const ann = await join('ann', { server: first });
  const ben = await join('ben', { server: first });
  await Promise.all([ann.seesMoving('ben'), ben.seesMoving('ann')]);
  const { code, ms } = await first.stop();
  assert.equal(code, 0);
  assert.ok(ms < 2_000, `with a call running sluice took ${ms} ms to end`);
  await until(() => ann.page.evaluate(() => window.call.room.state === 'reconnecting'), { what: 'ann noticing' });
  const second = await startSluice({ listen: `127.0.0.1:${first.port}` });
  try {
    for (const who of [ann, ben]) {
      await until(() => who.page.evaluate(() => window.call.room.state === 'connected'), { within: 30_000, what: `${who.peer} reconnecting` });
    }
    await Promise.all([
      ann.seesMoving('ben', { frames: 10, within: 30_000 }),
      ben.seesMoving('ann', { frames: 10, within: 30_000 }),
    ]);
    assert.deepEqual(await ann.shows(), ['ben']);
    assert.deepEqual(await ben.shows(), ['ann']);
  } finally {
    await second.stop();
  }
});
