/**
 * The contract's messages as types, and readers that turn what the server sent into them. An entry that lacks what
 * it needs is left out, not guessed.
 */
import type { Position } from "./feed.ts";
import { type Json, type JsonObject } from "./frames.ts";
/** What a stream carries, as its publisher told it. Unknown keys pass through every server. */
export interface MediaInfo {
    readonly audio: boolean;
    readonly video: boolean;
    /** 0: speech; other values are the application's. */
    readonly audiotype: number;
    /** 0: camera, 1: screen. */
    readonly videotype: number;
    readonly [key: string]: Json | undefined;
}
/** A stream in the room, as the server lists it. */
export interface StreamRecord {
    readonly mid: string;
    readonly uid: string;
    readonly sfuid: string | undefined;
    readonly info: MediaInfo;
}
/** What a join was answered with. */
export interface Joined {
    readonly users: readonly string[];
    readonly streams: readonly StreamRecord[];
    /** What survived of the client's own; undefined from servers that do not tell. */
    readonly own: {
        readonly mids: ReadonlySet<string>;
        readonly sids: ReadonlySet<string>;
    } | undefined;
    readonly session: string | undefined;
    readonly position: Position | undefined;
    /** The snapshot is the truth; no missed notifications follow. */
    readonly resync: boolean;
}
export type Notification = {
    readonly method: "peer-join";
    readonly uid: string;
} | {
    readonly method: "peer-leave";
    readonly uid: string;
} | {
    readonly method: "stream-add";
    readonly stream: StreamRecord;
} | {
    readonly method: "stream-remove";
    readonly mid: string;
    readonly uid: string | undefined;
} | {
    readonly method: "stream-update";
    readonly mid: string;
    readonly info: MediaInfo;
} | {
    readonly method: "stream-migrate";
    readonly mid: string;
} | {
    readonly method: "broadcast";
    readonly uid: string;
    readonly data: Json;
} | {
    readonly method: "peer-kick";
    readonly uid: string | undefined;
    readonly reason: string;
};
export declare function readJoined(data: JsonObject): Joined;
/** A notification of the contract, or undefined for one the SDK does not know. */
export declare function readNotification(method: string, data: JsonObject): Notification | undefined;
/** Where in the room's log something stands; undefined from servers without one. */
export declare function readPosition(data: JsonObject): Position | undefined;
export declare function readInfo(value: Json | undefined): MediaInfo;
