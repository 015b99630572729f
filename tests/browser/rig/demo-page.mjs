// The demo page as a person uses it: fields, buttons and tiles, by their test ids.

import { fileURLToPath } from 'node:url';
import { FILM } from './sources.mjs';
import { until } from './waiting.mjs';

/** Where pictures of pages are left. */
export const PICTURES = fileURLToPath(new URL('../../../target/test-results/', import.meta.url));

const byTestId = (id) => `[data-testid="${id}"]`;

export class DemoPage {
  constructor(page, name) {
    this.page = page;
    this.name = name;
  }

  /**
   * Opens the lobby of `room`, waits for the preview (`camera` false: for what the page says instead), types a name and
   * joins. `token`: access token, if one is needed.
   */
  static async join(page, server, { name, room, token, camera = true }) {
    const person = new DemoPage(page, name);
    const url = new URL(server.url);
    url.searchParams.set('room', room);
    if (token) url.searchParams.set('token', token);
    await page.goto(url.href, { waitUntil: 'load', timeout: 30_000 });
    if (camera) {
      await until(() => page.evaluate((selector) => rig.picture(document.querySelector(selector)), byTestId('preview-video')), { what: `${name}'s preview` });
    } else {
      person.notice = await until(() => page.evaluate((selector) => {
        const notice = document.querySelector(selector);
        return !notice.hidden && notice.textContent;
      }, byTestId('notice')), { what: `what the page tells ${name}` });
    }
    await page.locator(byTestId('name-input')).fill(name);
    await person.click('join-button');
    await person.state('connected');
    return person;
  }

  async click(id) {
    await this.page.locator(byTestId(id)).setTimeout(10_000).click();
  }

  /** Waits for the connection's state as the page shows it. */
  async state(wanted, within = 15_000) {
    await until(() => this.page.evaluate((selector) => document.querySelector(selector)?.dataset.state, byTestId('connection-state')).then((state) => state === wanted), {
      within, what: `${this.name}'s page saying "${wanted}"`,
    });
  }

  /** What each tile shows: name, kind, own, muted, state. */
  tiles() {
    return this.page.evaluate(() =>
      [...document.querySelectorAll('article.tile')].map((tile) => ({
        name: tile.dataset.name, kind: tile.dataset.testid ?? tile.getAttribute('data-testid'), self: tile.dataset.self === 'true',
        muted: tile.dataset.muted === 'true', state: tile.dataset.state,
        live: tile.classList.contains('live'),
      })),
    );
  }

  /** Whether the mark of a recording is seen on the tile of this person. */
  marksRecording(name) {
    return this.page.evaluate((selector) => document.querySelector(selector).checkVisibility(), `article.tile.person[data-name="${name}"] ${byTestId('tile-recorded')}`);
  }

  /** What the button on one's own tile says; null while there is none. */
  recordButton() {
    return this.page.evaluate((selector) => {
      const button = document.querySelector(selector);
      return button?.checkVisibility() ? button.textContent : null;
    }, `article.tile.person[data-self] ${byTestId('record')}`);
  }

  /** Waits until the tiles of others are those of `names`, no more and no fewer. */
  async showsPeople(names, within = 15_000) {
    const wanted = [...names].sort().join();
    await until(async () => (await this.tiles()).filter(({ kind, self }) => kind === 'person-tile' && !self).map(({ name }) => name).sort().join() === wanted, {
      within, what: `${this.name}'s page showing ${wanted || 'nobody'}`,
    }).catch(async (error) => {
      await this.page.screenshot({ path: `${PICTURES}failed-${this.name}-showing.png` });
      throw new Error(`${error.message}; it showed ${JSON.stringify(await this.tiles())}; it said:\n${this.page.said.slice(-20).join('\n')}`);
    });
  }

  /** Waits until `name`'s tile shows the film, moving; leaves a picture of the page if it never does. */
  async sees(name, { frames = 5, within = 15_000 } = {}) {
    const numbers = new Set();
    await until(async () => {
      const film = await this.page.evaluate((who) => rig.film(document.querySelector(`article.tile.person[data-name="${who}"]:not([data-self]) video`)), name);
      if (film) numbers.add(film.frame);
      return numbers.size >= frames;
    }, { within, every: 1000 / FILM.fps / 2, what: `${this.name} seeing ${name} move` }).catch(async (error) => {
      await this.page.screenshot({ path: `${PICTURES}failed-${this.name}-seeing-${name}.png` });
      throw new Error(`${error.message}; saw the frames ${[...numbers]}; the page said:\n${this.page.said.slice(-20).join('\n')}`);
    });
  }

  /** Waits until `name`'s tile shows `count` different pictures, whatever they are. */
  async seesPictures(name, { count = 10, within = 15_000 } = {}) {
    const pictures = new Set();
    await until(async () => {
      const picture = await this.page.evaluate((who) => rig.picture(document.querySelector(`article.tile.person[data-name="${who}"]:not([data-self]) video`)), name);
      if (picture) pictures.add(picture.join());
      return pictures.size >= count;
    }, { within, what: `${this.name} seeing ${count} pictures of ${name}` });
  }

  /** Waits until sound that is not silence arrives, and the page plays what has sound. */
  async playsSound(within = 15_000) {
    await until(() => this.page.evaluate(async () => {
      const reports = await Promise.all(rig.connections.map((connection) => rig.stats(connection, 'inbound-rtp')));
      const heard = reports.flat().filter((report) => report.kind === 'audio' && report.audioLevel > 0.05);
      const playing = [...document.querySelectorAll('audio, video')].some((element) => !element.muted && !element.paused && element.srcObject?.getAudioTracks().length > 0);
      return heard.length > 0 && playing;
    }), { within, what: `${this.name}'s page playing sound` });
  }

  /** Nothing sticks out sideways, and every control that is shown can be reached without scrolling, those of a tile within it. */
  async layoutFaults() {
    return this.page.evaluate(() => {
      const faults = [];
      const { scrollWidth, clientWidth } = document.documentElement;
      if (scrollWidth > clientWidth) faults.push(`the page is ${scrollWidth} wide in a window of ${clientWidth}`);
      for (const element of document.querySelectorAll('button, input, textarea, article.tile')) {
        const { left, top, right, bottom, width, height } = element.getBoundingClientRect();
        if (width === 0 || height === 0) continue;
        const name = element.dataset.testid ?? element.getAttribute('data-testid') ?? element.id ?? element.tagName;
        if (left < -0.5 || top < -0.5 || right > innerWidth + 0.5 || bottom > innerHeight + 0.5) {
          faults.push(`${name} is at ${[left, top, right, bottom].map(Math.round)} in a window of ${innerWidth}×${innerHeight}`);
        }
        const tile = element.closest('article.tile')?.getBoundingClientRect();
        if (tile && (left < tile.left - 0.5 || top < tile.top - 0.5 || right > tile.right + 0.5 || bottom > tile.bottom + 0.5)) {
          faults.push(`${name} is cut off by its tile`);
        }
      }
      return faults;
    });
  }
}
