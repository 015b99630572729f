// Every error a client can provoke, and input nobody means well: each gets a clear answer, at a raw client and at the one from
// npm, the connection goes on, a call that runs beside all this does not even stutter, and the server keeps nothing of it.

import assert from 'node:assert/strict';
import { createHmac } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { after, before, describe, test } from 'node:test';
import { isDeepStrictEqual } from 'node:util';
import { publishFrom, subscribeFrom, unlessItCrashes } from './rig/foreign-peer.mjs';
import { metrics, openFiles, population } from './rig/metrics.mjs';
import { FINGERPRINT, MINFO, OTHER_FINGERPRINT, offer } from './rig/offers.mjs';
import { ELSEWHERE, PROVOCATIONS } from './rig/provocations.mjs';
import { connectProtoo } from './rig/protoo-client.mjs';
import { connect } from './rig/raw-client.mjs';
import { CLIENTS, NAMES, NEVER_MET, assertRefused, fails } from './rig/refusals.mjs';
import { startSluice } from './rig/sluice.mjs';
import { FILM } from './rig/sources.mjs';
import { deadline, until } from './rig/waiting.mjs';

/**
 * Has glibc map every allocation by itself and give it back when it is freed: what is resident then is what the server
 * holds, to the page. Without, holes between allocations would hide a leak, and look like one.
 */
const EXACT = {
  GLIBC_TUNABLES: ['arena_max=1', 'mmap_threshold=0', 'top_pad=0', 'trim_threshold=0', 'tcache_count=0'].map((one) => `glibc.malloc.${one}`).join(':'),
};
const PAGE_KIB = 4;
const MIB = 1024;

let server;
let call;

async function member(uid, rid, { on = server, open = connect, query } = {}) {
  const client = await open(on.socketUrl(uid, query));
  await client.ask('join', { rid });
  return client;
}

/** Of the film's pictures and of the sound, how much must come through: the rest is what a busy machine may cost. */
const SHARE_OF_PICTURES = 0.6;
const SHARE_OF_SOUND = 0.8;
const SOUNDS_PER_SECOND = 100;
/** How long both may be away, beside what the machine held up the peers themselves. */
const LONGEST_GAP_MS = 1_000;
const WATCHED_AT_LEAST_MS = 1_500;

/** A call between two strangers, which nothing below may disturb. */
async function startCall() {
  const rid = 'strangers';
  const [speaker, listener] = [await member('speaker', rid), await member('listener', rid)];
  const publisher = await publishFrom('libwebrtc', speaker, rid);
  const viewer = await subscribeFrom('libwebrtc', listener, rid, publisher.stream);
  await viewer.reports(({ different, ears }) => different >= 5 && ears?.left[440] > -20, "the strangers' call beginning");
  const told = listener.notifications.length;
  const alone = await until(async () => {
    const now = await population(server);
    // Shards tell once a second what they have.
    return now.sluice_sfu_shard_transports === now.sluice_sfu_transports && now;
  }, { what: 'the shards having told of the call' });
  let since;
  return {
    /** What is alive in the server when there is this call and nothing else. */
    alone,
    /** From now on it is watched. */
    async watch() {
      since = performance.now();
      await Promise.all([viewer.look(), publisher.look()]);
    },
    /** It went on all the time since it was watched, and the strangers noticed nothing. */
    async wentOn() {
      // What is done to it may show a little later.
      await until(() => performance.now() - since >= WATCHED_AT_LEAST_MS);
      const [{ ms, heldMs, heldInAllMs, pictures, sounds }, sender] = await Promise.all([viewer.look(), publisher.look()]);
      const held = heldMs + sender.heldMs;
      const heldInAll = heldInAllMs + sender.heldInAllMs;
      // A sender that was held up sends more slowly for as long again.
      const free = Math.max(0, ms - 2 * heldInAll);
      const seen = `in ${ms} ms, held up for ${heldInAll}, ${held} at a time: pictures ${JSON.stringify(pictures)}, sounds ${JSON.stringify(sounds)}`;
      assert.ok(pictures.count >= Math.max(1, Math.floor((SHARE_OF_PICTURES * FILM.fps * free) / 1000)), seen);
      assert.ok(sounds.count >= Math.max(1, Math.floor((SHARE_OF_SOUND * SOUNDS_PER_SECOND * free) / 1000)), seen);
      assert.ok(Math.max(pictures.gapMs, sounds.gapMs) <= LONGEST_GAP_MS + 2 * held, seen);
      assert.equal(speaker.closed ?? listener.closed, null);
      assert.deepEqual(listener.notifications.slice(told), [], 'the strangers were told nothing');
      if (process.env.TEST_TRACE) console.error(`[call] ${seen}`);
    },
    stop() {
      for (const end of [viewer, publisher]) end.stop();
      for (const client of [speaker, listener]) client.cut();
    },
  };
}

