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
  #sid: string | undefined;

  /** Made by `Room.subscribe`. */
  constructor(
    private readonly room: RoomAccess,
    readonly stream: RemoteStream,
  ) {
    super(room);
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
    this.#transceivers = {};
    for (const kind of KINDS) {
      if (info[kind]) this.#transceivers[kind] = connection.addTransceiver(kind, { direction: "recvonly" });
    }
    for (const old of this.media.getTracks()) this.media.removeTrack(old);
    for (const { receiver } of Object.values(this.#transceivers)) this.media.addTrack(receiver.track);
    this.emit("media", undefined);
  }

  /** @internal */
  protected async negotiate(jsep: JsonObject): Promise<JsonObject> {
    const answer = await this.room.request("subscribe", { mid: this.stream.mid, jsep });
    if (typeof answer.sid !== "string")
      throw SluiceError.local("protocol", "the server's answer carries no sid");
    this.#sid = answer.sid;
    return answer;
  }

  /** @internal Lets go of what was asked for and the stream has not: its publisher need not have said what it has. */
  protected async negotiated(): Promise<void> {
    for (const kind of KINDS) {
      const transceiver = this.#transceivers[kind];
      if (!transceiver || transceiver.currentDirection === "recvonly") continue;
      delete this.#transceivers[kind];
      this.media.removeTrack(transceiver.receiver.track);
      this.emit("media", undefined);
    }
  }

  /** @internal */
  protected restartId(): JsonObject {
    return { sid: this.#sid };
  }

  /** @internal */
  protected takeBack(): { method: string; data: JsonObject } | undefined {
    const sid = this.#sid;
    this.#sid = undefined;
    return sid === undefined ? undefined : { method: "unsubscribe", data: { mid: this.stream.mid, sid } };
  }
}

/** Browsers differ in whether these timestamps count from the epoch or from the page's start. */
function sinceMs(timestamp: number): number {
  const now = performance.now();
  return Math.min(Math.abs(now - timestamp), Math.abs(performance.timeOrigin + now - timestamp));
}
