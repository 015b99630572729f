/* Sluice client. MIT OR Apache-2.0 */
interface CameraOptions {
    deviceId?: string | undefined;
    /** Which way a phone's camera looks, where no `deviceId` is given. */
    facing?: "user" | "environment" | undefined;
    /** Pixels wished for. Default: 1280 × 720. */
    width?: number | undefined;
    height?: number | undefined;
    /** Default: 30. */
    frameRate?: number | undefined;
}

interface MicrophoneOptions {
    deviceId?: string | undefined;
    /** Capture two channels, unprocessed: for music. Publish with `stereo` as well. */
    stereo?: boolean | undefined;
}

interface Captured {
    readonly audio: MediaStreamTrack | undefined;
    readonly video: MediaStreamTrack | undefined;
}

/**
 * Opens camera and microphone with one question to the user. Errors: `permission_denied`, `no_device`, `device_busy`,
 * `insecure_context`, `unsupported`.
 */
declare function openDevices(wanted: {
    audio?: MicrophoneOptions | false | undefined;
    video?: CameraOptions | false | undefined;
}): Promise<Captured>;

/** As `openDevices`, the camera alone. */
declare function openCamera(options?: CameraOptions): Promise<MediaStreamTrack>;

/** As `openDevices`, the microphone alone. */
declare function openMicrophone(options?: MicrophoneOptions): Promise<MediaStreamTrack>;

/** Asks the user for a screen, window or tab, with its sound where the browser can. Must follow a click or key. */
declare function openScreen(options?: {
    frameRate?: number | undefined;
}): Promise<Captured>;

/** The devices there are. Labels are empty until the user has allowed one of the kind. */
declare function listDevices(): Promise<MediaDeviceInfo[]>;

interface ConnectOptions {
    /**
     * The server's WebSocket, for example `wss://calls.example/ws`, or `/ws` on the page's own server. Of several, all alike,
     * one at random; the next one when a connection fails or is lost.
     */
    url: string | URL | readonly (string | URL)[];
    /** Who this is: 1–128 characters, no control characters and none of `/ # * ? [ ] { }`; unique in each room. */
    peer: string;
    /** Access token, or a function that gets one; it is called for each connection, and when a token nears its end. */
    token?: TokenSource | undefined;
    /** For peer connections. Default: the ICE servers the server names at `/rtc-config`. */
    rtc?: RTCConfiguration | undefined;
}

interface ClientEvents {
    state: SignallingState;
}

/** The connection to a server, which keeps itself up, and the rooms joined over it. */
declare class Client extends Emitter<ClientEvents> {
    #private;
    private readonly clock;
    private readonly configuration;
    /** Who this is in every room. */
    readonly peer: string;
    private constructor();
    get state(): SignallingState;
    /** A room; listen to it first, then `join()` it. The same object for the same name, until it is left. */
    room(name: string): Room;
    /** Checks the connection now, or tries again at once if there is none: for a button of that name. */
    retryNow(): void;
    /** Leaves all rooms and closes the connection for good. */
    close(): Promise<void>;
}

/** Connects to a server, and keeps connecting until `close`; a server that refuses for good ends it, too. */
declare function connect(options: ConnectOptions): Client;

/** A typed event emitter. A listener that throws is reported and does not keep the others from hearing. */
declare class Emitter<Events extends object> {
    #private;
    /** Calls `listener` for each event of this type; the function returned takes it off again. */
    on<Type extends keyof Events>(type: Type, listener: (event: Events[Type]) => void): () => void;
    /** As `on`, for one event. */
    once<Type extends keyof Events>(type: Type, listener: (event: Events[Type]) => void): () => void;
    off<Type extends keyof Events>(type: Type, listener: (event: Events[Type]) => void): void;
    protected emit<Type extends keyof Events>(type: Type, event: Events[Type]): void;
}

/** Stable names of errors. The server's are listed in docs/signalling.md, the SDK's own are the last group. */
type SluiceErrorName = "unknown_method" | "bad_uid" | "not_in_room" | "bad_mid" | "bad_sid" | "bad_jsep" | "bad_sdp" | "bad_minfo" | "publish_failed" | "subscribe_failed" | "no_sfu" | "store_unavailable" | "sfu_unreachable" | "internal" | "unauthenticated" | "forbidden" | "conflict" | "too_large" | "rate_limited" | "refused" | "token_unavailable" | "timeout" | "disconnected" | "closed" | "bad_url" | "unsupported" | "protocol" | "permission_denied" | "no_device" | "device_busy" | "insecure_context" | (string & {});

declare class SluiceError extends Error {
    /** The server's number, 4000 for `refused`, 0 for what the SDK found itself. */
    readonly code: number;
    /** Stable, for programs. */
    readonly name: SluiceErrorName;
    /** For people. */
    readonly reason: string;
    /** With `rate_limited`: when to try again, in milliseconds from now. */
    readonly retryAfterMs: number | undefined;
    constructor(code: number, name: SluiceErrorName, reason: string, retryAfterMs?: number);
    /** True if trying again later makes sense. */
    get passing(): boolean;
    /** An error the SDK found itself. */
    static local(name: SluiceErrorName, reason: string): SluiceError;
    /** An error the server answered with. */
    static fromServer(code: number, name: string | undefined, reason: string, retryAfterMs?: number): SluiceError;
    /** Anything thrown, as a `SluiceError`. */
    static from(thrown: unknown): SluiceError;
}

