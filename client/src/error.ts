/**
 * The one error type of the SDK. What the server refuses keeps the server's code and name; what the SDK itself
 * finds has code 0.
 */

/** Stable names of errors. The server's are listed in docs/signalling.md, the SDK's own are the last group. */
export type SluiceErrorName =
  | "unknown_method"
  | "bad_uid"
  | "not_in_room"
  | "bad_mid"
  | "bad_sid"
  | "bad_jsep"
  | "bad_sdp"
  | "bad_minfo"
  | "publish_failed"
  | "subscribe_failed"
  | "no_sfu"
  | "store_unavailable"
  | "sfu_unreachable"
  | "internal"
  | "unauthenticated"
  | "forbidden"
  | "conflict"
  | "too_large"
  | "rate_limited"
  // The server closed the connection for good (close code 4000).
  | "refused"
  // The function that gets the access token failed or took too long; it is asked again.
  | "token_unavailable"
  // No answer in time.
  | "timeout"
  // The connection was lost before the answer; the SDK retries by itself wherever it can.
  | "disconnected"
  // The room or connection was left by the application.
  | "closed"
  // The address of the server is none.
  | "bad_url"
  // The browser cannot do it, or it makes no sense: no such part in a stream, a value that is no JSON.
  | "unsupported"
  // The browser refused an SDP or the server sent something that is not in the contract.
  | "protocol"
  // From cameras, microphones and screens.
  | "permission_denied"
  | "no_device"
  | "device_busy"
  | "insecure_context"
  | (string & {});

/** Names of the codes of docs/signalling.md, for servers that send only the number. */
const SERVER_NAMES: Readonly<Record<number, SluiceErrorName>> = {
  [-1]: "unknown_method",
  1: "bad_uid",
  2: "not_in_room",
  3: "bad_mid",
  4: "bad_sid",
  5: "bad_jsep",
  6: "bad_sdp",
  7: "bad_minfo",
  8: "publish_failed",
  9: "subscribe_failed",
  10: "no_sfu",
  11: "store_unavailable",
  12: "sfu_unreachable",
  14: "internal",
  401: "unauthenticated",
  403: "forbidden",
  409: "conflict",
  413: "too_large",
  429: "rate_limited",
};

/** What may pass by itself: the same request can succeed a moment later. */
const PASSING: ReadonlySet<string> = new Set([
  "publish_failed",
  "subscribe_failed",
  "no_sfu",
  "store_unavailable",
  "sfu_unreachable",
  "internal",
  "rate_limited",
  "timeout",
  "disconnected",
  "token_unavailable",
  "not_in_room",
]);

export class SluiceError extends Error {
  /** The server's number, 4000 for `refused`, 0 for what the SDK found itself. */
  readonly code: number;
  /** Stable, for programs. */
  override readonly name: SluiceErrorName;
  /** For people. */
  readonly reason: string;
  /** With `rate_limited`: when to try again, in milliseconds from now. */
  readonly retryAfterMs: number | undefined;

  constructor(code: number, name: SluiceErrorName, reason: string, retryAfterMs?: number) {
    super(`${name}: ${reason}`);
    this.code = code;
    this.name = name;
    this.reason = reason;
    this.retryAfterMs = retryAfterMs;
  }

  /** True if trying again later makes sense. */
  get passing(): boolean {
    return PASSING.has(this.name);
  }

  /** An error the SDK found itself. */
  static local(name: SluiceErrorName, reason: string): SluiceError {
    return new SluiceError(0, name, reason);
  }

  /** An error the server answered with. */
  static fromServer(
    code: number,
    name: string | undefined,
    reason: string,
    retryAfterMs?: number,
  ): SluiceError {
    return new SluiceError(code, name ?? SERVER_NAMES[code] ?? "internal", reason, retryAfterMs);
  }

  /** Anything thrown, as a `SluiceError`. */
  static from(thrown: unknown): SluiceError {
    if (thrown instanceof SluiceError) return thrown;
    const reason = thrown instanceof Error ? thrown.message : String(thrown);
    return SluiceError.local("protocol", reason);
  }
}
