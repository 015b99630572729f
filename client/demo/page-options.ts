/** What the page's address says, and what it should not go on saying. Pure. */

import { tidyName, tidyRoom } from "./names.ts";

export interface PageOptions {
  readonly room: string | undefined;
  readonly name: string | undefined;
  /** Access token, handed to the server. */
  readonly token: string | undefined;
  /** Fixed `peer`; a token names it by its `sub`. */
  readonly peer: string | undefined;
  /** The token says who this is: no name is to be asked for. */
  readonly named: boolean;
  /** Join without asking, on pages of this machine and private networks only. */
  readonly autojoin: boolean;
  /** `0` starts with it off. */
  readonly audio: boolean | undefined;
  readonly video: boolean | undefined;
}

/** A token as it is kept in a tab, and the room it came with. */
export interface KeptToken {
  readonly token: string;
  readonly room: string | undefined;
}

/** The address with the token this tab was opened with, if it still leads to the same room: for reloads. */
export function withToken(address: URL, kept: KeptToken | undefined): URL {
  const full = new URL(address);
  const room = full.searchParams.get("room") ?? undefined;
  if (kept && !full.searchParams.has("token") && room === kept.room) full.searchParams.set("token", kept.token);
  return full;
}

/**
 * The address to show: it names the room, and no token, which is its owner's alone and would go wherever the address
 * goes, into histories and onto shared screens.
 */
export function shownAddress(address: URL, room: string | undefined): URL {
  const shown = new URL(address);
  shown.searchParams.delete("token");
  if (room !== undefined) shown.searchParams.set("room", room);
  return shown;
}

export function readOptions(address: URL): PageOptions {
  const get = (key: string) => address.searchParams.get(key) ?? undefined;
  const token = get("token");
  const claims = token === undefined ? undefined : readClaims(token);
  const room = get("room") ?? (claims?.rid?.endsWith("*") ? undefined : claims?.rid);
  return {
    room: room === undefined ? undefined : tidyRoom(room) || undefined,
    name: tidyName(get("name") ?? "") || undefined,
    token,
    peer: claims?.sub ?? get("peer"),
    named: claims?.sub !== undefined,
    autojoin: flag(get("autojoin")) === true && mayAutojoin(address.hostname),
    audio: flag(get("audio")),
    video: flag(get("video")),
  };
}

/**
 * A link must not put a camera into a stranger's room: without a click one joins only on a page of one's own machine
 * or of a private network, where tests and kiosks live.
 */
export function mayAutojoin(hostname: string): boolean {
  const host = hostname.replace(/^\[|\]$/g, "");
  return (
    host === "localhost" ||
    host.endsWith(".localhost") ||
    host === "::1" ||
    /^(127|10)\.\d+\.\d+\.\d+$/.test(host) ||
    /^192\.168\.\d+\.\d+$/.test(host) ||
    /^172\.(1[6-9]|2\d|3[01])\.\d+\.\d+$/.test(host) ||
    /^169\.254\.\d+\.\d+$/.test(host) ||
    /^f[cd][0-9a-f]{2}:/i.test(host)
  );
}

/** Whether the page is one of this machine: there, and without authentication, everybody is an operator. */
export function isOfThisMachine(hostname: string): boolean {
  const host = hostname.replace(/^\[|\]$/g, "");
  return host === "localhost" || host.endsWith(".localhost") || host === "::1" || /^127\.\d+\.\d+\.\d+$/.test(host);
}

/** The link others get: the room and nothing else. A token is its owner's alone. */
export function roomLink(address: URL, room: string): string {
  const link = new URL(address.pathname, address.origin);
  link.searchParams.set("room", room);
  return link.href;
}

/** The server's WebSocket: beside the page. */
export function socketUrl(address: URL): string {
  const url = new URL("ws", address);
  url.protocol = address.protocol === "https:" ? "wss:" : "ws:";
  url.search = "";
  url.hash = "";
  return url.href;
}

/** What a token says of its owner, unverified: the server verifies. */
function readClaims(token: string): { sub: string | undefined; rid: string | undefined } | undefined {
  try {
    const payload = (token.split(".")[1] ?? "").replace(/-/g, "+").replace(/_/g, "/");
    const bytes = Uint8Array.from(atob(payload), (character) => character.charCodeAt(0));
    const claims: unknown = JSON.parse(new TextDecoder().decode(bytes));
    const { sub, rid } = claims as { sub?: unknown; rid?: unknown };
    return {
      sub: typeof sub === "string" ? sub : undefined,
      rid: typeof rid === "string" ? rid : undefined,
    };
  } catch {
    return undefined;
  }
}

function flag(value: string | undefined): boolean | undefined {
  if (value === undefined) return undefined;
  return value !== "0" && value !== "false";
}
