// What a call sounds and looks like in its recording: Chromium publishes 440 Hz on the left and 880 Hz on the right for a minute, through
// good and bad networks and with a pause, all at once; and a page flashes and beeps together.

import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import { openTab, startChromium } from './rig/chromium.mjs';
import { privatePath } from './rig/private-dir.mjs';
import { connect } from './rig/raw-client.mjs';
import { brightness, byFfmpeg, byOpusdec, delivered, fault, warnings } from './rig/recorded.mjs';
import { joinWithSdk } from './rig/sdk-page.mjs';
import { startSluice } from './rig/sluice.mjs';
import { startUdpRelay } from './rig/udp-relay.mjs';
import { deadline, until } from './rig/waiting.mjs';

const RID = 'recorded';
const TONES = { left: 440, right: 880 };
/** Each tone is so much louder on its own channel than on the other. */
const APART_DB = 20;
const CALL_MS = 60_000;
/** A file may be this much longer or shorter than its call. */
const LENGTH_MS = 40;
const PAUSE = { after: 20_000, ms: 10_000 };
/** Of the pause's begin and end in the file: windows of 100 ms, a page's timers, and what a codec fades. */
const PAUSE_WITHIN_MS = 300;
/** Picture and sound in a film. */
const SYNC_MS = 80;
const FILM_MS = 20_000;

const pause = (ms) => new Promise((resolve) => setTimeout(resolve, ms));

const directory = privatePath('recordings');
const relays = [];
let server;
let browser;
/** Has streams recorded. */
let control;
/** Only hears of it. */
let listener;

before(async () => {
  server = await startSluice({ args: ['--media-ip', '127.0.0.1', '--recordings', directory] });
  browser = await startChromium(TONES);
  [control, listener] = await Promise.all(['control', 'listener'].map((uid) => connect(server.socketUrl(uid))));
  for (const client of [control, listener]) {
    await client.ask('join', { rid: RID });
    // One that says nothing is put out.
    setInterval(() => client.ask('keepalive', { rid: RID }).catch(() => {}), 15_000).unref();
  }
});
after(async () => {
  for (const client of [control, listener]) client?.cut();
  await browser?.close();
  for (const relay of relays) await relay.stop();
  await server?.stop();
});

/** Sends this page's media through a relay: to the same server on another port, as its answers then say. */
async function throughRelay(page, network) {
  await page.exposeFunction('relayTo', async (port) => {
    const relay = await startUdpRelay(port, network);
    relays.push(relay);
    page.relay = relay;
    return relay.port;
  });
  await page.evaluateOnNewDocument(() => {
    const native = RTCPeerConnection.prototype.setRemoteDescription;
    RTCPeerConnection.prototype.setRemoteDescription = async function set({ type, sdp }) {
      const candidate = /(a=candidate:\S+ 1 udp \d+ 127\.0\.0\.1 )(\d+)/i.exec(sdp);
      const port = await window.relayTo(Number(candidate[2]));
      return native.call(this, { type, sdp: sdp.replaceAll(candidate[0], `${candidate[1]}${port}`) });
    };
  });
}

/** A page of its own that is in the room and publishes both tones, and nothing else. Its stream's `mid` is what resolves. */
async function speaker(uid, network) {
  const page = await openTab(browser);
  if (network) await throughRelay(page, network);
  await joinWithSdk(page, server, { peer: uid, roomName: RID, publish: false, watch: false });
  await page.evaluate(async () => {
    const media = await navigator.mediaDevices.getUserMedia({
      audio: { echoCancellation: false, noiseSuppression: false, autoGainControl: false, channelCount: 2 },
    });
    const [audio] = media.getAudioTracks();
    window.microphone = audio;
    window.call.publication = await window.call.room.publish({ source: 'microphone', stereo: true, audio, stopTracks: false });
  });
  // It is heard before anything is recorded: connecting is no part of what is measured.
  await until(() => page.evaluate(async () => {
    const [report] = await rig.stats(rig.connections[0], 'outbound-rtp');
    return report?.packetsSent > 50;
  }), { within: 20_000, what: `${uid} sending` });
  const { mid } = await control.notified('stream-add', (data) => data.uid === uid);
  return { uid, page, mid };
}

/** Records a stream while `meanwhile` runs. Its length is `least` to `most` ms: it began and ended between question and answer. */
async function record(mid, meanwhile = () => pause(CALL_MS)) {
  const asked = performance.now();
  const { recording } = await control.ask('record', { rid: RID, mid, on: true });
  const begun = performance.now();
  await meanwhile(begun);
  const ending = performance.now();
  await control.ask('record', { rid: RID, mid, on: false });
  const ended = performance.now();
  const file = await delivered(directory, recording);
  return { ...file, recording, least: ending - begun, most: ended - asked };
}

