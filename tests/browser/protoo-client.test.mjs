// The unmodified protoo-client from npm, which the protocol's own clients are built on.

import assert from 'node:assert/strict';
import { createRequire } from 'node:module';
import { after, before, test } from 'node:test';
import { MINFO, offer } from './rig/offers.mjs';
import { startSluice } from './rig/sluice.mjs';
import { deadline, until } from './rig/waiting.mjs';

const { Peer, WebSocketTransport } = createRequire(import.meta.url)('protoo-client');

let server;
const peers = [];

before(async () => {
  server = await startSluice();
});
after(async () => {
  for (const peer of peers) peer.close();
  await server?.stop();
});

/** A protoo peer with its events kept. */
async function open(uid) {
  const peer = new Peer(new WebSocketTransport(server.socketUrl(uid)));
  peers.push(peer);
  peer.heard = [];
  peer.on('notification', (notification) => peer.heard.push(notification));
  peer.on('request', () => peer.heard.push({ method: 'unexpected request' }));
  await deadline(new Promise((resolve) => peer.once('open', resolve)), 5_000, `protoo peer ${uid} opening`);
  return peer;
}

const heard = (peer, method) =>
  until(() => peer.heard.find((notification) => notification.method === method)?.data, { what: `${method} at a protoo peer` });

test('goes through every method of the protocol and hears every notification', async () => {
  const rid = 'protoo-room';
  const alice = await open('alice');
  assert.deepEqual((await alice.request('join', { rid })).users, []);
  const bob = await open('bob');
  const joined = await bob.request('join', { rid });
  assert.deepEqual(joined.users.map((user) => user.uid), ['alice']);
  assert.equal((await heard(alice, 'peer-join')).uid, 'bob');

  assert.deepEqual(await alice.request('keepalive', { rid }), {});
  const stream = await alice.request('publish', { rid, jsep: offer(), minfo: MINFO });
  const added = await heard(bob, 'stream-add');
  assert.equal(added.mid, stream.mid);
  assert.deepEqual(added.minfo, MINFO);
  const subscription = await bob.request('subscribe', {
    rid, mid: added.mid, sfuid: added.sfuid, jsep: offer({ direction: 'recvonly' }),
  });
  assert.equal(subscription.jsep.type, 'answer');

  await bob.request('broadcast', { rid, data: { hello: 'world' } });
  assert.deepEqual((await heard(alice, 'broadcast')).data, { hello: 'world' });
  assert.deepEqual((await bob.request('getusers', { rid })).users.map((user) => user.uid), ['alice']);
  assert.deepEqual((await bob.request('getpubs', { rid })).pubs.map((pub) => pub.mid), [stream.mid]);
  await alice.request('mute', { rid, mid: stream.mid, video: true });
  assert.equal((await heard(bob, 'stream-update')).mid, stream.mid);
  await alice.request('restart', { rid, mid: stream.mid, jsep: offer({ ufrag: 'abcd', pwd: 'someOtherPasswordOf24Chr' }) });

  await bob.request('unsubscribe', { rid, mid: added.mid, sid: subscription.sid, sfuid: added.sfuid });
  await alice.request('unpublish', { rid, mid: stream.mid, sfuid: stream.sfuid });
  assert.equal((await heard(bob, 'stream-remove')).mid, stream.mid);
  await alice.request('leave', { rid });
  assert.equal((await heard(bob, 'peer-leave')).uid, 'alice');
});

test('is told errors with code and reason', async () => {
  const peer = await open('carol');
  await assert.rejects(peer.request('no-such-method', {}), (error) => error.code === -1 && error.message.length > 0);
  await assert.rejects(peer.request('keepalive', { rid: 'not joined' }), (error) => error.code === 2);
});

test('closes for good when its name is taken over, and does not come back', async () => {
  const rid = 'protoo-takeover';
  const first = await open('dora');
  await first.request('join', { rid });
  let attempts = 0;
  first.on('failed', () => (attempts += 1));
  first.on('disconnected', () => (attempts += 1));
  const ended = deadline(new Promise((resolve) => first.once('close', resolve)), 5_000, 'the old peer closing');
  const second = await open('dora');
  await second.request('join', { rid });
  await ended;
  assert.equal(first.closed, true);
  assert.equal(attempts, 0, '4000 is final');
  assert.equal((await heard(first, 'peer-kick')).uid, 'dora');
});

test('comes back by itself after its server did, on the same address', async () => {
  const one = await startSluice();
  const peer = new Peer(new WebSocketTransport(one.socketUrl('erin'), { retry: { retries: 60, minTimeout: 100, maxTimeout: 200 } }));
  peers.push(peer);
  await deadline(new Promise((resolve) => peer.once('open', resolve)), 5_000, 'the first connection');
  await peer.request('join', { rid: 'r' });
  const again = new Promise((resolve) => peer.once('open', resolve));
  await one.stop();
  const two = await startSluice({ listen: `127.0.0.1:${one.port}` });
  try {
    await deadline(again, 15_000, 'the second connection');
    await peer.request('join', { rid: 'r' });
  } finally {
    peer.close();
    await two.stop();
  }
});
