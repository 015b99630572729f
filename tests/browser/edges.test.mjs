// Two edges and two nodes on Redis and etcd, all real, and a page on either edge: what people in a call notice when an edge, a
// node or all of Redis' memory is lost. They notice little.

import assert from 'node:assert/strict';
import { after, afterEach, before, beforeEach, test } from 'node:test';
import { isDeepStrictEqual } from 'node:util';
import { openTab, startChromium } from './rig/chromium.mjs';
import { startEdge, startNode } from './rig/cluster.mjs';
import { metrics } from './rig/metrics.mjs';
import { joinWithSdk } from './rig/sdk-page.mjs';
import { startEtcd, startRedis } from './rig/stores.mjs';
import { holds, until } from './rig/waiting.mjs';

/**
 * Milliseconds that a film may stand still when its node is killed. The goal is 3 s (docs/performance.md has what was measured);
 * this is for a machine that is busy with other tests.
 */
const MEDIA_BACK_WITHIN = 9_000;
/** The same when nothing is killed but everything is replaced: the goal is 1 s. */
const UNNOTICED_WITHIN = 1_000;
const SECRET = 'what both edges of these tests sign with';

let browser;
let redis;
let etcd;
let edges = [];
let nodes = [];
let pages = [];
let round = 0;

before(async () => {
  [redis, etcd] = await Promise.all([startRedis(), startEtcd()]);
  browser = await startChromium({ left: 440, right: 880 });
});
after(async () => {
  await browser?.close();
});

beforeEach(async () => {
  round += 1;
  nodes = await Promise.all([1, 2].map(node));
  edges = await Promise.all([1, 2].map((n) => edge(n)));
});
afterEach(async (context) => {
  for (const page of pages) {
    for (const line of page.said) context.diagnostic?.(`${page.peer}: ${line}`);
    await page.browserContext().close();
  }
  for (const program of [...edges, ...nodes].filter((one) => one.alive())) {
    for (const line of program.lines.slice(-20)) context.diagnostic?.(line);
    program.signal('SIGKILL');
  }
  pages = [];
});

const directory = () => ({ endpoints: [etcd.endpoint], prefix: `/sluice-${round}` });
const node = (n) => startNode({ id: `node-${round}-${n}`, etcd: directory(), drain: { timeout: '10s' } });
const edge = (n, more) => startEdge([], {
  id: `edge-${round}-${n}`, redis: { url: redis.url }, etcd: directory(), session: { secret: SECRET }, drain: { spread: '1s' }, ...more,
});

/** A page in the round's room, on the first of these edges as long as that lives. */
async function join(peer, ...on) {
  const page = await openTab(browser);
  page.peer = peer;
  pages.push(page);
  const url = on.map((edge) => edge.socketUrl(peer));
  // An edge has no page; what a node tells operators is one, of this machine.
  const eyes = await joinWithSdk(page, nodes[0], { peer, roomName: `room-${round}`, url, inOrder: true, stereo: true });
  /** Whether these states followed each other, perhaps with others between them, after the first `after` things told. */
  eyes.went = async (after, states) => {
    const left = [...states];
    for (const { name, state } of (await eyes.told()).slice(after)) if (name === 'state' && state === left[0]) left.shift();
    return left.length === 0;
  };
  // A stream that is silenced or moved to another node is not news: on the page it is the same.
  eyes.news = async () => (await eyes.told()).filter(({ name }) => !['state', 'stream-updated'].includes(name));
  eyes.receives = (state) => page.evaluate((name) => [...window.call.views.values()].every(({ subscription }) => subscription?.state === name), state);
  return eyes;
}

/** Two who see and hear each other, on either edge. */
async function call() {
  const [first, second] = edges;
  const [ann, ben] = [await join('ann', first, second), await join('ben', second, first)];
  await Promise.all([ann.seesMoving('ben'), ben.seesMoving('ann')]);
  await Promise.all([ann, ben].map((who) => who.hears(who === ann ? 'ben' : 'ann', { left: 440, right: 880, apart: 20 })));
  return { ann, ben };
}

const bothSeeMoving = ({ ann, ben }, options) => Promise.all([ann.seesMoving('ben', options), ben.seesMoving('ann', options)]);

