// The demo page as people use it: lobby, call, chat, screen, stats, leaving; on a desktop and on a phone.

import assert from 'node:assert/strict';
import { mkdirSync } from 'node:fs';
import { after, before, test } from 'node:test';
import { openTab, startChromium } from './rig/chromium.mjs';
import { DemoPage, PICTURES } from './rig/demo-page.mjs';
import { startSluice } from './rig/sluice.mjs';
import { until } from './rig/waiting.mjs';

const DESKTOP = { width: 1280, height: 800 };
const PHONE = { width: 390, height: 844, isMobile: true, hasTouch: true, deviceScaleFactor: 2 };
const ROOM = 'kitchen';

let server;
const browsers = [];
const tabs = [];

/** A tab in a browser of its own, as people have it. */
async function tab(viewport, options) {
  const browser = await startChromium(options);
  browsers.push(browser);
  const page = await openTab(browser, { viewport });
  tabs.push(page);
  return page;
}

before(async () => {
  mkdirSync(PICTURES, { recursive: true });
  server = await startSluice();
});
after(async () => {
  await Promise.all(browsers.map((browser) => browser.close()));
  await server?.stop();
  for (const page of tabs) {
    assert.deepEqual(page.said.filter((line) => line.startsWith('pageerror')), [], 'no page threw an error');
  }
});

let ann;
let ben;

test('two people meet: they see each other move and hear each other, on a desktop and on a phone', async () => {
  ann = await DemoPage.join(await tab(DESKTOP), server, { name: 'Ann', room: ROOM });
  await ann.showsPeople([]);
  ben = await DemoPage.join(await tab(PHONE), server, { name: 'Ben', room: ROOM });
  await Promise.all([ann.showsPeople(['Ben']), ben.showsPeople(['Ann'])]);
  await Promise.all([ann.sees('Ben', { frames: 10 }), ben.sees('Ann', { frames: 10 })]);
  await Promise.all([ann.playsSound(), ben.playsSound()]);
});

test('nothing sticks out and every control is in view, on a desktop and on a phone', async () => {
  for (const [person, name] of [[ann, 'desktop'], [ben, 'phone']]) {
    assert.deepEqual(await person.layoutFaults(), [], name);
    await person.page.screenshot({ path: `${PICTURES}demo-${name}.png` });
  }
});

test('a microphone switched off is marked for the other, and a camera switched off goes dark', async () => {
  const tileOf = async (who, name) => (await who.tiles()).find((tile) => tile.name === name && !tile.self && tile.kind === 'person-tile');
  await ann.click('mic-button');
  await until(async () => (await tileOf(ben, 'Ann')).muted, { what: "Ann's mute mark on Ben's page" });
  await ann.click('camera-button');
  await until(async () => !(await tileOf(ben, 'Ann')).live, { what: "Ann's picture going on Ben's page" });
  await ann.click('mic-button');
  await ann.click('camera-button');
  await until(async () => !(await tileOf(ben, 'Ann')).muted, { what: "Ann's mute mark going" });
  await ben.sees('Ann');
});

test('what is written reaches the other, and is text whatever it looks like', async () => {
  const text = 'Hello <b>Ben</b> & 张三';
  await ann.click('chat-button');
  await ann.page.locator('[data-testid="chat-input"]').fill(text);
  await ann.click('chat-send');
  await ben.click('chat-button');
  await until(() => ben.page.evaluate((wanted) => [...document.querySelectorAll('[data-testid="chat-message"] .bubble')].some((line) => line.textContent === wanted), text), { what: "Ann's message at Ben" });
  assert.deepEqual(await ben.layoutFaults(), [], 'the chat fits a phone');
  await ben.page.screenshot({ path: `${PICTURES}demo-phone-chat.png` });
  for (const person of [ann, ben]) await person.page.evaluate(() => document.querySelector('[data-close="chat"]').click());
});

