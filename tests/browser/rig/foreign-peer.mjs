// Peers nobody here wrote, each a process of its own that speaks JSON lines: libwebrtc (wrtc-peer.mjs) and aiortc
// (aiortc_peer.py).

import { spawn } from 'node:child_process';
import { createInterface } from 'node:readline';
import { fileURLToPath } from 'node:url';
import { deadline, until } from './waiting.mjs';

const path = (relative) => fileURLToPath(new URL(relative, import.meta.url));
const programs = {
  libwebrtc: () => [process.execPath, path('./wrtc-peer.mjs')],
  aiortc: () => [process.env.TEST_PYTHON ?? path('../../../target/python-peer/bin/python'), path('./aiortc_peer.py')],
};

/** How a process ends that its own code, or a library's, has brought down. */
const CRASHES = ['SIGSEGV', 'SIGABRT', 'SIGBUS', 'SIGILL', 'SIGFPE', 'SIGTRAP'];

/** libwebrtc's module crashes by itself now and then: `body` is then done anew, once. */
export async function unlessItCrashes(body) {
  try {
    return await body();
  } catch (error) {
    if (!error.crashed) throw error;
    console.log(`${error.message}: once more`);
    return body();
  }
}

/**
 * Starts a peer on `stack` (`libwebrtc` or `aiortc`) that publishes its own film and tones, or receives, and negotiates it
 * by `negotiate(offer) -> answer`.
 */
async function startPeer(stack, kind, negotiate) {
  const [command, ...args] = programs[stack]();
  const child = spawn(command, args, { stdio: ['pipe', 'pipe', 'pipe'] });
  const said = [];
  child.stderr.on('data', (data) => said.push(data.toString()));
  const answers = [];
  createInterface({ input: child.stdout }).on('line', (line) => answers.shift()?.(JSON.parse(line)));
  const ended = new Promise((_, reject) => {
    child.on('error', reject);
    child.on('exit', (code, signal) => {
      const error = new Error(`the ${stack} peer ended with ${signal ?? code}:\n${said.join('')}`);
      reject(Object.assign(error, { crashed: CRASHES.includes(signal) }));
    });
  });
  ended.catch(() => {});
  const ask = (wish) => {
    const answer = new Promise((resolve) => answers.push(resolve));
    child.stdin.write(`${JSON.stringify(wish)}\n`);
    return deadline(Promise.race([answer, ended]), 20_000, `the ${stack} peer's ${wish.do}`);
  };
  const stop = () => child.kill('SIGKILL');
  process.on('exit', stop);
  try {
    const { sdp } = await ask({ do: 'offer', kind });
    const answer = await negotiate({ type: 'offer', sdp });
    await ask({ do: 'answer', sdp: answer.sdp });
  } catch (error) {
    stop();
    throw error;
  }
  return {
    report: () => ask({ do: 'report' }),
    /** libwebrtc only: how steadily media came since the last look. */
    look: () => ask({ do: 'look' }),
    /** aiortc only: asks for a keyframe by a full intra request. */
    fir: () => ask({ do: 'fir' }),
    /** The first report that `good` accepts. */
    async reports(good, what, within = 20_000) {
      return until(async () => {
        const report = await ask({ do: 'report' });
        return good(report) && report;
      }, { within, what, every: 100 });
    },
    stop,
  };
}

const MINFO = { audio: true, video: true, audiotype: 0, videotype: 0 };

/**
 * Publishes into `rid` for `client` (a raw client that has joined); what publish was answered is in `stream`. `edit` may
 * change the SDP that is sent, but not what the peer goes by.
 */
export async function publishFrom(stack, client, rid, { edit = (sdp) => sdp } = {}) {
  let stream;
  const peer = await startPeer(stack, 'publish', async ({ type, sdp }) => {
    stream = await client.ask('publish', { rid, jsep: { type, sdp: edit(sdp) }, minfo: MINFO });
    return stream.jsep;
  });
  return { ...peer, stream };
}

/** Receives a stream for `client`; `edit` as above, what subscribe was answered is in `subscription`. */
export async function subscribeFrom(stack, client, rid, { mid, sfuid }, { edit = (sdp) => sdp } = {}) {
  let subscription;
  const peer = await startPeer(stack, 'subscribe', async ({ type, sdp }) => {
    subscription = await client.ask('subscribe', { rid, mid, sfuid, jsep: { type, sdp: edit(sdp) } });
    return subscription.jsep;
  });
  return { ...peer, subscription };
}