/** Waits until there is as much alive in `one` as there was. */
async function backTo(before, one) {
  let now;
  await until(async () => isDeepStrictEqual((now = await population(one)), before), { within: 15_000, every: 100 }).catch(() => {});
  assert.deepEqual(now, before);
}

/** Tests beside which the strangers' call goes on. */
function besideACall(name, body) {
  describe(name, () => {
    before(() => call.watch());
    body();
    after(() => call.wentOn());
  });
}

before(async () => {
  server = await startSluice({
    env: {
      // More requests at once than by default, so that the tables below need no pauses. The flood test goes beyond it.
      SLUICE_LIMITS__MESSAGE_BURST: '20000',
      SLUICE_LIMITS__ROOM_MESSAGE_BURST: '20000',
      // What is left by clients that are cut off is soon cleared away.
      SLUICE_SESSION__GRACE: '1s',
    },
  });
  call = await startCall();
});
after(async () => {
  call?.stop();
  await server?.stop();
});

test('every error of the documentation is provoked here or where it is said to be', () => {
  const text = readFileSync(new URL('../../docs/signalling.md', import.meta.url), 'utf8');
  const documented = Object.fromEntries([...text.matchAll(/^\| (-?\d+) \| `(\w+)` \|/gm)].map(([, code, name]) => [code, name]));
  assert.deepEqual(documented, { ...NAMES, ...NEVER_MET });
  const provoked = new Set([...PROVOCATIONS.map(({ code }) => String(code)), ...Object.keys(ELSEWHERE)]);
  assert.deepEqual([...provoked].sort(), Object.keys(NAMES).sort());
});

for (const [kind, open] of Object.entries(CLIENTS)) {
  besideACall(`an error, at ${kind},`, () => {
    const scene = { rid: `errors-${kind}`, elsewhere: `elsewhere-${kind}`, op: 'used' };
    const who = {};

    before(async () => {
      const { rid, elsewhere, op } = scene;
      for (const name of ['owner', 'other']) who[name] = await member(`${name}-${kind}`, rid, { open });
      await who.other.ask('join', { rid: elsewhere });
      await who.owner.ask('broadcast', { rid, data: 1, op });
      scene.stream = await who.owner.ask('publish', { rid, jsep: offer(), minfo: MINFO });
      scene.subscription = await who.other.ask('subscribe', { rid, mid: scene.stream.mid, jsep: offer({ direction: 'recvonly' }) });
    });
    after(async () => {
      const { owner, other } = who;
      assert.equal(owner.closed ?? other.closed, null, 'both connections went on through all of it');
      assert.equal((owner.losses ?? 0) + (other.losses ?? 0), 0);
      const { rid, stream } = scene;
      assert.deepEqual((await other.ask('getpubs', { rid })).pubs.map(({ mid }) => mid), [stream.mid], 'and so did the stream');
      assert.deepEqual(other.notifications.map(({ method }) => method), ['broadcast', 'stream-add'], 'nothing else was told to anybody');
      await Promise.all([owner.close(), other.close()]);
    });

    const sentBy = (requests) =>
      // protoo-client sends no falsy data: it makes `{}` of it.
      requests(scene).filter(([, , data]) => who.owner.knowsNames || data);

    for (const { code, what, requests } of PROVOCATIONS) {
      test(`${code} ${NAMES[code]}: ${what}`, async () => {
        const sent = sentBy(requests);
        assert.ok(sent.length > 0);
        for (const [name, method, data] of sent) await fails(who[name], method, data, code);
      });
    }

    test('8 publish_failed, 9 subscribe_failed: an op again, with another certificate than its transport is tied to', async () => {
      const rid = `ops-${kind}`;
      const [speaker, viewer] = [await member(`op-speaker-${kind}`, rid, { open }), await member(`op-viewer-${kind}`, rid, { open })];
      const publish = (more) => ({ rid, op: 'one', jsep: offer(more), minfo: MINFO });
      const { mid } = await speaker.ask('publish', publish());
      const subscribe = (more) => ({ rid, mid, op: 'two', jsep: offer({ direction: 'recvonly', ...more }) });
      const { sid } = await viewer.ask('subscribe', subscribe());
      assert.equal((await speaker.ask('publish', publish())).mid, mid, 'with the same one it is the same stream');
      assert.equal((await viewer.ask('subscribe', subscribe())).sid, sid);
      await fails(viewer, 'subscribe', subscribe({ fingerprint: OTHER_FINGERPRINT }), 9);
      await fails(speaker, 'publish', publish({ fingerprint: OTHER_FINGERPRINT }), 8);
      for (const client of [speaker, viewer]) {
        await client.ask('leave', { rid });
        await client.close();
      }
    });

    test('and all of them again and again', async () => {
      const end = performance.now() + 2_000;
      while (performance.now() < end) {
        for (const { code, requests } of PROVOCATIONS) {
          await Promise.all(sentBy(requests).map(([name, method, data]) => fails(who[name], method, data, code)));
        }
      }
    });
  });
}

