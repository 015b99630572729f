// What the demo page promises whoever uses it: devices that are closed when their switch is off, controls in view on every
// phone, words where something does not work. Two people in a call are in demo.test.mjs.

import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { mkdirSync } from 'node:fs';
import { after, afterEach, before, test } from 'node:test';
import { openTab, startChromium } from './rig/chromium.mjs';
import { DemoPage, PICTURES } from './rig/demo-page.mjs';
import { privatePath } from './rig/private-dir.mjs';
import { sluicePath, startSluice } from './rig/sluice.mjs';
import { holds, until } from './rig/waiting.mjs';

const SECRET = 'a secret of more than thirty-two bytes, for tests';
const SIZES = [
  { width: 360, height: 640, isMobile: true, hasTouch: true },
  { width: 390, height: 844, isMobile: true, hasTouch: true },
  { width: 844, height: 390, isMobile: true, hasTouch: true },
  { width: 640, height: 360, isMobile: true, hasTouch: true },
  { width: 1280, height: 800 },
];
const PHONE = SIZES[1];

let server;
let chromium;
const pages = [];

before(async () => {
  mkdirSync(PICTURES, { recursive: true });
  [server, chromium] = await Promise.all([startSluice(), startChromium()]);
});
afterEach(async () => {
  for (const page of pages.splice(0)) {
    assert.deepEqual(page.said.filter((line) => /^pageerror|status of 404/.test(line)), [], 'no page threw an error or asked in vain');
    await page.close();
  }
});
after(async () => {
  await chromium?.close();
  assert.equal((await server?.stop())?.code, 0);
});

/** A tab that remembers every track it was given; `window.delay` there makes devices slow to open. */
async function tab(viewport = { width: 1280, height: 800 }, browser = chromium) {
  const page = await openTab(browser, { viewport });
  pages.push(page);
  await page.evaluateOnNewDocument(() => {
    window.given = [];
    window.delay = 0;
    for (const name of ['getUserMedia', 'getDisplayMedia']) {
      const real = navigator.mediaDevices?.[name].bind(navigator.mediaDevices);
      if (!real) continue;
      navigator.mediaDevices[name] = async (...wanted) => {
        await new Promise((resolve) => setTimeout(resolve, window.delay));
        const media = await real(...wanted);
        window.given.push(...media.getTracks());
        return media;
      };
    }
  });
  return page;
}

/** The kinds of tracks that capture at present, of all the page was ever given. */
const live = (page) => page.evaluate(() => given.filter(({ readyState }) => readyState === 'live').map(({ kind }) => kind).sort());
const element = (id) => `[data-testid="${id}"]`;
const attribute = (page, id, name) => page.evaluate((selector, wanted) => document.querySelector(selector).getAttribute(wanted), element(id), name);
const joinRoom = (page, name, room, more = {}) => DemoPage.join(page, server, { name, room, ...more });

/** Waits until what `selector` finds has stopped moving: a click goes to where it was looked for, not to where it went. */
const atRest = (page, selector) => until(() => page.evaluate(async (wanted) => {
  const found = document.querySelector(wanted);
  const place = () => JSON.stringify([found.getBoundingClientRect(), innerWidth, innerHeight]);
  const before = place();
  for (let i = 0; i < 3; i++) await new Promise(requestAnimationFrame);
  return place() === before && found.getAnimations().length === 0;
}, selector), { what: `${selector} at rest` });

/** The lobby, with the preview running. */
async function lobby(page, query = 'room=lobby') {
  await page.goto(`${server.url}?${query}`, { waitUntil: 'load' });
  await until(() => page.evaluate(() => rig.picture(document.getElementById('preview-video'))), { what: 'the preview' });
}

