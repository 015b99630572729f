/** Keeps what is published in step with one's own camera and microphone, and shares screens. */

import {
  type Captured,
  type MediaState,
  openScreen,
  type Publication,
  type Room,
  SluiceError,
} from "../src/index.ts";
import type { Sent } from "./advice.ts";
import type { LocalMedia } from "./local-media.ts";

export interface OutgoingEvents {
  /** A publication came, went or changed its state. */
  changed(): void;
  publishFailed(error: SluiceError, what: Sent): void;
  /** No screen was picked, or none could be captured. */
  screenFailed(error: SluiceError): void;
}

/** One shared screen, from the question which one to its end: whenever that comes, nothing of it goes on. */
class Share {
  #captured: Captured = { audio: undefined, video: undefined };
  #publication: Publication | undefined;
  #ended = false;

  get audio(): MediaStreamTrack | undefined {
    return this.#captured.audio;
  }

  get video(): MediaStreamTrack | undefined {
    return this.#captured.video;
  }

  get publication(): Publication | undefined {
    return this.#publication;
  }

  get ended(): boolean {
    return this.#ended;
  }

  use(captured: Captured): void {
    this.#captured = captured;
    if (this.#ended) this.end();
  }

  publish(publication: Publication): void {
    this.#publication = publication;
    if (this.#ended) this.end();
  }

  end(): void {
    this.#ended = true;
    this.audio?.stop();
    this.video?.stop();
    this.#publication?.unpublish();
  }
}

export class Outgoing {
  #person: Publication | undefined;
  #share: Share | undefined;
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

  /** The screen that is captured, from when it was picked until sharing ends; its state is what others see of it. */
  get screen():
    | { readonly video: MediaStreamTrack; readonly state: MediaState; readonly publication: Publication | undefined }
    | undefined {
    const video = this.#share?.video;
    const publication = this.#share?.publication;
    return video && { video, publication, state: publication?.state ?? "connecting" };
  }

  /** Asked to share, and not shared yet. */
  get startsScreen(): boolean {
    return this.#share !== undefined && this.#share.publication === undefined;
  }

  /** Publishes, replaces tracks, mutes: whatever makes the stream what the switches say. One step after the other. */
  sync(): void {
    this.#work = this.#work
      .then(() => this.#sync())
      .catch((thrown) => {
        if (!this.#closed) this.events.publishFailed(SluiceError.from(thrown), "person");
      });
  }

  /** Asks for a screen and shares it. One at a time: what is asked for, published or shared already is left alone. */
  async shareScreen(): Promise<void> {
    if (this.#share) return;
    const share = new Share();
    this.#setShare(share);
    try {
      share.use(await openScreen());
    } catch (thrown) {
      this.#endShare(share);
      if (!this.#closed) this.events.screenFailed(SluiceError.from(thrown));
      return;
    }
    const { audio, video } = share;
    if (!video || share.ended) {
      this.#endShare(share);
      return;
    }
    // The browser's own "stop sharing".
    video.addEventListener("ended", () => this.#endShare(share));
    this.events.changed();
    try {
      const options = { source: "screen", video, ...(audio ? { audio } : {}) } as const;
      const publication = await this.room.publish(options);
      share.publish(publication);
      this.#watch(publication, "screen", () => this.#endShare(share));
    } catch (thrown) {
      const wanted = !share.ended;
      this.#endShare(share);
      if (wanted && !this.#closed) this.events.publishFailed(SluiceError.from(thrown), "screen");
    }
  }

  /** Nothing is captured any more from now on, even if the server has yet to answer. */
  stopScreen(): void {
    if (this.#share) this.#endShare(this.#share);
  }

  close(): void {
    this.#closed = true;
    this.#off();
    this.stopScreen();
  }

  #endShare(share: Share): void {
    share.end();
    if (this.#share === share) this.#setShare(undefined);
  }

  #setShare(share: Share | undefined): void {
    this.#share = share;
    if (!this.#closed) this.events.changed();
  }

  async #sync(): Promise<void> {
    if (this.#closed) return;
    const { audio, video } = this.media;
    // What the system has taken away for now is off to others as well: they would see a frozen face.
    const muted = { audio: !this.media.sends("microphone"), video: !this.media.sends("camera") };
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
    this.#watch(publication, "person", () => {
      if (this.#person === publication) this.#person = undefined;
    });
    // Switches may have moved meanwhile.
    this.sync();
  }

  #watch(publication: Publication, what: Sent, ended: () => void): void {
    publication.on("state", () => this.events.changed());
    publication.on("ended", ({ error }) => {
      ended();
      this.events.changed();
      if (error && !this.#closed) this.events.publishFailed(error, what);
    });
    this.events.changed();
  }
}
