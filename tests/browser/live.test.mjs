// The operators' page: what goes on in the server, as it goes on, and only for those who may see it.

import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { mkdirSync } from 'node:fs';
import { after, afterEach, before, test } from 'node:test';
import { openTab, startChromium } from './rig/chromium.mjs';
import { DemoPage, PICTURES } from './rig/demo-page.mjs';
import { sluicePath, startSluice } from './rig/sluice.mjs';
import { holds, until } from './rig/waiting.mjs';

const SECRET = 'a secret of more than thirty-two bytes, for tests';
const HOSTILE = '<img src=x onerror=hit=1>';

let server;
let chromium;
const pages = [];

before(async () => {
  mkdirSync(PICTURES, { recursive: true });
  [server, chromium] = await Promise.all([startSluice(), startChromium()]);
});
afterEach(async () => {
  for (const page of pages.splice(0)) {
    assert.deepEqual(page.said.filter((line) => line.startsWith('pageerror')), [], 'no page threw an error');
    if (!page.isClosed()) await page.close();
  }
});
after(async () => {
  await chromium?.close();
  assert.equal((await server?.stop())?.code, 0);
});

async function tab(viewport = { width: 1100, height: 800 }) {
  const page = await openTab(chromium, { viewport });
  pages.push(page);
  return page;
}

async function operator(viewport, at = server) {
  const page = await tab(viewport);
  await page.goto(new URL('live', at.url).href, { waitUntil: 'load' });
  return page;
}

/** What the page shows: its state, what it says, figures by name, nodes and rooms as text. */
const shown = (page) => page.evaluate(() => {
  const text = (id) => document.querySelector(`[data-testid="${id}"]`);
  const seen = (element) => (element.checkVisibility() ? element.textContent : '');
  return {
    state: text('live-state').textContent,
    notice: seen(text('live-notice')),
    asked: text('live-token').checkVisibility(),
    figures: Object.fromEntries([...text('live-counts').children].map((one) => [one.querySelector('dt').textContent, Number(one.querySelector('dd').textContent)])),
    nodes: [...text('live-nodes').children].map((node) => node.textContent),
    rooms: [...text('live-rooms').children].map((room) => ({
      name: room.querySelector('strong').textContent,
      words: room.querySelector('header .fine').textContent,
      members: [...room.querySelectorAll('li')].map((member) => [...member.children].map((part) => part.textContent)),
    })),
  };
});

const shows = (page, what, condition) => until(async () => {
  const now = await shown(page);
  return condition(now) ? now : Promise.reject(new Error(JSON.stringify(now)));
}, { what });

test('who is there, what they send and what the node bears come and go on the page', async () => {
  const page = await operator();
  const nobody = await shows(page, 'an empty server', ({ state, figures }) => state === 'live' && figures.Rooms === 0);
  assert.deepEqual(nobody.rooms, []);

  const ann = await DemoPage.join(await tab(), server, { name: 'Ann', room: 'standup' });
  const ben = await DemoPage.join(await tab(), server, { name: 'Ben', room: 'standup' });
  await Promise.all([ann.sees('Ben'), ben.sees('Ann')]);
  const call = await shows(page, 'both in the call', ({ figures, nodes }) => figures.Streams === 2 && /Mbit\/s|kbit\/s/.test(nodes[0]));
  assert.deepEqual([call.figures.Rooms, call.figures.Members], [1, 2]);
  assert.deepEqual(call.rooms[0].members.toSorted(), [['Ann', 'sound, picture'], ['Ben', 'sound, picture']]);
  assert.deepEqual([call.rooms[0].name, call.rooms[0].words], ['standup', '2 members · 2 streams']);
  assert.match(call.nodes[0], /Pressure.*CPU.*Egress.*Tracks/);

  await ben.click('mic-button');
  await shows(page, "Ben's microphone off", ({ rooms }) => rooms[0].members.some(([name, words]) => name === 'Ben' && words === 'microphone off, picture'));
  await page.screenshot({ path: `${PICTURES}live.png` });

  // As a person closes it: the page is told that it goes.
  await ben.page.close({ runBeforeUnload: true });
  await shows(page, 'Ben gone', ({ figures }) => figures.Members === 1 && figures.Streams === 1);
  await ann.page.close({ runBeforeUnload: true });
  await shows(page, 'all gone', ({ figures, rooms }) => figures.Rooms === 0 && figures.Streams === 0 && rooms.length === 0);
});