/** What must be so of every file of the tones: `heard` (0 to 1) of it at least, each on its own channel. Gives the sound. */
function isRight(name, file, heard) {
  assert.equal(fault(file), null);
  assert.deepEqual(warnings(file.files.ogg), []);
  const sounds = { opusdec: byOpusdec(file.files.ogg), ffmpeg: byFfmpeg(file.files.ogg) };
  for (const [decoder, sound] of Object.entries(sounds)) {
    const off = Math.max(file.least - sound.length, sound.length - file.most, 0);
    console.log(`${name}, ${decoder}: ${sound.length.toFixed(1)} ms of ${file.least.toFixed(1)} to ${file.most.toFixed(1)}`);
    assert.ok(off <= LENGTH_MS, `${name}, ${decoder}: ${sound.length} ms of a call of ${file.least} to ${file.most} ms`);
    const windows = sound.windows(TONES);
    const good = windows.filter((window) => window.heard && window.apart >= APART_DB);
    const share = good.length / windows.length;
    assert.ok(share >= heard, `${name}, ${decoder}: both tones apart in ${good.length} of ${windows.length} windows`);
    // Never the other way round, whatever was lost.
    const swapped = windows.filter((window) => window.heard && window.apart < 0);
    assert.deepEqual(swapped, [], `${name}, ${decoder}: a tone on the other channel`);
  }
  assert.ok(Math.abs(file.manifest.duration_ms - sounds.opusdec.length) <= LENGTH_MS, `${file.manifest.duration_ms} ms`);
  return sounds.opusdec;
}

const audio = ({ manifest }) => manifest.tracks.find(({ kind }) => kind === 'audio');

test('a minute of stereo is recorded as it was: through a good network, losses, disorder and a pause', { timeout: 240_000 }, async (t) => {
  const speakers = {
    good: await speaker('good'),
    lossy: await speaker('lossy', { seed: 5, lose: 0.05 }),
    disordered: await speaker('disordered', { seed: 7, delay: 0.1 }),
    muted: await speaker('muted'),
  };
  const during = {};
  const muteMeanwhile = async (begun) => {
    const { page } = speakers.muted;
    await pause(PAUSE.after);
    during.from = performance.now() - begun;
    await page.evaluate(() => window.call.publication.replaceTrack('audio', null));
    await pause(PAUSE.ms);
    await page.evaluate(() => window.call.publication.replaceTrack('audio', window.microphone));
    during.to = performance.now() - begun;
    await pause(CALL_MS - PAUSE.after - PAUSE.ms);
  };
  const [good, lossy, disordered, muted] = await Promise.all([
    record(speakers.good.mid), record(speakers.lossy.mid), record(speakers.disordered.mid), record(speakers.muted.mid, muteMeanwhile),
  ]);

  await t.test('everybody in the room is told, of each stream when it begins and when it ends', async () => {
    for (const { recording, manifest } of [good, lossy, disordered, muted]) {
      const { mid, uid } = manifest;
      for (const on of [true, false]) {
        const told = await listener.notified('recording', (data) => data.mid === mid && data.on === on);
        assert.deepEqual([told.rid, told.uid, told.recording], [RID, uid, recording]);
      }
    }
  });
  await t.test('a good network: nothing is lost', () => {
    isRight('good', good, 0.99);
    const { codec, channels, lost, dropped, packets } = audio(good);
    assert.deepEqual([codec, channels, dropped], ['opus', 2, 0]);
    assert.ok(lost <= 5 && packets >= CALL_MS / 20 - 10, JSON.stringify(audio(good)));
  });
  await t.test('one packet in twenty lost: as long as the call, and said in the manifest', () => {
    isRight('lossy', lossy, 0.75);
    const { counted } = speakers.lossy.page.relay;
    assert.ok(counted.lost > 50, JSON.stringify(counted));
    const { lost, packets } = audio(lossy);
    const share = lost / (lost + packets);
    assert.ok(share > 0.005 && share < 0.1, `${lost} lost of ${lost + packets}`);
  });
  await t.test('packets that overtake one another: all are in their place', () => {
    isRight('disordered', disordered, 0.99);
    const { counted } = speakers.disordered.page.relay;
    assert.ok(counted.late > 100, JSON.stringify(counted));
    assert.ok(audio(disordered).lost <= 5, JSON.stringify(audio(disordered)));
  });
  await t.test('ten seconds of nothing: silence of ten seconds where it was', () => {
    const sound = isRight('muted', muted, 0.8);
    const near = ({ at }) => at > PAUSE.after - 5_000 && at < PAUSE.after + PAUSE.ms + 5_000;
    const silent = sound.windows(TONES).filter((window) => window.silent && near(window)).map(({ at }) => at);
    const [first, last] = [silent[0], silent.at(-1) + 100];
    console.log(`muted: silent from ${first} to ${last} ms, asked for from ${during.from.toFixed(0)} to ${during.to.toFixed(0)}`);
    assert.ok(Math.abs(first - during.from) <= PAUSE_WITHIN_MS, `silence begins at ${first} ms, and not at ${during.from}`);
    assert.ok(Math.abs(last - during.to) <= PAUSE_WITHIN_MS, `silence ends at ${last} ms, and not at ${during.to}`);
  });
  for (const { page } of Object.values(speakers)) await page.browserContext().close();
});

