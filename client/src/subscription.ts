/**
 * Someone else's stream, received. Its `media` stays the same object for as long as it lives, so that an element
 * showing it needs no new source when the connection under it is replaced.
 */

import { Emitter } from "./emitter.ts";
import { SluiceError } from "./error.ts";
import type { JsonObject } from "./frames.ts";
import type { Kind } from "./info.ts";
import type { RoomAccess } from "./publication.ts";
import type { MediaState } from "./recovery.ts";
import type { RemoteStream } from "./remote-stream.ts";
import { STEREO_SUBSCRIBER, withOpusParameters } from "./sdp.ts";
import { type StreamStats, Summary } from "./stats.ts";
import { Transport, type TransportOwner } from "./transport.ts";

export interface SubscriptionEvents {
  /** The tracks in `media` are others than before. An element showing `media` itself follows without this. */
  media: undefined;
  state: { readonly state: MediaState };
  /** It is over: unsubscribed, the stream was removed, or it failed (then with an error). */
  ended: { readonly error: SluiceError | undefined };
}

export class Subscription extends Emitter<SubscriptionEvents> {
  /** The received tracks, for `srcObject`. */
  readonly media: MediaStream = new MediaStream();
  readonly #transport: Transport;
  readonly #summary = new Summary();
  #receivers: Partial<Record<Kind, RTCRtpReceiver>> = {};
  #sid: string | undefined;
  #sfuid: string | undefined;
  #keepOnServer = false;
  #subscribed!: { resolve: () => void; reject: (error: SluiceError) => void };
  readonly #firstOutcome: Promise<void>;

  /** Made by `Room.subscribe`. */
  constructor(
    private readonly room: RoomAccess,
    readonly stream: RemoteStream,
  ) {
    super();
    this.#firstOutcome = new Promise((resolve, reject) => {
      this.#subscribed = { resolve, reject };
    });
    this.#transport = new Transport(room.clock, () => room.configuration(), this.#owner());
  }

  /** Its id on the server; undefined until the server has accepted it. */
  get sid(): string | undefined {
    return this.#sid;
  }

  get state(): MediaState {
    return this.#transport.state;
  }

  /** How loud it is now, 0 to 1. */
  get audioLevel(): number {
    const source = this.#receivers.audio?.getSynchronizationSources()[0];
    // A source that stopped sending stays listed for 10 s.
    return source && sinceMs(source.timestamp) < 500 ? (source.audioLevel ?? 0) : 0;
  }

  unsubscribe(): void {
    this.#transport.close();
  }

  /** What its connection does at present; rates are those since the last call. */
  async stats(): Promise<StreamStats | undefined> {
    const report = await this.#transport.connection?.getStats();
    return report ? this.#summary.of(report.values()) : undefined;
  }

  /** @internal */
  async start(): Promise<void> {
    this.#transport.start(this.room.joined);
    await this.#firstOutcome;
  }

  /** @internal */
  setSignalling(up: boolean): void {
    this.#transport.setSignalling(up);
  }

  /** @internal */
  networkChanged(): void {
    this.#transport.networkChanged();
  }

  /** @internal The server does not know it any more. */
  gone(): void {
    this.#transport.gone();
  }

  /** @internal Its id on the server is about to be given or to change. */
  get negotiating(): boolean {
    return this.#transport.negotiating;
  }

  /** @internal The stream was removed or the room left: there is nothing to take back on the server. */
  abandon(): void {
    this.#keepOnServer = true;
    this.#transport.close();
  }

  #owner(): TransportOwner {
    return {
      build: (connection) => this.#build(connection),
      rewriteOffer: (sdp) => withOpusParameters(sdp, STEREO_SUBSCRIBER),
      rewriteAnswer: (sdp) => sdp,
      negotiate: (jsep) => this.#negotiate(jsep),
      negotiated: async () => this.#subscribed.resolve(),
      restart: (jsep) => this.room.request("restart", { sid: this.#sid, jsep }),
      release: () => this.#release(),
      stateChanged: (state) => {
        if (state === "reconnecting") this.room.interrupted();
        this.emit("state", { state });
      },
      ended: (error) => this.#ended(error),
    };
  }

  #build(connection: RTCPeerConnection): void {
    const { info } = this.stream;
    this.#receivers = {};
    for (const kind of ["audio", "video"] as const) {
      if (!info[kind]) continue;
      const { receiver } = connection.addTransceiver(kind, { direction: "recvonly" });
      this.#receivers[kind] = receiver;
    }
    for (const old of this.media.getTracks()) this.media.removeTrack(old);
    for (const receiver of Object.values(this.#receivers)) this.media.addTrack(receiver.track);
    this.emit("media", undefined);
  }

  async #negotiate(jsep: JsonObject): Promise<JsonObject> {
    const { mid, sfuid } = this.stream;
    const answer = await this.room.request("subscribe", { mid, sfuid, jsep });
    if (typeof answer.sid !== "string")
      throw SluiceError.local("protocol", "the server's answer carries no sid");
    this.#sid = answer.sid;
    this.#sfuid = typeof answer.sfuid === "string" ? answer.sfuid : undefined;
    return answer;
  }

  #release(): void {
    const sid = this.#sid;
    this.#sid = undefined;
    if (sid === undefined || this.#keepOnServer) return;
    this.room.attempt("unsubscribe", { mid: this.stream.mid, sid, sfuid: this.#sfuid });
  }

  #ended(error: SluiceError | undefined): void {
    this.#subscribed.reject(
      error ?? SluiceError.local("closed", "the stream ended before the server had answered"),
    );
    // Nobody may be waiting any more.
    this.#firstOutcome.catch(() => undefined);
    this.emit("ended", { error });
  }
}

/** Browsers differ in whether these timestamps count from the epoch or from the page's start. */
function sinceMs(timestamp: number): number {
  const now = performance.now();
  return Math.min(Math.abs(now - timestamp), Math.abs(performance.timeOrigin + now - timestamp));
}
