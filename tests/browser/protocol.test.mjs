// Every method and notification of the protocol, spoken in plain JSON by a client that has nothing of ours in it.

import assert from 'node:assert/strict';
import { after, before, describe, test } from 'node:test';
import { AUDIO_ONLY, MINFO, OPUS, offer } from './rig/offers.mjs';
import { connect } from './rig/raw-client.mjs';
import { startSluice } from './rig/sluice.mjs';
import { until } from './rig/waiting.mjs';

let server;
let count = 0;
const clients = [];

/** A fresh name: no two tests share a room or a user. */
const fresh = (what) => `${what}-${(count += 1)}`;

async function client(uid = fresh('user'), options) {
  const made = await connect(server.socketUrl(uid), options);
  made.uid = uid;
  clients.push(made);
  return made;
}

/** A client that is in `rid`; its `joined` is what join answered. */
async function member(rid, uid) {
  const made = await client(uid);
  made.joined = await made.ask('join', { rid });
  return made;
}

const publish = (who, rid, minfo = MINFO) => who.ask('publish', { rid, jsep: offer(), minfo });
const subscribe = (who, rid, stream, rest = { sfuid: stream.sfuid }) =>
  who.ask('subscribe', { rid, mid: stream.mid, jsep: offer({ direction: 'recvonly' }), ...rest });

/** What of the room a member was told, in order, without positions. */
const told = (who) => who.notifications.map(({ method, data }) => [method, data.mid ?? data.uid]);

before(async () => {
  server = await startSluice();
});
after(async () => {
  for (const one of clients) one.cut();
  await server?.stop();
});

describe('the connection', () => {
  test('echoes protoo when it is offered, and nothing that was not', async () => {
    assert.equal((await client(undefined, { protocols: ['protoo'] })).socket.protocol, 'protoo');
    assert.equal((await client(undefined, { protocols: ['chat', 'protoo'] })).socket.protocol, 'protoo');
    assert.equal((await client()).socket.protocol, '');
  });

  test('takes peerId for peer', async () => {
    const url = new URL(server.socketUrl('x'));
    url.searchParams.delete('peer');
    url.searchParams.set('peerId', 'alias');
    const one = await connect(url.href);
    clients.push(one);
    const rid = fresh('room');
    await one.ask('join', { rid });
    const { joined } = await member(rid);
    assert.deepEqual(joined.users.map((user) => user.uid), ['alias']);
  });

  test('closes with 4000 and a reason for a name it can never accept', async () => {
    for (const uid of ['', 'a/b', 'a#b', 'a*b', 'a?b', 'a[b', 'a]b', 'a{b', 'a}b', 'a\u0007b', 'x'.repeat(129)]) {
      const one = await connect(server.socketUrl(uid));
      const { code, reason } = await one.whenClosed;
      assert.equal(code, 4000, `for ${JSON.stringify(uid)}`);
      assert.ok(reason.length > 0, 'a reason is given');
    }
    const one = await connect(server.url.replace(/^http/, 'ws') + 'ws');
    assert.equal((await one.whenClosed).code, 4000);
  });

  test('takes names of 128 characters and of any script', async () => {
    for (const uid of ['x'.repeat(128), '张三', 'Ünïcode Näme', 'a@b.c']) {
      const one = await member(fresh('room'), uid);
      assert.deepEqual(one.joined.users, []);
    }
  });
});

describe('a frame', () => {
  test('gets its id back exactly as it was sent', async () => {
    const one = await client();
    const seen = [];
    one.socket.on('message', (data) => seen.push(data.toString()));
    for (const id of ['0', '1', '-7', '9007199254740991', '18446744073709551615', '1.5', '124495']) {
      const before = seen.length;
      one.send(`{"request":true,"id":${id},"method":"nothing","data":{}}`);
      await until(() => seen.length > before, { within: 5_000, what: `the answer to id ${id}` });
      assert.match(seen.at(-1), new RegExp(`"id":${id.replace('.', '\\.')}[,}]`));
    }
  });

  test('that is not JSON, no object or of no known kind is dropped, and the next is answered', async () => {
    const one = await client();
    for (const junk of ['', 'junk', '{', 'null', '7', '"text"', '[]', '[{"request":true}]', '{}', '{"request":false}', '{"id":4}', '\u0000']) {
      one.send(junk);
    }
    one.socket.send(Buffer.from('{"request":true,"id":5,"method":"nothing","data":{}}'), { binary: true });
    const answer = await one.request('nothing', {});
    assert.equal(answer.errorCode, -1);
    assert.equal(one.frames.length, 1, 'nothing else was answered');
  });

  test('of a known request sent as a notification is carried out without an answer', async () => {
    const rid = fresh('room');
    const here = await member(rid);
    const one = await client();
    one.send(JSON.stringify({ notification: true, method: 'join', data: { rid } }));
    await here.notified('peer-join', (data) => data.uid === one.uid);
    assert.equal((await one.request('keepalive', { rid })).ok, true);
    assert.equal(one.frames.filter((frame) => frame.response).length, 1);
  });
});

