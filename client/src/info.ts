/** What a stream is made of and which parts of it are silenced: `minfo` in the terms of an application. Pure. */

import { isObject, type JsonObject } from "./frames.ts";
import type { MediaInfo } from "./messages.ts";

export type Kind = "audio" | "video";

export const KINDS: readonly Kind[] = ["audio", "video"];

/** Where a stream comes from. */
export type Source = "camera" | "microphone" | "screen";

/** `videotype` of a screen; 0 is a camera. */
const SCREEN = 1;

export interface Muted {
  readonly audio: boolean;
  readonly video: boolean;
}

/** The `minfo` of a stream to publish. */
export function makeInfo(
  source: Source,
  has: { readonly audio: boolean; readonly video: boolean },
  muted: Muted,
  extra: JsonObject = {},
): MediaInfo {
  return {
    ...extra,
    audio: has.audio,
    video: has.video,
    audiotype: 0,
    videotype: source === "screen" ? SCREEN : 0,
    muted: { audio: muted.audio, video: muted.video },
  };
}

export function sourceOf(info: MediaInfo): Source {
  if (info.videotype === SCREEN) return "screen";
  return info.video ? "camera" : "microphone";
}

/** Which parts the publisher has silenced. */
export function mutedOf(info: MediaInfo): Muted {
  const muted = isObject(info.muted) ? info.muted : {};
  return { audio: muted.audio === true, video: muted.video === true };
}
