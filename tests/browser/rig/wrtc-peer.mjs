// A peer on Google's libwebrtc from npm: publishes the numbered film and a tone per ear, or counts and reads what it
// receives. A process of its own, driven by foreign-peer.mjs: the native module crashes when a process that used it ends.

import { createRequire } from 'node:module';
import { createInterface } from 'node:readline';
import { CELLS, FILM, SAMPLE_RATE } from './sources.mjs';

const wrtc = createRequire(import.meta.url)('@roamhq/wrtc');
const { RTCAudioSink, RTCAudioSource, RTCVideoSink, RTCVideoSource } = wrtc.nonstandard;

const AUDIO_SLICE = SAMPLE_RATE / 100;

/** Calls `tick(n)` for n = 0, 1, … every `ms`, catching up when the process was held. */
function metronome(ms, tick) {
  const started = performance.now();
  let count = 0;
  setInterval(() => {
    // Bounded: after a long hold the rest is skipped rather than sent in one burst.
    const due = Math.floor((performance.now() - started) / ms);
    count = Math.max(count, due - 5);
    while (count < due) tick(count++);
  }, ms);
}

function filmFrame(number) {
  const { width, height } = FILM;
  const luma = width * height;
  const data = new Uint8ClampedArray((luma * 3) / 2).fill(128);
  for (let cell = 0; cell < CELLS; cell += 1) {
    const bright = cell === 0 || (cell < CELLS - 1 && (number >> (CELLS - 2 - cell)) & 1);
    const from = Math.round((cell * width) / CELLS);
    const to = Math.round(((cell + 1) * width) / CELLS);
    for (let y = 0; y < height / 2; y += 1) data.fill(bright ? 235 : 16, y * width + from, y * width + to);
  }
  return { width, height, data };
}

/** The film's frame number in a decoded I420 picture, or null if it is not the film. */
function readFrame({ width, height, data }) {
  let number = 0;
  for (let cell = 0; cell < CELLS; cell += 1) {
    const x = Math.round(((cell + 0.5) * width) / CELLS);
    const luma = data[Math.round(height / 4) * width + x];
    if (luma > 80 && luma < 175) return null;
    const bright = luma >= 175;
    if (cell === 0 ? !bright : cell === CELLS - 1 && bright) return null;
    if (cell > 0 && cell < CELLS - 1) number = number * 2 + (bright ? 1 : 0);
  }
  return number;
}

/** Loudness of `hz` in 16-bit `samples`, in dB of full scale. */
function loudness(samples, hz) {
  let real = 0;
  let imaginary = 0;
  for (let i = 0; i < samples.length; i += 1) {
    const angle = (2 * Math.PI * hz * i) / SAMPLE_RATE;
    real += (samples[i] / 32_768) * Math.cos(angle);
    imaginary += (samples[i] / 32_768) * Math.sin(angle);
  }
  return Math.round(20 * Math.log10((2 * Math.hypot(real, imaginary)) / samples.length + 1e-9));
}

const stereo = (sdp) => sdp.replace(/(a=fmtp:\d+ .*useinbandfec=1)(?!.*stereo)/g, '$1;stereo=1;sprop-stereo=1');

const connection = new wrtc.RTCPeerConnection();
/** Every state it has been in. */
const states = [connection.connectionState];
connection.onconnectionstatechange = () => states.push(connection.connectionState);
const received = { pictures: 0, numbers: new Set(), sounds: 0, channels: 0, left: [], right: [] };
const HELD_EVERY_MS = 20;
/** Samples this loud are the tone and not what a decoder makes up for packets that did not come. */
const LOUD = 3_000;

/** Counts things that should come steadily, and their longest absence, since the last look. */
class Steadiness {
  count = 0;
  #last = performance.now();
  #gap = 0;

  note() {
    this.count += 1;
    this.#mind();
    this.#last = performance.now();
  }

