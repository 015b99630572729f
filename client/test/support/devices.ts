/** Cameras, microphones and screens that a test hands out when it likes, and watches being stopped. */

export class FakeTrack extends EventTarget {
  readyState: "live" | "ended" = "live";
  enabled = true;
  contentHint = "";
  muted = false;

  constructor(
    readonly kind: "audio" | "video",
    readonly deviceId = "default",
  ) {
    super();
  }

  stop(): void {
    this.readyState = "ended";
  }

  /** Unplugged, or stopped by the browser: only then is there an event. */
  unplug(): void {
    this.readyState = "ended";
    this.dispatchEvent(new Event("ended"));
  }

  /** The system takes the device away for a while, or gives it back. */
  setMuted(muted: boolean): void {
    this.muted = muted;
    this.dispatchEvent(new Event(muted ? "mute" : "unmute"));
  }

  getSettings(): MediaTrackSettings {
    return { deviceId: this.deviceId };
  }
}

interface Question {
  readonly kind: "user" | "display";
  readonly constraints: MediaStreamConstraints;
  /** The person allows it, and the devices open. */
  allow(): Promise<void>;
  refuse(name: string): Promise<void>;
}

/** A browser's `navigator` with devices. Questions wait until they are answered; `answers` does it at once. */
export class FakeDevices {
  readonly questions: Question[] = [];
  readonly tracks: FakeTrack[] = [];
  readonly listeners = new Set<unknown>();
  permissions: Partial<Record<string, PermissionState>> = {};
  /** Answers at once: `undefined` allows, a name refuses with that error. */
  answers: ((constraints: MediaStreamConstraints) => string | undefined) | undefined;
  devices: { kind: string; deviceId: string; label: string }[] = [];

  /** Puts them into this process's `navigator`. */
  install(): this {
    const mediaDevices = {
      getUserMedia: (constraints: MediaStreamConstraints) => this.#ask("user", constraints),
      getDisplayMedia: (constraints: MediaStreamConstraints) => this.#ask("display", constraints),
      enumerateDevices: async () => this.devices,
      addEventListener: (_: string, listener: unknown, options?: { signal?: AbortSignal }) => {
        this.listeners.add(listener);
        options?.signal?.addEventListener("abort", () => this.listeners.delete(listener));
      },
    };
    const query = async ({ name }: { name: string }) => {
      const state = this.permissions[name];
      if (!state) throw new TypeError("not a permission this browser knows");
      return { state };
    };
    const value = { mediaDevices, permissions: { query }, userAgent: "test" };
    Object.defineProperty(globalThis, "navigator", { value, configurable: true });
    this.remember({});
    return this;
  }

  /** What the page chose on another day. */
  remember(prefs: { camera?: string; microphone?: string }): void {
    const value = { getItem: () => JSON.stringify(prefs), setItem: () => undefined };
    Object.defineProperty(globalThis, "localStorage", { value, configurable: true });
  }

  /** Kinds of the tracks that still capture. */
  get live(): string[] {
    return this.tracks.filter(({ readyState }) => readyState === "live").map(({ kind }) => kind);
  }

  #ask(kind: Question["kind"], constraints: MediaStreamConstraints): Promise<MediaStream> {
    return new Promise((resolve, reject) => {
      const refuse = (name: string) => reject(Object.assign(new Error(name), { name }));
      const allow = () => resolve(this.#open(constraints));
      const answer = this.answers?.(constraints);
      if (this.answers && answer === undefined) allow();
      else if (answer !== undefined) refuse(answer);
      this.questions.push({
        kind,
        constraints,
        allow: async () => {
          allow();
          await settled();
        },
        refuse: async (name) => {
          refuse(name);
          await settled();
        },
      });
    });
  }

  #open(constraints: MediaStreamConstraints): MediaStream {
    const tracks = (["audio", "video"] as const)
      .filter((kind) => constraints[kind])
      .map((kind) => new FakeTrack(kind, idOf(constraints[kind])));
    this.tracks.push(...tracks);
    const of = (kind: string) => tracks.filter((track) => track.kind === kind);
    return { getAudioTracks: () => of("audio"), getVideoTracks: () => of("video") } as unknown as MediaStream;
  }
}

function idOf(constraints: boolean | MediaTrackConstraints | undefined): string {
  const id =
    typeof constraints === "object" ? (constraints.deviceId as ConstrainDOMStringParameters | undefined) : undefined;
  return String(id?.exact ?? id?.ideal ?? "default");
}

/** Whatever follows from an answer has happened. */
export function settled(): Promise<void> {
  return new Promise((resolve) => setImmediate(resolve));
}
