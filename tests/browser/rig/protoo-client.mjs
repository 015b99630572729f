// The unmodified protoo-client from npm, on which the protocol's own clients are built, behind the raw client's methods.

import { createRequire } from 'node:module';
import { deadline, until } from './waiting.mjs';

const { Peer, WebSocketTransport } = createRequire(import.meta.url)('protoo-client');

/** Opens a peer; resolves when it is open. */
export async function connectProtoo(url) {
  const client = new ProtooClient(new Peer(new WebSocketTransport(url)));
  await deadline(new Promise((resolve) => client.peer.once('open', resolve)), 10_000, `a protoo peer at ${url}`);
  return client;
}

class ProtooClient {
  /** It drops all of an error but its code and reason. */
  knowsNames = false;
  /** Every notification received, in order. */
  notifications = [];
  /** Whether it is closed for good; `null`: not, as of a raw client. */
  closed = null;
  /** How often its connection was lost, for it to try again. */
  losses = 0;

  constructor(peer) {
    this.peer = peer;
    peer.on('notification', (notification) => this.notifications.push(notification));
    peer.on('disconnected', () => (this.losses += 1));
    peer.on('failed', () => (this.losses += 1));
    this.whenClosed = new Promise((resolve) => {
      peer.once('close', () => {
        this.closed = {};
        resolve(this.closed);
      });
    });
  }

  /** Sends a request; resolves as a raw client's does, as far as this one tells. */
  async request(method, data) {
    try {
      return { ok: true, data: await this.peer.request(method, data) };
    } catch (error) {
      // What went wrong here and not at the server has no code.
      if (error.code === undefined) throw error;
      return { ok: false, errorCode: error.code, errorReason: error.message };
    }
  }

  /** Sends a request that must succeed; resolves with its data. */
  ask(method, data) {
    return this.peer.request(method, data);
  }

  /** The first notification that `match` accepts. */
  notified(method, match = () => true, { within = 5_000 } = {}) {
    const wanted = (frame) => frame.method === method && match(frame.data);
    return until(() => this.notifications.find(wanted)?.data, { within, what: `notification ${method}` });
  }

  /** It closes without waiting for the server. */
  async close() {
    this.peer.close();
  }

  cut() {
    this.peer.close();
  }
}
