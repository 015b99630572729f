// Every error a client can provoke, and input nobody means well: each gets a clear answer, the connection goes on, a call
// that runs beside all this goes on too, and the server's memory comes back to where it was.

import assert from 'node:assert/strict';
import { createHmac } from 'node:crypto';
import { after, before, describe, test } from 'node:test';
import { publishFrom, subscribeFrom } from './rig/foreign-peer.mjs';
import { AUDIO_ONLY, H264, MINFO, OPUS, PCMU, VP8, offer } from './rig/offers.mjs';
import { connect } from './rig/raw-client.mjs';
import { startSluice } from './rig/sluice.mjs';
import { until } from './rig/waiting.mjs';

const NAMES = {
  '-1': 'unknown_method', 1: 'bad_uid', 2: 'not_in_room', 3: 'bad_mid', 4: 'bad_sid', 5: 'bad_jsep', 6: 'bad_sdp', 7: 'bad_minfo',
  401: 'unauthenticated', 403: 'forbidden', 409: 'conflict', 413: 'too_large', 429: 'rate_limited',
};
const RID = 'errors';

let server;
let call;

/** Sends a request that must fail with `code`, and says why. */
async function fails(client, method, data, code) {
  const answer = await client.request(method, data);
  const what = `${method} ${JSON.stringify(data)?.slice(0, 200)}`;
  assert.equal(answer.ok, false, `${what} should fail`);
  assert.equal(answer.errorCode, code, `${what}: ${answer.errorCode} ${answer.errorReason}`);
  assert.equal(answer.error, NAMES[code]);
  assert.ok(answer.errorReason.length > 0 && answer.errorReason.length < 1_000, 'a reason a person can read');
  return answer;
}

async function member(uid, rid = RID, on = server) {
  const client = await connect(on.socketUrl(uid));
  await client.ask('join', { rid });
  return client;
}

/** A call between two strangers, which nothing below may disturb. */
async function startCall() {
  const rid = 'strangers';
  const [speaker, listener] = [await member('speaker', rid), await member('listener', rid)];
  const publisher = await publishFrom('libwebrtc', speaker, rid);
  const viewer = await subscribeFrom('libwebrtc', listener, rid, publisher.stream);
  const goesOn = async () => {
    const { pictures } = await viewer.report();
    await viewer.reports((now) => now.pictures >= pictures + 5, "the strangers' call going on", 5_000);
    assert.equal(speaker.closed ?? listener.closed, null);
  };
  await viewer.reports(({ different }) => different >= 5, "the strangers' call beginning");
  const told = listener.notifications.length;
  return {
    goesOn,
    /** What the listener was told since the call began. */
    news: () => listener.notifications.slice(told),
    stop() {
      for (const end of [viewer, publisher]) end.stop();
      for (const client of [speaker, listener]) client.cut();
    },
  };
}

before(async () => {
  // More requests at once than by default, so that the tables below need no pauses. The flood test goes beyond it.
  server = await startSluice({ env: { SLUICE_LIMITS__MESSAGE_BURST: '2000' } });
  call = await startCall();
});
after(async () => {
  call?.stop();
  assert.equal((await server?.stop())?.code, 0);
});

const BAD_SDP = {
  empty: '',
  'not SDP': 'hello',
  'cut off': offer().sdp.slice(0, 300),
  'without a fingerprint': offer({ fingerprint: null }).sdp,
  'with an empty fingerprint': offer({ fingerprint: 'sha-256 ' }).sdp,
  'with a fingerprint of the wrong length': offer({ fingerprint: 'sha-256 AB:CD' }).sdp,
  'with an unknown hash': offer({ fingerprint: `md5 ${'AB:'.repeat(15)}AB` }).sdp,
  'without m-lines': offer({ audio: false, video: false }).sdp,
  'with 500 m-lines': offer({
    edit: (lines) => [...lines, ...Array.from({ length: 498 }, (_, mid) => ['m=audio 9 UDP/TLS/RTP/SAVPF 111', `a=mid:${mid + 2}`, 'a=sendonly']).flat()],
  }).sdp,
  'with codecs nobody here speaks': offer({ audio: [PCMU], video: [H264] }).sdp,
  'without ICE credentials': offer({ edit: (lines) => lines.filter((line) => !/ice-(ufrag|pwd)/.test(line)) }).sdp,
  'with a short ICE password': offer({ pwd: 'short' }).sdp,
  'that wants to be the DTLS server': offer({ setup: 'passive' }).sdp,
  'that is binary': '\u0000\u0001\u0002'.repeat(50),
  'with an endless line': `v=0\r\na=${'x'.repeat(100_000)}\r\n`,
  'with 20,000 lines': `v=0\r\n${'a=x\r\n'.repeat(20_000)}`,
  'with a payload type out of range': offer({ audio: [{ ...OPUS, type: 4711 }], video: false }).sdp,
};

