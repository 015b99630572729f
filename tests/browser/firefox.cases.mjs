// Firefox and Chromium on one machine, sluice on another, joined by a cable (two network namespaces and a veth pair), as
// it is in the world: HTTPS with a certificate, access tokens, media over the cable's addresses.

import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { after, before, test } from 'node:test';
import { openTab, startChromium } from './rig/chromium.mjs';
import { openFirefoxTab, startFirefox } from './rig/firefox.mjs';
import { DemoPage } from './rig/demo-page.mjs';
import { raiseLoopback, secondMachine, sh } from './rig/namespace.mjs';
import { privatePath } from './rig/private-dir.mjs';
import { joinWithSdk } from './rig/sdk-page.mjs';
import { sluicePath, startSluice } from './rig/sluice.mjs';
import { until } from './rig/waiting.mjs';

const SECRET = 'a secret of more than thirty-two bytes, for tests';
const ROOM = 'browsers';

let machine;
let server;
let chromium;
let firefox;

/** A token from the program itself, as its operator would make one. */
function token(peer) {
  const { status, stdout, stderr } = spawnSync(sluicePath(), ['token', '--peer', peer, '--room', ROOM], {
    encoding: 'utf8', timeout: 10_000, env: { ...process.env, SLUICE_AUTH__HS256_SECRET: SECRET },
  });
  assert.equal(status, 0, stderr);
  return stdout.trim();
}

before(async () => {
  raiseLoopback();
  machine = await secondMachine();
  const [cert, key] = [privatePath('cert.pem'), privatePath('key.pem')];
  sh('openssl', [
    'req', '-x509', '-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:P-256', '-nodes', '-days', '2', '-subj', '/CN=sluice',
    '-addext', `subjectAltName=IP:${machine.far}`, '-keyout', key, '-out', cert,
  ]);
  server = await startSluice({
    listen: `${machine.far}:0`,
    inside: machine.inside,
    args: ['--media-ip', machine.far, '--tls-cert', cert, '--tls-key', key],
    env: { SLUICE_AUTH__HS256_SECRET: SECRET },
  });
  [chromium, firefox] = await Promise.all([startChromium(), startFirefox()]);
});
after(async () => {
  await Promise.all([chromium?.close(), firefox?.close()]);
  machine?.stop();
  await server?.stop();
});

test('Firefox and Chromium see and hear each other, in stereo, under AEAD ciphers', async () => {
  const options = (peer) => ({ peer, roomName: ROOM, token: token(peer), stereo: true });
  const fox = await joinWithSdk(await openFirefoxTab(firefox), server, options('fox'));
  const chrome = await joinWithSdk(await openTab(chromium), server, options('chrome'));

  const film = await fox.seesMoving('chrome', { frames: 20 });
  assert.ok(film.colour[0] > 180 && film.colour[2] < 120, `Chromium's film is red: ${film.colour}`);
  await until(async () => {
    const ears = await fox.page.evaluate(() => window.call.recorded('chrome', 2_000, [440, 880]));
    const [left, right] = ears.length === 2 ? ears : [ears[0], ears[0]];
    return left[0] > -45 && right[1] > -45 && left[0] - right[0] > 30 && right[1] - left[1] > 30;
  }, { within: 20_000, what: 'Firefox hearing 440 Hz on the left and 880 Hz on the right' });

  const pictures = new Set();
  await until(async () => {
    const picture = await chrome.page.evaluate(() => window.call.picture('fox'));
    if (picture) pictures.add(picture.join());
    return pictures.size >= 20;
  }, { within: 20_000, what: 'Chromium seeing 20 different pictures of Firefox' });
  // Firefox's fake microphone is a tone of 1 kHz.
  await until(async () => {
    const ears = await chrome.page.evaluate(() => window.call.ears('fox'));
    return ears?.every(({ hz, db }) => Math.abs(hz - 1_000) < 10 && db > -60);
  }, { within: 20_000, what: "Chromium hearing Firefox's tone" });

  for (const who of [fox, chrome]) {
    const ciphers = await who.ciphers();
    assert.equal(ciphers.length, 2, `${who.peer}: ${ciphers}`);
    for (const cipher of ciphers) assert.match(cipher, /AEAD_AES_(128|256)_GCM/, who.peer);
  }
  for (const { page } of [fox, chrome]) await page.close();
});

test('the demo page works in Firefox, with a token in its address', async () => {
  const foxTab = await openFirefoxTab(firefox);
  const chromeTab = await openTab(chromium);
  const fox = await DemoPage.join(foxTab, server, { name: 'Fox', room: ROOM, token: token('Fox') });
  const chrome = await DemoPage.join(chromeTab, server, { name: 'Chrome', room: ROOM, token: token('Chrome') });
  await Promise.all([fox.sees('Chrome', { frames: 10 }), chrome.seesPictures('Fox')]);
  await Promise.all([fox.playsSound(), chrome.playsSound()]);
  await fox.click('leave-button');
  await until(async () => !(await chrome.tiles()).some(({ name }) => name === 'Fox'), { what: "Fox's tile going" });
  for (const page of [foxTab, chromeTab]) {
    assert.deepEqual(page.said.filter((line) => line.startsWith('pageerror')), []);
    await page.close();
  }
});