test('the way in is in sight in every size of window, with nothing cut off', async () => {
  for (const size of SIZES) {
    const name = `${size.width}×${size.height}`;
    const page = await tab(size);
    await lobby(page);
    await page.screenshot({ path: `${PICTURES}page-lobby-${size.width}x${size.height}.png` });
    const out = await page.evaluate(() => ['join', 'name', 'room', 'lobby-mic', 'lobby-cam'].filter((id) => {
      const { left, top, right, bottom } = document.getElementById(id).getBoundingClientRect();
      return left < 0 || top < 0 || right > innerWidth || bottom > innerHeight;
    }));
    assert.deepEqual(out, [], name);
    const hit = await page.evaluate(() => {
      const { left, top, width, height } = document.getElementById('join').getBoundingClientRect();
      return document.elementFromPoint(left + width / 2, top + height / 2).id;
    });
    assert.equal(hit, 'join', `${name}: nothing lies over the button`);
    assert.ok(await page.evaluate(() => document.documentElement.scrollWidth <= innerWidth), name);
  }
});

test('devices switched off while they open are closed, in the lobby and in the call', async () => {
  const page = await tab();
  await lobby(page);
  await page.evaluate(() => { window.delay = 300; });
  // Off, on, and off again before the camera is open.
  for (let i = 0; i < 3; i++) await page.click(element('camera-toggle'));
  assert.equal(await attribute(page, 'camera-toggle', 'aria-pressed'), 'false');
  await until(async () => (await live(page)).join() === 'audio', { what: 'the camera closing' });
  await holds(async () => assert.deepEqual(await live(page), ['audio']), 1_000);

  await page.evaluate(() => {
    document.getElementById('name').value = 'Ann';
    document.getElementById('join').click();
  });
  await until(async () => (await attribute(page, 'connection-state', 'data-state')) === 'connected', { what: 'the call' });
  for (let i = 0; i < 3; i++) await page.click(element('camera-button'));
  await until(async () => (await live(page)).join() === 'audio,video', { what: 'the camera' });
  for (let i = 0; i < 3; i++) await page.click(element('camera-button'));
  await until(async () => (await live(page)).join() === 'audio', { what: 'the camera closing' });
  await holds(async () => assert.deepEqual(await live(page), ['audio']), 1_000);
});

test('a key that is held down is pressed once', async () => {
  const ann = await joinRoom(await tab(), 'Ann', 'keys');
  const { keyboard } = ann.page;
  await keyboard.down('Control');
  for (let i = 0; i < 8; i++) await keyboard.down('e');
  await keyboard.up('e');
  assert.equal(await attribute(ann.page, 'camera-button', 'aria-pressed'), 'false');
  await until(async () => (await live(ann.page)).join() === 'audio', { what: 'the camera closing' });
  await keyboard.down('e');
  await keyboard.up('e');
  await keyboard.up('Control');
  await until(async () => (await live(ann.page)).join() === 'audio,video', { what: 'the camera' });
});

test('a screen shared by two quick clicks is one, and one click more ends it', async () => {
  const [annTab, benTab] = [await tab(), await tab()];
  const ann = await joinRoom(annTab, 'Ann', 'screens');
  const ben = await joinRoom(benTab, 'Ben', 'screens');
  const before = await live(annTab);
  await annTab.evaluate(() => {
    window.delay = 300;
    const button = document.getElementById('screen');
    button.click();
    button.click();
    setTimeout(() => button.click(), 100);
  });
  assert.equal(await attribute(annTab, 'screen-button', 'aria-busy'), 'true');
  const screens = async () => (await ben.tiles()).filter(({ kind, live: shown }) => kind === 'screen-tile' && shown).length;
  await until(async () => (await screens()) === 1, { within: 15_000, what: "Ann's screen at Ben" });
  await until(async () => (await attribute(annTab, 'screen-button', 'aria-busy')) === 'false', { what: 'the button at rest' });
  assert.equal(await attribute(annTab, 'screen-button', 'aria-pressed'), 'true');
  await ann.click('screen-button');
  await until(async () => (await screens()) === 0, { what: 'the screen going' });
  assert.deepEqual(await live(annTab), before);
  await holds(async () => assert.equal(await screens(), 0), 500);
});