type Json = null | boolean | number | string | Json[] | {
    [key: string]: Json | undefined;
};

type Kind = "audio" | "video";

/** Where a stream comes from. */
type Source = "camera" | "microphone" | "screen";

interface Muted {
    readonly audio: boolean;
    readonly video: boolean;
}

interface MediaEvents {
    state: {
        readonly state: MediaState;
    };
    /** It is over, for good; with an error if it failed. */
    ended: {
        readonly error: SluiceError | undefined;
    };
}

/** Of publications and subscriptions alike. */
declare abstract class Media<Events extends MediaEvents> extends Emitter<Events> {
    #private;
    get state(): MediaState;
    /** What its connection does at present; rates are those since the last call. */
    stats(): Promise<StreamStats | undefined>;
}

/** What a stream carries, as its publisher told it. Unknown keys pass through every server. */
interface MediaInfo {
    readonly audio: boolean;
    readonly video: boolean;
    /** 0: speech; other values are the application's. */
    readonly audiotype: number;
    /** 0: camera, 1: screen. */
    readonly videotype: number;
    readonly [key: string]: Json | undefined;
}

/** How loud a local track is: for a level meter, or a ring around whoever speaks. */
declare class Meter {
    #private;
    /** Throws where the browser lets no page measure sound. */
    constructor(track: MediaStreamTrack);
    /** 0 to 1 of full scale (root mean square of the last 20 ms). 0 until the page may use sound. */
    get level(): number;
    close(): void;
}

interface PublishOptions {
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
    /** Record it from its beginning. Needs the grant `record`. */
    record?: boolean | undefined;
    /** Further keys for everybody to see in the stream's `info`: JSON values. */
    info?: object | undefined;
    /** Stop the tracks when the publication ends. Default: true. */
    stopTracks?: boolean | undefined;
}

interface PublicationEvents extends MediaEvents {
    /** The stream has another `mid`: it had to be published anew. */
    republished: {
        readonly mid: string;
    };
    /** It is recorded from now on, by this id, or no more. */
    recording: {
        readonly recording: string | undefined;
    };
    /** The track that is sent ended by itself: unplugged, or sharing stopped in the browser. A screen ends with its picture. */
    "track-ended": {
        readonly kind: Kind;
    };
}

declare class Publication extends Media<PublicationEvents> {
    #private;
    private readonly room;
    private readonly options;
    private readonly recordings;
    readonly source: Source;
    private constructor();
    /** Its id in the room; undefined until the server has accepted it. */
    get mid(): string | undefined;
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
    /** The recording that is made of it, by its id; undefined: none. See `Room.record`. */
    get recording(): string | undefined;
}

/** What an application sees of it. */
type MediaState = "connecting" | "connected" | "reconnecting" | "ended";

/** A stream that someone else publishes in the room. The object stays the same while its `info` changes. */
declare class RemoteStream {
    #private;
    /** Tells it from all others in the room, and stays the same when the stream moves, unlike `mid`. */
    readonly id: string;
    private constructor();
    /** Its present id on the server. */
    get mid(): string;
    /** Who publishes it. */
    get uid(): string;
    /** `minfo` as its publisher gave it; `audio` and `video` are true where it said nothing of them. */
    get info(): MediaInfo;
    /** The recording that is made of it, by its id; undefined: none. */
    get recording(): string | undefined;
    get source(): Source;
    /** What its publisher has silenced. */
    get muted(): Muted;
}

type RoomState = "idle" | "connecting" | "connected" | "reconnecting" | "closed";

interface RoomEvents {
    /**
     * `retryInMs`: while there is no connection, about how long until the next try; `error` then says why the last one
     * failed, where that is known. In `closed`: why, unless it was left.
     */
    state: {
        readonly state: RoomState;
        readonly retryInMs?: number;
        readonly error?: SluiceError;
    };
    /** Someone is there: everybody who was there before comes this way, too, during `join`. */
    "peer-joined": {
        readonly uid: string;
    };
    "peer-left": {
        readonly uid: string;
    };
    /** A stream to subscribe to; those published before come this way, too, during `join`. */
    "stream-added": {
        readonly stream: RemoteStream;
    };
    "stream-removed": {
        readonly stream: RemoteStream;
    };
    /** Its `info` or `mid` changed: muted or unmuted, mostly; or it moved to another server. */
    "stream-updated": {
        readonly stream: RemoteStream;
    };
    /** A stream, one's own as well, is recorded from now on, or no more: `stream.recording` says which recording. */
    recording: {
        readonly stream: RemoteStream | Publication;
    };
    /** Someone's broadcast: any JSON value, from a stranger. */
    broadcast: {
        readonly uid: string;
        readonly data: Json;
    };
    /** The server put this client out; it does not come back. */
    kicked: {
        readonly reason: string;
    };
    /** State was taken over from a snapshot after an interruption too long to resume; broadcasts may have been missed. */
    resynced: undefined;
}