test('names are text, however they are written, and nothing sticks out on a phone', async () => {
  const ann = await DemoPage.join(await tab(), server, { name: HOSTILE, room: HOSTILE });
  const long = await DemoPage.join(await tab(), server, { name: 'W'.repeat(60), room: 'W'.repeat(60) });
  for (const viewport of [{ width: 360, height: 640, isMobile: true, hasTouch: true }, { width: 1100, height: 800 }]) {
    const page = await operator(viewport);
    const { rooms } = await shows(page, 'both rooms', ({ figures }) => figures.Rooms === 2 && figures.Streams === 2);
    assert.ok(rooms.some(({ name, members }) => name === HOSTILE && members[0][0] === HOSTILE), JSON.stringify(rooms));
    assert.deepEqual(await page.evaluate(() => [typeof hit, document.querySelectorAll('#live-view img').length]), ['undefined', 0]);
    const out = await page.evaluate(() => [...document.querySelectorAll('[data-testid="live"] *')].filter((element) => {
      const { left, right, width } = element.getBoundingClientRect();
      return width > 0 && (left < -0.5 || right > innerWidth + 0.5);
    }).map((element) => element.outerHTML.slice(0, 100)));
    assert.deepEqual(out, []);
    assert.ok(await page.evaluate(() => document.documentElement.scrollWidth <= innerWidth));
    await page.screenshot({ path: `${PICTURES}live-${viewport.width}.png` });
  }
  await Promise.all([ann.page.close(), long.page.close()]);
});

test('the lobby links to it where it may be seen, and nowhere else', async () => {
  const linked = async (at) => {
    const page = await tab();
    const asked = page.waitForResponse((response) => response.url().includes('live.json'));
    await page.goto(at.url, { waitUntil: 'load' });
    await asked;
    return page;
  };
  const visible = (page) => page.evaluate(() => document.querySelector('[data-testid="live-link"]').checkVisibility());
  const here = await linked(server);
  await until(() => visible(here), { what: 'the link' });
  await Promise.all([here.waitForNavigation(), here.click('[data-testid="live-link"] a')]);
  await shows(here, 'the live view', ({ state }) => state === 'live');

  const guarded = await startSluice({ env: { SLUICE_AUTH__HS256_SECRET: SECRET } });
  try {
    const elsewhere = await linked(guarded);
    await holds(async () => assert.equal(await visible(elsewhere), false), 500);
  } finally {
    await guarded.stop();
  }
});

test('it is shown to an operator and to no other, and the token stays in the tab', async () => {
  const guarded = await startSluice({ env: { SLUICE_AUTH__HS256_SECRET: SECRET } });
  try {
    const token = (...more) => {
      const made = spawnSync(sluicePath(), ['token', '--peer', 'op', ...more], { env: { ...process.env, SLUICE_AUTH__HS256_SECRET: SECRET }, encoding: 'utf8' });
      assert.equal(made.status, 0, made.stderr);
      return made.stdout.trim();
    };
    const page = await operator(undefined, guarded);
    await shows(page, 'a question for a token', ({ asked, notice, figures }) => asked && notice === 'This is for operators.' && figures.Rooms === undefined);
    const give = async (text) => {
      await page.locator('[data-testid="live-token"]').fill(text);
      await page.click('#live-token-form button');
    };
    for (const wrong of ['no token at all', token('--room', 'standup', '--grants', 'admin'), token('--room', '*', '--grants', 'publish')]) {
      await give(wrong);
      await shows(page, 'a refusal', ({ asked, notice, figures }) => asked && notice.startsWith('This token does not grant') && figures.Rooms === undefined);
      // So that the next refusal is seen to be one of its own.
      await page.evaluate(() => { document.getElementById('live-notice').textContent = ''; });
    }
    await give(token('--room', '*', '--grants', 'admin'));
    await shows(page, 'the live view', ({ state, asked, figures }) => state === 'live' && !asked && figures.Rooms === 0);
    await page.reload();
    await shows(page, 'the live view after a reload', ({ state, asked }) => state === 'live' && !asked);
    assert.ok(!page.url().includes('ey'), 'no token in the address');
  } finally {
    await guarded.stop();
  }
});

test('when the server goes away the page says so and keeps what it had, and goes on with the next', async () => {
  const first = await startSluice();
  const page = await operator(undefined, first);
  await DemoPage.join(await tab(), first, { name: 'Ann', room: 'standup' });
  await shows(page, 'Ann in her room', ({ state, figures }) => state === 'live' && figures.Streams === 1);
  await first.stop();
  const { figures, rooms } = await shows(page, 'what it says', ({ state, notice }) => state === 'waiting' && notice.startsWith('The server cannot be reached'));
  assert.deepEqual([figures.Rooms, figures.Members, rooms[0].name], [1, 1, 'standup']);
  const second = await startSluice({ listen: `127.0.0.1:${first.port}` });
  try {
    await shows(page, 'the live view again', ({ state, notice }) => state === 'live' && notice === '');
  } finally {
    await second.stop();
  }
});