test('a tile fills the screen by its button and by two clicks, and gives it back', async () => {
  const page = await tab();
  await joinRoom(page, 'Ann', 'large');
  const large = () => page.evaluate(() => document.fullscreenElement?.className ?? '');
  await page.click(element('screen-button'));
  const button = `article.tile.screen ${element('tile-enlarge')}`;
  await page.waitForSelector(button, { timeout: 10_000 });
  await page.hover('article.tile.screen');
  await page.click(button);
  await until(async () => /screen/.test(await large()), { what: 'the full screen' });
  // The page hears of it a frame after the document does.
  const label = () => page.evaluate((selector) => document.querySelector(selector).getAttribute('aria-label'), button);
  await until(async () => (await label()) === 'Leave full screen', { what: 'the button naming the way back' });
  await atRest(page, 'article.tile.screen');
  await page.click(button);
  await until(async () => (await large()) === '', { what: 'the full screen going' });
  await atRest(page, 'article.tile.person');
  await page.click('article.tile.person', { count: 2 });
  await until(async () => /person/.test(await large()), { what: 'the full screen by two clicks' });
  await atRest(page, 'article.tile.person');
  await page.click('article.tile.person', { count: 2 });
  await until(async () => (await large()) === '', { what: 'the full screen going by two clicks' });
});

test('a ring goes out when what was heard ends', async () => {
  const [annTab, benTab] = [await tab(), await tab()];
  await joinRoom(annTab, 'Ann', 'rings');
  await joinRoom(benTab, 'Ben', 'rings');
  const rings = () => benTab.evaluate(() => document.querySelector('article.tile.person[data-name="Ann"]').classList.contains('speaking'));
  await until(rings, { within: 15_000, what: 'the ring around Ann, who sounds' });
  await annTab.evaluate(async () => { for (const publication of [...sluice.publications]) await publication.unpublish(); });
  await until(async () => !(await rings()), { what: 'the ring going' });
});

test('leaving closes what was open for the call: the next one has each device to choose once', async () => {
  const page = await tab();
  await lobby(page, 'room=again');
  await page.type(element('name-input'), 'Ann');
  const tiles = () => page.evaluate(() => document.querySelectorAll('article.tile').length);
  for (let call = 1; ; call++) {
    await page.click(element('join-button'));
    // Only a stream that is published has an end to be told of.
    await until(() => page.evaluate(() => sluice.publications[0]?.state === 'connected'), { what: `call ${call}` });
    if (call === 3) break;
    await page.click(element('leave-button'));
    await until(() => page.evaluate(() => !document.getElementById('lobby').hidden), { what: 'the lobby' });
    assert.equal(await tiles(), 0, `tiles left by call ${call}`);
  }
  assert.equal(await tiles(), 1, 'nobody but Ann is on the stage');
  // Whatever still listens for an earlier call answers to this.
  await page.evaluate(() => navigator.mediaDevices.dispatchEvent(new Event('devicechange')));
  await page.click(element('settings-button'));
  const kinds = () => page.evaluate(() => [...document.querySelectorAll('#call-devices select')].map(({ dataset }) => dataset.testid));
  await until(async () => (await kinds()).length > 0, { what: 'the devices' });
  await holds(async () => {
    const shown = await kinds();
    assert.equal(new Set(shown).size, shown.length, `the dialog shows ${shown}`);
  }, 500);
});

test('a switch keeps its name and says whether it is on', async () => {
  const page = await tab();
  await joinRoom(page, 'Ann', 'switches');
  for (const [id, name] of [['mic-button', 'Microphone'], ['camera-button', 'Camera']]) {
    const on = async () => [await attribute(page, id, 'aria-label'), await attribute(page, id, 'aria-pressed')];
    assert.deepEqual(await on(), [name, 'true']);
    await page.click(element(id));
    assert.deepEqual(await on(), [name, 'false']);
  }
});

