// A client that speaks the protocol in plain JSON over a WebSocket, with nothing of ours in between.

import assert from 'node:assert/strict';
import WebSocket from 'ws';
import { deadline, until } from './waiting.mjs';

const ANSWER_WITHIN_MS = 11_000;
let nextId = 0;

/** Opens a socket; resolves when it is open, rejects with the HTTP status if the upgrade is refused. */
export async function connect(url, { protocols = [], headers = {}, maxPayload } = {}) {
  const socket = new WebSocket(url, protocols, { headers, maxPayload, rejectUnauthorized: false, perMessageDeflate: false });
  const client = new RawClient(socket);
  await deadline(
    new Promise((resolve, reject) => {
      socket.on('open', resolve);
      socket.on('error', reject);
      socket.on('unexpected-response', (_, response) => {
        const error = new Error(`refused with ${response.statusCode}`);
        error.status = response.statusCode;
        error.headers = response.headers;
        reject(error);
        socket.terminate();
      });
    }),
    10_000,
    `a socket to ${url}`,
  );
  return client;
}

/** A response says whether it is ok, and has what belongs to it and nothing that does not. */
function assertWhole(frame) {
  const what = JSON.stringify(frame);
  assert.equal(typeof frame.ok, 'boolean', what);
  if (frame.ok) assert.ok(frame.data && typeof frame.data === 'object' && !Array.isArray(frame.data), what);
  else assert.deepEqual(['errorCode', 'errorReason', 'error'].map((name) => typeof frame[name]), ['number', 'string', 'string'], what);
  for (const kind of ['request', 'notification']) assert.ok(!(kind in frame), what);
}

export class RawClient {
  /** It is told an error's name. */
  knowsNames = true;
  /** Every frame received, parsed, in order. */
  frames = [];
  /** Every notification received, in order. */
  notifications = [];
  /** `{code, reason}` once closed. */
  closed = null;

  constructor(socket) {
    this.socket = socket;
    this.waiting = new Map();
    socket.on('message', (data, binary) => {
      if (binary) throw new Error('the server sent a binary frame');
      const frame = JSON.parse(data.toString());
      this.frames.push(frame);
      if (frame.notification) this.notifications.push(frame);
      if (frame.response) {
        assertWhole(frame);
        this.waiting.get(frame.id)?.(frame);
        this.waiting.delete(frame.id);
      }
    });
    socket.on('error', () => {});
    this.whenClosed = new Promise((resolve) => {
      socket.on('close', (code, reason) => {
        this.closed = { code, reason: reason.toString() };
        resolve(this.closed);
      });
    });
  }

  /** Sends text as it is. */
  send(text) {
    this.socket.send(text);
  }

  /** Sends a request; resolves with the whole response frame, ok or not. */
  request(method, data, id = (nextId += 1)) {
    const answer = new Promise((resolve) => this.waiting.set(id, resolve));
    this.send(JSON.stringify({ request: true, id, method, data }));
    return deadline(answer, ANSWER_WITHIN_MS, `the answer to ${method}`);
  }

  /** Sends a request that must succeed; resolves with its data. */
  async ask(method, data) {
    const answer = await this.request(method, data);
    if (!answer.ok) throw new Error(`${method}: ${answer.errorCode} ${answer.error} ${answer.errorReason}`);
    return answer.data;
  }

  /** The first notification, from position `from` on, that `match` accepts. */
  async notified(method, match = () => true, { within = 5_000, from = 0 } = {}) {
    return until(
      () => this.notifications.slice(from).find((frame) => frame.method === method && match(frame.data))?.data,
      { within, what: `notification ${method}` },
    );
  }

  /** Closes the socket the polite way. */
  async close() {
    this.socket.close();
    await deadline(this.whenClosed, 5_000, 'the socket closing').catch(() => this.socket.terminate());
  }

  /** Cuts the connection as a dying network would: no close frame. */
  cut() {
    this.socket.terminate();
  }
}
