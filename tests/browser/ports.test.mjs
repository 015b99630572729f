// The rig itself: ports that servers of these tests are given.

import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { test } from 'node:test';
import { freePort } from './rig/ports.mjs';

test('ports of servers are none that the kernel gives to outgoing connections, and none is given twice', async () => {
  const [first] = readFileSync('/proc/sys/net/ipv4/ip_local_port_range', 'utf8').split('\t').map(Number);
  const ports = await Promise.all(Array.from({ length: 300 }, freePort));
  assert.equal(new Set(ports).size, ports.length);
  assert.deepEqual(ports.filter((port) => port >= first), []);
});
