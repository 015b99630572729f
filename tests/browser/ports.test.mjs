// The rig itself: ports that servers of these tests are given.

import assert from 'node:assert/strict';
import { test } from 'node:test';
import { freePort } from './rig/ports.mjs';

test('ports of servers are none that the kernel gives to outgoing connections, and none is given twice', async () => {
  const ports = await Promise.all(Array.from({ length: 300 }, freePort));
  assert.equal(new Set(ports).size, ports.length);
  // Where Linux has its own from 32,768 on, as it does unless it was told otherwise.
  assert.deepEqual(ports.filter((port) => port < 10_000 || port >= 30_000), []);
});