besideACall('a frame that is odd', () => {
  const rid = 'odd';
  let odd;
  let other;

  before(async () => {
    [odd, other] = [await member('odd', rid), await member('other-odd', rid)];
  });
  after(() => Promise.all([odd.close(), other.close()]));

  const deep = (depth) => `${'['.repeat(depth)}${']'.repeat(depth)}`;
  const request = (id, rest) => `{"request":true,"id":${id},${rest}}`;
  const broadcast = (id, depth) => request(id, `"method":"broadcast","data":{"rid":"${rid}","data":${deep(depth)}}`);
  const keepalive = (id) => request(id, `"method":"keepalive","data":{"rid":"${rid}"}`);

  /** Sends `texts`, and returns all that was answered, as `[id, errorCode]` in the order of ids. */
  async function answers(texts) {
    const from = odd.frames.length;
    for (const text of texts) odd.send(text);
    odd.send(keepalive(999_999));
    const all = () => odd.frames.slice(from).filter(({ response }) => response).map(({ id, errorCode }) => [id, errorCode ?? 'ok']);
    // Requests that wait for nothing are answered in the order they came.
    await until(() => all().some(([id]) => id === 999_999), { what: 'the last answer' });
    return all().filter(([id]) => id !== 999_999).sort(([one], [two]) => one - two);
  }

  test('is answered with 413 when it is nested more than 64 deep, and taken when it is not', async () => {
    // The frame itself and its data are two levels.
    const depths = [62, 63, 100, 1_000, 10_000, 100_000];
    assert.deepEqual(await answers(depths.map((depth) => broadcast(depth, depth))), depths.map((depth) => [depth, depth === 62 ? 'ok' : 413]));
    const methods = depths.slice(1).map((depth) => request(depth, `"method":${deep(depth)},"data":{}`));
    assert.deepEqual(await answers(methods), depths.slice(1).map((depth) => [depth, depth === 63 ? -1 : 413]));
    assert.deepEqual(await answers(depths.map(deep)), [], 'what is no object is no request');
    await other.notified('broadcast', (data) => JSON.stringify(data.data) === deep(62));
    assert.equal(other.notifications.length, 1);
  });

  test('is answered by what it means, or dropped when it means nothing', async () => {
    const dropped = [
      ...['"text"', 'null', '{}', '[]', 'true'].map(keepalive),
      '{"__proto__":{"request":true},"constructor":1}',
      '{"request":"true","id":1,"method":"keepalive","data":{}}',
      '{"response":true,"id":1,"ok":true,"data":{}}',
      `{"notification":true,"method":"peer-leave","data":{"rid":"${rid}","uid":"other-odd"}}`,
      `{"method":"leave","id":1,"data":{"rid":"${rid}"}}`,
      '['.repeat(100_000),
    ];
    assert.deepEqual(await answers(dropped), []);
    const wrong = {
      // Of a key that is there twice the last counts.
      '"request":true,"request":true,"id":1,"id":2,"method":"join","method":7,"data":{}': [2, -1],
      [`"request":true,"id":3,"method":"keepalive","data":[],"data":{"rid":"${rid}"}`]: [3, 'ok'],
      '"request":true,"id":4,"method":null,"data":{}': [4, -1],
      '"request":true,"id":5,"method":["join"],"data":{}': [5, -1],
      '"request":true,"id":6,"method":{"join":1},"data":{}': [6, -1],
      '"request":true,"id":7,"method":"join"': [7, -1],
      '"request":true,"id":8,"method":"join","data":"{}"': [8, -1],
      '"request":true,"id":9,"method":"join","data":{"rid":["odd"]}': [9, 2],
      '"request":true,"id":10,"method":"join","data":{"rid":{"rid":"odd"}}': [10, 2],
      [`"request":true,"id":11,"method":"unpublish","data":{"rid":"${rid}","mid":1e400}`]: [11, 3],
      [`"request":true,"notification":true,"response":true,"id":12,"method":"keepalive","data":{"rid":"${rid}"}`]: [12, 'ok'],
      [`"request":true,"id":13,"method":"keepalive","data":{"rid":"${rid}","__proto__":{"rid":"x"},"toString":1}`]: [13, 'ok'],
    };
    assert.deepEqual(await answers(Object.keys(wrong).map((text) => `{${text}}`)), Object.values(wrong));
    assert.deepEqual((await odd.ask('getusers', { rid })).users.map((user) => user.uid), ['other-odd']);
    assert.equal(other.notifications.length, 1, 'the other heard nothing but the broadcast from before');
  });
});

