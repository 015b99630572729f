// Network namespaces without names: each lives exactly as long as a process in it, so a killed test leaves none behind.

import { spawn, spawnSync } from 'node:child_process';
import { once } from 'node:events';
import { fileURLToPath } from 'node:url';
import { deadline } from './waiting.mjs';

const INSIDE = 'TEST_NAMESPACE';

/**
 * Runs the test file at `cases` inside a fresh network namespace with only loopback up: in this process when it is
 * already there, else in a child that takes its place (the same protocol to node's test runner on the same stdout).
 */
export async function runInNamespace(cases) {
  if (process.env[INSIDE]) throw new Error('already inside a namespace');
  // These two sudo sets or drops, -E or not.
  const kept = ['PATH', 'TMPDIR'].filter((name) => process.env[name]).map((name) => `${name}=${process.env[name]}`);
  const sudo = process.getuid() === 0 ? [] : ['sudo', '-n', '-E', 'env', ...kept];
  const [command, ...args] = [...sudo, 'unshare', '--net', process.execPath, ...process.execArgv, fileURLToPath(cases)];
  const child = spawn(command, args, { stdio: 'inherit', env: { ...process.env, [INSIDE]: '1' } });
  const pass = (signal) => child.kill(signal);
  process.on('SIGINT', pass).on('SIGTERM', pass);
  const [code, signal] = await once(child, 'exit');
  process.exitCode = signal ? 1 : code;
}

/** Runs a command that must succeed; returns its output. */
export function sh(command, args, options = {}) {
  const { status, stdout, stderr, error } = spawnSync(command, args, { encoding: 'utf8', timeout: 20_000, ...options });
  if (error || status !== 0) throw new Error(`${command} ${args.join(' ')}: ${error ?? stderr}`);
  return stdout;
}

/** Brings up loopback in the namespace this process is in (made by `runInNamespace`). */
export function raiseLoopback() {
  if (!process.env[INSIDE]) throw new Error('not in a namespace of our own');
  sh('ip', ['link', 'set', 'lo', 'up']);
}

/**
 * A second machine: a namespace joined to this one by an Ethernet cable (veth pair), this end `near`, the other `far`,
 * and this one's default route through it. `inside` is the command prefix that runs a program there.
 */
export async function secondMachine({ near = '10.77.0.2', far = '10.77.0.1' } = {}) {
  if (!process.env[INSIDE]) throw new Error('not in a namespace of our own');
  // Lives until its standard input closes, which the kernel does when this process ends, however it ends.
  const holder = spawn('unshare', ['--net', 'sh', '-c', 'echo up; exec cat'], { stdio: ['pipe', 'pipe', 'inherit'] });
  await deadline(once(holder.stdout, 'data'), 10_000, 'the second namespace');
  const inside = ['nsenter', '--target', String(holder.pid), '--net', '--'];
  const there = (...args) => sh(inside[0], [...inside.slice(1), ...args]);
  sh('ip', ['link', 'add', 'near', 'type', 'veth', 'peer', 'name', 'far', 'netns', String(holder.pid)]);
  sh('ip', ['addr', 'add', `${near}/24`, 'dev', 'near']);
  sh('ip', ['link', 'set', 'near', 'up']);
  there('ip', 'link', 'set', 'lo', 'up');
  there('ip', 'addr', 'add', `${far}/24`, 'dev', 'far');
  there('ip', 'link', 'set', 'far', 'up');
  sh('ip', ['route', 'add', 'default', 'via', far]);
  return { near, far, inside, there, stop: () => holder.stdin.end() };
}

/**
 * Drops `percent` of all UDP datagrams that arrive in this namespace, both ways of everything on its loopback; 0 stops it.
 * The kernel's own generator decides, so each datagram's fate is independent of the others'.
 */
export function dropArrivingUdp(percent) {
  spawnSync('nft', ['delete', 'table', 'inet', 'loss']);
  if (percent === 0) return;
  const rules = `table inet loss {
    chain arriving {
      type filter hook input priority 0; policy accept;
      meta l4proto udp ${percent === 100 ? "" : `numgen random mod 100 < ${percent}`} counter drop
      meta l4proto udp counter
    }
  }
`;
  sh('nft', ['-f', '-'], { input: rules });
}

/** Lets no UDP datagram from or to any of `ports` arrive in this namespace; an empty list lifts it. */
export function blockUdpPorts(ports) {
  spawnSync('nft', ['delete', 'table', 'inet', 'block']);
  if (ports.length === 0) return;
  const rules = `table inet block {
    chain arriving {
      type filter hook input priority 0; policy accept;
      udp sport { ${ports.join(', ')} } drop
      udp dport { ${ports.join(', ')} } drop
    }
  }
`;
  sh('nft', ['-f', '-'], { input: rules });
}

/** How many UDP datagrams were dropped and let through since `dropArrivingUdp`: the loss there really was. */
export function countUdp() {
  const listing = sh('nft', ['list', 'table', 'inet', 'loss']);
  const [dropped, passed] = [...listing.matchAll(/counter packets (\d+)/g)].map((match) => Number(match[1]));
  return { dropped, passed };
}
