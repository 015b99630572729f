/** One's own camera and microphone: open or not, on or off, which device. Lobby and call share it. */

import { type Clock, systemClock } from "../src/clock.ts";
import { Emitter } from "../src/emitter.ts";
import {
  type CameraOptions,
  type MicrophoneOptions,
  openDevices,
  SluiceError,
} from "../src/index.ts";
import type { Wanted } from "./advice.ts";
import { loadPrefs, savePrefs } from "./prefs.ts";

/** A device could not be had. */
export interface DeviceFailure {
  readonly error: SluiceError;
  readonly wanted: Wanted;
  /** The other of the two is there: one can join with it. */
  readonly otherWorks: boolean;
}

export interface LocalMediaEvents {
  /** Tracks or switches are others than before. */
  changed: undefined;
  failed: DeviceFailure;
}

type Device = "camera" | "microphone";

/** A device that is lost sooner after it was opened does not hold: opening another would go round and round. */
const HOLDS_MS = 2_000;

/** Of two devices asked for at once, one may be had alone after these. */
const ASK_ALONE_AFTER = new Set(["no_device", "device_busy", "permission_denied"]);

export class LocalMedia extends Emitter<LocalMediaEvents> {
  audio: MediaStreamTrack | undefined;
  video: MediaStreamTrack | undefined;
  microphoneOn: boolean;
  cameraOn: boolean;
  facing: "user" | "environment" = "user";
  /** A phone's camera was turned round: which way it looks counts more than the device of another day. */
  #flipped = false;
  /** Openings, one after the other: two at once would each bring a track, and only one of them would ever be stopped. */
  #work: Promise<void> = Promise.resolve();
  /** Counts choices of each device: what was opened for an older one is not wanted any more. */
  readonly #choices: Record<Device, number> = { camera: 0, microphone: 0 };
  readonly #failures = new Map<Device, SluiceError>();
  /** When each device was last opened. */
  readonly #openedAt: Record<Device, number> = { camera: 0, microphone: 0 };

  constructor(
    initial: { audio: boolean | undefined; video: boolean | undefined },
    private readonly clock: Clock = systemClock,
  ) {
    super();
    const prefs = loadPrefs();
    this.microphoneOn = initial.audio ?? prefs.microphoneOn ?? true;
    this.cameraOn = initial.video ?? prefs.cameraOn ?? true;
  }

  /** What was wanted and could not be had, until it is had or given up. */
  get failure(): DeviceFailure | undefined {
    const camera = this.#failures.get("camera");
    const microphone = this.#failures.get("microphone");
    if (camera && microphone) return this.#failureOf("camera and microphone", camera);
    if (camera) return this.#failureOf("camera", camera);
    return microphone && this.#failureOf("microphone", microphone);
  }

  /** It is switched on and being opened. */
  opening(device: Device): boolean {
    return this.#isOn(device) && !this.#track(device);
  }

  /** Something of it can reach others: it is on, it is open, and the system lets the page have it at present. */
  sends(device: Device): boolean {
    const track = this.#track(device);
    return this.#isOn(device) && track !== undefined && !track.muted;
  }

  /** Opens what is switched on and not open yet, with one question to the user; of two, one may succeed. */
  open(): Promise<void> {
    this.#work = this.#work.then(() => this.#open());
    return this.#work;
  }

  /** Tries again to have what could not be had. */
  async retry(wanted: Wanted): Promise<void> {
    if (wanted !== "microphone") this.cameraOn = true;
    if (wanted !== "camera") this.microphoneOn = true;
    this.emit("changed", undefined);
    await this.open();
  }

  /** Switches the microphone. Once open it stays open while off, so that it is on again at once. */
  async setMicrophone(on: boolean): Promise<void> {
    this.microphoneOn = on;
    savePrefs({ microphoneOn: on });
    this.#failures.delete("microphone");
    if (this.audio) this.audio.enabled = on;
    this.emit("changed", undefined);
    await this.open();
  }

  /** Switches the camera. It is closed while off: its light goes out. */
  async setCamera(on: boolean): Promise<void> {
    this.cameraOn = on;
    savePrefs({ cameraOn: on });
    this.#failures.delete("camera");
    if (!on) this.#drop("camera");
    this.emit("changed", undefined);
    await this.open();
  }

  /** Takes another device from now on. */
  async choose(device: Device, deviceId: string): Promise<void> {
    savePrefs({ [device]: deviceId });
    if (device === "camera") this.#flipped = false;
    await this.#reopen(device);
  }

  /** A phone's other camera. */
  async flip(): Promise<void> {
    this.facing = this.facing === "user" ? "environment" : "user";
    this.#flipped = true;
    await this.#reopen("camera");
  }

