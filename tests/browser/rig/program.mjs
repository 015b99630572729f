// One of the real programs of a release build, as an operator would start it.

import { spawn } from 'node:child_process';
import { accessSync, constants, readFileSync, readdirSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { createInterface } from 'node:readline';
import { deadline, until } from './waiting.mjs';
import './watchdog.mjs';

const KEPT_LINES = 2_000;

const running = new Set();
process.on('exit', () => {
  for (const child of running) child.kill('SIGKILL');
});

/** The release build of the program called `name`; `TEST_SLUICE` names another `sluice`. */
export function programPath(name) {
  const path =
    (name === 'sluice' && process.env.TEST_SLUICE) ||
    fileURLToPath(new URL(`../../../target/release/${name}`, import.meta.url));
  accessSync(path, constants.X_OK);
  return path;
}

/**
 * Starts a program and waits for its `ready:` line, the rest of which is `ready`.
 * `inside`: a command prefix (another network namespace).
 */
export async function startProgram(name, args, { env = {}, inside = [] } = {}) {
  const command = [...inside, programPath(name), ...args];
  const child = spawn(command[0], command.slice(1), {
    stdio: ['ignore', 'pipe', 'pipe'],
    env: { ...process.env, ...env },
  });
  running.add(child);
  const lines = [];
  const keep = (line) => {
    lines.push(line);
    if (lines.length > KEPT_LINES) lines.shift();
    if (process.env.TEST_TRACE) console.error(`[${name}] ${line}`);
  };
  const said = new Promise((resolve, reject) => {
    createInterface({ input: child.stdout }).on('line', (line) => {
      keep(line);
      const match = /^ready: (.+)$/.exec(line);
      if (match) resolve(match[1]);
    });
    child.on('error', reject);
    child.on('exit', (code, signal) => {
      running.delete(child);
      reject(new Error(`${name} ended with ${signal ?? code} before it was ready:\n${lines.join('\n')}`));
    });
  });
  createInterface({ input: child.stderr }).on('line', keep);
  const exited = new Promise((resolve) => child.on('exit', (code, signal) => resolve({ code, signal })));
  const ready = await deadline(said, 20_000, `${name} getting ready`);

  return {
    ready,
    pid: child.pid,
    lines,
    /** Resident memory in KiB, as the kernel counts it. */
    residentKiB() {
      return Number(/VmRSS:\s+(\d+)/.exec(readFileSync(`/proc/${child.pid}/status`, 'utf8'))[1]);
    },
    /** True while the process lives. */
    alive: () => child.exitCode === null && child.signalCode === null,
    /** Sends a signal and does not wait for what comes of it. */
    signal: (signal) => child.kill(signal),
    /** Stops it without ending it, and waits until each of its threads stands still: that takes as long as the kernel likes. */
    async freeze() {
      child.kill('SIGSTOP');
      const tasks = `/proc/${child.pid}/task`;
      const stands = (task) => /^State:\s+T/m.test(readFileSync(`${tasks}/${task}/status`, 'utf8'));
      await until(() => readdirSync(tasks).every(stands), { what: `${name} standing still` });
    },
    /** Sends `signal` and waits for the end; as `ends`. */
    stop(signal = 'SIGINT') {
      child.kill(signal);
      return this.ends();
    },
    /** Waits for the end, which must be in order; resolves with the exit code and the time it took. */
    async ends(within = 10_000) {
      const started = performance.now();
      const fail = (what) => {
        throw new Error(`${what}\n${lines.slice(-50).join('\n')}`);
      };
      const end = await deadline(exited, within, `${name} ending`).catch((error) => {
        child.kill('SIGKILL');
        fail(error.message);
      });
      if (end.code !== 0) fail(`${name} ended with ${end.signal ?? end.code}`);
      return { code: end.code, ms: Math.round(performance.now() - started) };
    },
  };
}

/** The address of the signalling WebSocket for `uid` of whoever serves clients at `url`. */
export function socketUrl(url, uid, query = {}) {
  const address = new URL('/ws', url);
  address.protocol = address.protocol === 'https:' ? 'wss:' : 'ws:';
  address.searchParams.set('peer', uid);
  for (const [key, value] of Object.entries(query)) address.searchParams.set(key, value);
  return address.href;
}