/** Publishes a picture that turns white, and a beep, together, for a tenth of every second. */
const flashAndBeep = async () => {
  const context = new AudioContext({ sampleRate: 48_000 });
  await context.resume();
  const tone = new OscillatorNode(context, { frequency: 1_000 });
  const gate = new GainNode(context, { gain: 0 });
  const out = new MediaStreamAudioDestinationNode(context, { channelCount: 2 });
  tone.connect(gate).connect(out);
  tone.start();
  const canvas = Object.assign(document.createElement('canvas'), { width: 320, height: 180 });
  document.body.append(canvas);
  const paper = canvas.getContext('2d');
  let count = 0;
  let planned = Math.ceil(context.currentTime) + 1;
  setInterval(() => {
    const now = context.currentTime;
    while (planned < now + 2) {
      gate.gain.setValueAtTime(0.8, planned);
      gate.gain.setValueAtTime(0, planned + 0.1);
      planned += 1;
    }
    paper.fillStyle = now > 1 && now % 1 < 0.1 ? 'white' : 'black';
    paper.fillRect(0, 0, canvas.width, canvas.height);
    // Always something new to send.
    paper.fillStyle = `rgb(${(count += 1) % 60}, 0, 0)`;
    paper.fillRect(0, 0, 8, 8);
  }, 10);
  window.call.publication = await window.call.room.publish({
    source: 'camera', audio: out.stream.getAudioTracks()[0], video: canvas.captureStream(30).getVideoTracks()[0],
  });
};

/** How long after each beep the picture flashes. */
function flashesAfterBeeps(path) {
  const EVERY_MS = 5;
  const bright = brightness(path, EVERY_MS);
  const flashes = bright.flatMap((value, at) => (value > 128 && bright[at - 1] <= 128 ? [at * EVERY_MS] : []));
  const beeps = byFfmpeg(path).onsets();
  return flashes.flatMap((flash) => {
    const nearest = beeps.reduce((best, beep) => (Math.abs(beep - flash) < Math.abs(best - flash) ? beep : best), Infinity);
    return Math.abs(flash - nearest) < 500 ? [flash - nearest] : [];
  });
}

test('picture and sound of a film are together, and a browser plays it', { timeout: 120_000 }, async (t) => {
  const page = await openTab(browser);
  await joinWithSdk(page, server, { peer: 'film', roomName: RID, publish: false, watch: false });
  await page.evaluate(flashAndBeep);
  const { mid } = await control.notified('stream-add', (data) => data.uid === 'film');
  await until(() => page.evaluate(async () => (await rig.stats(rig.connections[0], 'outbound-rtp')).every((report) => report.packetsSent > 50)), {
    within: 20_000, what: 'the film being sent',
  });
  const film = await record(mid, () => pause(FILM_MS));
  assert.equal(fault(film), null);
  assert.deepEqual(Object.keys(film.files).sort(), ['ogg', 'webm']);
  assert.deepEqual(warnings(film.files.ogg), []);
  await t.test(`within ${SYNC_MS} ms`, () => {
    const apart = flashesAfterBeeps(film.files.webm).map(Math.round).sort((one, other) => one - other);
    console.log(`flashes after beeps, ms: ${apart}`);
    assert.ok(apart.length >= FILM_MS / 1000 - 4, `${apart.length} flashes with a beep`);
    const median = apart[Math.floor(apart.length / 2)];
    assert.ok(Math.abs(median) <= SYNC_MS, `half of them are apart by ${median} ms or more`);
    // A frame that was held up is late; the film as a whole is not.
    const far = apart.filter((ms) => Math.abs(ms) > SYNC_MS);
    assert.ok(far.length <= 2, `apart by ${far} ms`);
  });
  await t.test('both files play in a browser', async () => {
    for (const path of Object.values(film.files)) {
      const viewer = await openTab(browser, { url: `file://${encodeURI(path)}` });
      const played = await deadline(viewer.evaluate(async () => {
        const media = document.querySelector('video');
        await media.play();
        await new Promise((resolve, reject) => {
          media.onerror = () => reject(new Error(media.error.message));
          media.ontimeupdate = () => media.currentTime > 1 && resolve();
        });
        return { seconds: media.duration, width: media.videoWidth };
      }), 20_000, `${path} playing`);
      const ms = played.seconds * 1000;
      assert.ok(ms >= film.least - 200 && ms <= film.most + 200, `${path}: ${ms} ms of ${film.least} to ${film.most}`);
      assert.equal(played.width > 0, path.endsWith('.webm'));
      await viewer.browserContext().close();
    }
  });
  await page.browserContext().close();
});
