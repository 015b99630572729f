/**
 * A stream of one's own in the room: up to one audio and one video track on a connection of their own. It outlives
 * lost connections; its id on the server changes when it has to be published anew.
 */

import type { Clock } from "./clock.ts";
import { Emitter } from "./emitter.ts";
import { SluiceError } from "./error.ts";
import { asJson, type JsonObject } from "./frames.ts";
import { type Kind, type Muted, makeInfo, type Source } from "./info.ts";
import type { MediaState } from "./recovery.ts";
import { STEREO_PUBLISHER, withOpusParameters, withStartBitrate } from "./sdp.ts";
import { type StreamStats, Summary } from "./stats.ts";
import { Transport, type TransportOwner } from "./transport.ts";

/** What a publication or subscription needs of its room. */
export interface RoomAccess {
  readonly clock: Clock;
  configuration(): Promise<RTCConfiguration>;
  readonly joined: boolean;
  /** Media stopped flowing: the server may be gone. */
  interrupted(): void;
  /** A request with identity: carried over lost connections, done once. */
  request(method: string, data: JsonObject): Promise<JsonObject>;
  /** A request whose failure changes nothing for the caller. */
  attempt(method: string, data: JsonObject): void;
}

export interface PublishOptions {
  /** What it shows, for others and for defaults of quality. */
  source: Source;
  /** `null`: the stream has an audio part whose track comes later by `replaceTrack`. Absent: none at all. */
  audio?: MediaStreamTrack | null | undefined;
  /** As `audio`. */
  video?: MediaStreamTrack | null | undefined;
  /** Send two channels. The track must be captured without echo cancellation, or the browser mixes it down. */
  stereo?: boolean | undefined;
  /** Bit/s at most. Default: 1,500,000 for cameras, 2,500,000 for screens. */
  maxVideoBitrate?: number | undefined;
  /** Bit/s at most. Default: the browser's, 128,000 with `stereo`. */
  maxAudioBitrate?: number | undefined;
  /** What to give up first when bandwidth or CPU is short. Default: `balanced`; screens keep their resolution. */
  degradationPreference?: RTCDegradationPreference | undefined;
  /** Start with these parts muted. */
  muted?: { readonly audio?: boolean | undefined; readonly video?: boolean | undefined } | undefined;
  /** Further keys for everybody to see in the stream's `info`: JSON values. */
  info?: object | undefined;
  /** Stop the tracks when the publication ends. Default: true. */
  stopTracks?: boolean | undefined;
}

export interface PublicationEvents {
  state: { readonly state: MediaState };
  /** The stream has another `mid`: it had to be published anew. */
  republished: { readonly mid: string };
  /** It is over, for good; with an error unless the application ended it. */
  ended: { readonly error: SluiceError | undefined };
}

const CAMERA_BITRATE = 1_500_000;
/** Text must stay readable, and a page turned is a burst. */
const SCREEN_BITRATE = 2_500_000;
const STEREO_BITRATE = 128_000;
/** Of the maximum, what a stream starts with: enough for a whole picture at once, little enough for a poor uplink. */
const START_SHARE = 0.6;

export class Publication extends Emitter<PublicationEvents> {
  readonly source: Source;
  readonly #transport: Transport;
  readonly #tracks: Record<Kind, MediaStreamTrack | null | undefined>;
  readonly #muted: { audio: boolean; video: boolean };
  readonly #info: JsonObject;
  readonly #senders: Partial<Record<Kind, RTCRtpSender>> = {};
  readonly #summary: Summary;
  #mid: string | undefined;
  /** The server has the stream, as far as known here. */
  #onServer = false;
  #sfuid: string | undefined;
  #keepOnServer = false;
  #published!: { resolve: () => void; reject: (error: SluiceError) => void };
  readonly #firstOutcome: Promise<void>;

