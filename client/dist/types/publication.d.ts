/**
 * A stream of one's own in the room: up to one audio and one video track on a connection of their own. It outlives
 * lost connections; its id on the server changes when it has to be published anew.
 */
import type { Clock } from "./clock.ts";
import { Emitter } from "./emitter.ts";
import { SluiceError } from "./error.ts";
import { type JsonObject } from "./frames.ts";
import { type Kind, type Muted, type Source } from "./info.ts";
import type { MediaState } from "./recovery.ts";
import { type StreamStats } from "./stats.ts";
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
    muted?: {
        readonly audio?: boolean | undefined;
        readonly video?: boolean | undefined;
    } | undefined;
    /** Further keys for everybody to see in the stream's `info`: JSON values. */
    info?: object | undefined;
    /** Stop the tracks when the publication ends. Default: true. */
    stopTracks?: boolean | undefined;
}
export interface PublicationEvents {
    state: {
        readonly state: MediaState;
    };
    /** The stream has another `mid`: it had to be published anew. */
    republished: {
        readonly mid: string;
    };
    /** It is over, for good; with an error unless the application ended it. */
    ended: {
        readonly error: SluiceError | undefined;
    };
}
export declare class Publication extends Emitter<PublicationEvents> {
    #private;
    private readonly room;
    private readonly options;
    readonly source: Source;
    /** @internal Made by `Room.publish`. */
    constructor(room: RoomAccess, options: PublishOptions);
    /** Its id in the room; undefined until the server has accepted it. */
    get mid(): string | undefined;
    get state(): MediaState;
    get muted(): Muted;
    /** The track that is sent, null if that part has none now, undefined if the stream has no such part. */
    track(kind: Kind): MediaStreamTrack | null | undefined;
    /** Stops sending sound or picture and tells the others. The device stays open; see `replaceTrack`. */
    mute(kind: Kind): Promise<void>;
    unmute(kind: Kind): Promise<void>;
    /**
     * Sends another track from now on, or none: to change the device, or to close it while muted (its light goes out).
     * The old track is stopped if the publication stops tracks.
     */
    replaceTrack(kind: Kind, track: MediaStreamTrack | null): Promise<void>;
    /** Ends it for everybody. */
    unpublish(): void;
    /** What its connection does at present; rates are those since the last call. */
    stats(): Promise<StreamStats | undefined>;
    /** @internal */
    start(): Promise<void>;
    /** @internal */
    setSignalling(up: boolean): void;
    /** @internal */
    networkChanged(): void;
    /** @internal The server removed it or wants it elsewhere. */
    gone(): void;
    /** @internal Its id on the server is about to be given or to change. */
    get negotiating(): boolean;
    /** @internal The room was left: the server has removed it or will. */
    abandon(): void;
}