test('the last line of a chat stays in sight when a keyboard or a turned phone takes the room, unless one reads further up', async () => {
  const size = { width: 390, height: 844, isMobile: true, hasTouch: true };
  const page = await tab(size);
  await joinRoom(page, 'Ann', 'chat');
  await page.tap(element('chat-button'));
  await page.evaluate(async () => {
    const input = document.getElementById('chat-input');
    for (let i = 0; i < 40; i++) {
      input.value = `line ${i}`;
      document.getElementById('composer').requestSubmit();
    }
  });
  const fromEnd = () => page.evaluate(() => {
    const { scrollHeight, scrollTop, clientHeight } = document.getElementById('messages');
    return Math.round(scrollHeight - scrollTop - clientHeight);
  });
  for (const height of [480, 844, 420]) {
    await page.setViewport({ ...size, height });
    await until(async () => (await page.evaluate(() => innerHeight)) === height && (await fromEnd()) <= 1, { what: `the last line at ${height} px` });
  }
  await page.evaluate(() => { document.getElementById('messages').scrollTop = 100; });
  await until(() => page.evaluate(() => new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(() => done(true))))));
  await page.setViewport({ ...size, height: 700 });
  await until(() => page.evaluate(() => innerHeight === 700), { what: 'the larger window' });
  await holds(async () => assert.equal(await page.evaluate(() => document.getElementById('messages').scrollTop), 100), 300);
});

test('the Enter that confirms what an input method wrote sends nothing, the next one does', async () => {
  const page = await tab();
  await joinRoom(page, 'Ann', 'input');
  await page.click(element('chat-button'));
  await page.type(element('chat-input'), 'にほん');
  // As Safari says it: the composition is over, and the key is still the input method's.
  await page.evaluate(() => document.getElementById('chat-input').dispatchEvent(
    new KeyboardEvent('keydown', { key: 'Enter', keyCode: 229, bubbles: true, cancelable: true }),
  ));
  assert.equal(await page.evaluate(() => document.getElementById('chat-input').value), 'にほん');
  await page.keyboard.press('Enter');
  const said = () => page.evaluate((selector) => [...document.querySelectorAll(selector)].map(({ textContent }) => textContent), `${element('chat-message')} .bubble`);
  assert.deepEqual(await said(), ['にほん']);
});

test('a browser that lets no page measure sound keeps nobody out of a call', async () => {
  const page = await tab();
  await page.evaluateOnNewDocument(() => {
    AudioContext.prototype.createMediaStreamSource = () => {
      throw new DOMException('no', 'NotSupportedError');
    };
  });
  await joinRoom(page, 'Ann', 'unmeasured');
  await until(() => page.evaluate(() => sluice.publications[0]?.state === 'connected'), { what: 'the stream' });
  assert.equal((await live(page)).join(), 'audio,video');
});

test('a name of nothing is refused in words, and corrected lets one in', async () => {
  const page = await tab();
  await lobby(page, 'room=names');
  for (const nothing of ['###', '   ', '\u200b']) {
    await page.evaluate((name) => {
      const field = document.getElementById('name');
      field.value = name;
      field.dispatchEvent(new Event('input'));
    }, nothing);
    await page.click(element('join-button'));
    const said = await page.evaluate(() => [document.activeElement.id, document.getElementById('name').validationMessage]);
    assert.equal(said[0], 'name');
    assert.match(said[1], /letters or digits/);
    assert.equal(await page.evaluate(() => document.getElementById('call').hidden), true);
  }
  await page.evaluate(() => { document.getElementById('name').value = ''; });
  await page.type(element('name-input'), 'Ann');
  await page.click(element('join-button'));
  await until(async () => (await attribute(page, 'connection-state', 'data-state')) === 'connected', { what: 'the call' });
});

