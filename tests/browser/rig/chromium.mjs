// Chromium with fake devices, driven over a pipe (no debugging port, so it may live in another network namespace).

import { accessSync, constants, existsSync, readFileSync, realpathSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import puppeteer from 'puppeteer-core';
import { privatePath } from './private-dir.mjs';
import { writeFilm, writeTones } from './sources.mjs';

const NAMES = ['chromium', 'google-chrome-stable', 'google-chrome', 'chromium-browser'];
const IN_PAGE = readFileSync(fileURLToPath(new URL('./in-page.js', import.meta.url)), 'utf8');

/** The browser's path: `TEST_CHROMIUM`, or the first on the PATH that is no snap, and not Ubuntu's stub for one. */
export function chromiumPath() {
  return browserPath('TEST_CHROMIUM', NAMES);
}

export function browserPath(variable, names) {
  if (process.env[variable]) return process.env[variable];
  for (const name of names) {
    for (const directory of (process.env.PATH ?? '').split(':')) {
      const path = join(directory, name);
      try {
        accessSync(path, constants.X_OK);
      } catch {
        continue;
      }
      if (readFileSync(path).subarray(0, 4096).toString('latin1').includes('/snap/bin/')) continue;
      // What is in /snap/bin is a link to the program `snap`.
      if (/^\/snap\/|\/snap$/.test(realpathSync(path))) continue;
      return path;
    }
  }
  throw new Error(`no ${names[0]} found: install it, or name one in ${variable}`);
}

/**
 * Starts Chromium. Its camera plays the numbered film in the colour `(u, v)`, its microphone `left` and `right` Hz; with
 * `devices` false it has neither, with `consent` false the person says no when asked for them.
 */
export async function startChromium({ left = 440, right = 880, u = 90, v = 200, devices = true, consent = true, width = 800, height = 600 } = {}) {
  const tones = once(`tones-${left}-${right}.wav`, (path) => writeTones(path, { left, right }));
  const film = once(`film-${u}-${v}.y4m`, (path) => writeFilm(path, { u, v }));
  const browser = await puppeteer.launch({
    browser: 'chrome',
    executablePath: chromiumPath(),
    pipe: true,
    headless: true,
    timeout: 60_000,
    protocolTimeout: 180_000,
    acceptInsecureCerts: true,
    handleSIGINT: false,
    handleSIGTERM: false,
    defaultViewport: { width, height },
    env: { ...process.env, HOME: privatePath('.') },
    args: [
      ...(process.getuid() === 0 ? ['--no-sandbox'] : []),
      `--use-fake-ui-for-media-stream${consent ? '' : '=deny'}`,
      ...(devices
        ? ['--use-fake-device-for-media-stream', `--use-file-for-fake-audio-capture=${tones}`, `--use-file-for-fake-video-capture=${film}`]
        : []),
      '--autoplay-policy=no-user-gesture-required',
      '--allow-loopback-in-peer-connection',
      '--auto-select-desktop-capture-source=Entire screen',
      '--disable-background-timer-throttling',
      '--disable-backgrounding-occluded-windows',
      '--disable-renderer-backgrounding',
      '--disable-dev-shm-usage',
      '--disable-component-update',
      '--disable-sync',
      '--no-first-run',
      '--mute-audio',
    ],
  });
  return browser;
}

/** A file of this process, written the first time only: a browser that reads it meanwhile would lose its camera. */
function once(name, write) {
  const path = privatePath(name);
  if (!existsSync(path)) write(path);
  return path;
}

/** A tab of its own, in a browser context of its own: nothing is shared with other tabs but the process. */
export async function openTab(browser, { url, viewport } = {}) {
  const context = await browser.createBrowserContext();
  const page = await context.newPage();
  if (viewport) await page.setViewport(viewport);
  await watch(page);
  if (url) await page.goto(url, { waitUntil: 'load', timeout: 30_000 });
  return page;
}

/** Gives a page its eyes and ears and keeps what it says on its console, for failures. */
export async function watch(page) {
  await page.evaluateOnNewDocument(IN_PAGE);
  page.said = [];
  const keep = (line) => {
    page.said.push(line);
    if (page.said.length > 400) page.said.shift();
    if (process.env.TEST_TRACE) console.error(`[page] ${line}`);
  };
  page.on('console', (message) => keep(`${message.type()}: ${message.text()}`));
  page.on('pageerror', (error) => keep(`pageerror: ${error.stack ?? error}`));
  page.on('requestfailed', (request) => keep(`requestfailed: ${request.url()} ${request.failure()?.errorText}`));
}
