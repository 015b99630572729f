/**
 * The one error type of the SDK. What the server refuses keeps the server's code and name; what the SDK itself
 * finds has code 0.
 */
/** Stable names of errors. The server's are listed in docs/signalling.md, the SDK's own are the last group. */
export type SluiceErrorName = "unknown_method" | "bad_uid" | "not_in_room" | "bad_mid" | "bad_sid" | "bad_jsep" | "bad_sdp" | "bad_minfo" | "publish_failed" | "subscribe_failed" | "no_sfu" | "store_unavailable" | "sfu_unreachable" | "internal" | "unauthenticated" | "forbidden" | "conflict" | "too_large" | "rate_limited" | "refused" | "token_unavailable" | "timeout" | "disconnected" | "closed" | "bad_url" | "unsupported" | "protocol" | "permission_denied" | "no_device" | "device_busy" | "insecure_context" | (string & {});
export declare class SluiceError extends Error {
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
