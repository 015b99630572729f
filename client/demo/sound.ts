/** What everybody says, played apart from the pictures: a hidden or missing picture must not silence its sound. */

import type { Subscription } from "../src/index.ts";
import { make } from "./dom.ts";
import { loadPrefs } from "./prefs.ts";

/** `setSinkId` where the browser has it. */
type Sink = HTMLAudioElement & { setSinkId?(id: string): Promise<void> };

export class Sound {
  readonly #elements = new Map<Subscription, Sink>();
  readonly #container = make("div", { hidden: true });
  #speaker = loadPrefs().speaker;

  /** `blocked`: the browser wants a click or key before it plays anything. */
  constructor(private readonly blocked: () => void) {
    document.body.append(this.#container);
  }

  add(subscription: Subscription): void {
    if (!subscription.stream.info.audio) return;
    const { uid, mid } = subscription.stream;
    const element: Sink = make("audio", { "data-testid": "tile-audio", "data-peer": uid, "data-mid": mid });
    this.#elements.set(subscription, element);
    this.#container.append(element);
    const play = () => {
      element.dataset.mid = subscription.stream.mid;
      element.srcObject = new MediaStream(subscription.media.getAudioTracks());
      void this.#play(element);
    };
    subscription.on("media", play);
    play();
  }

  remove(subscription: Subscription): void {
    const element = this.#elements.get(subscription);
    this.#elements.delete(subscription);
    if (!element) return;
    element.srcObject = null;
    element.remove();
  }

  setSpeaker(deviceId: string): void {
    this.#speaker = deviceId;
    for (const element of this.#elements.values()) void this.#route(element);
  }

  /** Plays all, after the click or key that was wanted. */
  unblock(): void {
    for (const element of this.#elements.values()) void this.#play(element);
  }

  close(): void {
    for (const subscription of [...this.#elements.keys()]) this.remove(subscription);
    this.#container.remove();
  }

  async #play(element: Sink): Promise<void> {
    await this.#route(element);
    try {
      await element.play();
    } catch (error) {
      // Anything else (a source replaced meanwhile) resolves itself.
      if ((error as DOMException).name === "NotAllowedError") this.blocked();
    }
  }

  async #route(element: Sink): Promise<void> {
    if (this.#speaker === undefined) return;
    // A speaker that is gone: the default one plays.
    await element.setSinkId?.(this.#speaker).catch(() => undefined);
  }
}