/** How many transports a node has. It says so once a second. */
const transports = async (node) => (await metrics(node)).get('sluice_sfu_transports') ?? 0;
/** Two who publish, and each subscribes to the other. */
const TRANSPORTS = 4;

/** The node that carries the room, and the other. */
async function byLoad() {
  let carried;
  await until(async () => isDeepStrictEqual([...(carried = await Promise.all(nodes.map(transports)))].sort(), [0, TRANSPORTS])).catch(() => {});
  assert.deepEqual([...carried].sort(), [0, TRANSPORTS], 'all streams of the room meet on one node');
  return carried[0] > 0 ? nodes : [nodes[1], nodes[0]];
}

test('an edge that is killed costs its page nothing but a reconnection, and the others notice nothing', async () => {
  const both = await call();
  const { ann, ben } = both;
  const [before, connections] = [await ben.told(), await ann.page.evaluate(() => rig.connections.length)];
  const heard = (await ann.told()).length;
  edges[0].signal('SIGKILL');
  // What she was told, not what she is: the other edge can have her back before anybody looks.
  await until(() => ann.went(heard, ['reconnecting', 'connected']), { within: 20_000, what: 'ann noticing and being back, on the other edge' });
  await bothSeeMoving(both, { frames: 10 });
  await ben.page.evaluate(() => window.call.room.broadcast('are you there?'));
  await until(async () => (await ann.told()).some(({ data }) => data === 'are you there?'), { what: 'the broadcast' });
  await bothSeeMoving(both, { frames: 10 });
  assert.deepEqual(await ben.told(), before, 'ben was told nothing');
  assert.ok(!(await ann.told()).some(({ name }) => name === 'resynced'), 'ann missed nothing');
  assert.equal(await ann.page.evaluate(() => rig.connections.length), connections, 'no connection was made anew');
});

test('a node that is killed is replaced by the other, and the pages keep what they show', async (context) => {
  const both = await call();
  const { ann, ben } = both;
  const [before, after] = [await Promise.all([both.ann.news(), both.ben.news()]), await byLoad()];
  await Promise.all([ann.watchesMoving('ben'), ben.watchesMoving('ann')]);
  after[0].signal('SIGKILL');
  await until(() => both.ann.receives('reconnecting'), { within: 15_000, what: 'ann noticing' });
  for (const who of [both.ann, both.ben]) {
    await until(() => who.receives('connected'), { within: 15_000, what: `${who.peer} receiving again` });
  }
  await bothSeeMoving(both, { frames: 10 });
  const standstills = await Promise.all([ann.sawStandstill('ben'), ben.sawStandstill('ann')]);
  context.diagnostic(`the films stood still for ${standstills.join(' and ')} ms`);
  assert.ok(standstills.every((ms) => ms < MEDIA_BACK_WITHIN), `standstills of ${standstills} ms`);
  assert.deepEqual(await Promise.all([both.ann.news(), both.ben.news()]), before, 'nobody and nothing came or went');
  assert.deepEqual(await both.ann.shows(), ['ben']);
  await until(async () => (await transports(after[1])) === TRANSPORTS, { what: 'all streams on the other node' });
});

test('a node that is stopped hands its streams on, and they flow all the time', async () => {
  const both = await call();
  const before = await Promise.all([both.ann.news(), both.ben.news()]);
  const [leaving, staying] = await byLoad();
  leaving.signal('SIGTERM');
  const moved = async () => (await transports(staying)) === TRANSPORTS && !leaving.alive();
  await Promise.all([
    until(moved, { within: 60_000, every: 200, what: 'all streams on the other node, and the first one gone' }),
    bothSeeMoving(both, { frames: 60, within: 60_000 }),
  ]);
  await bothSeeMoving(both, { frames: 10 });
  for (const who of [both.ann, both.ben]) assert.ok(await who.receives('connected'), who.peer);
  assert.deepEqual(await Promise.all([both.ann.news(), both.ben.news()]), before, 'nobody and nothing came or went');
});

