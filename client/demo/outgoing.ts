/** Keeps what is published in step with one's own camera and microphone, and shares screens. */

import { openScreen, type Publication, type Room, SluiceError } from "../src/index.ts";
import type { LocalMedia } from "./local-media.ts";

export interface OutgoingEvents {
  /** A publication came, went or changed its state. */
  changed(): void;
  publishFailed(error: SluiceError): void;
  screenFailed(error: SluiceError): void;
}

export class Outgoing {
  #person: Publication | undefined;
  #screen: Publication | undefined;
  #work: Promise<void> = Promise.resolve();
  #closed = false;
  readonly #off: () => void;

  constructor(
    private readonly room: Room,
    private readonly media: LocalMedia,
    private readonly events: OutgoingEvents,
  ) {
    this.#off = media.on("changed", () => this.sync());
  }

  get person(): Publication | undefined {
    return this.#person;
  }

  get screen(): Publication | undefined {
    return this.#screen;
  }

  /** Publishes, replaces tracks, mutes: whatever makes the stream what the switches say. One step after the other. */
  sync(): void {
    this.#work = this.#work
      .then(() => this.#sync())
      .catch((thrown) => {
        if (!this.#closed) this.events.publishFailed(SluiceError.from(thrown));
      });
  }

  async shareScreen(): Promise<void> {
    let captured: Awaited<ReturnType<typeof openScreen>>;
    try {
      captured = await openScreen();
    } catch (thrown) {
      this.events.screenFailed(SluiceError.from(thrown));
      return;
    }
    const { audio, video } = captured;
    if (!video) return;
    try {
      const publication = await this.room.publish({ source: "screen", video, ...(audio ? { audio } : {}) });
      this.#screen = publication;
      // The browser's own "stop sharing".
      video.addEventListener("ended", () => publication.unpublish());
      this.#watch(publication, () => {
        if (this.#screen === publication) this.#screen = undefined;
      });
      // Stopped while it was being published.
      if (video.readyState === "ended" || this.#closed) publication.unpublish();
    } catch (thrown) {
      audio?.stop();
      video.stop();
      if (!this.#closed) this.events.publishFailed(SluiceError.from(thrown));
    }
  }

  stopScreen(): void {
    this.#screen?.unpublish();
  }

  close(): void {
    this.#closed = true;
    this.#off();
  }

  async #sync(): Promise<void> {
    if (this.#closed) return;
    const { audio, video, microphoneOn, cameraOn } = this.media;
    const muted = { audio: !audio || !microphoneOn, video: !video || !cameraOn };
    const publication = this.#person;
    if (!publication) {
      if (audio || video) await this.#publish(muted);
      return;
    }
    for (const [kind, track] of [
      ["audio", audio],
      ["video", video],
    ] as const) {
      if (muted[kind]) await publication.mute(kind);
      if (publication.track(kind) !== (track ?? null)) await publication.replaceTrack(kind, track ?? null);
      if (!muted[kind]) await publication.unmute(kind);
    }
    this.events.changed();
  }

  /** Both parts from the start, even if one has no track yet: switching it on later needs no new connection. */
  async #publish(muted: { audio: boolean; video: boolean }): Promise<void> {
    const { audio = null, video = null } = this.media;
    const publication = await this.room.publish({ source: "camera", audio, video, muted, stopTracks: false });
    this.#person = publication;
    this.#watch(publication, () => {
      if (this.#person === publication) this.#person = undefined;
    });
    // Switches may have moved meanwhile.
    this.sync();
  }

  #watch(publication: Publication, ended: () => void): void {
    publication.on("state", () => this.events.changed());
    publication.on("ended", ({ error }) => {
      ended();
      this.events.changed();
      if (error && !this.#closed) this.events.publishFailed(error);
    });
    this.events.changed();
  }
}
