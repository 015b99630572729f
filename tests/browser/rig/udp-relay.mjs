// A UDP relay in front of the server's media port: a bad network that is the same each time, for one client and not for the others.
// What the client sends is lost and overtaken; what the server sends comes through.

import { createSocket } from 'node:dgram';
import { once } from 'node:events';

/** Numbers from 0 to 1, the same for the same seed (mulberry32). */
function numbers(seed) {
  let state = seed >>> 0;
  return () => {
    state = (state + 0x6d2b79f5) >>> 0;
    let mixed = Math.imul(state ^ (state >>> 15), state | 1);
    mixed ^= mixed + Math.imul(mixed ^ (mixed >>> 7), mixed | 61);
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32;
  };
}

/** Media and not what sets it up or reports on it (RFC 7983, RFC 5761): a call must come up. */
const isMedia = (datagram) => datagram[0] >= 128 && datagram[0] < 192 && !(datagram[1] >= 192 && datagram[1] < 224);

async function bound() {
  const socket = createSocket('udp4');
  socket.bind(0, '127.0.0.1');
  await once(socket, 'listening');
  return socket;
}

/**
 * Relays a free loopback port to the port `to`. Of media packets `lose` (0 to 1) are lost, and `delay` (0 to 1) come 30 to 60 ms late,
 * so that others overtake them.
 */
export async function startUdpRelay(to, { seed = 1, lose = 0, delay = 0 } = {}) {
  const near = await bound();
  const next = numbers(seed);
  const ways = new Map();
  const counted = { passed: 0, lost: 0, late: 0 };
  near.on('message', async (datagram, { port }) => {
    if (!ways.has(port)) {
      // At once, before the next datagram comes.
      ways.set(port, bound().then((far) => far.on('message', (answer) => near.send(answer, port, '127.0.0.1'))));
    }
    const far = await ways.get(port);
    const send = () => far.send(datagram, to, '127.0.0.1', () => {});
    if (!isMedia(datagram)) return send();
    if (next() < lose) {
      counted.lost += 1;
      return;
    }
    if (next() < delay) {
      counted.late += 1;
      setTimeout(send, 30 + 30 * next());
      return;
    }
    counted.passed += 1;
    send();
  });
  return {
    port: near.address().port,
    counted,
    async stop() {
      near.close();
      for (const far of ways.values()) (await far).close();
    },
  };
}