  /** Made by `Room.publish`. */
  constructor(
    private readonly room: RoomAccess,
    private readonly options: PublishOptions,
  ) {
    super();
    for (const kind of ["audio", "video"] as const) mustBe(kind, options[kind]);
    this.source = options.source;
    this.#summary = new Summary(options.stereo);
    this.#info = options.info === undefined ? {} : (asJson(options.info) as JsonObject);
    this.#tracks = { audio: options.audio, video: options.video };
    this.#muted = { audio: options.muted?.audio ?? false, video: options.muted?.video ?? false };
    this.#applyEnabled();
    this.#firstOutcome = new Promise((resolve, reject) => {
      this.#published = { resolve, reject };
    });
    this.#transport = new Transport(room.clock, () => room.configuration(), this.#owner());
  }

  /** Its id in the room; undefined until the server has accepted it. */
  get mid(): string | undefined {
    return this.#mid;
  }

  get state(): MediaState {
    return this.#transport.state;
  }

  get muted(): Muted {
    return { ...this.#muted };
  }

  /** The track that is sent, null if that part has none now, undefined if the stream has no such part. */
  track(kind: Kind): MediaStreamTrack | null | undefined {
    return this.#tracks[kind];
  }

  /** Stops sending sound or picture and tells the others. The device stays open; see `replaceTrack`. */
  async mute(kind: Kind): Promise<void> {
    await this.#setMuted(kind, true);
  }

  async unmute(kind: Kind): Promise<void> {
    await this.#setMuted(kind, false);
  }

  /**
   * Sends another track from now on, or none: to change the device, or to close it while muted (its light goes out).
   * The old track is stopped if the publication stops tracks.
   */
  async replaceTrack(kind: Kind, track: MediaStreamTrack | null): Promise<void> {
    const old = this.#tracks[kind];
    if (old === undefined) throw SluiceError.local("unsupported", `the stream was published without ${kind}`);
    mustBe(kind, track);
    this.#tracks[kind] = track;
    this.#applyEnabled();
    this.#applyHint(kind);
    try {
      await this.#senders[kind]?.replaceTrack(track);
    } catch (thrown) {
      // The browser goes on sending the old one.
      if (this.#tracks[kind] === track) this.#tracks[kind] = old;
      throw SluiceError.local("unsupported", SluiceError.from(thrown).reason);
    }
    if (old && old !== track && this.#stopsTracks) old.stop();
  }

  /** Ends it for everybody. */
  unpublish(): void {
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

  /** @internal The server removed it or wants it elsewhere. */
  gone(): void {
    this.#transport.gone();
  }

  /** @internal Its id on the server is about to be given or to change. */
  get negotiating(): boolean {
    return this.#transport.negotiating;
  }

  /** @internal The room was left: the server has removed it or will. */
  abandon(): void {
    this.#keepOnServer = true;
    this.#transport.close();
  }

  get #stopsTracks(): boolean {
    return this.options.stopTracks ?? true;
  }

  #owner(): TransportOwner {
    return {
      build: (connection) => this.#build(connection),
      rewriteOffer: (sdp) => (this.options.stereo ? withOpusParameters(sdp, STEREO_PUBLISHER) : sdp),
      rewriteAnswer: (sdp) => withStartBitrate(sdp, (this.#videoBitrate * START_SHARE) / 1000),
      negotiate: (jsep) => this.#negotiate(jsep),
      negotiated: () => this.#negotiated(),
      restart: (jsep) => this.room.request("restart", { mid: this.#mid, jsep }),
      release: () => this.#release(),
      stateChanged: (state) => {
        if (state === "reconnecting") this.room.interrupted();
        this.emit("state", { state });
      },
      ended: (error) => this.#ended(error),
    };
  }

  #build(connection: RTCPeerConnection): void {
    for (const kind of ["audio", "video"] as const) {
      const track = this.#tracks[kind];
      if (track === undefined) continue;
      const maxBitrate = kind === "video" ? this.#videoBitrate : this.#audioBitrate;
      const transceiver = connection.addTransceiver(track ?? kind, {
        direction: "sendonly",
        sendEncodings: maxBitrate === undefined ? [{}] : [{ maxBitrate }],
      });
      if (kind === "video") preferVp8(transceiver);
      this.#senders[kind] = transceiver.sender;
      this.#applyHint(kind);
    }
  }

  async #negotiate(jsep: JsonObject): Promise<JsonObject> {
    const has = { audio: this.#tracks.audio !== undefined, video: this.#tracks.video !== undefined };
    const told = { ...this.#muted };
    const minfo = makeInfo(this.source, has, told, this.#info);
    const answer = await this.room.request("publish", { jsep, minfo });
    if (typeof answer.mid !== "string")
      throw SluiceError.local("protocol", "the server's answer carries no mid");
    const again = this.#mid !== undefined;
    this.#mid = answer.mid;
    this.#onServer = true;
    this.#sfuid = typeof answer.sfuid === "string" ? answer.sfuid : undefined;
    if (again) this.emit("republished", { mid: answer.mid });
    // Muted or unmuted while the request was on its way.
    for (const kind of ["audio", "video"] as const) {
      if (told[kind] !== this.#muted[kind]) this.#tellMuted(kind);
    }
    return answer;
  }

  async #negotiated(): Promise<void> {
    // A track that was replaced while the answer was on its way.
    for (const kind of ["audio", "video"] as const) {
      const sender = this.#senders[kind];
      if (sender && sender.track !== this.#tracks[kind])
        await sender.replaceTrack(this.#tracks[kind] ?? null);
    }
    await this.#applyDegradation();
    this.#published.resolve();
  }

  #release(): void {
    if (!this.#onServer) return;
    this.#onServer = false;
    if (!this.#keepOnServer) this.room.attempt("unpublish", { mid: this.#mid, sfuid: this.#sfuid });
  }

  #ended(error: SluiceError | undefined): void {
    if (this.#stopsTracks) {
      for (const track of Object.values(this.#tracks)) track?.stop();
    }
    this.#published.reject(
      error ?? SluiceError.local("closed", "unpublished before the server had answered"),
    );
    // Nobody may be waiting any more.
    this.#firstOutcome.catch(() => undefined);
    this.emit("ended", { error });
  }

  async #setMuted(kind: Kind, muted: boolean): Promise<void> {
    if (this.#tracks[kind] === undefined) {
      throw SluiceError.local("unsupported", `the stream was published without ${kind}`);
    }
    if (this.#muted[kind] === muted) return;
    this.#muted[kind] = muted;
    this.#applyEnabled();
    if (this.#mid !== undefined) this.#tellMuted(kind);
  }

  #tellMuted(kind: Kind): void {
    this.room.attempt("mute", { mid: this.#mid, [kind]: this.#muted[kind] });
  }

  #applyEnabled(): void {
    for (const kind of ["audio", "video"] as const) {
      const track = this.#tracks[kind];
      if (track) track.enabled = !this.#muted[kind];
    }
  }

  #applyHint(kind: Kind): void {
    const track = this.#tracks[kind];
    // A hint of the application's own stays.
    if (track?.contentHint !== "") return;
    if (kind === "video") track.contentHint = this.source === "screen" ? "detail" : "motion";
    else track.contentHint = this.options.stereo || this.source === "screen" ? "music" : "speech";
  }

  async #applyDegradation(): Promise<void> {
    const sender = this.#senders.video;
    if (!sender) return;
    const parameters = sender.getParameters() as RTCRtpSendParameters;
    const screen = this.source === "screen";
    parameters.degradationPreference =
      this.options.degradationPreference ?? (screen ? "maintain-resolution" : "balanced");
    // Browsers without the setting ignore or refuse it; the stream is as good without.
    await sender.setParameters(parameters).catch(() => undefined);
  }

  get #videoBitrate(): number {
    return this.options.maxVideoBitrate ?? (this.source === "screen" ? SCREEN_BITRATE : CAMERA_BITRATE);
  }

  get #audioBitrate(): number | undefined {
    return this.options.maxAudioBitrate ?? (this.options.stereo ? STEREO_BITRATE : undefined);
  }
}

function mustBe(kind: Kind, track: MediaStreamTrack | null | undefined): void {
  if (track && track.kind !== kind) throw SluiceError.local("unsupported", `${kind} needs a track of ${kind}`);
}

/** Puts VP8 first, which every subscriber's browser decodes; what else there is stays on offer behind it. */
function preferVp8(transceiver: RTCRtpTransceiver): void {
  const codecs = RTCRtpSender.getCapabilities?.("video")?.codecs;
  if (!codecs || !transceiver.setCodecPreferences) return;
  const vp8 = codecs.filter((codec) => codec.mimeType.toLowerCase() === "video/vp8");
  if (vp8.length === 0) return;
  transceiver.setCodecPreferences([...vp8, ...codecs.filter((codec) => !vp8.includes(codec))]);
}
