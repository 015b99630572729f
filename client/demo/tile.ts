/** One tile of the stage: a person with all they send but screens, or one shared screen. */

import type { MediaState } from "../src/index.ts";
import { announce, icon, make } from "./dom.ts";
import { hueOf, initialsOf, nameOf } from "./names.ts";

export interface TileOptions {
  readonly peer: string;
  readonly kind: "person" | "screen";
  readonly self: boolean;
  /** Asks for its recording, or for its end; absent: nobody here does. */
  readonly record?: (on: boolean) => void;
}

/** What a tile shows of its media. */
export interface TileView {
  readonly video: MediaStreamTrack | undefined;
  readonly mirrored: boolean;
  readonly microphone: "on" | "off" | "none";
  /** What it shows is being recorded. */
  readonly recorded: boolean;
  /** There is something whose recording can begin now. */
  readonly recordable?: boolean;
  /** `refused`: it will not come, and trying again would not change that. */
  readonly state: MediaState | "none" | "refused";
}

/** Speech has pauses: the ring stays this long after a sound, or it would flicker with each word. */
const RING_FOR_MS = 700;
/** Below it is breath and room. */
const SPEAKING = 0.02;

/** What lies over the picture while it is not as it should be. */
const OVERLAY: Partial<Record<TileView["state"], string>> = {
  connecting: "Connecting…",
  reconnecting: "Reconnecting…",
  refused: "Not available",
};

export class Tile {
  readonly element: HTMLElement;
  readonly #video = make("video", {
    autoplay: true,
    playsinline: true,
    muted: true,
    "data-testid": "tile-video",
  });
  readonly #state = make("span", {});
  readonly #enlarge = make("button", { class: "tile-enlarge", "data-testid": "tile-enlarge" }, icon("expand"));
  readonly #overlay: HTMLElement;
  readonly #microphone: HTMLElement;
  readonly #recorded: HTMLElement;
  readonly #record: HTMLButtonElement | undefined;
  /** Of whom it is said that they are recorded, for who hears the page and does not see it. */
  readonly #who: string;
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
    this.#recorded = make(
      "span",
      { class: "tile-rec", "data-testid": "tile-recorded", role: "img" },
      make("i", { class: "rec-dot" }),
      "REC",
    );
    this.#who = self && kind === "person" ? "You are" : `${label} is`;
    this.#recorded.setAttribute("aria-label", `${this.#who} being recorded`);
    this.#recorded.hidden = true;
    const avatar = make("div", { class: "avatar", "aria-hidden": "true" }, initialsOf(name) || "?");
    this.element = make(
      "article",
      { class: `tile ${kind}${self ? " self" : ""}`, "data-testid": `${kind}-tile`, "data-peer": peer },
      avatar,
      this.#video,
      this.#overlay,
      this.#recorded,
      make(
        "div",
        { class: "tile-tag" },
        this.#microphone,
        make("span", { class: "tile-name", "data-testid": "tile-name" }, label),
      ),
    );
    this.element.setAttribute("aria-label", label);
    this.#bindEnlarge(label);
    this.#record = options.record && this.#bindRecord(options.record);
    this.element.style.setProperty("--hue", String(hueOf(peer)));
    this.element.dataset.name = name;
    if (self) this.element.dataset.self = "true";
  }

  show({ video, mirrored, microphone, recorded, recordable = true, state }: TileView): void {
    const shown = (this.#video.srcObject as MediaStream | null)?.getVideoTracks()[0];
    if (shown !== video) this.#video.srcObject = video ? new MediaStream([video]) : null;
    this.element.classList.toggle("live", video !== undefined);
    this.element.classList.toggle("mirror", mirrored);
    this.#microphone.hidden = microphone !== "off" || this.options.kind === "screen";
    this.element.dataset.muted = String(microphone === "off");
    this.element.dataset.state = state;
    if (this.#recorded.hidden === recorded) {
      announce(recorded ? `${this.#who} being recorded` : `${this.#who} not being recorded any more`);
    }
    this.#recorded.hidden = !recorded;
    this.element.dataset.recorded = String(recorded);
    if (this.#record) {
      // What is recorded can be ended, also while the stream reconnects.
      this.#record.hidden = !recordable && !recorded;
      this.#record.textContent = recorded ? "Stop recording" : "Record";
      this.#record.setAttribute("aria-pressed", String(recorded));
    }
    const words = OVERLAY[state];
    this.#overlay.hidden = words === undefined;
    this.#state.textContent = words ?? "";
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

  #bindRecord(record: (on: boolean) => void): HTMLButtonElement {
    const button = make("button", { class: "tile-record", type: "button", "data-testid": "record" }, "Record");
    button.hidden = true;
    button.addEventListener("click", () => record(this.#recorded.hidden === true));
    this.element.append(button);
    return button;
  }

  /** A shared screen is read and not glanced at: it, like any tile, can have the whole screen. */
  #bindEnlarge(label: string): void {
    const { element } = this;
    const show = () => {
      const large = document.fullscreenElement === element;
      const words = large ? "Leave full screen" : `${label} in full screen`;
      this.#enlarge.setAttribute("aria-label", words);
      this.#enlarge.setAttribute("title", large ? words : "Full screen");
      this.#enlarge.querySelector("use")?.setAttribute("href", large ? "#i-shrink" : "#i-expand");
    };
    show();
    element.append(this.#enlarge);
    this.#enlarge.hidden = !document.fullscreenEnabled && !("webkitEnterFullscreen" in this.#video);
    this.#enlarge.addEventListener("click", () => void this.#toggleLarge());
    element.addEventListener("dblclick", (event) => {
      if (!this.#enlarge.contains(event.target as Node)) void this.#toggleLarge();
    });
    element.addEventListener("fullscreenchange", show);
  }

  async #toggleLarge(): Promise<void> {
    const { element } = this;
    try {
      if (document.fullscreenElement === element) await document.exitFullscreen();
      else if (document.fullscreenEnabled) {
        await element.requestFullscreen();
        await this.#turn();
      }
      // iPhones enlarge nothing but a video that plays.
      else (this.#video as HTMLVideoElement & { webkitEnterFullscreen?(): void }).webkitEnterFullscreen?.();
    } catch {
      // The browser will not: the tile stays as large as it is.
    }
  }

  /** A wide picture on an upright phone would gain nothing: the phone's whole length is what it needs. */
  async #turn(): Promise<void> {
    const { videoWidth, videoHeight } = this.#video;
    if (videoWidth <= videoHeight || !matchMedia("(pointer: coarse)").matches) return;
    await (screen.orientation as ScreenOrientation & { lock?(to: string): Promise<void> }).lock?.("landscape");
  }

  remove(): void {
    this.#video.srcObject = null;
    this.element.remove();
  }
}