test("a link's token names its owner, leaves the address, and outlives a reload", async () => {
  const guarded = await startSluice({ env: { SLUICE_AUTH__HS256_SECRET: SECRET } });
  try {
    const made = spawnSync(sluicePath(), ['token', '--peer', 'Ann Lee~1', '--room', 'guarded'], {
      encoding: 'utf8', timeout: 10_000, env: { ...process.env, SLUICE_AUTH__HS256_SECRET: SECRET },
    });
    assert.equal(made.status, 0, made.stderr);
    const page = await tab();
    await page.goto(`${guarded.url}?token=${made.stdout.trim()}`, { waitUntil: 'load' });
    for (let visit = 0; visit < 2; visit++) {
      const field = await page.evaluate(() => {
        const { value, readOnly } = document.getElementById('name');
        return { value, readOnly, address: location.search };
      });
      assert.deepEqual(field, { value: 'Ann Lee', readOnly: true, address: '?room=guarded' });
      // The preview may still move it.
      await atRest(page, element('join-button'));
      await page.click(element('join-button'));
      await until(async () => (await attribute(page, 'connection-state', 'data-state')) === 'connected', { what: `call ${visit + 1}` });
      assert.equal(await page.evaluate(() => location.search), '?room=guarded');
      await page.reload({ waitUntil: 'load' });
    }
  } finally {
    await guarded.stop();
  }
});

test('whose link does not allow watching is told so, and asks no more', async () => {
  const guarded = await startSluice({ env: { SLUICE_AUTH__HS256_SECRET: SECRET } });
  try {
    const tokenFor = (peer, ...more) => {
      const made = spawnSync(sluicePath(), ['token', '--peer', peer, '--room', 'quiet', ...more], {
        encoding: 'utf8', timeout: 10_000, env: { ...process.env, SLUICE_AUTH__HS256_SECRET: SECRET },
      });
      assert.equal(made.status, 0, made.stderr);
      return made.stdout.trim();
    };
    const join = async (token) => {
      const page = await tab();
      await page.goto(`${guarded.url}?token=${token}`, { waitUntil: 'load' });
      await page.click(element('join-button'));
      await until(() => page.evaluate(() => sluice?.publications[0]?.state === 'connected'), { what: 'the stream' });
      return page;
    };
    await join(tokenFor('ann'));
    const ben = await join(tokenFor('ben', '--grants', 'publish,broadcast'));
    await until(() => ben.evaluate(() => document.querySelector('article.tile:not([data-self])')?.dataset.state === 'refused'), { what: "Ann's tile saying so" });
    assert.match(await ben.evaluate(() => document.getElementById('notices').textContent), /does not allow watching/);
    await ben.screenshot({ path: `${PICTURES}page-refused.png` });
  } finally {
    await guarded.stop();
  }
});

test('a recording begun on the page is marked and said to everybody, until anybody ends it', async () => {
  const recorder = await startSluice({ args: ['--recordings', privatePath('recordings')] });
  try {
    const people = [];
    for (const [name, size] of [['Ann', PHONE], ['Ben', undefined]]) {
      const person = await DemoPage.join(await tab(size), recorder, { name, room: 'rec' });
      await person.page.evaluate((selector) => {
        window.announced = [];
        const listen = (changes) => window.announced.push(...changes.flatMap(({ addedNodes }) => [...addedNodes].map(({ textContent }) => textContent)));
        new MutationObserver(listen).observe(document.querySelector(selector), { childList: true });
      }, element('announcements'));
      // The first is alone, with an invitation for others before its eyes.
      const isReached = (selector) => {
        const button = document.querySelector(selector);
        const { x, y, width, height } = button.getBoundingClientRect();
        return width > 0 && button.contains(document.elementFromPoint(x + width / 2, y + height / 2));
      };
      await until(() => person.page.evaluate(isReached, element('record')), { within: 15_000, what: `${name} reaching the button` });
      people.push(person);
    }
    const [ann, ben] = people;
    const shows = (marked, button, what) => until(async () => {
      const marks = await Promise.all(people.map((person) => person.marksRecording('Ann')));
      return marks.every((seen) => seen === marked) && (await ann.recordButton()) === button;
    }, { within: 15_000, what });
    await shows(false, 'Record', 'the button');
    await ann.click('record');
    await shows(true, 'Stop recording', 'the mark at both');
    assert.equal(await ben.marksRecording('Ben'), false, 'it is not Ben who is recorded');
    for (const person of people) {
      assert.deepEqual(await person.layoutFaults(), []);
      await person.page.screenshot({ path: `${PICTURES}page-recorded-${person.name}.png` });
    }
    await ben.page.evaluate(() => sluice.record(sluice.streams[0], false));
    await shows(false, 'Record', 'the mark going at both');
    assert.deepEqual(await Promise.all(people.map(({ page }) => page.evaluate(() => window.announced))), [
      ['You are being recorded', 'You are not being recorded any more'],
      ['Ann is being recorded', 'Ann is not being recorded any more'],
    ]);
  } finally {
    await recorder.stop();
  }
});

