// A TCP relay in front of the server, so that a test can cut a client's signalling without touching its media.

import { once } from 'node:events';
import { connect, createServer } from 'node:net';

/** Relays a free loopback port to `port`. `cut()` kills all connections and refuses new ones until `mend()`. */
export async function startRelay(port) {
  const pairs = new Set();
  let broken = false;
  const server = createServer((near) => {
    if (broken) {
      near.destroy();
      return;
    }
    const far = connect(port, '127.0.0.1');
    const pair = [near, far];
    pairs.add(pair);
    const end = () => {
      pairs.delete(pair);
      for (const socket of pair) socket.destroy();
    };
    for (const socket of pair) socket.on('error', end).on('close', end);
    near.pipe(far);
    far.pipe(near);
  });
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  const killAll = () => {
    for (const pair of pairs) for (const socket of pair) socket.destroy();
  };
  return {
    port: server.address().port,
    cut() {
      broken = true;
      killAll();
    },
    mend() {
      broken = false;
    },
    stop() {
      killAll();
      server.close();
    },
  };
}
