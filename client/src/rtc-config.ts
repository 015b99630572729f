/** The ICE servers a deployment wants its clients to use, asked for at `/rtc-config` beside the WebSocket. */

import type { Clock } from "./clock.ts";
import { SluiceError } from "./error.ts";
import { isObject, type Json } from "./frames.ts";
import { resolveToken, type TokenSource, within } from "./signalling.ts";

/** Without an answer one connects without ICE servers, which works wherever UDP to the server does. */
const ANSWER_WITHIN_MS = 3_000;
/** Credentials of relays are made for hours; one asks again well before. */
const KEEP_FOR_MS = 10 * 60_000;
/** A browser slows down with more than a few. */
const MAX_SERVERS = 8;

export class RtcConfig {
  #kept: { readonly at: number; readonly answer: Promise<RTCConfiguration> } | undefined;

  constructor(
    private readonly token: TokenSource | undefined,
    private readonly clock: Clock,
  ) {}

  /**
   * Asks beside the WebSocket of that address. Never rejects: without an answer it is an empty configuration, and the
   * next call asks again.
   */
  get(socketUrl: string): Promise<RTCConfiguration> {
    const now = this.clock.now();
    if (this.#kept && now - this.#kept.at < KEEP_FOR_MS) return this.#kept.answer;
    const answer = within(this.clock, ANSWER_WITHIN_MS, this.#ask(socketUrl)).catch(() => {
      this.#kept = undefined;
      return {};
    });
    this.#kept = { at: now, answer };
    return answer;
  }

  async #ask(socketUrl: string): Promise<RTCConfiguration> {
    const token = await resolveToken(this.token);
    const url = new URL("rtc-config", socketUrl.replace(/^ws/, "http"));
    const response = await fetch(url, {
      // A header keeps the token out of access logs.
      headers: token === undefined ? {} : { authorization: `Bearer ${token}` },
      credentials: "omit",
      signal: AbortSignal.timeout(ANSWER_WITHIN_MS),
    });
    // A server without it: asking again would not help.
    if (response.status === 404) return {};
    if (!response.ok) throw SluiceError.local("protocol", `/rtc-config was answered with ${response.status}`);
    return { iceServers: readIceServers(await response.json()) };
  }
}

/** The ICE servers of an answer; what is none is left out. */
export function readIceServers(answer: Json): RTCIceServer[] {
  const servers = isObject(answer) && Array.isArray(answer.iceServers) ? answer.iceServers : [];
  return servers.flatMap((server) => readServer(server) ?? []).slice(0, MAX_SERVERS);
}

function readServer(server: Json): RTCIceServer | undefined {
  if (!isObject(server)) return undefined;
  const urls = (Array.isArray(server.urls) ? server.urls : [server.urls]).filter(isIceUrl);
  if (urls.length === 0) return undefined;
  return {
    urls,
    ...(typeof server.username === "string" ? { username: server.username } : {}),
    ...(typeof server.credential === "string" ? { credential: server.credential } : {}),
  };
}

/** A peer connection throws on any other, a query after `stun:` included (RFC 7064). */
function isIceUrl(url: Json | undefined): url is string {
  return typeof url === "string" && /^(stuns?:[^?]+|turns?:.+)$/.test(url);
}
