// Redis and etcd as programs of the system's packages, on free ports of loopback with a private directory, gone with this
// process.

import { spawn } from 'node:child_process';
import { mkdirSync } from 'node:fs';
import { connect } from 'node:net';
import { freePort } from './ports.mjs';
import { privatePath } from './private-dir.mjs';
import { until } from './waiting.mjs';

/** How often a server is started on other ports when it does not come up: somebody else may have taken them. */
const STARTS = 5;

const running = new Set();
process.on('exit', () => {
  for (const child of running) child.kill('SIGKILL');
});

function start(name, args) {
  const cwd = privatePath(name);
  mkdirSync(cwd, { recursive: true });
  const child = spawn(name, args, { cwd, stdio: ['ignore', 'ignore', 'ignore'] });
  running.add(child);
  // The tests are over when they are: what serves them is no reason to wait.
  child.unref();
  child.on('exit', () => running.delete(child));
  // Not installed: the wait for it says so.
  child.on('error', (error) => console.error(`${name}: ${error.message}`));
  return child;
}

/** What `begin` starts, once it answers; where it ends before that, it is begun anew, on other ports. */
async function startedOnFreePorts(what, within, begin) {
  for (let left = STARTS; left > 0; left -= 1) {
    const { child, answers, ...server } = await begin();
    const ended = () => child.exitCode !== null || child.signalCode !== null;
    await until(async () => ended() || answers(), { within, what });
    if (!ended()) return server;
  }
  throw new Error(`${what}: it ends as soon as it is started`);
}

/** One answer of Redis to one command, as the text it is. */
function ask(port, ...words) {
  return new Promise((resolve, reject) => {
    const socket = connect(port, '127.0.0.1');
    socket.setTimeout(2_000, () => socket.destroy(new Error('no answer')));
    socket.on('error', reject);
    socket.on('connect', () => socket.write(`${words.join(' ')}\r\n`));
    socket.once('data', (data) => {
      socket.destroy();
      resolve(data.toString().trim());
    });
  });
}

/** Starts Redis, which keeps everything in memory. */
export function startRedis() {
  return startedOnFreePorts('Redis answering', 10_000, async () => {
    const port = await freePort();
    const command = (...words) => ask(port, ...words);
    return {
      child: start('redis-server', ['--bind', '127.0.0.1', '--port', String(port), '--save', '', '--appendonly', 'no']),
      answers: async () => (await command('PING')) === '+PONG',
      url: `redis://127.0.0.1:${port}`,
      command,
    };
  });
}

/** Starts etcd, a cluster of one. */
export function startEtcd() {
  return startedOnFreePorts('etcd being healthy', 20_000, async () => {
    const [clients, peers] = await Promise.all([freePort(), freePort()]);
    const at = (port) => `http://127.0.0.1:${port}`;
    const child = start('etcd', [
      '--name', 'one', '--data-dir', `data-${clients}`,
      '--listen-client-urls', at(clients), '--advertise-client-urls', at(clients),
      '--listen-peer-urls', at(peers), '--initial-advertise-peer-urls', at(peers), '--initial-cluster', `one=${at(peers)}`,
    ]);
    const answers = async () => (await (await fetch(`${at(clients)}/health`)).json()).health === 'true';
    return { child, answers, endpoint: at(clients) };
  });
}
