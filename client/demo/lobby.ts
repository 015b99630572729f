/** The page before a call: name, room, devices, preview. */

import type { Meter } from "../src/index.ts";
import { type Advice, deviceAdvice, type Wanted } from "./advice.ts";
import { DeviceForm } from "./device-form.ts";
import { byId, make, showSwitch } from "./dom.ts";
import { meterOf } from "./level.ts";
import type { LocalMedia } from "./local-media.ts";
import { cryptoDraw, hueOf, initialsOf, makeRoom, nameOf, tidyName, tidyRoom } from "./names.ts";
import type { PageOptions } from "./page-options.ts";
import { loadPrefs, savePrefs } from "./prefs.ts";

export interface Entry {
  readonly name: string;
  readonly room: string;
}

export class Lobby {
  readonly #root = byId("lobby");
  readonly #form = byId<HTMLFormElement>("join-form");
  readonly #name = byId<HTMLInputElement>("name");
  readonly #room = byId<HTMLInputElement>("room");
  readonly #join = byId<HTMLButtonElement>("join");
  readonly #notice = byId("lobby-notice");
  readonly #video = byId<HTMLVideoElement>("preview-video");
  readonly #devices: DeviceForm;
  #meter: { readonly track: MediaStreamTrack; readonly meter: Meter | undefined; readonly timer: number } | undefined;
  #open = false;

  constructor(
    private readonly media: LocalMedia,
    private readonly options: PageOptions,
    private readonly enter: (entry: Entry) => void,
  ) {
    this.#name.value = options.name ?? loadPrefs().name ?? (options.autojoin ? "Guest" : "");
    if (options.named && options.peer !== undefined) {
      // Others see whom the token names: a field that could be written in would promise something else.
      this.#name.value = nameOf(options.peer);
      this.#name.readOnly = true;
      byId("name-fixed").hidden = false;
    }
    this.#room.value = options.room ?? makeRoom(cryptoDraw);
    if (options.room !== undefined) greet("You are invited", "Check how you look and sound, then go in.");
    // On a phone, however it is held, the button to join must be in sight.
    byId<HTMLDetailsElement>("lobby-fold").open = matchMedia("(min-width: 861px) and (min-height: 600px)").matches;
    this.#devices = new DeviceForm(byId("lobby-devices"), media, () => undefined);
    this.#form.addEventListener("submit", (event) => {
      event.preventDefault();
      this.submit();
    });
    this.#name.addEventListener("input", () => this.#render());
    for (const field of [this.#name, this.#room]) {
      field.addEventListener("input", () => field.setCustomValidity(""));
    }
    byId("lobby-mic").addEventListener("click", () => void media.setMicrophone(!media.microphoneOn));
    byId("lobby-cam").addEventListener("click", () => void media.setCamera(!media.cameraOn));
    media.on("changed", () => this.#render());
    media.on("failed", ({ error, wanted, otherWorks }) => {
      if (!this.#open) return;
      this.#say(deviceAdvice(error, wanted, navigator.userAgent, otherWorks), () => this.#retry(wanted));
    });
  }

  /** Shows the lobby and asks for the devices that are switched on. `advice`: why one is here again. */
  async show(advice?: Advice): Promise<void> {
    this.#open = true;
    this.#root.hidden = false;
    document.title = "Sluice";
    this.#notice.hidden = true;
    if (advice) this.#say(advice);
    this.#render();
    (this.#name.value === "" ? this.#name : this.#join).focus({ preventScroll: true });
    await this.media.open();
    await this.#devices.refresh();
  }

  /** The lobby after a call that was left. */
  async showAgain(): Promise<void> {
    greet("You have left the room", "Go in again whenever you like.");
    await this.show();
  }

  hide(): void {
    this.#open = false;
    this.#root.hidden = true;
    this.#video.srcObject = null;
    this.#setMeter(undefined);
  }

  /** Goes in with what the fields say, if they say enough. */
  submit(): void {
    const { named, peer } = this.options;
    const name = named && peer !== undefined ? nameOf(peer) : tidyName(this.#name.value);
    const room = tidyRoom(this.#room.value);
    if (name === "") return complain(this.#name, "Others see you by this name: use some letters or digits.");
    if (room === "") return complain(this.#room, "Use some letters or digits.");
    if (!named) savePrefs({ name });
    this.enter({ name, room });
  }

  #say(advice: Advice, retry?: () => void): void {
    this.#notice.replaceChildren(make("strong", {}, advice.title), advice.text);
    if (retry) {
      const button = make(
        "button",
        { type: "button", class: "text-button", "data-testid": "retry-devices" },
        "Try again",
      );
      button.addEventListener("click", retry);
      this.#notice.append(button);
    }
    this.#notice.hidden = false;
  }

  #retry(wanted: Wanted): void {
    this.#notice.hidden = true;
    void this.media.retry(wanted);
  }

  #render(): void {
    if (!this.#open) return;
    const { media } = this;
    const { video, audio } = media;
    const shown = (this.#video.srcObject as MediaStream | null)?.getVideoTracks()[0];
    if (shown !== video) this.#video.srcObject = video ? new MediaStream([video]) : null;
    byId("preview").classList.toggle("live", video !== undefined);
    byId("preview").classList.toggle("mirror", media.facing === "user");
    const name = tidyName(this.#name.value);
    const avatar = byId("preview-avatar");
    avatar.textContent = initialsOf(name) || "You";
    avatar.style.setProperty("--hue", String(hueOf(name)));
    showSwitch(byId("lobby-mic"), {
      on: media.microphoneOn,
      busy: media.opening("microphone"),
      icon: media.microphoneOn ? "mic" : "mic-off",
      hint: media.microphoneOn ? "Turn the microphone off" : "Turn the microphone on",
    });
    showSwitch(byId("lobby-cam"), {
      on: media.cameraOn,
      busy: media.opening("camera"),
      icon: media.cameraOn ? "cam" : "cam-off",
      hint: media.cameraOn ? "Turn the camera off" : "Turn the camera on",
    });
    byId("join-how").textContent = how(audio !== undefined && media.microphoneOn, video !== undefined);
    this.#setMeter(media.microphoneOn ? audio : undefined);
  }

  #setMeter(track: MediaStreamTrack | undefined): void {
    if (this.#meter?.track === track) return;
    if (this.#meter) {
      clearInterval(this.#meter.timer);
      this.#meter.meter?.close();
      this.#meter = undefined;
    }
    const bar = byId("meter");
    const fill = byId("meter-fill");
    const draw = (level: number) => {
      fill.style.transform = `scaleX(${level})`;
      bar.setAttribute("aria-valuenow", String(Math.round(level * 100)));
    };
    draw(0);
    const meter = track && meterOf(track);
    bar.classList.toggle("off", meter === undefined);
    if (!track) return;
    // A root over the level: speech at a usual distance fills two thirds.
    const timer = window.setInterval(() => draw(Math.min(1, Math.sqrt((meter?.level ?? 0) * 4))), 80);
    this.#meter = { track, meter, timer };
  }
}

/** Says what is wrong with a field where the browser says such things, and leaves the cursor in it. */
function complain(field: HTMLInputElement, what: string): void {
  field.setCustomValidity(what);
  field.reportValidity();
}

function greet(title: string, lead: string): void {
  byId("lobby-title").textContent = title;
  byId("lobby-lead").textContent = lead;
}

function how(heard: boolean, seen: boolean): string {
  if (heard && seen) return "Others will see and hear you.";
  if (seen) return "Others will see you, but not hear you.";
  if (heard) return "Others will hear you, but not see you.";
  return "You will watch and listen. You can switch on camera and microphone later.";
}
