// Redis and etcd as programs of the system's packages, on free ports of loopback with a private directory, gone with this
// process.

import { spawn } from 'node:child_process';
import { mkdirSync } from 'node:fs';
import { connect, createServer } from 'node:net';
import { privatePath } from './private-dir.mjs';
import { until } from './waiting.mjs';

const running = new Set();
process.on('exit', () => {
  for (const child of running) child.kill('SIGKILL');
});

/** A port that nobody listens on now. */
async function freePort() {
  const server = createServer();
  await new Promise((resolve) => server.listen(0, '127.0.0.1', resolve));
  const { port } = server.address();
  await new Promise((resolve) => server.close(resolve));
  return port;
}

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
export async function startRedis() {
  const port = await freePort();
  start('redis-server', ['--bind', '127.0.0.1', '--port', String(port), '--save', '', '--appendonly', 'no']);
  await until(async () => (await ask(port, 'PING')) === '+PONG', { what: 'Redis answering' });
  return { url: `redis://127.0.0.1:${port}`, command: (...words) => ask(port, ...words) };
}

/** Starts etcd, a cluster of one. */
export async function startEtcd() {
  const [clients, peers] = [await freePort(), await freePort()];
  const at = (port) => `http://127.0.0.1:${port}`;
  start('etcd', [
    '--name', 'one', '--data-dir', 'data',
    '--listen-client-urls', at(clients), '--advertise-client-urls', at(clients),
    '--listen-peer-urls', at(peers), '--initial-advertise-peer-urls', at(peers), '--initial-cluster', `one=${at(peers)}`,
  ]);
  const healthy = async () => (await (await fetch(`${at(clients)}/health`)).json()).health === 'true';
  await until(healthy, { within: 20_000, what: 'etcd being healthy' });
  return { endpoint: at(clients) };
}
