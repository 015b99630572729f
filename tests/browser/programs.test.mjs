// An edge and an SFU node as two programs: a call across them, and what clients are told when the node is full, hangs, dies
// and comes back.

import assert from 'node:assert/strict';
import { after, describe, test } from 'node:test';
import { startEdge, startNode } from './rig/cluster.mjs';
import { publishFrom, subscribeFrom } from './rig/foreign-peer.mjs';
import { AUDIO_ONLY, offer } from './rig/offers.mjs';
import { connect } from './rig/raw-client.mjs';
import { until } from './rig/waiting.mjs';

const OTHER_CERTIFICATE = `sha-256 ${'CD:'.repeat(31)}CD`;
/** Error 12 comes when the edge has waited for the node, and any answer within 10 s. */
const ANSWER_WITHIN_MS = 10_000;

const programs = [];
const clients = [];
let count = 0;

after(async () => {
  for (const client of clients) client.cut();
  for (const program of programs.filter((one) => one.alive())) assert.equal((await program.stop('SIGTERM')).code, 0);
});

async function node(settings) {
  const started = await startNode({ id: `node-${(count += 1)}`, ...settings });
  programs.push(started);
  return started;
}

async function edge(nodes) {
  const started = await startEdge(nodes);
  programs.push(started);
  return started;
}

async function member(on, rid, uid = `user-${(count += 1)}`) {
  const client = await connect(on.socketUrl(uid));
  clients.push(client);
  await client.ask('join', { rid });
  return client;
}

const publishing = (rid, more) => ({ rid, jsep: offer({ video: false }), minfo: AUDIO_ONLY, ...more });
const subscribing = (rid, { mid }, more) => ({ rid, mid, jsep: offer({ video: false, direction: 'recvonly' }), ...more });

async function fails(client, method, data, code, name) {
  const { ok, errorCode, error, errorReason } = await client.request(method, data);
  assert.deepEqual({ ok, errorCode, error }, { ok: false, errorCode: code, error: name }, `${method}: ${errorReason}`);
  assert.ok(errorReason.length > 0 && errorReason.length < 1_000, 'a reason a person can read');
  return errorReason;
}

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
    const [ann, bob] = [await member(front, 'full'), await member(front, 'full')];
    const stream = await ann.ask('publish', publishing('full'));
    await fails(bob, 'publish', publishing('full'), 10, 'no_sfu');
    await fails(bob, 'subscribe', subscribing('full', stream), 9, 'subscribe_failed');
    await ann.ask('unpublish', { rid: 'full', mid: stream.mid });
    await until(async () => (await bob.request('publish', publishing('full'))).ok, { what: 'room on the node again' });
  });

  test('a node that hangs is an error in time, in nobody else’s way, and forgotten when it goes on', async () => {
    const hanging = await node();
    const front = await edge([hanging]);
    const [ann, bob] = [await member(front, 'hang'), await member(front, 'hang')];
    const stream = await ann.ask('publish', publishing('hang'));
    hanging.signal('SIGSTOP');
    try {
      const begun = performance.now();
      const refused = Promise.all([
        fails(ann, 'publish', publishing('hang', { op: 'one' }), 12, 'sfu_unreachable'),
        fails(ann, 'restart', { rid: 'hang', mid: stream.mid, jsep: offer({ video: false }) }, 12, 'sfu_unreachable'),
        fails(bob, 'subscribe', subscribing('hang', stream, { op: 'two' }), 12, 'sfu_unreachable'),
      ]);
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
    await again(ann, 'publish', publishing('hang', { op: 'one' }));
    await again(bob, 'subscribe', subscribing('hang', stream, { op: 'two' }));
    const { pubs } = await bob.ask('getpubs', { rid: 'hang' });
    assert.equal(pubs.length, 2, 'the stream from before and the one asked for twice');
  });

  test('an op repeated with another certificate is refused: a transport belongs to whoever offered it', async () => {
    const hanging = await node();
    const front = await edge([hanging]);
    const [ann, bob] = [await member(front, 'op'), await member(front, 'op')];
    const stream = await ann.ask('publish', publishing('op'));
    hanging.signal('SIGSTOP');
    try {
      await fails(bob, 'subscribe', subscribing('op', stream, { op: 'one' }), 12, 'sfu_unreachable');
    } finally {
      hanging.signal('SIGCONT');
    }
    const jsep = offer({ video: false, direction: 'recvonly', fingerprint: OTHER_CERTIFICATE });
    const last = await until(
      async () => {
        const answer = await bob.request('subscribe', subscribing('op', stream, { op: 'one', jsep }));
        return answer.errorCode !== 12 && answer;
      },
      { what: 'an answer of the node' },
    );
    assert.deepEqual([last.errorCode, last.error], [9, 'subscribe_failed']);
  });

  test('a node that dies takes its streams with it, and nothing else', async () => {
    const first = await node();
    const front = await edge([first]);
    const [ann, bob] = [await member(front, 'dead'), await member(front, 'dead')];
    const stream = await ann.ask('publish', publishing('dead'));
    first.signal('SIGKILL');
    await bob.notified('stream-remove', ({ mid }) => mid === stream.mid, { within: 20_000 });
    await fails(ann, 'publish', publishing('dead'), 10, 'no_sfu');
    assert.deepEqual((await bob.ask('getusers', { rid: 'dead' })).users.length, 1);
    const second = await node({ id: first.id, grpc: first.grpc });
    assert.notEqual(second.pid, first.pid);
    await until(async () => (await ann.request('publish', publishing('dead'))).ok, { within: 20_000, what: 'the node back' });
    assert.equal(ann.closed ?? bob.closed, null);
  });
});
