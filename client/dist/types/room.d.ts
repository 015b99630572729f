/**
 * A room as an application sees it: who is there, what they publish, and one's own publications and subscriptions,
 * which come back by themselves when a connection or a server is lost.
 */
import type { Clock } from "./clock.ts";
import { Emitter } from "./emitter.ts";
import { SluiceError } from "./error.ts";
import { type Json } from "./frames.ts";
import { Publication, type PublishOptions } from "./publication.ts";
import { RemoteStream } from "./remote-stream.ts";
import type { Signalling } from "./signalling.ts";
import { Subscription } from "./subscription.ts";
export type RoomState = "idle" | "connecting" | "connected" | "reconnecting" | "closed";
export interface RoomEvents {
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
    /** Its `info` changed: muted or unmuted, mostly. */
    "stream-updated": {
        readonly stream: RemoteStream;
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
export interface RoomContext {
    readonly peer: string;
    readonly signalling: Signalling;
    readonly clock: Clock;
    readonly configuration: () => Promise<RTCConfiguration>;
}
export declare class Room extends Emitter<RoomEvents> {
    #private;
    /** The room's name. */
    readonly name: string;
    private readonly context;
    /** @internal Made by `Client.room`. */
    constructor(
    /** The room's name. */
    name: string, context: RoomContext);
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
    /** @internal */
    handleNotification(method: string, data: {
        [key: string]: Json | undefined;
    }): void;
    /** @internal False if there is no membership to keep alive now. */
    keepAlive(): boolean;
    /** @internal */
    networkChanged(): void;
    /** @internal The page goes away. */
    pageHidden(): void;
}
