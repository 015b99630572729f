// Firefox with fake devices, driven over WebDriver BiDi. Must run in the same network namespace as the test.

import { mkdirSync } from 'node:fs';
import puppeteer from 'puppeteer-core';
import { browserPath, watch } from './chromium.mjs';
import { privatePath } from './private-dir.mjs';

/** Starts Firefox, whose fake camera plays its own moving picture and whose fake microphone a tone. */
export async function startFirefox({ width = 800, height = 600, prefs = {} } = {}) {
  const home = privatePath('firefox-home');
  mkdirSync(home, { recursive: true });
  return puppeteer.launch({
    browser: 'firefox',
    executablePath: browserPath('TEST_FIREFOX', ['firefox-esr', 'firefox']),
    headless: true,
    timeout: 90_000,
    protocolTimeout: 60_000,
    acceptInsecureCerts: true,
    handleSIGINT: false,
    handleSIGTERM: false,
    defaultViewport: { width, height },
    // Firefox refuses to run as root with somebody else's home.
    env: { ...process.env, HOME: home },
    extraPrefsFirefox: {
      'media.navigator.streams.fake': true,
      'media.navigator.permission.disabled': true,
      'media.autoplay.default': 0,
      'media.autoplay.blocking_policy': 0,
      'media.getusermedia.insecure.enabled': false,
      'app.normandy.enabled': false,
      'datareporting.policy.dataSubmissionEnabled': false,
      'network.captive-portal-service.enabled': false,
      'network.connectivity-service.enabled': false,
      'toolkit.telemetry.enabled': false,
      ...prefs,
    },
  });
}

/** A Firefox tab with eyes and ears. */
export async function openFirefoxTab(browser, { url } = {}) {
  const page = await browser.newPage();
  await watch(page);
  if (url) await page.goto(url, { waitUntil: 'load', timeout: 30_000 });
  return page;
}