besideACall('a certificate that is not the one the offer named', () => {
  const lie = { edit: (sdp) => sdp.replaceAll(/a=fingerprint:.*/g, `a=fingerprint:${FINGERPRINT}`) };
  let honest;
  let liar;

  before(async () => {
    [honest, liar] = [await member('honest', 'fingerprints'), await member('liar', 'fingerprints')];
  });
  after(async () => {
    for (const client of [honest, liar]) {
      assert.equal(client.closed, null);
      await client.ask('leave', { rid: 'fingerprints' });
      await client.close();
    }
    await backTo(call.alone, server);
  });
  // Shards tell their counters once a second.
  const failures = async () => (await metrics(server)).get('sluice_sfu_handshakes_failed_total');
  const oneMoreThan = (failed) => until(async () => (await failures()) === failed + 1, { what: 'the failure being counted' });

  for (const stack of ['libwebrtc', 'aiortc']) {
    test(`ends a stream of ${stack} before it ever connected, and the room hears of it`, () => unlessItCrashes(async () => {
      const failed = await failures();
      const publisher = await publishFrom(stack, liar, 'fingerprints', lie);
      try {
        const { mid } = publisher.stream;
        for (const client of [honest, liar]) {
          const { uid, reason } = await client.notified('stream-remove', (data) => data.mid === mid, { within: 15_000 });
          assert.deepEqual([uid, reason], ['liar', 'transport_ended']);
        }
        assert.deepEqual((await honest.ask('getpubs', { rid: 'fingerprints' })).pubs, []);
        const { states } = await publisher.report();
        assert.ok(!states.includes('connected'), `it was ${states}`);
        await oneMoreThan(failed);
      } finally {
        publisher.stop();
        await liar.request('unpublish', { rid: 'fingerprints', mid: publisher.stream.mid });
      }
    }));
  }

  test('gets a subscriber nothing', () => unlessItCrashes(async () => {
    const publisher = await publishFrom('libwebrtc', honest, 'fingerprints');
    const failed = await failures();
    const viewer = await subscribeFrom('libwebrtc', liar, 'fingerprints', publisher.stream, lie);
    try {
      await oneMoreThan(failed);
      await until(async () => (await population(server)).sluice_sfu_subscriptions === call.alone.sluice_sfu_subscriptions, { what: 'the subscription ending' });
      const { states, pictures } = await viewer.report();
      assert.ok(!states.includes('connected'), `it was ${states}`);
      assert.equal(pictures, 0);
      const { mid } = publisher.stream;
      assert.deepEqual((await liar.ask('getpubs', { rid: 'fingerprints' })).pubs.map((pub) => pub.mid), [mid], 'the stream goes on');
      const again = await subscribeFrom('libwebrtc', liar, 'fingerprints', publisher.stream);
      await again.reports(({ different }) => different >= 5, 'an honest subscription to the same stream').finally(again.stop);
    } finally {
      for (const peer of [viewer, publisher]) peer.stop();
      await honest.ask('unpublish', { rid: 'fingerprints', mid: publisher.stream.mid });
    }
  }));
});

