/**
 * A stream of one's own in the room: up to one audio and one video track on a connection of their own. It outlives
 * lost connections; its id on the server changes when it has to be published anew.
 */

import { SluiceError } from "./error.ts";
import { asJson, type JsonObject } from "./frames.ts";
import { KINDS, type Kind, type Muted, makeInfo, type Source } from "./info.ts";
import { Media, type MediaEvents, type RoomAccess } from "./media.ts";
import type { Recordings } from "./recordings.ts";
import { STEREO_PUBLISHER, withOpusParameters, withStartBitrate } from "./sdp.ts";

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
  /** Record it from its beginning. Needs the grant `record`. */
  record?: boolean | undefined;
  /** Further keys for everybody to see in the stream's `info`: JSON values. */
  info?: object | undefined;
  /** Stop the tracks when the publication ends. Default: true. */
  stopTracks?: boolean | undefined;
}

export interface PublicationEvents extends MediaEvents {
  /** The stream has another `mid`: it had to be published anew. */
  republished: { readonly mid: string };
  /** It is recorded from now on, by this id, or no more. */
  recording: { readonly recording: string | undefined };
  /** The track that is sent ended by itself: unplugged, or sharing stopped in the browser. A screen ends with its picture. */
  "track-ended": { readonly kind: Kind };
}

const CAMERA_BITRATE = 1_500_000;
/** Text must stay readable, and a page turned is a burst. */
const SCREEN_BITRATE = 2_500_000;
const STEREO_BITRATE = 128_000;
/** Of the maximum, what a stream starts with: enough for a whole picture at once, little enough for a poor uplink. */
const START_SHARE = 0.6;
/** After a stream has moved, for the others to follow: they spread over a second, and connect within another. */
const OVERLAP_MS = 3_000;

export class Publication extends Media<PublicationEvents> {
  readonly source: Source;
  readonly #tracks: Record<Kind, MediaStreamTrack | null | undefined>;
  readonly #muted: { audio: boolean; video: boolean };
  readonly #info: JsonObject;
  readonly #senders: Partial<Record<Kind, RTCRtpSender>> = {};
  readonly #hear = (event: Event) => this.#trackEnded(event.target);
  #mid: string | undefined;
  /** Of the stream that the present one replaces. */
  #formerMid: string | undefined;
  /** The server has the stream, as far as known here. */
  #onServer = false;
  #recording: string | undefined;

  /** Made by `Room.publish`. */
  constructor(
    private readonly room: RoomAccess,
    private readonly options: PublishOptions,
    private readonly recordings: Recordings,
  ) {
    super(room, options.stereo);
    for (const kind of KINDS) mustBe(kind, options[kind]);
    this.source = options.source;
    this.#info = options.info === undefined ? {} : (asJson(options.info) as JsonObject);
    this.#tracks = { audio: options.audio, video: options.video };
    this.#muted = { audio: options.muted?.audio ?? false, video: options.muted?.video ?? false };
    this.#applyEnabled();
    for (const kind of KINDS) this.#tracks[kind]?.addEventListener("ended", this.#hear);
    this.on("ended", () => this.#letGo());
    if (options.record) recordings.want(this);
  }

  /** Its id in the room; undefined until the server has accepted it. */
  get mid(): string | undefined {
    return this.#mid;
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
    track?.addEventListener("ended", this.#hear);
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
    this.end();
  }

  get #stopsTracks(): boolean {
    return this.options.stopTracks ?? true;
  }

  /** @internal */
  protected rewriteOffer(sdp: string): string {
    return this.options.stereo ? withOpusParameters(sdp, STEREO_PUBLISHER) : sdp;
  }

  /** @internal */
  protected rewriteAnswer(sdp: string): string {
    return withStartBitrate(sdp, (this.#videoBitrate * START_SHARE) / 1000);
  }

  /** @internal */
  protected build(connection: RTCPeerConnection): void {
    for (const kind of KINDS) {
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

  /** @internal */
  protected async negotiate(jsep: JsonObject): Promise<JsonObject> {
    const has = { audio: this.#tracks.audio !== undefined, video: this.#tracks.video !== undefined };
    const told = { ...this.#muted };
    const again = this.#mid !== undefined;
    const record = this.options.record === true && this.recordings.wants(this);
    const info = { ...this.#info, ...(record && { record }), ...(again && { replaces: this.#mid }) };
    const minfo = makeInfo(this.source, has, told, info);
    const answer = await this.room.request("publish", { jsep, minfo });
    if (typeof answer.mid !== "string")
      throw SluiceError.local("protocol", "the server's answer carries no mid");
    this.#mid = answer.mid;
    this.#onServer = true;
    this.recorded(typeof answer.recording === "string" ? answer.recording : undefined);
    if (again) this.emit("republished", { mid: answer.mid });
    // Muted or unmuted while the request was on its way.
    for (const kind of KINDS) {
      if (told[kind] !== this.#muted[kind]) this.#tellMuted(kind);
    }
    // Ended meanwhile: this is another stream, of which the server did not know.
    if (record && !this.recordings.wants(this)) this.recordings.ask(this, false).catch(() => undefined);
    return answer;
  }

  /** @internal */
  protected async negotiated(): Promise<void> {
    // A track that was replaced while the answer was on its way.
    for (const kind of KINDS) {
      const sender = this.#senders[kind];
      if (sender && sender.track !== this.#tracks[kind])
        await sender.replaceTrack(this.#tracks[kind] ?? null);
    }
    await this.#applyDegradation();
  }

  /** @internal */
  protected restartId(): JsonObject {
    return { mid: this.#mid };
  }

  /** @internal */
  protected takeBack(): { method: string; data: JsonObject } | undefined {
    if (!this.#onServer) return undefined;
    this.#onServer = false;
    if (!this.hasFormer) this.#formerMid = this.#mid;
    return { method: "unpublish", data: { mid: this.#mid } };
  }

  /** @internal */
  protected override get overlapMs(): number {
    return OVERLAP_MS;
  }

  /** The recording that is made of it, by its id; undefined: none. See `Room.record`. */
  get recording(): string | undefined {
    return this.#recording;
  }

  /** @internal It is recorded from now on, or no more. */
  recorded(recording: string | undefined): void {
    if (this.#recording === recording) return;
    this.#recording = recording;
    this.emit("recording", { recording });
  }

  /** @internal The ids of what the server has of it. */
  get mids(): string[] {
    const former = this.hasFormer ? this.#formerMid : undefined;
    return [this.#mid, former].filter((mid) => mid !== undefined);
  }

  /** @internal The server has removed one of its streams. */
  removed(mid: string): void {
    if (this.hasFormer && mid === this.#formerMid) this.formerGone();
    else if (mid === this.#mid) this.gone();
  }

  #trackEnded(track: EventTarget | null): void {
    const kind = KINDS.find((kind) => this.#tracks[kind] === track);
    if (!kind) return;
    this.emit("track-ended", { kind });
    // "Stop sharing" was pressed in the browser: nobody wants the last picture any more.
    if (this.source === "screen" && kind === "video") this.unpublish();
  }

  #letGo(): void {
    for (const track of Object.values(this.#tracks)) {
      track?.removeEventListener("ended", this.#hear);
      if (this.#stopsTracks) track?.stop();
    }
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
    for (const kind of KINDS) {
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