test('a shared screen has a tile of its own, and goes when sharing ends', async () => {
  await ann.click('screen-button');
  const screens = async () => (await ben.tiles()).filter(({ kind }) => kind === 'screen-tile');
  await until(async () => (await screens()).some(({ name, live }) => name === 'Ann' && live), { within: 15_000, what: "Ann's screen on Ben's page" });
  await until(() => ben.page.evaluate(() => document.querySelector('article.tile.screen video').videoWidth > 0), { within: 15_000, what: "the picture of Ann's screen" });
  await ben.sees('Ann');
  assert.deepEqual(await ben.layoutFaults(), []);
  await ann.page.screenshot({ path: `${PICTURES}demo-desktop-screen.png` });
  await ann.click('screen-button');
  await until(async () => (await screens()).length === 0, { what: 'the screen going' });
});

test('the statistics say that the call is encrypted with an AEAD cipher', async () => {
  await ann.click('stats-button');
  await until(() => ann.page.evaluate(() => /GCM/.test(document.querySelector('[data-testid="stats-panel"]').textContent)), { within: 10_000, what: 'the cipher in the panel' });
  await ann.page.evaluate(() => document.querySelector('[data-close="stats"]').click());
});

test('a third comes and goes, by the button and by closing the tab', async () => {
  const page = await tab(DESKTOP);
  const cat = await DemoPage.join(page, server, { name: 'Cat', room: ROOM });
  await Promise.all([cat.showsPeople(['Ann', 'Ben']), ann.showsPeople(['Ben', 'Cat']), ben.showsPeople(['Ann', 'Cat'])]);
  await Promise.all([cat.sees('Ann'), cat.sees('Ben'), ann.sees('Cat'), ben.sees('Cat')]);
  await ann.page.screenshot({ path: `${PICTURES}demo-desktop-three.png` });
  await cat.click('leave-button');
  await Promise.all([ann.showsPeople(['Ben']), ben.showsPeople(['Ann'])]);
  const again = await DemoPage.join(page, server, { name: 'Cat', room: ROOM });
  await Promise.all([again.sees('Ann'), ann.sees('Cat')]);
  // As a person closes it: the page is told that it goes.
  await page.close({ runBeforeUnload: true });
  await Promise.all([ann.showsPeople(['Ben']), ben.showsPeople(['Ann'])]);
});

test('whoever blocks the camera, or has none, is told what to do and can still watch', async () => {
  const people = [
    { name: 'Dan', viewport: PHONE, browser: { consent: false }, advice: /block|permission|allow/i },
    { name: 'Eve', viewport: DESKTOP, browser: { devices: false }, advice: /no camera|no microphone|plug|connect/i },
  ];
  for (const { name, viewport, browser: options, advice } of people) {
    const person = await DemoPage.join(await tab(viewport, options), server, { name, room: ROOM, camera: false });
    assert.match(person.notice, advice);
    await person.sees('Ann');
    await ann.showsPeople(['Ben', name]);
    await person.click('leave-button');
    await ann.showsPeople(['Ben']);
    await browsers.pop().close();
  }
});

test('a page that is reloaded is back in the call, and leaves no ghost', async () => {
  ben = await DemoPage.join(ben.page, server, { name: 'Ben', room: ROOM });
  await Promise.all([ann.sees('Ben'), ben.sees('Ann')]);
  await Promise.all([ann.showsPeople(['Ben']), ben.showsPeople(['Ann'])]);
});

test('a server that is started again finds everybody back', async () => {
  const { port } = server;
  const { ms } = await server.stop();
  assert.ok(ms < 2_000, `sluice took ${ms} ms to end`);
  await ann.state('reconnecting');
  server = await startSluice({ listen: `127.0.0.1:${port}` });
  await Promise.all([ann.state('connected', 30_000), ben.state('connected', 30_000)]);
  await Promise.all([ann.sees('Ben', { within: 30_000 }), ben.sees('Ann', { within: 30_000 })]);
  await Promise.all([ann.showsPeople(['Ben']), ben.showsPeople(['Ann'])]);
});