  /** A phone cannot open a second camera beside the first: the old one goes before the new one comes. */
  async #reopen(device: Device): Promise<void> {
    this.#choices[device] += 1;
    this.#drop(device);
    await this.open();
  }

  async #open(): Promise<void> {
    const wanted = (["microphone", "camera"] as const).filter((device) => this.opening(device));
    if (wanted.length === 0) return;
    const [first] = wanted;
    if (wanted.length === 2) await this.#openBoth();
    else if (first) this.#report([await this.#openOne(first)]);
    this.emit("changed", undefined);
  }

  async #openBoth(): Promise<void> {
    const choices = { ...this.#choices };
    let error: SluiceError;
    try {
      const { audio, video } = await openDevices(this.#options(["microphone", "camera"]));
      this.#take("microphone", audio, choices.microphone);
      this.#take("camera", video, choices.camera);
      return;
    } catch (thrown) {
      error = SluiceError.from(thrown);
    }
    const failed = (device: Device) => ({ device, error, choice: choices[device] });
    if (!ASK_ALONE_AFTER.has(error.name)) {
      this.#report([failed("microphone"), failed("camera")]);
      return;
    }
    // What is missing or busy says nothing about the other; what is blocked may be blocked alone.
    const refused = error.name === "permission_denied";
    const stateOf = (device: Device) => (refused ? permissionOf(device) : "granted");
    const [microphone, camera] = [await stateOf("microphone"), await stateOf("camera")];
    const askMicrophone = microphone === "granted" || microphone === "prompt";
    const heard = askMicrophone ? await this.#openOne("microphone") : failed("microphone");
    // Whoever closed the question without an answer is asked once more, for the microphone, and not a third time.
    const askCamera = camera === "granted" || (camera === "prompt" && microphone === "denied");
    const seen = askCamera ? await this.#openOne("camera") : failed("camera");
    this.#report([heard, seen]);
  }

  async #openOne(device: Device): Promise<Failed | undefined> {
    const choice = this.#choices[device];
    if (!this.opening(device)) return undefined;
    try {
      const { audio, video } = await openDevices(this.#options([device]));
      this.#take(device, device === "camera" ? video : audio, choice);
      return undefined;
    } catch (thrown) {
      return { device, error: SluiceError.from(thrown), choice };
    }
  }

  /** Tells what failed, unless it is not wanted any more. */
  #report(outcomes: readonly (Failed | undefined)[]): void {
    const failed = outcomes.filter(
      (outcome) =>
        outcome && this.opening(outcome.device) && outcome.choice === this.#choices[outcome.device],
    ) as Failed[];
    for (const { device, error } of failed) {
      this.#failures.set(device, error);
      this.#switchOff(device);
    }
    const [one, other] = failed;
    if (one && other && one.error.name === other.error.name) {
      this.emit("failed", this.#failureOf("camera and microphone", one.error));
      return;
    }
    for (const { device, error } of failed) this.emit("failed", this.#failureOf(device, error));
  }

  #failureOf(wanted: Wanted, error: SluiceError): DeviceFailure {
    const otherWorks = wanted === "camera" ? this.audio !== undefined : this.video !== undefined;
    return { error, wanted, otherWorks: otherWorks && wanted !== "camera and microphone" };
  }

  /** A device was opened: it is kept if its switch is still on and no other was chosen meanwhile, and closed otherwise. */
  #take(device: Device, track: MediaStreamTrack | undefined, choice: number): void {
    if (!track) return;
    if (!this.opening(device) || choice !== this.#choices[device]) {
      track.stop();
      return;
    }
    this.#failures.delete(device);
    if (device === "camera") this.video = track;
    else this.audio = track;
    this.#openedAt[device] = this.clock.now();
    track.addEventListener("ended", () => this.#lost(device, track));
    // The system takes it away for a while: a phone's page in the background, a call that comes in.
    for (const type of ["mute", "unmute"]) {
      track.addEventListener(type, () => {
        if (track === this.#track(device)) this.emit("changed", undefined);
      });
    }
  }

  /** Unplugged, or taken away by the system for good. Another device may be there: a laptop's own after its headset. */
  #lost(device: Device, track: MediaStreamTrack): void {
    if (track !== this.#track(device)) return;
    this.#drop(device);
    if (this.clock.now() - this.#openedAt[device] < HOLDS_MS) {
      const error = SluiceError.local("no_device", "the device was unplugged");
      this.#report([{ device, error, choice: this.#choices[device] }]);
    }
    this.emit("changed", undefined);
    void this.open();
  }

  #drop(device: Device): void {
    const track = this.#track(device);
    if (device === "camera") this.video = undefined;
    else this.audio = undefined;
    track?.stop();
  }

  #track(device: Device): MediaStreamTrack | undefined {
    return device === "camera" ? this.video : this.audio;
  }

  #isOn(device: Device): boolean {
    return device === "camera" ? this.cameraOn : this.microphoneOn;
  }

  #switchOff(device: Device): void {
    if (device === "camera") this.cameraOn = false;
    else this.microphoneOn = false;
  }

  #options(devices: readonly Device[]): { audio: MicrophoneOptions | false; video: CameraOptions | false } {
    const { camera, microphone } = loadPrefs();
    const byDevice = camera !== undefined && !this.#flipped;
    return {
      audio: devices.includes("microphone") && (microphone === undefined ? {} : { deviceId: microphone }),
      video: devices.includes("camera") && (byDevice ? { deviceId: camera } : { facing: this.facing }),
    };
  }
}

interface Failed {
  readonly device: Device;
  readonly error: SluiceError;
  readonly choice: number;
}

async function permissionOf(device: Device): Promise<PermissionState | "unknown"> {
  try {
    return (await navigator.permissions.query({ name: device as PermissionName })).state;
  } catch {
    // Not every browser tells.
    return "unknown";
  }
}
