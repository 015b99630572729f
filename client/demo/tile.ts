/** One tile of the stage: a person with all they send but screens, or one shared screen. */

import type { MediaState } from "../src/index.ts";
import { icon, make } from "./dom.ts";
import { hueOf, initialsOf, nameOf } from "./names.ts";

export interface TileOptions {
  readonly peer: string;
  readonly kind: "person" | "screen";
  readonly self: boolean;
}

/** What a tile shows of its media. */
export interface TileView {
  readonly video: MediaStreamTrack | undefined;
  readonly mirrored: boolean;
  readonly microphone: "on" | "off" | "none";
  readonly state: MediaState | "none";
}

/** Speech has pauses: the ring stays this long after a sound, or it would flicker with each word. */
const RING_FOR_MS = 700;
/** Below it is breath and room. */
const SPEAKING = 0.02;

export class Tile {
  readonly element: HTMLElement;
  readonly #video = make("video", {
    autoplay: true,
    playsinline: true,
    muted: true,
    "data-testid": "tile-video",
  });
  readonly #state = make("span", {});
  readonly #overlay: HTMLElement;
  readonly #microphone: HTMLElement;
  #loudUntil = 0;

  constructor(readonly options: TileOptions) {
    const { peer, kind, self } = options;
    const name = nameOf(peer);
    const label = self
      ? kind === "screen"
        ? "Your screen"
        : "You"
      : kind === "screen"
        ? `${name}’s screen`
        : name;
    this.#video.muted = true;
    this.#overlay = make(
      "div",
      { class: "tile-state", "data-testid": "tile-state", role: "status" },
      make("i", { class: "spinner" }),
      this.#state,
    );
    this.#overlay.hidden = true;
    this.#microphone = make(
      "span",
      { class: "tile-mic", "data-testid": "tile-muted", role: "img" },
      icon("mic-off", "small"),
    );
    this.#microphone.setAttribute("aria-label", "muted");
    this.#microphone.hidden = true;
    const avatar = make("div", { class: "avatar", "aria-hidden": "true" }, initialsOf(name) || "?");
    this.element = make(
      "article",
      { class: `tile ${kind}${self ? " self" : ""}`, "data-testid": `${kind}-tile`, "data-peer": peer },
      avatar,
      this.#video,
      this.#overlay,
      make(
        "div",
        { class: "tile-tag" },
        this.#microphone,
        make("span", { class: "tile-name", "data-testid": "tile-name" }, label),
      ),
    );
    this.element.setAttribute("aria-label", label);
    this.element.style.setProperty("--hue", String(hueOf(peer)));
    this.element.dataset.name = name;
    if (self) this.element.dataset.self = "true";
  }

  show({ video, mirrored, microphone, state }: TileView): void {
    const shown = (this.#video.srcObject as MediaStream | null)?.getVideoTracks()[0];
    if (shown !== video) this.#video.srcObject = video ? new MediaStream([video]) : null;
    this.element.classList.toggle("live", video !== undefined);
    this.element.classList.toggle("mirror", mirrored);
    this.#microphone.hidden = microphone !== "off" || this.options.kind === "screen";
    this.element.dataset.muted = String(microphone === "off");
    this.element.dataset.state = state;
    this.#overlay.hidden = state !== "connecting" && state !== "reconnecting";
    this.#state.textContent = state === "reconnecting" ? "Reconnecting…" : "Connecting…";
  }

  /** Tells how loud the person is now, 0 to 1. */
  hear(level: number, now: number): void {
    if (level > SPEAKING) this.#loudUntil = now + RING_FOR_MS;
    const speaking = now < this.#loudUntil;
    this.element.classList.toggle("speaking", speaking);
    if (speaking) this.element.style.setProperty("--level", Math.min(1, Math.sqrt(level * 3)).toFixed(2));
  }

  place(rect: { x: number; y: number; width: number; height: number }, corner: boolean): void {
    const { style } = this.element;
    style.transform = `translate(${Math.round(rect.x)}px, ${Math.round(rect.y)}px)`;
    style.width = `${Math.floor(rect.width)}px`;
    style.height = `${Math.floor(rect.height)}px`;
    this.element.classList.toggle("corner", corner);
    this.element.classList.toggle("tiny", rect.width < 150);
  }

  remove(): void {
    this.#video.srcObject = null;
    this.element.remove();
  }
}
