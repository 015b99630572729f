/**
 * Someone else's stream, received. Its `media` stays the same object for as long as it lives, so that an element
 * showing it needs no new source when the connection under it is replaced.
 */

import { SluiceError } from "./error.ts";
import type { JsonObject } from "./frames.ts";
import { KINDS, type Kind } from "./info.ts";
import { Media, type MediaEvents, type RoomAccess } from "./media.ts";
import type { RemoteStream } from "./remote-stream.ts";
import { STEREO_SUBSCRIBER, withOpusParameters } from "./sdp.ts";

export interface SubscriptionEvents extends MediaEvents {
  /** The tracks in `media` are others than before. An element showing `media` itself follows without this. */
  media: undefined;
}

export class Subscription extends Media<SubscriptionEvents> {
  /** The received tracks, for `srcObject`. */
  readonly media: MediaStream = new MediaStream();
  #transceivers: Partial<Record<Kind, RTCRtpTransceiver>> = {};
  /** Of the peer connection built last, which may still have to come up. */
  #built: Partial<Record<Kind, RTCRtpTransceiver>> = {};
  /** What was subscribed to: the stream may have moved since. */
  #mid: string | undefined;
  #sid: string | undefined;

  /** Made by `Room.subscribe`. */
  constructor(
    private readonly room: RoomAccess,
    readonly stream: RemoteStream,
  ) {
    super(room);
    // Moved while it was being connected.
    this.on("state", ({ state }) => {
      if (state === "connected" && this.#mid !== this.stream.mid) this.migrate();
    });
  }

  /** Its id on the server; undefined until the server has accepted it. */
  get sid(): string | undefined {
    return this.#sid;
  }

  /** How loud it is now, 0 to 1. */
  get audioLevel(): number {
    const source = this.#transceivers.audio?.receiver.getSynchronizationSources()[0];
    // A source that stopped sending stays listed for 10 s.
    return source && sinceMs(source.timestamp) < 500 ? (source.audioLevel ?? 0) : 0;
  }

  unsubscribe(): void {
    this.end();
  }

  /** @internal */
  protected rewriteOffer(sdp: string): string {
    return withOpusParameters(sdp, STEREO_SUBSCRIBER);
  }

  /** @internal */
  protected rewriteAnswer(sdp: string): string {
    return sdp;
  }

  /** @internal */
  protected build(connection: RTCPeerConnection): void {
    const { info } = this.stream;
    this.#built = {};
    for (const kind of KINDS) {
      if (info[kind]) this.#built[kind] = connection.addTransceiver(kind, { direction: "recvonly" });
    }
  }

  /** @internal */
  protected override adopt(): void {
    this.#transceivers = this.#built;
    for (const old of this.media.getTracks()) this.media.removeTrack(old);
    for (const { receiver } of Object.values(this.#transceivers)) this.media.addTrack(receiver.track);
    this.emit("media", undefined);
  }

  /** @internal */
  protected async negotiate(jsep: JsonObject): Promise<JsonObject> {
    for (;;) {
      const { mid } = this.stream;
      let answer: JsonObject;
      try {
        answer = await this.room.request("subscribe", { mid, jsep });
      } catch (thrown) {
        if (mid === this.stream.mid) throw thrown;
        // It moved while it was asked for: there it can be had.
        continue;
      }
      if (typeof answer.sid !== "string")
        throw SluiceError.local("protocol", "the server's answer carries no sid");
      if (mid === this.stream.mid) {
        this.#mid = mid;
        this.#sid = answer.sid;
        return answer;
      }
      this.room.attempt("unsubscribe", { mid, sid: answer.sid });
    }
  }

  /** @internal Lets go of what was asked for and the stream has not: its publisher need not have said what it has. */
  protected async negotiated(): Promise<void> {
    for (const kind of KINDS) {
      const transceiver = this.#built[kind];
      if (!transceiver || transceiver.currentDirection === "recvonly") continue;
      delete this.#built[kind];
      if (!this.media.getTracks().includes(transceiver.receiver.track)) continue;
      this.media.removeTrack(transceiver.receiver.track);
      this.emit("media", undefined);
    }
  }

  /** @internal The server lost the stream; its publisher may bring it back. */
  lost(): void {
    this.#sid = undefined;
    this.setSignalling(false);
    this.gone();
  }

  /** @internal */
  protected restartId(): JsonObject {
    return { sid: this.#sid };
  }

  /** @internal */
  protected takeBack(): { method: string; data: JsonObject } | undefined {
    const sid = this.#sid;
    this.#sid = undefined;
    return sid === undefined ? undefined : { method: "unsubscribe", data: { mid: this.#mid, sid } };
  }
}

/** Browsers differ in whether these timestamps count from the epoch or from the page's start. */
function sinceMs(timestamp: number): number {
  const now = performance.now();
  return Math.min(Math.abs(now - timestamp), Math.abs(performance.timeOrigin + now - timestamp));
}