describe('a room', () => {
  test('is empty for the first, and shows the first to the second', async () => {
    const rid = fresh('room');
    const first = await member(rid);
    assert.deepEqual(first.joined.users, []);
    assert.deepEqual(first.joined.pubs, []);
    assert.equal(typeof first.joined.session, 'string');
    assert.ok(first.joined.grace > 0);
    const second = await member(rid);
    const [user] = second.joined.users;
    assert.equal(second.joined.users.length, 1);
    assert.equal(user.uid, first.uid);
    assert.equal(user.rid, rid);
    assert.equal(typeof user.signalid, 'string');
    assert.equal(user.bizid, user.signalid);

    const news = await first.notified('peer-join');
    assert.equal(news.uid, second.uid);
    assert.equal(news.rid, rid);
    assert.equal(news.bizid, user.bizid);
    assert.equal(news.signalid, user.bizid);
    assert.deepEqual(told(second), [], 'nobody is told of itself');
  });

  test('lists users and streams on demand, without the one who asks', async () => {
    const rid = fresh('room');
    const one = await member(rid);
    const two = await member(rid);
    const { mid } = await publish(two, rid);
    assert.deepEqual((await one.ask('getusers', { rid })).users.map((user) => user.uid), [two.uid]);
    assert.deepEqual((await one.ask('getpubs', { rid })).pubs.map((pub) => pub.mid), [mid]);
    assert.deepEqual((await two.ask('getpubs', { rid })).pubs, []);
  });

  test('and another are two rooms on one socket', async () => {
    const [red, blue] = [fresh('room'), fresh('room')];
    const both = await member(red);
    await both.ask('join', { rid: blue });
    const inRed = await member(red);
    const inBlue = await member(blue);
    await both.notified('peer-join', (data) => data.rid === red && data.uid === inRed.uid);
    await both.notified('peer-join', (data) => data.rid === blue && data.uid === inBlue.uid);
    await both.ask('leave', { rid: red });
    await inRed.notified('peer-leave', (data) => data.uid === both.uid && data.rid === red);
    assert.deepEqual((await inBlue.ask('getusers', { rid: blue })).users.map((user) => user.uid), [both.uid]);
  });

  test('hears any JSON that is broadcast, verbatim, and not the sender', async () => {
    const rid = fresh('room');
    const speaker = await member(rid);
    const listener = await member(rid);
    const values = [null, true, false, 0, -1.5, 1e300, '', 'text', '\u2028"\\\n', [], {}, [1, [2, [3]]], { a: { b: [null] } }, '张三'];
    for (const value of values) assert.deepEqual(await speaker.ask('broadcast', { rid, data: value }), {});
    await until(() => listener.notifications.length === values.length, { what: 'every broadcast' });
    listener.notifications.forEach(({ method, data }, index) => {
      assert.equal(method, 'broadcast');
      assert.equal(data.uid, speaker.uid);
      assert.equal(data.rid, rid);
      assert.deepEqual(data.data, values[index]);
    });
    assert.ok(!speaker.notifications.some(({ method }) => method === 'broadcast'));
  });

  test('tells every change once, in order, with positions that leave no gap', async () => {
    const rid = fresh('room');
    const watcher = await member(rid);
    const other = await member(rid);
    const { mid } = await publish(other, rid);
    await other.ask('mute', { rid, mid, video: true });
    await other.ask('broadcast', { rid, data: 1 });
    await other.ask('unpublish', { rid, mid });
    await other.ask('leave', { rid });
    await watcher.notified('peer-leave');
    assert.deepEqual(watcher.notifications.map(({ method }) => method), [
      'peer-join', 'stream-add', 'stream-update', 'broadcast', 'stream-remove', 'peer-leave',
    ]);
    const positions = watcher.notifications.map(({ data }) => data.seq);
    positions.forEach((seq, index) => assert.equal(seq, watcher.joined.seq + 1 + index));
    for (const { data } of watcher.notifications) assert.equal(data.epoch, watcher.joined.epoch);
  });

  test('is left with streams first, then the member, and then it is not in it', async () => {
    const rid = fresh('room');
    const watcher = await member(rid);
    const other = await member(rid);
    const streams = [await publish(other, rid), await publish(other, rid)];
    assert.deepEqual(await other.ask('leave', { rid }), {});
    await watcher.notified('peer-leave', (data) => data.uid === other.uid);
    const told = watcher.notifications.slice(-3).map(({ method, data }) => [method, data.mid ?? data.uid]);
    assert.deepEqual(told.slice(0, 2).sort(), streams.map(({ mid }) => ['stream-remove', mid]).sort());
    assert.deepEqual(told[2], ['peer-leave', other.uid]);
    for (const method of ['leave', 'keepalive', 'broadcast']) {
      assert.equal((await other.request(method, { rid, data: 1 })).errorCode, 2, method);
    }
    assert.equal(other.closed, null, 'the socket stays open');
    await other.ask('join', { rid });
  });

  test('keepalive is answered with nothing', async () => {
    const rid = fresh('room');
    const one = await member(rid);
    assert.deepEqual(await one.ask('keepalive', { rid }), {});
  });
});