declare class Room extends Emitter<RoomEvents> {
    #private;
    /** The room's name. */
    readonly name: string;
    private readonly context;
    private constructor();
    get state(): RoomState;
    /** Everybody else in the room. */
    get peers(): string[];
    /** What everybody else publishes. */
    get streams(): RemoteStream[];
    get publications(): Publication[];
    get subscriptions(): Subscription[];
    /**
     * Goes in. Resolves when in, however long the server takes to come within reach; rejects when it refuses.
     * From then on the room is kept until `leave`.
     */
    join(): Promise<void>;
    /** Goes out: ends all publications and subscriptions. Resolves when the server knows, or cannot be told. */
    leave(): Promise<void>;
    /**
     * Publishes up to one audio and one video track as one stream. Resolves when the server has accepted it. For
     * cameras, microphones and screens see `openCamera` and its siblings.
     */
    publish(options: PublishOptions): Promise<Publication>;
    /** Receives a stream. Resolves when the server has accepted; a stream is received once, however often asked for. */
    subscribe(stream: RemoteStream | string): Promise<Subscription>;
    /** Sends a value to everybody else in the room, who get what JSON keeps of it. */
    broadcast(data: unknown): Promise<void>;
    /**
     * Has a stream recorded, anybody's, or no longer; needs the grant `record`. Resolves to the recording's id: the one that
     * begins or was under way already, or the one that ends; undefined: there was none to end. One that was asked for here is
     * asked for again when the stream has to move to another server, as another recording, unless somebody has ended it.
     */
    record(stream: RemoteStream | Publication, on: boolean): Promise<string | undefined>;
}

/** The access token, or what gets a fresh one each time it is needed. */
type TokenSource = string | (() => string | Promise<string>);

type SignallingState = {
    readonly name: "connecting";
} | {
    readonly name: "open";
}
/**
 * Not connected; the next try comes in about this many milliseconds. `error`: why the last one failed, where that is
 * known: the token function failed (`token_unavailable`), or the server refused an expired token (`refused`).
 */
 | {
    readonly name: "reconnecting";
    readonly retryInMs: number;
    readonly error?: SluiceError;
} | {
    readonly name: "closed";
    readonly error: SluiceError;
};

interface TrackStats {
    readonly kind: Kind;
    readonly direction: "send" | "receive";
    /** Bit/s of payload since the last summary. */
    readonly bitrate: number;
    /** Lost share of the packets since the last summary, 0 to 1: of those received, or as the receiver reports. */
    readonly loss: number;
    readonly jitterMs: number | undefined;
    /** For example `VP8` or `opus`, with `stereo` if two channels are sent. */
    readonly codec: string | undefined;
    readonly width: number | undefined;
    readonly height: number | undefined;
    readonly framesPerSecond: number | undefined;
    /** Keyframe requests so far. */
    readonly keyframeRequests: number;
    /** What keeps the picture from being better, as the sender's encoder says: `cpu`, `bandwidth`. */
    readonly limitedBy: string | undefined;
}

interface StreamStats {
    readonly rttMs: number | undefined;
    /** As negotiated by DTLS-SRTP, for example `AEAD_AES_128_GCM`. */
    readonly srtpCipher: string | undefined;
    readonly dtlsState: string | undefined;
    /** `udp` or `tcp`, and the kind of the local candidate: `host`, `srflx`, `prflx`, `relay`. */
    readonly path: string | undefined;
    /** Bit/s the browser believes it may send; of a stream that is sent only: otherwise it is nothing but a first guess. */
    readonly availableOutgoing: number | undefined;
    readonly tracks: readonly TrackStats[];
}

interface SubscriptionEvents extends MediaEvents {
    /** The tracks in `media` are others than before. An element showing `media` itself follows without this. */
    media: undefined;
}

declare class Subscription extends Media<SubscriptionEvents> {
    #private;
    private readonly room;
    readonly stream: RemoteStream;
    /** The received tracks, for `srcObject`. */
    readonly media: MediaStream;
    private constructor();
    /** Its id on the server; undefined until the server has accepted it. */
    get sid(): string | undefined;
    /** How loud it is now, 0 to 1. */
    get audioLevel(): number;
    unsubscribe(): void;
}

export {
  type CameraOptions,
  type Captured,
  listDevices,
  type MicrophoneOptions,
  openCamera,
  openDevices,
  openMicrophone,
  openScreen,
  Client,
  type ClientEvents,
  type ConnectOptions,
  connect,
  SluiceError,
  type SluiceErrorName,
  type Json,
  type Kind,
  type Muted,
  type Source,
  type MediaInfo,
  Meter,
  Publication,
  type PublicationEvents,
  type PublishOptions,
  type MediaState,
  RemoteStream,
  Room,
  type RoomEvents,
  type RoomState,
  type SignallingState,
  type TokenSource,
  type StreamStats,
  type TrackStats,
  Subscription,
  type SubscriptionEvents,
};
