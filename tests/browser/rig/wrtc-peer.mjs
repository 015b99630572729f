// Google's libwebrtc from npm as a peer: publishes the numbered film and a tone per ear, and counts what it receives.

import { createRequire } from 'node:module';
import { CELLS, FILM, SAMPLE_RATE } from './sources.mjs';
import { until } from './waiting.mjs';

const wrtc = createRequire(import.meta.url)('@roamhq/wrtc');
const { RTCAudioSink, RTCAudioSource, RTCVideoSink, RTCVideoSource } = wrtc.nonstandard;

const AUDIO_SLICE = SAMPLE_RATE / 100;

/** Calls `tick(n)` for n = 0, 1, … every `ms`, catching up when the process was held; returns the stop function. */
function metronome(ms, tick) {
  const started = performance.now();
  let count = 0;
  const timer = setInterval(() => {
    // Bounded: after a long hold the rest is skipped rather than sent in one burst.
    const due = Math.floor((performance.now() - started) / ms);
    count = Math.max(count, due - 5);
    while (count < due) tick(count++);
  }, ms);
  return () => clearInterval(timer);
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

async function offered(connection) {
  const offer = await connection.createOffer();
  await connection.setLocalDescription({ type: 'offer', sdp: stereo(offer.sdp) });
  return { type: 'offer', sdp: connection.localDescription.sdp };
}

const connected = (connection) =>
  until(() => connection.connectionState === 'connected', { within: 15_000, what: 'the libwebrtc peer connecting' });

/**
 * Publishes into `rid` through `client` (a raw client that has joined). `send: false` only sets the connection up.
 */
export async function publish(client, rid, { audio = true, video = true, minfo = {} } = {}) {
  const connection = new wrtc.RTCPeerConnection();
  const stops = [];
  const tracks = [];
  if (audio) {
    const source = new RTCAudioSource();
    tracks.push(source.createTrack());
    stops.push(
      metronome(10, (n) => {
        const samples = new Int16Array(AUDIO_SLICE * 2);
        for (let i = 0; i < AUDIO_SLICE; i += 1) {
          const at = ((n * AUDIO_SLICE + i) * 2 * Math.PI) / SAMPLE_RATE;
          samples[2 * i] = 16_000 * Math.sin(440 * at);
          samples[2 * i + 1] = 16_000 * Math.sin(880 * at);
        }
        source.onData({ samples, sampleRate: SAMPLE_RATE, bitsPerSample: 16, channelCount: 2, numberOfFrames: AUDIO_SLICE });
      }),
    );
  }
  if (video) {
    const source = new RTCVideoSource();
    tracks.push(source.createTrack());
    const frames = Array.from({ length: FILM.frames }, (_, number) => filmFrame(number));
    stops.push(metronome(1000 / FILM.fps, (n) => source.onFrame(frames[n % FILM.frames])));
  }
  const stream = new wrtc.MediaStream();
  for (const track of tracks) connection.addTrack(track, stream);
  const answer = await client.ask('publish', {
    rid,
    jsep: await offered(connection),
    minfo: { audio, video, audiotype: 0, videotype: 0, ...minfo },
  });
  await connection.setRemoteDescription(answer.jsep);
  return {
    ...answer,
    connection,
    connected: () => connected(connection),
    close() {
      for (const stop of stops) stop();
      for (const track of tracks) track.stop();
      connection.close();
    },
  };
}

/** Subscribes to a stream; counts and reads every picture and every sound that comes out of the decoders. */
export async function subscribe(client, rid, { mid, sfuid }) {
  const connection = new wrtc.RTCPeerConnection();
  const received = { pictures: 0, numbers: new Set(), sounds: 0, channels: 0, left: [], right: [] };
  const sinks = [];
  for (const kind of ['audio', 'video']) connection.addTransceiver(kind, { direction: 'recvonly' });
  connection.ontrack = ({ track }) => {
    if (track.kind === 'video') {
      const sink = new RTCVideoSink(track);
      sink.onframe = ({ frame }) => {
        received.pictures += 1;
        const number = readFrame(frame);
        if (number !== null) received.numbers.add(number);
      };
      sinks.push(sink);
    } else {
      const sink = new RTCAudioSink(track);
      sink.ondata = ({ samples, channelCount }) => {
        received.sounds += 1;
        received.channels = channelCount;
        for (const [ear, name] of [[0, 'left'], [channelCount - 1, 'right']]) {
          for (let i = ear; i < samples.length; i += channelCount) received[name].push(samples[i]);
          // The last second is all anybody asks about.
          if (received[name].length > SAMPLE_RATE) received[name].splice(0, received[name].length - SAMPLE_RATE);
        }
      };
      sinks.push(sink);
    }
  };
  const answer = await client.ask('subscribe', { rid, mid, sfuid, jsep: await offered(connection) });
  await connection.setRemoteDescription(answer.jsep);
  return {
    ...answer,
    connection,
    received,
    connected: () => connected(connection),
    /** `{left, right}`: loudness in dB of `hz` in the last second of each ear. */
    loudness: (hz) => ({ left: loudness(received.left, hz), right: loudness(received.right, hz) }),
    close() {
      for (const sink of sinks) sink.stop();
      connection.close();
    },
  };
}