describe('a stream', () => {
  test('is published, told to the others with its minfo as given, and listed', async () => {
    const rid = fresh('room');
    const watcher = await member(rid);
    const owner = await member(rid);
    const minfo = { ...MINFO, videotype: 1, label: 'slides', extra: { nested: [1, 2] } };
    const { jsep, mid, sfuid } = await publish(owner, rid, minfo);
    assert.equal(jsep.type, 'answer');
    assert.match(jsep.sdp, /^v=0\r\n/);
    assert.match(jsep.sdp, /a=ice-lite\r\n/);
    assert.match(jsep.sdp, /a=setup:passive\r\n/);
    assert.match(jsep.sdp, /a=fmtp:111 .*stereo=1/);
    assert.match(jsep.sdp, /a=fmtp:111 .*useinbandfec=1/);
    assert.match(jsep.sdp, /a=candidate:.* typ host/);
    assert.equal((jsep.sdp.match(/^a=recvonly/gm) ?? []).length, 2);
    assert.ok(mid.startsWith(`${owner.uid}#`) && /^\d{10}$/.test(mid.slice(owner.uid.length + 1)), mid);
    const added = await watcher.notified('stream-add');
    const { epoch, seq, ...record } = added;
    assert.ok(epoch !== undefined && seq > 0);
    assert.deepEqual(record, { rid, uid: owner.uid, mid, sfuid, minfo });
    const late = await member(rid);
    assert.deepEqual(late.joined.pubs, [{ rid, uid: owner.uid, mid, sfuid, minfo }]);
    assert.ok(!told(owner).some(([method]) => method === 'stream-add'));
  });

  test('asked for twice with the same op is published once', async () => {
    const rid = fresh('room');
    const watcher = await member(rid);
    const owner = await member(rid);
    const request = { rid, jsep: offer(), minfo: MINFO, op: 'once' };
    const first = await owner.ask('publish', request);
    const second = await owner.ask('publish', request);
    assert.equal(second.mid, first.mid);
    await owner.ask('broadcast', { rid, data: 'done' });
    await watcher.notified('broadcast');
    assert.equal(watcher.notifications.filter(({ method }) => method === 'stream-add').length, 1);
  });

  test('of audio alone is published with a minfo that says so', async () => {
    const rid = fresh('room');
    const owner = await member(rid);
    const { jsep } = await owner.ask('publish', { rid, jsep: offer({ video: false }), minfo: AUDIO_ONLY });
    assert.equal((jsep.sdp.match(/^m=/gm) ?? []).length, 1);
  });

  test('is subscribed with the right sfuid, a wrong one and none', async () => {
    const rid = fresh('room');
    const owner = await member(rid);
    const viewer = await member(rid);
    const stream = await publish(owner, rid);
    const sids = new Set();
    for (const rest of [{ sfuid: stream.sfuid }, { sfuid: 'no-such-node' }, {}]) {
      const { jsep, sid, sfuid } = await subscribe(viewer, rid, stream, rest);
      assert.equal(jsep.type, 'answer');
      assert.equal((jsep.sdp.match(/^a=sendonly/gm) ?? []).length, 2);
      assert.match(jsep.sdp, /^a=ssrc:\d+ cname:/m);
      assert.equal(sfuid, stream.sfuid);
      assert.ok(sid.startsWith(`${viewer.uid}#`) && /^\d{10}$/.test(sid.slice(viewer.uid.length + 1)), sid);
      sids.add(sid);
    }
    assert.equal(sids.size, 3);
    for (const sid of sids) {
      assert.deepEqual(await viewer.ask('unsubscribe', { rid, mid: stream.mid, sid, sfuid: stream.sfuid }), {});
      assert.deepEqual(await viewer.ask('unsubscribe', { rid, mid: stream.mid, sid }), {}, 'twice is once');
    }
  });

  test('of a client that offers more than it carries gets the rest refused', async () => {
    const rid = fresh('room');
    const owner = await member(rid);
    const viewer = await member(rid);
    const stream = await owner.ask('publish', { rid, jsep: offer({ video: false }), minfo: AUDIO_ONLY });
    const { jsep } = await subscribe(viewer, rid, stream);
    assert.match(jsep.sdp, /^m=audio 9 /m);
    assert.match(jsep.sdp, /^m=video 0 /m);
  });

  test('is removed by its owner, idempotently, and its subscription can still be given up', async () => {
    const rid = fresh('room');
    const owner = await member(rid);
    const viewer = await member(rid);
    const stream = await publish(owner, rid);
    const { sid } = await subscribe(viewer, rid, stream);
    assert.deepEqual(await owner.ask('unpublish', { rid, mid: stream.mid, sfuid: stream.sfuid }), {});
    const removed = await viewer.notified('stream-remove');
    assert.equal(removed.mid, stream.mid);
    assert.equal(removed.uid, owner.uid);
    assert.equal(removed.rid, rid);
    assert.deepEqual(await owner.ask('unpublish', { rid, mid: stream.mid }), {});
    assert.deepEqual(await viewer.ask('unsubscribe', { rid, mid: stream.mid, sid }), {});
    assert.equal(viewer.notifications.filter(({ method }) => method === 'stream-remove').length, 1);
    assert.equal((await viewer.request('subscribe', { rid, mid: stream.mid, jsep: offer({ direction: 'recvonly' }) })).errorCode, 3);
  });

  test('is muted for all to see, those who come later too', async () => {
    const rid = fresh('room');
    const owner = await member(rid);
    const watcher = await member(rid);
    const { mid } = await publish(owner, rid);
    await owner.ask('mute', { rid, mid, audio: true });
    const update = await watcher.notified('stream-update');
    assert.equal(update.mid, mid);
    assert.equal(update.uid, owner.uid);
    const late = await member(rid);
    assert.deepEqual(late.joined.pubs[0].minfo, update.minfo);
    await owner.ask('mute', { rid, mid, audio: false });
    await until(() => watcher.notifications.filter(({ method }) => method === 'stream-update').length === 2, { what: 'unmute' });
    assert.notDeepEqual(watcher.notifications.at(-1).data.minfo, update.minfo);
  });

  test('and a subscription to it restart their ICE with fresh credentials', async () => {
    const rid = fresh('room');
    const owner = await member(rid);
    const viewer = await member(rid);
    const stream = await publish(owner, rid);
    const subscription = await subscribe(viewer, rid, stream);
    const again = { ufrag: 'nEwu', pwd: 'anotherPasswordOfTwentyF' };
    const ufrag = (jsep) => /a=ice-ufrag:(\S+)/.exec(jsep.sdp)[1];
    const port = (jsep) => /a=candidate:\S+ 1 udp \d+ \S+ (\d+)/i.exec(jsep.sdp)[1];
    const published = await owner.ask('restart', { rid, mid: stream.mid, jsep: offer(again) });
    assert.equal(published.jsep.type, 'answer');
    assert.notEqual(ufrag(published.jsep), ufrag(stream.jsep));
    assert.equal(port(published.jsep), port(stream.jsep));
    const subscribed = await viewer.ask('restart', { rid, sid: subscription.sid, jsep: offer({ ...again, direction: 'recvonly' }) });
    assert.notEqual(ufrag(subscribed.jsep), ufrag(subscription.jsep));
  });
});