besideACall('a flood', () => {
  test('of thousands of requests has each answered, some with 429, and slows nobody else down', async () => {
    const rid = 'flood';
    const [flooder, bystander] = [await member('flooder', rid), await member('bystander', rid)];
    const answers = [];
    // In waves, so that it is no slow reader as well.
    for (let wave = 0; wave < 25; wave += 1) {
      const flood = Promise.all(Array.from({ length: 1_000 }, () => flooder.request('keepalive', { rid })));
      assert.deepEqual(await bystander.ask('keepalive', { rid }), {});
      answers.push(...(await flood));
    }
    const refused = answers.filter(({ ok }) => !ok);
    assert.ok(refused.length > 0 && refused.length < answers.length, `${refused.length} were refused`);
    for (const answer of refused) {
      assertRefused(flooder, answer, 429, 'a keepalive');
      assert.ok(Number.isInteger(answer.data.retryAfterMs) && answer.data.retryAfterMs >= 0);
    }
    assert.ok(refused.some(({ data }) => data.retryAfterMs > 0));
    await until(async () => (await flooder.request('keepalive', { rid })).ok, { within: 10_000, every: 250, what: 'the flooder being served again' });
    await Promise.all([flooder.close(), bystander.close()]);
  });
});

describe('what bad clients leave behind', () => {
  /** Pairs of clients, four by four; fewer than the connections that may hold a buffer for a frame of a megabyte. */
  const AT_ONCE = 32;
  const WARMING = 30;
  const FURTHER = 60;
  /** Streams of each pair, and as many subscriptions. */
  const STREAMS = 4;

  /** Two clients that do everything wrong, every pair the same, and have streams all the same. */
  async function arrive(number, on) {
    const [rid, elsewhere, op] = [`bad-${number % 7}`, `elsewhere-${number % 7}`, 'used'];
    const [owner, other] = [await member(`bad-${number}`, rid, { on }), await member(`worse-${number}`, rid, { on })];
    await other.ask('join', { rid: elsewhere });
    await owner.ask('broadcast', { rid, data: 1, op });
    const publish = (n, more) => ({ rid, op: `publish-${n}`, jsep: offer(more), minfo: MINFO });
    const subscribe = (n, mid, more) => ({ rid, mid, op: `subscribe-${n}`, jsep: offer({ direction: 'recvonly', ...more }) });
    const streams = await Promise.all(numbers(0, STREAMS).map((n) => owner.ask('publish', publish(n))));
    const [subscription] = await Promise.all(streams.map(({ mid }, n) => other.ask('subscribe', subscribe(n, mid))));
    const [stream] = streams;
    const scene = { rid, elsewhere, op, stream, subscription };
    for (const { code, requests } of PROVOCATIONS) {
      await Promise.all(requests(scene).map(([name, method, data]) => fails({ owner, other }[name], method, data, code)));
    }
    await fails(other, 'subscribe', subscribe(0, stream.mid, { fingerprint: OTHER_FINGERPRINT }), 9);
    await owner.ask('publish', publish(STREAMS));
    await fails(owner, 'publish', publish(STREAMS, { fingerprint: OTHER_FINGERPRINT }), 8);
    for (const client of [owner, other]) client.send('['.repeat(100_000));
    return { owner, other, rid };
  }

  /** One is cut off, the other leaves one of its rooms and closes. */
  async function go({ owner, other, rid }) {
    owner.cut();
    await other.ask('leave', { rid });
    await other.close();
  }

  const numbers = (from, count) => Array.from({ length: count }, (_, i) => from + i);

  /** All of the first, alive together. */
  async function manyAtOnce(on) {
    const all = [];
    while (all.length < AT_ONCE) all.push(...(await Promise.all(numbers(all.length, 4).map((number) => arrive(number, on)))));
    return all;
  }

  besideACall('beside a call', () => {
    test('is no connection, room, transport, stream, subscription or file', async () => {
      await backTo(call.alone, server);
      const files = openFiles(server);
      const all = await manyAtOnce(server);
      // The one that was asked for again, and wrongly, goes on as it was.
      const streams = call.alone.sluice_sfu_publications + AT_ONCE * (STREAMS + 1);
      await until(async () => (await population(server)).sluice_sfu_publications === streams, { what: `${streams} streams` });
      await Promise.all(all.map(go));
      await backTo(call.alone, server);
      // Fewer, if the last connection of before was still being closed.
      await until(() => openFiles(server) <= files, { what: `${files} open files, as before` });
    });
  });

  test('is no memory', async () => {
    // What is remembered for a minute after a session's end, so that its requests are not done twice, is so for five seconds.
    const exact = await startSluice({ env: { ...EXACT, SLUICE_LIMITS__MESSAGE_BURST: '20000', SLUICE_SESSION__TTL: '5s', SLUICE_SESSION__GRACE: '1s' } });
    /** Resident memory when it gets no less any more. */
    async function settled() {
      let lowest = Infinity;
      await until(() => {
        const [before, now] = [lowest, exact.residentKiB()];
        lowest = Math.min(before, now);
        return now >= before;
      }, { every: 6_000, within: 60_000, what: 'memory settling' });
      return lowest;
    }
    try {
      const alive = await population(exact);
      const oneByOne = async (from, count) => {
        for (let i = from; i < from + count; i += 2) {
          await Promise.all(numbers(i, 2).map(async (number) => go(await arrive(number, exact))));
        }
        await backTo(alive, exact);
        return settled();
      };
      // First many at once, more than there are at any time later, and some as all later ones come: by then tables are as
      // large as they get.
      await Promise.all((await manyAtOnce(exact)).map(go));
      const warm = await oneByOne(AT_ONCE, WARMING);
      const grown = (await oneByOne(AT_ONCE + WARMING, FURTHER)) - warm;
      if (process.env.TEST_TRACE) console.error(`[memory] ${warm} KiB, then ${grown} KiB more`);
      // A single allocation of each would be a page of each; a few tables still grow.
      assert.ok(grown < (FURTHER * PAGE_KIB * 3) / 4, `${grown} KiB more after ${FURTHER} further pairs, ${warm} KiB before them`);
    } finally {
      await exact.stop();
    }
  });
});

