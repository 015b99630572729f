// The server under test: the real `sluice` program, as a user would start it, on ports of the system's choice.

import { spawn } from 'node:child_process';
import { accessSync, constants, readFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { createInterface } from 'node:readline';
import { deadline } from './waiting.mjs';
import './watchdog.mjs';

const KEPT_LINES = 2_000;

/** The program: `TEST_SLUICE`, or the release build. */
export function sluicePath() {
  const path = process.env.TEST_SLUICE ?? fileURLToPath(new URL('../../../target/release/sluice', import.meta.url));
  accessSync(path, constants.X_OK);
  return path;
}

const running = new Set();
process.on('exit', () => {
  for (const child of running) child.kill('SIGKILL');
});

/**
 * Starts sluice and waits for its `ready:` line.
 * `inside`: a command prefix (another network namespace); `args` are added; `listen` and `mediaPort` default to free ports.
 */
export async function startSluice({ listen = '127.0.0.1:0', mediaPort = 0, args = [], env = {}, inside = [] } = {}) {
  const command = [...inside, sluicePath(), '--listen', listen, '--media-port', String(mediaPort), ...args];
  const child = spawn(command[0], command.slice(1), {
    stdio: ['ignore', 'pipe', 'pipe'],
    env: { ...process.env, ...env },
  });
  running.add(child);
  const lines = [];
  const keep = (line) => {
    lines.push(line);
    if (lines.length > KEPT_LINES) lines.shift();
    if (process.env.TEST_TRACE) console.error(`[sluice] ${line}`);
  };
  const ready = new Promise((resolve, reject) => {
    createInterface({ input: child.stdout }).on('line', (line) => {
      keep(line);
      const match = /^ready: (\S+)$/.exec(line);
      if (match) resolve(match[1]);
    });
    child.on('error', reject);
    child.on('exit', (code, signal) => {
      running.delete(child);
      reject(new Error(`sluice ended with ${signal ?? code} before it was ready:\n${lines.join('\n')}`));
    });
  });
  createInterface({ input: child.stderr }).on('line', keep);
  const exited = new Promise((resolve) => child.on('exit', (code, signal) => resolve({ code, signal })));
  const url = new URL(await deadline(ready, 20_000, 'sluice getting ready'));

  return {
    url: url.href,
    port: Number(url.port),
    pid: child.pid,
    lines,
    /** The address of the signalling WebSocket for `uid`. */
    socketUrl(uid, query = {}) {
      const address = new URL('/ws', url);
      address.protocol = url.protocol === 'https:' ? 'wss:' : 'ws:';
      address.searchParams.set('peer', uid);
      for (const [key, value] of Object.entries(query)) address.searchParams.set(key, value);
      return address.href;
    },
    /** Resident memory in KiB, as the kernel counts it. */
    residentKiB() {
      return Number(/VmRSS:\s+(\d+)/.exec(readFileSync(`/proc/${child.pid}/status`, 'utf8'))[1]);
    },
    /** True while the process lives. */
    alive: () => child.exitCode === null && child.signalCode === null,
    /** Sends `signal` and waits; resolves with the exit code, the signal and the time it took. */
    async stop(signal = 'SIGINT') {
      const started = performance.now();
      child.kill(signal);
      const end = await deadline(exited, 10_000, 'sluice ending').catch((error) => {
        child.kill('SIGKILL');
        throw new Error(`${error.message}\n${lines.slice(-50).join('\n')}`);
      });
      return { ...end, ms: Math.round(performance.now() - started) };
    },
  };
}
