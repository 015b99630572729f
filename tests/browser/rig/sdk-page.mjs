// Opens pages on the SDK as it is committed (client/dist), and looks at what they show.

import { readFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { FILM } from './sources.mjs';
import { until } from './waiting.mjs';

const read = (relative) => readFileSync(fileURLToPath(new URL(relative, import.meta.url)), 'utf8');

/**
 * Turns `page` into a member of `roomName` called `peer`; the page's origin is the server's. Returns the page's eyes.
 * Options as in sdk-in-page.js.
 */
export async function joinWithSdk(page, server, options) {
  // Any small page of the server's origin will do; this one is not the demo page.
  await page.goto(new URL('/healthz', server.url).href, { waitUntil: 'load', timeout: 30_000 });
  await page.evaluate(read('./sdk-in-page.js'));
  await page.evaluate(
    async (source, settings) => {
      const address = URL.createObjectURL(new Blob([source], { type: 'text/javascript' }));
      const sdk = await import(address);
      URL.revokeObjectURL(address);
      await window.startCall(sdk, settings);
    },
    read('../../../client/dist/sluice-client.js'),
    options,
  );
  return new Eyes(page, options.peer);
}

/** What one page sees and hears of the others. */
export class Eyes {
  constructor(page, peer) {
    this.page = page;
    this.peer = peer;
  }

  /** Waits until `uid`'s film is seen to move: at least `frames` different pictures. */
  async seesMoving(uid, { frames = 5, within = 15_000 } = {}) {
    const numbers = new Set();
    let last;
    await until(
      async () => {
        last = await this.page.evaluate((name) => window.call?.film(name) ?? null, uid);
        if (last) numbers.add(last.frame);
        return numbers.size >= frames;
      },
      { within, every: 1000 / FILM.fps / 2, what: `${this.peer} seeing ${frames} pictures of ${uid} (saw ${[...numbers]})` },
    );
    return last;
  }

  /** From now on it is noted how long `uid`'s film stands still at the most. */
  watchesMoving(uid) {
    return this.page.evaluate((name) => window.call.watchMoving(name), uid);
  }

  /** Milliseconds. */
  sawStandstill(uid) {
    return this.page.evaluate((name) => window.call.standstill(name), uid);
  }

  /**
   * Waits until two tones of `uid` are heard, `left` Hz in the left ear and `right` in the right, each `apart` dB louder
   * than in the other ear.
   */
  async hears(uid, { left, right, apart, within = 15_000 }) {
    const near = (heard, hz) => heard.db > -45 && Math.abs(heard.hz - hz) <= 8;
    let heard;
    await until(
      async () => {
        // At once, so that all of it is heard in the same moment: one without sound would be in both ears alike.
        heard = await this.page.evaluate((name, a, b) => {
          const ears = window.call.ears(name);
          return ears && { ears, low: window.call.level(name, a), high: window.call.level(name, b) };
        }, uid, left, right);
        if (!heard) return false;
        const { ears, low, high } = heard;
        return near(ears[0], left) && near(ears[1], right) && low[0] - low[1] >= apart && high[1] - high[0] >= apart;
      },
      { within, every: 100, what: `${this.peer} hearing ${left} and ${right} Hz of ${uid}, ${apart} dB apart` },
    ).catch((error) => {
      throw new Error(`${error.message}; heard ${JSON.stringify(heard)}`);
    });
  }

  /** The SRTP ciphers of all connections that are up. */
  ciphers() {
    return this.page.evaluate(() => window.call.ciphers());
  }

  /** Who is on the page, sorted. */
  shows() {
    return this.page.evaluate(() => window.call.uids());
  }

  /** Everything the room told the page, in order. */
  told() {
    return this.page.evaluate(() => JSON.parse(JSON.stringify(window.call.seen)));
  }
}
