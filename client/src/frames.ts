/**
 * The frames of docs/signalling.md: what goes over the WebSocket, written and read. A frame from the server is
 * checked like any other input; what is not in the contract is dropped.
 */

import { SluiceError } from "./error.ts";

export type Json = null | boolean | number | string | Json[] | { [key: string]: Json | undefined };
export type JsonObject = { [key: string]: Json | undefined };

export type ServerFrame =
  | { readonly kind: "response"; readonly id: number; readonly data: JsonObject }
  | { readonly kind: "error"; readonly id: number; readonly error: SluiceError }
  | { readonly kind: "notification"; readonly method: string; readonly data: JsonObject };

/** Inbound frames end at 256 KiB on the server; what is longer would only be refused there. */
export const MAX_OUTBOUND_BYTES = 256 * 1024;
/** The server sends under 128 KiB. Eight times that leaves room for servers of other makers. */
const MAX_INBOUND_CHARS = 1024 * 1024;

/** A request as text. Throws `too_large` when the server would refuse it for its size. */
export function encodeRequest(id: number, method: string, data: JsonObject): string {
  const text = JSON.stringify({ request: true, id, method, data });
  // A character takes at most three bytes in UTF-8, so short texts need no counting.
  if (text.length * 3 > MAX_OUTBOUND_BYTES && new TextEncoder().encode(text).length > MAX_OUTBOUND_BYTES) {
    throw new SluiceError(413, "too_large", `a message may have at most ${MAX_OUTBOUND_BYTES} bytes`);
  }
  return text;
}

/** A value of the application's as JSON, as of now: it may change before it is sent. Throws if it is none. */
export function asJson(value: unknown): Json {
  let text: string | undefined;
  try {
    text = JSON.stringify(value);
  } catch {
    // Circles and big integers.
  }
  if (text === undefined) throw SluiceError.local("unsupported", "the value cannot be written as JSON");
  return JSON.parse(text);
}

/** A frame from the server, or undefined if it is none of the contract's. */
export function decodeFrame(text: unknown): ServerFrame | undefined {
  if (typeof text !== "string" || text.length > MAX_INBOUND_CHARS) return undefined;
  let frame: unknown;
  try {
    frame = JSON.parse(text);
  } catch {
    return undefined;
  }
  if (!isObject(frame)) return undefined;
  const data = isObject(frame.data) ? frame.data : {};
  if (frame.response === true && typeof frame.id === "number") {
    if (frame.ok === true) return { kind: "response", id: frame.id, data };
    return { kind: "error", id: frame.id, error: errorOf(frame, data) };
  }
  if (frame.notification === true && typeof frame.method === "string") {
    return { kind: "notification", method: frame.method, data };
  }
  return undefined;
}

export function isObject(value: unknown): value is JsonObject {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}

function errorOf(frame: JsonObject, data: JsonObject): SluiceError {
  const code = typeof frame.errorCode === "number" ? frame.errorCode : 14;
  const name = typeof frame.error === "string" ? frame.error : undefined;
  const reason = typeof frame.errorReason === "string" ? frame.errorReason : "the server gave no reason";
  const retryAfterMs = typeof data.retryAfterMs === "number" ? data.retryAfterMs : undefined;
  return SluiceError.fromServer(code, name, reason, retryAfterMs);
}