/** Says a number aloud five times a second until told to stop; then all that was said, and all that came to nothing. */
const countAloud = (page) => page.evaluate(() => {
  const [said, failed] = [[], []];
  let n = 0;
  const timer = setInterval(() => {
    const number = n++;
    window.call.room.broadcast({ number }).then(() => said.push(number), (error) => failed.push(`${number}: ${error}`));
  }, 200);
  window.stopCounting = async () => {
    clearInterval(timer);
    const deadline = performance.now() + 10_000;
    while (said.length + failed.length < n && performance.now() < deadline) await new Promise((resolve) => setTimeout(resolve, 50));
    return { count: n, said: said.length, failed };
  };
});

test('a rolling update of both edges and both nodes goes unnoticed: no film stands still, no request fails, every word is heard once', async (context) => {
  const both = await call();
  const { ann, ben } = both;
  const before = await Promise.all([ann.news(), ben.news()]);
  await Promise.all([ann.watchesMoving('ben'), ben.watchesMoving('ann'), countAloud(ann.page), countAloud(ben.page)]);
  const bySignal = (program) => program.signal('SIGTERM');
  const byRequest = async ({ admin }) => {
    const answer = await fetch(new URL('drain', admin), { method: 'POST', headers: { 'content-type': 'application/json' } });
    assert.equal(answer.status, 202, await answer.text());
  };
  // An edge comes back where it was, as behind a name; a node's successor is there before it goes.
  for (const [place, drain] of [bySignal, byRequest].entries()) {
    const old = edges[place];
    await drain(old);
    assert.equal((await old.ends(20_000)).code, 0);
    edges[place] = await edge(place + 1, { listen: new URL(old.url).host });
  }
  for (const [place, drain] of [bySignal, byRequest].entries()) {
    const old = nodes[place];
    nodes[place] = await node(place + 3);
    await drain(old);
    assert.equal((await old.ends(60_000)).code, 0);
  }
  await bothSeeMoving(both, { frames: 10 });
  const [annSaid, benSaid] = await Promise.all([ann, ben].map(({ page }) => page.evaluate(() => window.stopCounting())));
  const standstills = await Promise.all([ann.sawStandstill('ben'), ben.sawStandstill('ann')]);
  context.diagnostic(`the films stood still for ${standstills.join(' and ')} ms`);
  for (const [who, { count, said, failed }, whom] of [[ann, annSaid, ben], [ben, benSaid, ann]]) {
    assert.deepEqual([failed, said], [[], count], `${who.peer} was answered`);
    const heard = async () => (await whom.told()).filter(({ name }) => name === 'broadcast').map(({ data }) => data.number);
    await until(async () => (await heard()).length >= count, { what: `${whom.peer} hearing the last` });
    assert.deepEqual(await heard(), Array.from({ length: count }, (_, n) => n), `${whom.peer} heard each once, in order`);
  }
  const others = async (who) => (await who.news()).filter(({ name }) => name !== 'broadcast');
  assert.deepEqual(await Promise.all([others(ann), others(ben)]), before, 'nobody and nothing came or went');
  assert.deepEqual(await Promise.all([ann, ben].map(({ page }) => page.evaluate(() => window.call.log))), [[], []], 'no subscription failed');
  assert.ok(standstills.every((ms) => ms <= UNNOTICED_WITHIN), `standstills of ${standstills} ms`);
});

test('Redis forgets everything, and the call does not notice', async () => {
  const both = await call();
  const { ann, ben } = both;
  const before = await Promise.all([ann.news(), ben.news()]);
  assert.equal(await redis.command('FLUSHALL'), '+OK');
  await bothSeeMoving(both, { frames: 20 });
  // Right again: what is said goes through, across the edges, both ways. What was said before that may be lost.
  for (const [who, whom] of [[ann, ben], [ben, ann]]) {
    const words = `from ${who.peer}`;
    await until(async () => {
      await who.page.evaluate((data) => window.call.room.broadcast(data).catch(() => undefined), words);
      return (await whom.told()).some(({ data }) => data === words);
    }, { within: 15_000, every: 500, what: `${whom.peer} hearing ${who.peer}` });
  }
  const told = async (who) => (await who.news()).filter(({ name }) => !['broadcast', 'resynced'].includes(name));
  await holds(async () => assert.deepEqual(await Promise.all([told(ann), told(ben)]), before, 'nobody and nothing came or went'), 2_000);
  await bothSeeMoving(both, { frames: 10 });
  assert.deepEqual([await ann.shows(), await ben.shows()], [['ben'], ['ann']]);
});
