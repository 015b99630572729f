/**
 * The frames of docs/signalling.md: what goes over the WebSocket, written and read. A frame from the server is
 * checked like any other input; what is not in the contract is dropped.
 */
import { SluiceError } from "./error.ts";
export type Json = null | boolean | number | string | Json[] | {
    [key: string]: Json | undefined;
};
export type JsonObject = {
    [key: string]: Json | undefined;
};
export type ServerFrame = {
    readonly kind: "response";
    readonly id: number;
    readonly data: JsonObject;
} | {
    readonly kind: "error";
    readonly id: number;
    readonly error: SluiceError;
} | {
    readonly kind: "notification";
    readonly method: string;
    readonly data: JsonObject;
};
/** Inbound frames end at 256 KiB on the server; what is longer would only be refused there. */
export declare const MAX_OUTBOUND_BYTES: number;
/** A request as text. Throws `too_large` when the server would refuse it for its size. */
export declare function encodeRequest(id: number, method: string, data: JsonObject): string;
/** A value of the application's as JSON, as of now: it may change before it is sent. Throws if it is none. */
export declare function asJson(value: unknown): Json;
/** A frame from the server, or undefined if it is none of the contract's. */
export declare function decodeFrame(text: unknown): ServerFrame | undefined;
export declare function isObject(value: unknown): value is JsonObject;
