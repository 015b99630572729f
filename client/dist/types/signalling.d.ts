/**
 * The WebSocket under everything: drives `Link`, sends requests and matches answers. It knows nothing of rooms; what
 * outlives a lost socket is its users' business.
 */
import { type Clock } from "./clock.ts";
import { Emitter } from "./emitter.ts";
import { SluiceError } from "./error.ts";
import { type JsonObject } from "./frames.ts";
/** The part of `WebSocket` that is used; tests bring their own. */
export interface Socket {
    readonly readyState: number;
    send(text: string): void;
    close(code?: number, reason?: string): void;
    onopen: ((event: never) => void) | null;
    onmessage: ((event: {
        data: unknown;
    }) => void) | null;
    onclose: ((event: {
        code: number;
        reason: string;
    }) => void) | null;
    onerror: ((event: never) => void) | null;
}
export type SocketFactory = (url: string, protocols: string[]) => Socket;
/** The access token, or what gets a fresh one each time it is needed. */
export type TokenSource = string | (() => string | Promise<string>);
export interface SignallingOptions {
    readonly url: string;
    readonly peer: string;
    readonly token: TokenSource | undefined;
    readonly clock: Clock;
    readonly socket: SocketFactory;
}
export type SignallingState = {
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
export interface SignallingEvents {
    state: SignallingState;
    notification: {
        readonly method: string;
        readonly data: JsonObject;
    };
    /** Time for a keepalive; any frame from the server is a sign of life. */
    probe: undefined;
}
export declare class Signalling extends Emitter<SignallingEvents> {
    #private;
    private readonly options;
    constructor(options: SignallingOptions);
    get state(): SignallingState;
    start(): void;
    /** Something suggests that the network changed or is back. */
    hint(): void;
    /** Ends the connection for good. */
    stop(reason: string): void;
    /**
     * Sends a request over the present socket. Rejects with `disconnected` if there is none or it is lost before the
     * answer, `timeout` if none comes, or what the server answered.
     */
    request(method: string, data: JsonObject): Promise<JsonObject>;
    /** Sends a request whose answer nobody waits for, as when the page goes away. */
    post(method: string, data: JsonObject): void;
}
/** The token to use now. */
export declare function resolveToken(source: TokenSource | undefined): Promise<string | undefined>;
/** The promise's outcome, or a `timeout` if it takes longer than `ms`. */
export declare function within<Value>(clock: Clock, ms: number, promise: Promise<Value>): Promise<Value>;