test('memory for frames over the limit is bounded, however many stay connected after sending one', async () => {
  /** So many connections may each hold a buffer of 1 MiB at a time; a further one is answered and closed. */
  const HOLDERS = 64;
  const guarded = await startSluice({ env: EXACT });
  const frame = JSON.stringify({ request: true, id: 1, method: 'broadcast', data: { rid: 'big', data: 'x'.repeat(1_000_000) } });
  const clients = [];
  const oversize = async () => {
    const client = await connect(guarded.socketUrl(`big-${clients.length}`));
    clients.push(client);
    client.send(frame);
    await until(() => client.frames.length > 0 || client.closed, { what: 'the answer' });
    assertRefused(client, client.frames[0] ?? {}, 413, 'a frame of a megabyte');
    return client;
  };
  try {
    const begin = guarded.residentKiB();
    for (let i = 0; i < HOLDERS; i += 1) await oversize();
    const full = guarded.residentKiB();
    assert.ok(full - begin < HOLDERS * 1.25 * MIB + 8 * MIB, `${full - begin} KiB for ${HOLDERS} connections`);
    for (let i = 0; i < 200; i += 1) {
      const { code } = await deadline((await oversize()).whenClosed, 5_000, 'a connection too many being closed');
      assert.equal(code, 1009);
    }
    const grown = guarded.residentKiB() - full;
    assert.ok(grown < 4 * MIB, `${grown} KiB more after 200 further connections`);
    for (const client of clients.slice(0, HOLDERS)) await fails(client, 'keepalive', { rid: 'big' }, 2);
    for (const client of clients.splice(0)) client.cut();
    const late = await until(async () => {
      const client = await oversize();
      // An end would come before the answer to what is sent after it.
      client.send('{"request":true,"id":2,"method":"keepalive","data":{"rid":"big"}}');
      await until(() => client.frames.length > 1 || client.closed, { what: 'an answer or an end' });
      return client.closed === null && client;
    }, { what: 'a place of those who went' });
    late.cut();
    await until(() => guarded.residentKiB() < begin + 8 * MIB, { what: 'the memory being given back' });
  } finally {
    for (const client of clients) client.cut();
    await guarded.stop();
  }
});