describe('an error', () => {
  let owner;
  let other;
  let stream;
  let subscription;

  before(async () => {
    owner = await member('owner');
    other = await member('other');
    stream = await owner.ask('publish', { rid: RID, jsep: offer(), minfo: MINFO });
    subscription = await other.ask('subscribe', { rid: RID, mid: stream.mid, jsep: offer({ direction: 'recvonly' }) });
  });
  after(async () => {
    assert.equal(owner.closed ?? other.closed, null, 'both connections went on through all of it');
    await Promise.all([owner.close(), other.close()]);
    await call.goesOn();
  });

  test('-1: no such method, or no data', async () => {
    await fails(owner, 'sing', {}, -1);
    await fails(owner, '', {}, -1);
    await fails(owner, 'join', undefined, -1);
    for (const data of [null, 7, 'text', [], true]) await fails(owner, 'join', data, -1);
  });

  test('2: no room, a malformed one, or one this peer is not in', async () => {
    const names = [undefined, null, 7, {}, '', 'a/b', 'a#b', 'a*b', 'a?b', 'a[b', 'a]b', 'a{b', 'a}b', 'a\nb', 'x'.repeat(129)];
    for (const rid of names) await fails(owner, 'join', { rid }, 2);
    const requests = {
      leave: {}, keepalive: {}, broadcast: { data: 1 }, getusers: {}, getpubs: {},
      publish: { jsep: offer(), minfo: MINFO },
      unpublish: { mid: stream.mid },
      subscribe: { mid: stream.mid, jsep: offer({ direction: 'recvonly' }) },
      unsubscribe: { mid: stream.mid, sid: subscription.sid },
      mute: { mid: stream.mid, audio: true },
      restart: { mid: stream.mid, jsep: offer() },
    };
    for (const [method, data] of Object.entries(requests)) {
      await fails(owner, method, { ...data, rid: 'not-in-it' }, 2);
      await fails(owner, method, data, 2);
    }
  });

  test("3: a mid that is missing, unknown, malformed, in another room or somebody else's", async () => {
    for (const mid of [undefined, null, 7, '', 'nobody#0000000000', 'x'.repeat(10_000), '#', "'; drop"]) {
      await fails(other, 'subscribe', { rid: RID, mid, jsep: offer({ direction: 'recvonly' }) }, 3);
      await fails(other, 'mute', { rid: RID, mid, audio: true }, 3);
      await fails(other, 'unpublish', { rid: RID, mid }, 3);
    }
    await fails(other, 'unpublish', { rid: RID, mid: stream.mid }, 3);
    await fails(other, 'mute', { rid: RID, mid: stream.mid, audio: true }, 3);
    await fails(other, 'restart', { rid: RID, mid: stream.mid, jsep: offer() }, 3);
    await other.ask('join', { rid: 'elsewhere' });
    await fails(other, 'subscribe', { rid: 'elsewhere', mid: stream.mid, jsep: offer({ direction: 'recvonly' }) }, 3);
    await other.ask('leave', { rid: 'elsewhere' });
  });

  test("4: a sid that is missing, malformed or somebody else's", async () => {
    for (const sid of [undefined, null, 7, {}]) await fails(other, 'unsubscribe', { rid: RID, mid: stream.mid, sid }, 4);
    await fails(owner, 'unsubscribe', { rid: RID, mid: stream.mid, sid: subscription.sid }, 4);
    await fails(owner, 'restart', { rid: RID, sid: subscription.sid, jsep: offer({ direction: 'recvonly' }) }, 4);
    await fails(other, 'restart', { rid: RID, sid: 'other#0000000000', jsep: offer({ direction: 'recvonly' }) }, 4);
  });

  test('5: a jsep that is missing or of the wrong type', async () => {
    const wrong = [undefined, null, 7, 'v=0', [], {}, { type: 'offer' }, { sdp: offer().sdp }, { type: 'answer', sdp: offer().sdp }, { type: 'offer', sdp: 7 }];
    for (const jsep of wrong) {
      await fails(owner, 'publish', { rid: RID, jsep, minfo: MINFO }, 5);
      await fails(other, 'subscribe', { rid: RID, mid: stream.mid, jsep }, 5);
      await fails(owner, 'restart', { rid: RID, mid: stream.mid, jsep }, 5);
    }
  });

  for (const [name, sdp] of Object.entries(BAD_SDP)) {
    test(`6: SDP ${name}`, async () => {
      await fails(owner, 'publish', { rid: RID, jsep: { type: 'offer', sdp }, minfo: MINFO }, 6);
      await fails(other, 'subscribe', { rid: RID, mid: stream.mid, jsep: { type: 'offer', sdp } }, 6);
    });
  }

  test('7: a minfo that is missing, malformed or contradicts the SDP', async () => {
    for (const minfo of [undefined, null, 7, 'audio', [], { audio: 'yes', video: true }]) {
      await fails(owner, 'publish', { rid: RID, jsep: offer(), minfo }, 7);
    }
    await fails(owner, 'publish', { rid: RID, jsep: offer(), minfo: AUDIO_ONLY }, 7);
    await fails(owner, 'publish', { rid: RID, jsep: offer({ video: false }), minfo: MINFO }, 7);
    await fails(owner, 'publish', { rid: RID, jsep: offer(), minfo: { ...MINFO, audio: false, video: false } }, 7);
  });

  test('413: a frame or a field over its limit', async () => {
    const big = 'x'.repeat(1_000_000);
    const answer = await owner.request('broadcast', { rid: RID, data: big });
    assert.equal(answer.errorCode, 413);
    await fails(owner, 'broadcast', { rid: RID, data: 'x'.repeat(200_000) }, 413);
    assert.ok(!other.notifications.some(({ method }) => method === 'broadcast'));
  });

  test('none: deep JSON, wrong types and odd keys end nothing', async () => {
    const deep = (depth) => `${'['.repeat(depth)}${']'.repeat(depth)}`;
    for (const depth of [100, 1_000, 10_000, 100_000]) {
      owner.send(`{"request":true,"id":1,"method":"broadcast","data":{"rid":"${RID}","data":${deep(depth)}}}`);
      owner.send(`{"request":true,"id":1,"method":${deep(depth)},"data":{}}`);
      owner.send(deep(depth));
    }
    for (const id of ['"text"', 'null', '{}', '[]', 'true']) {
      owner.send(`{"request":true,"id":${id},"method":"keepalive","data":{"rid":"${RID}"}}`);
    }
    owner.send(`{"request":true,"request":true,"id":1,"id":2,"method":"join","method":7,"data":{}}`);
    owner.send('{"__proto__":{"request":true},"constructor":1}');
    owner.send(`{"response":true,"id":1,"ok":true,"data":{}}`);
    owner.send(`{"notification":true,"method":"peer-leave","data":{"rid":"${RID}","uid":"other"}}`);
    assert.deepEqual(await owner.ask('keepalive', { rid: RID }), {});
    assert.deepEqual((await owner.ask('getusers', { rid: RID })).users.map((user) => user.uid), ['other']);
  });
});

