/**
 * Someone else's stream, received. Its `media` stays the same object for as long as it lives, so that an element
 * showing it needs no new source when the connection under it is replaced.
 */
import { Emitter } from "./emitter.ts";
import { SluiceError } from "./error.ts";
import type { RoomAccess } from "./publication.ts";
import type { MediaState } from "./recovery.ts";
import type { RemoteStream } from "./remote-stream.ts";
import { type StreamStats } from "./stats.ts";
export interface SubscriptionEvents {
    /** The tracks in `media` are others than before. An element showing `media` itself follows without this. */
    media: undefined;
    state: {
        readonly state: MediaState;
    };
    /** It is over: unsubscribed, the stream was removed, or it failed (then with an error). */
    ended: {
        readonly error: SluiceError | undefined;
    };
}
export declare class Subscription extends Emitter<SubscriptionEvents> {
    #private;
    private readonly room;
    readonly stream: RemoteStream;
    /** The received tracks, for `srcObject`. */
    readonly media: MediaStream;
    /** @internal Made by `Room.subscribe`. */
    constructor(room: RoomAccess, stream: RemoteStream);
    /** Its id on the server; undefined until the server has accepted it. */
    get sid(): string | undefined;
    get state(): MediaState;
    /** How loud it is now, 0 to 1. */
    get audioLevel(): number;
    unsubscribe(): void;
    /** What its connection does at present; rates are those since the last call. */
    stats(): Promise<StreamStats | undefined>;
    /** @internal */
    start(): Promise<void>;
    /** @internal */
    setSignalling(up: boolean): void;
    /** @internal */
    networkChanged(): void;
    /** @internal The server does not know it any more. */
    gone(): void;
    /** @internal Its id on the server is about to be given or to change. */
    get negotiating(): boolean;
    /** @internal The stream was removed or the room left: there is nothing to take back on the server. */
    abandon(): void;
}
