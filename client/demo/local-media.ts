/** One's own camera and microphone: open or not, on or off, which device. Lobby and call share it. */

import { Emitter } from "../src/emitter.ts";
import { openCamera, openDevices, openMicrophone, SluiceError } from "../src/index.ts";
import type { Wanted } from "./advice.ts";
import { loadPrefs, savePrefs } from "./prefs.ts";

export interface LocalMediaEvents {
  /** Tracks or switches are others than before. */
  changed: undefined;
  /** A device could not be had. */
  failed: { readonly error: SluiceError; readonly wanted: Wanted };
}

export class LocalMedia extends Emitter<LocalMediaEvents> {
  audio: MediaStreamTrack | undefined;
  video: MediaStreamTrack | undefined;
  microphoneOn: boolean;
  cameraOn: boolean;
  facing: "user" | "environment" = "user";

  constructor(initial: { audio: boolean | undefined; video: boolean | undefined }) {
    super();
    const prefs = loadPrefs();
    this.microphoneOn = initial.audio ?? prefs.microphoneOn ?? true;
    this.cameraOn = initial.video ?? prefs.cameraOn ?? true;
  }

  /** Opens what is switched on and not open yet, with one question to the user; of two, one may succeed. */
  async open(): Promise<void> {
    const audio = this.microphoneOn && !this.audio;
    const video = this.cameraOn && !this.video;
    if (!audio && !video) return;
    try {
      const tracks = await openDevices({
        audio: audio && this.#microphoneOptions(),
        video: video && this.#cameraOptions(),
      });
      this.#take(tracks.audio, tracks.video);
    } catch (thrown) {
      const error = SluiceError.from(thrown);
      // A missing or busy device says nothing about the other: ask for each alone.
      if (
        audio &&
        video &&
        (error.name === "no_device" || error.name === "device_busy" || error.name === "permission_denied")
      ) {
        await this.#openAlone("microphone", error.name === "permission_denied");
        await this.#openAlone("camera", error.name === "permission_denied");
        this.emit("failed", { error, wanted: this.#missing() });
      } else {
        this.#fail(error, audio && video ? "camera and microphone" : video ? "camera" : "microphone");
      }
    }
    this.emit("changed", undefined);
  }

  /** Tries again to have what could not be had. */
  async retry(wanted: Wanted): Promise<void> {
    if (wanted !== "microphone") this.cameraOn = true;
    if (wanted !== "camera") this.microphoneOn = true;
    await this.open();
  }

  /** Switches the microphone. It stays open while off, so that it is on again at once. */
  async setMicrophone(on: boolean): Promise<void> {
    this.microphoneOn = on;
    savePrefs({ microphoneOn: on });
    if (this.audio) this.audio.enabled = on;
    else if (on) await this.#openAlone("microphone", false, true);
    this.emit("changed", undefined);
  }

  /** Switches the camera. It is closed while off: its light goes out. */
  async setCamera(on: boolean): Promise<void> {
    this.cameraOn = on;
    savePrefs({ cameraOn: on });
    if (!on) this.#dropVideo();
    else if (!this.video) await this.#openAlone("camera", false, true);
    this.emit("changed", undefined);
  }

  /** Takes another device from now on. */
  async choose(kind: "camera" | "microphone", deviceId: string): Promise<void> {
    savePrefs({ [kind]: deviceId });
    if (kind === "camera") {
      if (!this.cameraOn) return;
      this.#dropVideo();
    } else {
      if (!this.audio) return;
      this.#dropAudio();
    }
    await this.#openAlone(kind, false, true);
    this.emit("changed", undefined);
  }

  /** A phone's other camera. */
  async flip(): Promise<void> {
    this.facing = this.facing === "user" ? "environment" : "user";
    this.#dropVideo();
    try {
      this.#take(undefined, await openCamera({ facing: this.facing }));
    } catch (thrown) {
      this.#fail(SluiceError.from(thrown), "camera");
    }
    this.emit("changed", undefined);
  }

  close(): void {
    this.#dropAudio();
    this.#dropVideo();
    this.emit("changed", undefined);
  }

  async #openAlone(wanted: "camera" | "microphone", quietly: boolean, report = false): Promise<void> {
    // A refusal of both may be of one only; asking again makes no new prompt where it was remembered.
    if (quietly && !(await isGranted(wanted))) return;
    try {
      if (wanted === "camera") this.#take(undefined, await openCamera(this.#cameraOptions()));
      else this.#take(await openMicrophone(this.#microphoneOptions()), undefined);
    } catch (thrown) {
      if (report) this.#fail(SluiceError.from(thrown), wanted);
    }
  }

  #fail(error: SluiceError, wanted: Wanted): void {
    if (wanted !== "microphone") this.cameraOn = false;
    if (wanted !== "camera") this.microphoneOn = false;
    this.emit("failed", { error, wanted });
  }

  #missing(): Wanted {
    if (!this.video) this.cameraOn = false;
    if (!this.audio) this.microphoneOn = false;
    if (!this.video && !this.audio) return "camera and microphone";
    return this.video ? "microphone" : "camera";
  }

  #take(audio: MediaStreamTrack | undefined, video: MediaStreamTrack | undefined): void {
    if (audio) {
      this.audio = audio;
      audio.enabled = this.microphoneOn;
      audio.addEventListener("ended", () => this.#lost(audio));
    }
    if (video) {
      this.video = video;
      video.addEventListener("ended", () => this.#lost(video));
    }
  }

  /** Unplugged, or taken away by the system. */
  #lost(track: MediaStreamTrack): void {
    const wanted = track === this.audio ? "microphone" : track === this.video ? "camera" : undefined;
    if (!wanted) return;
    if (wanted === "camera") this.#dropVideo();
    else this.#dropAudio();
    this.#fail(SluiceError.local("no_device", "the device was unplugged"), wanted);
    this.emit("changed", undefined);
  }

  #dropAudio(): void {
    const track = this.audio;
    this.audio = undefined;
    track?.stop();
  }

  #dropVideo(): void {
    const track = this.video;
    this.video = undefined;
    track?.stop();
  }

  #cameraOptions() {
    const { camera } = loadPrefs();
    return camera === undefined ? { facing: this.facing } : { deviceId: camera };
  }

  #microphoneOptions() {
    const { microphone } = loadPrefs();
    return microphone === undefined ? {} : { deviceId: microphone };
  }
}

async function isGranted(wanted: "camera" | "microphone"): Promise<boolean> {
  try {
    return (await navigator.permissions.query({ name: wanted as PermissionName })).state === "granted";
  } catch {
    return false;
  }
}