describe('a server with access tokens', () => {
  const SECRET = 'a secret of more than thirty-two bytes, for tests';
  const now = () => Math.floor(Date.now() / 1000);
  const base64 = (value) => Buffer.from(JSON.stringify(value)).toString('base64url');
  const GRANTS = ['publish', 'subscribe', 'broadcast'];
  let guarded;

  function token(claims, { header = { alg: 'HS256', typ: 'JWT' }, secret = SECRET } = {}) {
    const body = `${base64(header)}.${base64(claims)}`;
    return `${body}.${createHmac('sha256', secret).update(body).digest('base64url')}`;
  }
  const good = (uid, extra = {}) => ({ sub: uid, rid: 'guarded', grants: GRANTS, exp: now() + 600, ...extra });

  before(async () => {
    guarded = await startSluice({ env: { SLUICE_AUTH__HS256_SECRET: SECRET } });
  });
  after(async () => {
    await guarded.stop();
  });

  test('401 or 4000: lets nobody in without a token that is whole, signed, in time and its own', async () => {
    const bad = {
      none: undefined,
      junk: 'junk',
      'another secret': token(good('eve'), { secret: 'another secret of more than thirty-two bytes' }),
      'alg none': `${base64({ alg: 'none' })}.${base64(good('eve'))}.`,
      'alg HS512': token(good('eve'), { header: { alg: 'HS512' } }),
      expired: token(good('eve', { exp: now() - 60 })),
      'no exp': token(good('eve', { exp: undefined })),
      'exp as text': token(good('eve', { exp: String(now() + 600) })),
      'not yet': token(good('eve', { nbf: now() + 600 })),
      "somebody else's": token(good('mallory')),
      'rid as a number': token(good('eve', { rid: 7 })),
      'grants as text': token(good('eve', { grants: 'publish' })),
    };
    for (const [name, jwt] of Object.entries(bad)) {
      const client = await connect(guarded.socketUrl('eve', jwt === undefined ? {} : { access_token: jwt }));
      const { code, reason } = await client.whenClosed;
      assert.equal(code, 4000, name);
      assert.ok(reason.length > 0, name);
    }
  });

  test('takes a token from the header, the query or a subprotocol it does not echo', async () => {
    const jwt = token(good('ann'));
    const ways = [
      [guarded.socketUrl('ann', { access_token: jwt }), {}],
      [guarded.socketUrl('ann'), { headers: { authorization: `Bearer ${jwt}` } }],
      [guarded.socketUrl('ann'), { protocols: ['protoo', `bearer.${jwt}`] }],
    ];
    for (const [url, options] of ways) {
      const client = await connect(url, options);
      await client.ask('join', { rid: 'guarded' });
      assert.ok(!client.socket.protocol.startsWith('bearer'));
      await client.ask('leave', { rid: 'guarded' });
      await client.close();
    }
  });

  test('401: tells nobody without a good token which ICE servers to use', async () => {
    for (const query of ['', '?access_token=junk']) {
      const answer = await fetch(new URL(`/rtc-config${query}`, guarded.url));
      const { error, errorReason } = await answer.json();
      assert.deepEqual([answer.status, error], [401, NAMES[401]]);
      assert.ok(errorReason.length > 0);
    }
    assert.equal((await fetch(new URL(`/rtc-config?access_token=${token(good('ann'))}`, guarded.url))).status, 200);
  });

  for (const [kind, open] of Object.entries(CLIENTS)) {
    const enter = (uid, claims) => open(guarded.socketUrl(uid, { access_token: token(good(uid, claims)) }));

    test(`403: holds the token of ${kind} to its room and its grants`, async () => {
      const rid = `guarded-${kind}`;
      const listener = await enter('listener', { grants: ['subscribe'], rid: 'guarded*' });
      await fails(listener, 'join', { rid: 'elsewhere' }, 403);
      await listener.ask('join', { rid });
      await fails(listener, 'publish', { rid, jsep: offer(), minfo: MINFO }, 403);
      await fails(listener, 'broadcast', { rid, data: 1 }, 403);
      const speaker = await enter('speaker', { grants: ['publish'], rid });
      await speaker.ask('join', { rid });
      const { mid } = await speaker.ask('publish', { rid, jsep: offer(), minfo: MINFO });
      await fails(speaker, 'subscribe', { rid, mid, jsep: offer({ direction: 'recvonly' }) }, 403);
      await fails(listener, 'mute', { rid, mid, audio: true }, 403);
      await fails(listener, 'restart', { rid, mid, jsep: offer() }, 403);
      const { sid } = await listener.ask('subscribe', { rid, mid, jsep: offer({ direction: 'recvonly' }) });
      await fails(speaker, 'restart', { rid, sid, jsep: offer({ direction: 'recvonly' }) }, 403);
      for (const client of [listener, speaker]) {
        await client.ask('leave', { rid });
        await client.close();
      }
    });

  }

  test('4000: tells every client that its token ends, and then shows it out for good', async () => {
    /** Enough to join in it, however busy the machine; 30 s of leeway is for clocks that disagree about a start. */
    const LIFE_S = 10;
    await Promise.all(Object.entries(CLIENTS).map(async ([kind, open]) => {
      const client = await open(guarded.socketUrl(`cat of ${kind}`, { access_token: token(good(`cat of ${kind}`, { exp: now() + LIFE_S })) }));
      await client.ask('join', { rid: 'guarded' });
      const { inMs } = await client.notified('token-expiring');
      assert.ok(inMs > 0 && inMs <= LIFE_S * 1_000, `in ${inMs} ms`);
      const { code } = await deadline(client.whenClosed, 2 * LIFE_S * 1_000, `${kind} being shown out`);
      if (client.knowsNames) assert.equal(code, 4000);
      else assert.equal(client.losses, 0, 'which is final: it did not try again');
    }));
  });
});