describe('a lost connection', () => {
  test('is resumed with its session: streams live, nobody noticed, what was missed follows in order', async () => {
    const rid = fresh('room');
    const watcher = await member(rid);
    const lost = await member(rid);
    const { mid } = await publish(lost, rid);
    const { sid } = await subscribe(lost, rid, await publish(watcher, rid));
    await lost.notified('stream-add');
    const since = { epoch: lost.joined.epoch, seq: lost.notifications.at(-1).data.seq };
    const before = watcher.notifications.length;
    lost.cut();
    await watcher.ask('broadcast', { rid, data: 'missed 1' });
    await watcher.ask('broadcast', { rid, data: 'missed 2' });

    const back = await client(lost.uid);
    const joined = await back.ask('join', { rid, session: lost.joined.session, since });
    assert.notEqual(joined.resync, true);
    assert.deepEqual(joined.own.pubs.map((pub) => pub.mid ?? pub), [mid]);
    assert.deepEqual(joined.own.subs.map((sub) => sub.sid ?? sub), [sid]);
    await watcher.ask('broadcast', { rid, data: 'new' });
    await back.notified('broadcast', (data) => data.data === 'new');
    assert.deepEqual(back.notifications.map(({ data }) => data.data), ['missed 1', 'missed 2', 'new']);
    assert.equal(back.frames[0].response, true, 'the answer comes before what was missed');
    assert.deepEqual(watcher.notifications.slice(before), [], 'nobody else saw anything');
    assert.deepEqual(await back.ask('unpublish', { rid, mid }), {}, 'its stream is still its own');
  });

  test('with a position the log does not hold is answered with the whole truth', async () => {
    const rid = fresh('room');
    const lost = await member(rid);
    const other = await member(rid);
    lost.cut();
    const back = await client(lost.uid);
    const joined = await back.ask('join', { rid, session: lost.joined.session, since: { epoch: 'another', seq: 7 } });
    assert.equal(joined.resync, true);
    assert.deepEqual(joined.users.map((user) => user.uid), [other.uid]);
  });

  test('is resumed by the same name without a session, when the old socket is gone', async () => {
    const rid = fresh('room');
    const watcher = await member(rid);
    const lost = await member(rid);
    const { mid } = await publish(lost, rid);
    await watcher.notified('stream-add');
    const before = watcher.notifications.length;
    await lost.close();
    const back = await client(lost.uid);
    const joined = await back.ask('join', { rid });
    assert.deepEqual(joined.own.pubs.map((pub) => pub.mid ?? pub), [mid]);
    assert.deepEqual(watcher.notifications.slice(before), []);
  });

  test('is taken over by the same name while the old socket lives: the newest wins', async () => {
    const rid = fresh('room');
    const watcher = await member(rid);
    const old = await member(rid);
    const { mid } = await publish(old, rid);
    const newest = await member(rid, old.uid);
    const kick = await old.notified('peer-kick');
    assert.equal(kick.uid, old.uid);
    assert.equal(kick.rid, rid);
    assert.ok(kick.reason.length > 0);
    assert.equal((await old.whenClosed).code, 4000);
    await watcher.notified('stream-remove', (data) => data.mid === mid);
    assert.deepEqual((await watcher.ask('getusers', { rid })).users.map((user) => user.uid), [old.uid]);
    assert.deepEqual(newest.joined.own.pubs, []);
    await publish(newest, rid);
  });

  test('that nobody resumes ends when its grace does, with one leave', async () => {
    const quick = await startSluice({ env: { SLUICE_SESSION__GRACE: '1s' } });
    try {
      const watcher = await connect(quick.socketUrl('watcher'));
      await watcher.ask('join', { rid: 'room' });
      const lost = await connect(quick.socketUrl('lost'));
      await lost.ask('join', { rid: 'room' });
      const { mid } = await lost.ask('publish', { rid: 'room', jsep: offer({ audio: [OPUS], video: false }), minfo: AUDIO_ONLY });
      lost.cut();
      await watcher.notified('peer-leave', (data) => data.uid === 'lost', { within: 8_000 });
      assert.deepEqual(watcher.notifications.map(({ method, data }) => [method, data.mid ?? data.uid]), [
        ['peer-join', 'lost'], ['stream-add', mid], ['stream-remove', mid], ['peer-leave', 'lost'],
      ]);
      watcher.cut();
    } finally {
      await quick.stop();
    }
  });
});