test('429: a flood is slowed down, says for how long, and is over when it is', async () => {
  const flooder = await member('flooder', 'flood');
  const bystander = await member('bystander', 'flood');
  for (let id = 1; id <= 3_000; id += 1) {
    flooder.send(JSON.stringify({ request: true, id: 1_000_000 + id, method: 'keepalive', data: { rid: 'flood' } }));
  }
  const refused = await until(() => flooder.frames.find((frame) => frame.errorCode === 429), { what: 'a refusal' });
  assert.equal(refused.error, 'rate_limited');
  assert.ok(refused.data.retryAfterMs > 0);
  assert.deepEqual(await bystander.ask('keepalive', { rid: 'flood' }), {}, 'others are not slowed down');
  await until(() => flooder.frames.length >= 3_000 || flooder.closed, { within: 10_000, what: 'every request of the flood being answered' });
  if (!flooder.closed) {
    await until(async () => (await flooder.request('keepalive', { rid: 'flood' })).ok, { within: 10_000, every: 250, what: 'the flooder being served again' });
  }
  await Promise.all([flooder.close(), bystander.close()]);
  await call.goesOn();
});

test('memory is back where it was after thousands of bad requests, sockets and streams', async () => {
  const round = async (number) => {
    const client = await member(`bad-${number}`, 'memory');
    for (const sdp of Object.values(BAD_SDP)) {
      await fails(client, 'publish', { rid: 'memory', jsep: { type: 'offer', sdp }, minfo: MINFO }, 6);
    }
    await client.request('broadcast', { rid: 'memory', data: 'x'.repeat(1_000_000) });
    client.send('['.repeat(100_000));
    const { mid } = await client.ask('publish', { rid: 'memory', jsep: offer(), minfo: MINFO });
    await client.ask('subscribe', { rid: 'memory', mid, jsep: offer({ direction: 'recvonly' }) });
    await client.ask('leave', { rid: 'memory' });
    await client.close();
  };
  for (let i = 0; i < 15; i += 1) await round(i);
  const warm = server.residentKiB();
  for (let i = 15; i < 75; i += 1) await round(i);
  // What the allocator keeps for the next burst is not a leak; growth with the number of rounds is.
  await until(() => server.residentKiB() < warm + 8 * 1024, { within: 10_000, what: `resident memory near ${warm} KiB, now ${server.residentKiB()} KiB` });
  await call.goesOn();
  assert.deepEqual(call.news(), [], 'the strangers were told nothing');
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

  test('403: holds a token to its room and its grants', async () => {
    const jwt = token(good('ben', { grants: ['subscribe'], rid: 'guarded*' }));
    const client = await connect(guarded.socketUrl('ben', { access_token: jwt }));
    await fails(client, 'join', { rid: 'elsewhere' }, 403);
    await client.ask('join', { rid: 'guarded-and-more' });
    await fails(client, 'publish', { rid: 'guarded-and-more', jsep: offer(), minfo: MINFO }, 403);
    await fails(client, 'broadcast', { rid: 'guarded-and-more', data: 1 }, 403);
    const speaker = await connect(guarded.socketUrl('eva', { access_token: token(good('eva', { rid: 'guarded-and-more', grants: ['publish'] })) }));
    await speaker.ask('join', { rid: 'guarded-and-more' });
    const { mid } = await speaker.ask('publish', { rid: 'guarded-and-more', jsep: offer(), minfo: MINFO });
    await fails(speaker, 'subscribe', { rid: 'guarded-and-more', mid, jsep: offer({ direction: 'recvonly' }) }, 403);
    await client.ask('subscribe', { rid: 'guarded-and-more', mid, jsep: offer({ direction: 'recvonly' }) });
    await Promise.all([client.close(), speaker.close()]);
  });

  test('4000: shows a peer out when its token ends', async () => {
    const client = await connect(guarded.socketUrl('cat', { access_token: token(good('cat', { exp: now() + 2 })) }));
    await client.ask('join', { rid: 'guarded' });
    // 30 s of leeway is for clocks that disagree about a start; an end is an end.
    const { code } = await client.whenClosed;
    assert.equal(code, 4000);
  });
});

test('409 and 503: what is full says so, and takes the next when there is room again', async () => {
  const small = await startSluice({
    env: { SLUICE_LIMITS__MEMBERS_PER_ROOM: '2', SLUICE_LIMITS__STREAMS_PER_MEMBER: '1', SLUICE_LIMITS__CONNECTIONS: '3' },
  });
  try {
    const [one, two] = [await member('one', 'full', small), await member('two', 'full', small)];
    const three = await connect(small.socketUrl('three'));
    await fails(three, 'join', { rid: 'full' }, 409);

    const publish = { rid: 'full', jsep: offer(), minfo: MINFO };
    const { mid } = await one.ask('publish', publish);
    await fails(one, 'publish', publish, 409);
    await one.ask('unpublish', { rid: 'full', mid });
    await one.ask('publish', publish);

    await assert.rejects(connect(small.socketUrl('four')), ({ status, headers }) => status === 503 && Number(headers['retry-after']) > 0);
    await two.close();
    const four = await until(() => connect(small.socketUrl('four')), { what: 'the place of the one who went' });
    await three.ask('join', { rid: 'other' });
    for (const client of [one, three, four]) client.cut();
  } finally {
    await small.stop();
  }
});
