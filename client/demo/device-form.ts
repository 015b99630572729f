/** The choice of camera, microphone and speaker. */

import { listDevices } from "../src/index.ts";
import { make } from "./dom.ts";
import type { LocalMedia } from "./local-media.ts";
import { loadPrefs, savePrefs } from "./prefs.ts";

type Kind = "camera" | "microphone" | "speaker";

const KINDS: Record<
  Kind,
  { readonly type: MediaDeviceKind; readonly label: string; readonly testid: string }
> = {
  camera: { type: "videoinput", label: "Camera", testid: "camera-select" },
  microphone: { type: "audioinput", label: "Microphone", testid: "mic-select" },
  speaker: { type: "audiooutput", label: "Speaker", testid: "speaker-select" },
};

export class DeviceForm {
  readonly #selects = new Map<Kind, HTMLSelectElement>();

  constructor(
    private readonly container: HTMLElement,
    private readonly media: LocalMedia,
    private readonly speakerChosen: (deviceId: string) => void,
    /** Ends it: nothing it listens to may find it again. */
    private readonly signal?: AbortSignal,
  ) {
    const refresh = () => void this.refresh();
    const off = media.on("changed", refresh);
    signal?.addEventListener("abort", off);
    navigator.mediaDevices?.addEventListener("devicechange", refresh, signal && { signal });
  }

  /** Lists what there is now. Kinds of which there is no choice to make are not shown. */
  async refresh(): Promise<void> {
    if (!navigator.mediaDevices) return;
    const devices = await listDevices();
    if (this.signal?.aborted) return;
    for (const kind of Object.keys(KINDS) as Kind[]) {
      // Without permission a browser gives entries without ids: nothing to choose from.
      const found = devices.filter((device) => device.kind === KINDS[kind].type && device.deviceId !== "");
      const wanted = kind !== "speaker" || "setSinkId" in HTMLMediaElement.prototype;
      if (found.length > 0 && wanted) this.#show(kind, found);
      else this.#hide(kind);
    }
  }

  #show(kind: Kind, devices: readonly MediaDeviceInfo[]): void {
    const select = this.#selects.get(kind) ?? this.#add(kind);
    const chosen = this.#current(kind);
    select.replaceChildren(
      ...devices.map((device, index) => {
        const label = device.label || `${KINDS[kind].label} ${index + 1}`;
        return make("option", { value: device.deviceId, selected: device.deviceId === chosen }, label);
      }),
    );
  }

  #add(kind: Kind): HTMLSelectElement {
    const { label, testid } = KINDS[kind];
    const select = make("select", { "data-testid": testid });
    select.addEventListener("change", () => this.#chosen(kind, select.value));
    this.container.append(make("label", { class: "field" }, make("span", {}, label), select));
    this.#selects.set(kind, select);
    return select;
  }

  #hide(kind: Kind): void {
    this.#selects.get(kind)?.parentElement?.remove();
    this.#selects.delete(kind);
  }

  #current(kind: Kind): string | undefined {
    const track = kind === "camera" ? this.media.video : kind === "microphone" ? this.media.audio : undefined;
    return track?.getSettings().deviceId ?? loadPrefs()[kind];
  }

  #chosen(kind: Kind, deviceId: string): void {
    if (kind !== "speaker") {
      void this.media.choose(kind, deviceId);
      return;
    }
    savePrefs({ speaker: deviceId });
    this.speakerChosen(deviceId);
  }
}
