/** What a stream is made of and which parts of it are silenced: `minfo` in the terms of an application. Pure. */
import { type JsonObject } from "./frames.ts";
import type { MediaInfo } from "./messages.ts";
export type Kind = "audio" | "video";
/** Where a stream comes from. */
export type Source = "camera" | "microphone" | "screen";
export interface Muted {
    readonly audio: boolean;
    readonly video: boolean;
}
/** The `minfo` of a stream to publish. */
export declare function makeInfo(source: Source, has: {
    readonly audio: boolean;
    readonly video: boolean;
}, muted: Muted, extra?: JsonObject): MediaInfo;
export declare function sourceOf(info: MediaInfo): Source;
/** Which parts the publisher has silenced. */
export declare function mutedOf(info: MediaInfo): Muted;