test('who cannot send is told so, in the call as well, and on the page in forty lines', async () => {
  const blind = await startChromium({ devices: false });
  try {
    const dan = await joinRoom(await tab(undefined, blind), 'Dan', 'blind', { camera: false });
    await until(() => dan.page.evaluate(() => /No camera and microphone found/.test(document.getElementById('notices').textContent)), { what: 'the notice in the call' });
    const embed = await tab(undefined, blind);
    await embed.goto(`${server.url}embed.html`, { waitUntil: 'load' });
    await embed.click('#join');
    await until(() => embed.evaluate(() => /Nothing is sent/.test(document.getElementById('says').textContent)), { what: 'what the small page says' });
    const sender = await tab();
    await sender.goto(`${server.url}embed.html`, { waitUntil: 'load' });
    await sender.click('#join');
    await until(() => embed.evaluate(() => document.querySelector('video')?.videoWidth > 0), { within: 15_000, what: 'the picture on the small page' });
    await sender.evaluate(() => location.assign('about:blank'));
    await until(() => embed.evaluate(() => !document.querySelector('video')), { what: 'the picture going' });
  } finally {
    for (const page of pages.splice(0)) await page.close();
    await blind.close();
  }
});

test('a server that stands still is told as soon as its media stops, what it records can be ended all the time, and it is found again', async () => {
  const own = await startSluice({ args: ['--recordings', privatePath('still')] });
  const person = await DemoPage.join(await tab(), own, { name: 'Ann', room: 'still' });
  await until(() => person.page.evaluate(() => sluice.publications[0]?.state === 'connected'), { what: 'media flowing' });
  await person.click('record');
  await until(() => person.marksRecording('Ann'), { what: 'the mark' });
  await own.freeze();
  try {
    // Chromium misses media after 5 s or so; an idle WebSocket alone would be missed only after up to 30 s.
    await until(() => person.page.evaluate(() => sluice.publications[0].state === 'reconnecting'), { within: 20_000, what: 'media stopping' });
    assert.equal(await person.recordButton(), 'Stop recording');
    await person.state('reconnecting', 7_000);
    assert.equal(await person.recordButton(), 'Stop recording');
  } finally {
    own.signal('SIGCONT');
  }
  await person.state('connected', 30_000);
  await own.stop();
});

test('the word that the server is away comes back when trying now did not help', async () => {
  const own = await startSluice();
  const { page } = await DemoPage.join(await tab(), own, { name: 'Ann', room: 'away' });
  await own.stop();
  const button = element('retry-now');
  for (let time = 1; time <= 2; time++) {
    await page.waitForSelector(button, { timeout: 15_000 });
    await page.evaluate((selector) => document.querySelector(selector).click(), button);
    assert.equal(await page.$(button), null, `gone with press ${time}`);
  }
});
