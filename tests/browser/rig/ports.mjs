// Free ports below the range from which the kernel takes those of outgoing connections: a client that tries again and again to
// reach a stopped server must not be given the server's port as its own.

import { randomInt } from 'node:crypto';
import { createServer } from 'node:net';

const FIRST = 10_000;
const COUNT = 20_000;

/** Those that were given to somebody in this process, who may not listen yet, or not at the moment. */
const given = new Set();

/**
 * A port of loopback that nobody listens on now, and that nobody else in this process is given. Another process may take it before
 * its server does: then that server's start fails.
 */
export async function freePort() {
  for (;;) {
    const port = FIRST + randomInt(COUNT);
    if (given.has(port)) continue;
    // Before it is looked at: somebody else may ask meanwhile.
    given.add(port);
    if (await isFree(port)) return port;
    given.delete(port);
  }
}

function isFree(port) {
  const server = createServer();
  return new Promise((resolve) => {
    server.once('error', () => resolve(false));
    server.listen(port, '127.0.0.1', () => server.close(() => resolve(true)));
  });
}
