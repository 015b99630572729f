// An edge and a node as two programs: a call across them, and what a raw client and npm's protoo-client are told when the
// node is full, hangs, dies and comes back.

import assert from 'node:assert/strict';
import { after, describe, test } from 'node:test';
import { startEdge, startNode } from './rig/cluster.mjs';
import { publishFrom, subscribeFrom } from './rig/foreign-peer.mjs';
import { AUDIO_ONLY, offer } from './rig/offers.mjs';
import { connect } from './rig/raw-client.mjs';
import { CLIENTS, fails } from './rig/refusals.mjs';
import { until } from './rig/waiting.mjs';

/** Error 12 comes when the edge has waited for the node, and any answer within 10 s. */
const ANSWER_WITHIN_MS = 10_000;

const programs = [];
const clients = [];
let count = 0;

after(async () => {
  for (const client of clients) client.cut();
  for (const program of programs.filter((one) => one.alive())) await program.stop('SIGTERM');
});

async function node(settings) {
  // Streams that are left at the end have nowhere to move to.
  const started = await startNode({ id: `node-${(count += 1)}`, drain: { timeout: '1s' }, ...settings });
  programs.push(started);
  return started;
}

async function edge(nodes) {
  const started = await startEdge(nodes);
  programs.push(started);
  return started;
}

async function member(on, rid, open = connect) {
  const client = await open(on.socketUrl(`user-${(count += 1)}`));
  clients.push(client);
  await client.ask('join', { rid });
  return client;
}

const publishing = (rid, more) => ({ rid, jsep: offer({ video: false }), minfo: AUDIO_ONLY, ...more });
const subscribing = (rid, { mid }, more) => ({ rid, mid, jsep: offer({ video: false, direction: 'recvonly' }), ...more });

/** A member of `rid` on each of the clients that errors must reach. */
const oneOnEach = (on, rid) => Promise.all(Object.values(CLIENTS).map((open) => member(on, rid, open)));

describe('an edge and a node of their own', () => {
  test('carry a call between them', async () => {
    const front = await edge([await node()]);
    const [speaker, listener] = [await member(front, 'call'), await member(front, 'call')];
    const publisher = await publishFrom('libwebrtc', speaker, 'call');
    const viewer = await subscribeFrom('libwebrtc', listener, 'call', publisher.stream);
    await viewer.reports(({ different }) => different >= 5, 'different pictures');
    for (const end of [viewer, publisher]) end.stop();
  });

  test('a node that is full refuses streams and viewers', async () => {
    const full = await node({ capacity: { transports: 1 } });
    const front = await edge([full]);
    const ann = await member(front, 'full');
    const others = await oneOnEach(front, 'full');
    const stream = await ann.ask('publish', publishing('full'));
    for (const other of others) {
      await fails(other, 'publish', publishing('full'), 10);
      await fails(other, 'subscribe', subscribing('full', stream), 9);
    }
    await ann.ask('unpublish', { rid: 'full', mid: stream.mid });
    await until(async () => (await others[0].request('publish', publishing('full'))).ok, { what: 'room on the node again' });
  });

  test('a node that hangs is an error in time, in nobody else’s way, and forgotten when it goes on', async () => {
    const hanging = await node();
    const front = await edge([hanging]);
    const [ann, bob] = await oneOnEach(front, 'hang');
    const streams = [await ann.ask('publish', publishing('hang')), await bob.ask('publish', publishing('hang'))];
    await hanging.freeze();
    try {
      const begun = performance.now();
      const refused = Promise.all([ann, bob].flatMap((who, index) => [
        fails(who, 'publish', publishing('hang', { op: 'one' }), 12),
        fails(who, 'restart', { rid: 'hang', mid: streams[index].mid, jsep: offer({ video: false }) }, 12),
        fails(who, 'subscribe', subscribing('hang', streams[1 - index], { op: 'two' }), 12),
      ]));
      const carol = await member(front, 'hang');
      await carol.ask('broadcast', { rid: 'hang', data: 'still here' });
      await carol.ask('keepalive', { rid: 'hang' });
      const took = performance.now() - begun;
      assert.ok(took < 2_000, `what needs no node waited ${took} ms for it`);
      await refused;
      assert.ok(performance.now() - begun < ANSWER_WITHIN_MS);
    } finally {
      hanging.signal('SIGCONT');
    }
    // Asked again as they should be, with the same `op`: what the node did after all is not done twice.
    const again = async (who, method, data) => until(async () => (await who.request(method, data)).ok, { what: method });
    for (const [index, who] of [ann, bob].entries()) {
      await again(who, 'publish', publishing('hang', { op: 'one' }));
      await again(who, 'subscribe', subscribing('hang', streams[1 - index], { op: 'two' }));
    }
    for (const who of [ann, bob]) {
      const { pubs } = await who.ask('getpubs', { rid: 'hang' });
      assert.equal(pubs.length, 2, "the other's stream from before and the one asked for twice");
    }
  });

  test('a node that dies takes its streams with it, and nothing else; their owners are told to publish again', async () => {
    const first = await node();
    const front = await edge([first]);
    const owners = await oneOnEach(front, 'dead');
    const bob = await member(front, 'dead');
    const streams = [];
    for (const owner of owners) streams.push(await owner.ask('publish', publishing('dead')));
    first.signal('SIGKILL');
    for (const [index, owner] of owners.entries()) {
      const { mid } = streams[index];
      for (const who of [bob, owner]) {
        const { reason } = await who.notified('stream-remove', (data) => data.mid === mid, { within: 20_000 });
        assert.equal(reason, 'node_lost');
      }
      assert.deepEqual(await owner.notified('stream-migrate'), { rid: 'dead', mid, reason: 'node_lost' });
      assert.deepEqual(owner.notifications.filter(({ data }) => data.mid === mid).map(({ method }) => method), ['stream-remove', 'stream-migrate']);
      await fails(owner, 'publish', publishing('dead'), 10);
    }
    assert.ok(!bob.notifications.some(({ method }) => method === 'stream-migrate'), 'nobody else is told');
    assert.equal((await bob.ask('getusers', { rid: 'dead' })).users.length, owners.length);
    const second = await node({ id: first.id, grpc: first.grpc });
    assert.notEqual(second.pid, first.pid);
    for (const owner of owners) {
      await until(async () => (await owner.request('publish', publishing('dead'))).ok, { within: 20_000, what: 'the node back' });
      assert.equal(owner.closed ?? bob.closed, null);
    }
  });
});