for (const [kind, open] of Object.entries(CLIENTS)) {
  test(`409: what is full says so to ${kind}, and takes the next when there is room again`, async () => {
    const small = await startSluice({
      env: { SLUICE_LIMITS__MEMBERS_PER_ROOM: '2', SLUICE_LIMITS__ROOMS_PER_CONNECTION: '1', SLUICE_LIMITS__STREAMS_PER_MEMBER: '1', SLUICE_LIMITS__SUBSCRIPTIONS_PER_MEMBER: '1' },
    });
    try {
      const [one, two] = [await member('one', 'full', { on: small, open }), await member('two', 'full', { on: small, open })];
      const three = await open(small.socketUrl('three'));
      await fails(three, 'join', { rid: 'full' }, 409);
      await fails(one, 'join', { rid: 'another' }, 409);

      const publish = { rid: 'full', jsep: offer(), minfo: MINFO };
      const { mid } = await one.ask('publish', publish);
      await fails(one, 'publish', publish, 409);
      const subscribe = { rid: 'full', mid, jsep: offer({ direction: 'recvonly' }) };
      const { sid } = await two.ask('subscribe', subscribe);
      await fails(two, 'subscribe', subscribe, 409);
      await two.ask('unsubscribe', { rid: 'full', mid, sid });
      await two.ask('subscribe', subscribe);
      await one.ask('unpublish', { rid: 'full', mid });
      await one.ask('publish', publish);
      await one.ask('leave', { rid: 'full' });
      await three.ask('join', { rid: 'full' });
      for (const client of [one, two, three]) client.cut();
    } finally {
      await small.stop();
    }
  });

  test(`429: too many requests of ${kind} are refused, and after a while taken again`, async () => {
    const slow = await startSluice({ env: { SLUICE_LIMITS__MESSAGE_RATE: '1', SLUICE_LIMITS__MESSAGE_BURST: '5' } });
    try {
      const client = await member('hasty', 'slow', { on: slow, open });
      const keepalive = () => client.request('keepalive', { rid: 'slow' });
      const answers = await Promise.all(Array.from({ length: 20 }, keepalive));
      const refused = answers.filter(({ ok }) => !ok);
      assert.ok(refused.length >= 10 && refused.length < 20, `${refused.length} of 20 were refused`);
      for (const answer of refused) assertRefused(client, answer, 429, 'a keepalive');
      await until(async () => (await keepalive()).ok, { within: 10_000, every: 250, what: 'being served again' });
      client.cut();
    } finally {
      await slow.stop();
    }
  });
}

test('503: a server that is full says when to come back, and takes the next when there is room again', async () => {
  const small = await startSluice({ env: { SLUICE_LIMITS__CONNECTIONS: '2' } });
  try {
    const [one, two] = [await connect(small.socketUrl('one')), await connect(small.socketUrl('two'))];
    await assert.rejects(connect(small.socketUrl('three')), ({ status, headers }) => status === 503 && Number(headers['retry-after']) > 0);
    await two.close();
    const three = await until(() => connect(small.socketUrl('three')), { what: 'the place of the one who went' });
    for (const client of [one, three]) client.cut();
  } finally {
    await small.stop();
  }
});

test('503: protoo-client tries again until there is room', async () => {
  const small = await startSluice({ env: { SLUICE_LIMITS__CONNECTIONS: '1' } });
  try {
    const one = await connect(small.socketUrl('one'));
    const two = connectProtoo(small.socketUrl('two'));
    two.catch(() => {});
    const refused = async () => (await metrics(small)).get('sluice_edge_connections_refused_total') > 0;
    await until(refused, { what: 'the second being refused' });
    await one.close();
    const late = await two;
    assert.ok(late.losses > 0);
    await late.ask('join', { rid: 'r' });
    late.cut();
  } finally {
    await small.stop();
  }
});
