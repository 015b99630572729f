/**
 * The contract's messages as types, and readers that turn what the server sent into them. An entry that lacks what
 * it needs is left out, not guessed.
 */

import type { Position } from "./feed.ts";
import { isObject, type Json, type JsonObject } from "./frames.ts";

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
  readonly info: MediaInfo;
  /** The recording that is made of it. */
  readonly recording?: string | undefined;
}

/** What a join was answered with. */
export interface Joined {
  readonly users: readonly string[];
  readonly streams: readonly StreamRecord[];
  /** What survived of the client's own; undefined where the server does not tell, or not all at once. */
  readonly own:
    | {
        readonly mids: ReadonlySet<string>;
        readonly sids: ReadonlySet<string>;
        /** What is recorded of them, by `mid`. */
        readonly recordings?: ReadonlyMap<string, string>;
      }
    | undefined;
  readonly session: string | undefined;
  readonly position: Position | undefined;
  /** The snapshot is the truth; no missed notifications follow. */
  readonly resync: boolean;
  /** How many notifications bring what of the snapshot was too much for the answer. */
  readonly rest: number;
}

export type Notification =
  | { readonly method: "peer-join"; readonly uid: string }
  | { readonly method: "peer-leave"; readonly uid: string }
  | { readonly method: "stream-add"; readonly stream: StreamRecord }
  | {
      readonly method: "stream-remove";
      readonly mid: string;
      readonly uid: string | undefined;
      /** Why; "" from a server that does not say. */
      readonly reason: string;
    }
  | { readonly method: "stream-update"; readonly mid: string; readonly info: MediaInfo }
  | {
      readonly method: "recording";
      readonly mid: string;
      readonly on: boolean;
      /** Which has begun or ended. */
      readonly recording: string;
    }
  | { readonly method: "stream-migrate"; readonly mid: string }
  | { readonly method: "broadcast"; readonly uid: string; readonly data: Json }
  | { readonly method: "peer-kick"; readonly uid: string | undefined; readonly reason: string };

export function readJoined(data: JsonObject): Joined {
  return {
    users: list(data.users).flatMap((user) => (isObject(user) && isId(user.uid) ? [user.uid] : [])),
    streams: list(data.pubs).flatMap((pub) => readStream(pub) ?? []),
    own: isObject(data.own) && data.own.more !== true
      ? {
          mids: ids(data.own.pubs, "mid"),
          sids: ids(data.own.subs, "sid"),
          recordings: new Map(list(data.own.pubs).flatMap(recordingOf)),
        }
      : undefined,
    session: typeof data.session === "string" ? data.session : undefined,
    position: readPosition(data),
    resync: data.resync === true,
    rest: typeof data.rest === "number" && data.rest > 0 ? Math.floor(data.rest) : 0,
  };
}

/** A notification of the contract, or undefined for one the SDK does not know. */
export function readNotification(method: string, data: JsonObject): Notification | undefined {
  switch (method) {
    case "peer-join":
    case "peer-leave":
      return isId(data.uid) ? { method, uid: data.uid } : undefined;
    case "stream-add": {
      const stream = readStream(data);
      return stream ? { method, stream } : undefined;
    }
    case "stream-remove":
      return isId(data.mid)
        ? { method, mid: data.mid, uid: isId(data.uid) ? data.uid : undefined, reason: text(data.reason) }
        : undefined;
    case "stream-update":
      return isId(data.mid) ? { method, mid: data.mid, info: readInfo(data.minfo) } : undefined;
    case "recording":
      return isId(data.mid) && isId(data.recording)
        ? { method, mid: data.mid, on: data.on === true, recording: data.recording }
        : undefined;
    case "stream-migrate":
      return isId(data.mid) ? { method, mid: data.mid } : undefined;
    case "broadcast":
      return isId(data.uid) ? { method, uid: data.uid, data: data.data ?? null } : undefined;
    case "peer-kick":
      return { method, uid: isId(data.uid) ? data.uid : undefined, reason: text(data.reason) };
    default:
      return undefined;
  }
}

/** Where in the room's log something stands; undefined from servers without one. */
export function readPosition(data: JsonObject): Position | undefined {
  const { epoch, seq } = data;
  if (typeof epoch !== "string" && typeof epoch !== "number") return undefined;
  return typeof seq === "number" ? { epoch, seq } : undefined;
}

export function readInfo(value: Json | undefined): MediaInfo {
  const info = isObject(value) ? value : {};
  return {
    ...info,
    // What a publisher does not say may be there.
    audio: info.audio !== false,
    video: info.video !== false,
    audiotype: typeof info.audiotype === "number" ? info.audiotype : 0,
    videotype: typeof info.videotype === "number" ? info.videotype : 0,
  };
}

function readStream(value: Json): StreamRecord | undefined {
  if (!isObject(value) || !isId(value.mid) || !isId(value.uid)) return undefined;
  return {
    mid: value.mid,
    uid: value.uid,
    info: readInfo(value.minfo),
    ...(isId(value.recording) && { recording: value.recording }),
  };
}

/** What an entry of a list of streams says of its recording. */
function recordingOf(value: Json): [string, string][] {
  return isObject(value) && isId(value.mid) && isId(value.recording) ? [[value.mid, value.recording]] : [];
}

/** Ids of a list whose entries are ids or objects that carry one. */
function ids(value: Json | undefined, key: "mid" | "sid"): ReadonlySet<string> {
  const found = new Set<string>();
  for (const entry of list(value)) {
    const id = isObject(entry) ? entry[key] : entry;
    if (isId(id)) found.add(id);
  }
  return found;
}

function list(value: Json | undefined): Json[] {
  return Array.isArray(value) ? value : [];
}

function text(value: Json | undefined): string {
  return typeof value === "string" ? value : "";
}

function isId(value: Json | undefined): value is string {
  return typeof value === "string" && value.length > 0 && value.length <= 512;
}