  /** What came since the last look. */
  look() {
    this.#mind();
    const seen = { count: this.count, gapMs: Math.round(this.#gap) };
    this.count = 0;
    this.#gap = 0;
    return seen;
  }

  #mind() {
    this.#gap = Math.max(this.#gap, performance.now() - this.#last);
  }
}

/** How late this process was in being run since the last look, at worst and in all: what a busy machine does to everybody. */
const held = { worstMs: 0, inAllMs: 0, due: performance.now() };
setInterval(() => {
  const now = performance.now();
  const late = now - held.due - HELD_EVERY_MS;
  held.worstMs = Math.max(held.worstMs, late);
  // Less is how timers are.
  if (late > HELD_EVERY_MS) held.inAllMs += late;
  held.due = now;
}, HELD_EVERY_MS);

const steady = { since: performance.now(), pictures: new Steadiness(), sounds: new Steadiness() };
let lastNumber = null;
// Kept: a source or sink that is collected falls silent.
const kept = [];

function addSources() {
  const sound = new RTCAudioSource();
  metronome(10, (n) => {
    const samples = new Int16Array(AUDIO_SLICE * 2);
    for (let i = 0; i < AUDIO_SLICE; i += 1) {
      const at = ((n * AUDIO_SLICE + i) * 2 * Math.PI) / SAMPLE_RATE;
      samples[2 * i] = 16_000 * Math.sin(440 * at);
      samples[2 * i + 1] = 16_000 * Math.sin(880 * at);
    }
    sound.onData({ samples, sampleRate: SAMPLE_RATE, bitsPerSample: 16, channelCount: 2, numberOfFrames: AUDIO_SLICE });
  });
  const picture = new RTCVideoSource();
  const frames = Array.from({ length: FILM.frames }, (_, number) => filmFrame(number));
  metronome(1000 / FILM.fps, (n) => picture.onFrame(frames[n % FILM.frames]));
  const stream = new wrtc.MediaStream();
  for (const source of [sound, picture]) connection.addTrack(source.createTrack(), stream);
  kept.push(sound, picture, stream);
}

function addSinks() {
  for (const kind of ['audio', 'video']) connection.addTransceiver(kind, { direction: 'recvonly' });
  connection.ontrack = ({ track }) => {
    const sink = track.kind === 'video' ? new RTCVideoSink(track) : new RTCAudioSink(track);
    kept.push(track, sink);
    sink.onframe = ({ frame }) => {
      received.pictures += 1;
      const number = readFrame(frame);
      if (number === null) return;
      received.numbers.add(number);
      if (number !== lastNumber) steady.pictures.note();
      lastNumber = number;
    };
    sink.ondata = ({ samples, channelCount }) => {
      received.sounds += 1;
      received.channels = channelCount;
      if (samples.some((sample) => sample > LOUD)) steady.sounds.note();
      for (const [ear, name] of [[0, 'left'], [channelCount - 1, 'right']]) {
        for (let i = ear; i < samples.length; i += channelCount) received[name].push(samples[i]);
        // The last second is all anybody asks about.
        if (received[name].length > SAMPLE_RATE) received[name].splice(0, received[name].length - SAMPLE_RATE);
      }
    };
  };
}

const does = {
  async offer({ kind }) {
    if (kind === 'publish') addSources();
    else addSinks();
    const offer = await connection.createOffer();
    await connection.setLocalDescription({ type: 'offer', sdp: stereo(offer.sdp) });
    return { sdp: connection.localDescription.sdp };
  },
  async answer({ sdp }) {
    await connection.setRemoteDescription({ type: 'answer', sdp });
    return {};
  },
  async report() {
    let sent = 0;
    // Of its video: keyframes it made, and was asked for.
    const keyframes = { made: 0, asked: 0 };
    for (const entry of (await connection.getStats()).values()) {
      if (entry.type !== 'outbound-rtp') continue;
      sent += entry.packetsSent;
      if (entry.kind !== 'video') continue;
      keyframes.made += entry.keyFramesEncoded ?? 0;
      keyframes.asked += (entry.pliCount ?? 0) + (entry.firCount ?? 0);
    }
    const ears = received.left.length < SAMPLE_RATE ? null : {
      left: { 440: loudness(received.left, 440), 880: loudness(received.left, 880) },
      right: { 440: loudness(received.right, 440), 880: loudness(received.right, 880) },
    };
    return {
      state: connection.connectionState, states, sent, keyframes, pictures: received.pictures, different: received.numbers.size,
      sounds: received.sounds, channels: received.channels, ears,
    };
  },
  /** How steadily new pictures (15 a second) and loud sound (100 slices a second) came since the last look. */
  async look() {
    const now = performance.now();
    const ms = Math.round(now - steady.since);
    steady.since = now;
    const [heldMs, heldInAllMs] = [held.worstMs, held.inAllMs].map(Math.round);
    held.worstMs = held.inAllMs = 0;
    return { ms, heldMs, heldInAllMs, pictures: steady.pictures.look(), sounds: steady.sounds.look() };
  },
};

createInterface({ input: process.stdin })
  .on('line', async (line) => {
    const wish = JSON.parse(line);
    process.stdout.write(`${JSON.stringify(await does[wish.do](wish))}\n`);
  })
  .on('close', () => process.kill(process.pid, 'SIGKILL'));
