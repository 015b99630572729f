/** What a stream is made of and which parts of it are silenced: `minfo` in the terms of an application. Pure. */

import type { MediaInfo } from "./messages.ts";

export type Kind = "audio" | "video";

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
  extra: Partial<MediaInfo> = {},
): MediaInfo {
  return {
    ...extra,
    audio: has.audio,
    video: has.video,
    audiotype: 0,
    videotype: source === "screen" ? SCREEN : 0,
    audiomuted: muted.audio,
    videomuted: muted.video,
  };
}

export function sourceOf(info: MediaInfo): Source {
  if (info.videotype === SCREEN) return "screen";
  return info.video ? "camera" : "microphone";
}

/** Which parts the publisher has silenced. */
export function mutedOf(info: MediaInfo): Muted {
  return { audio: info.audiomuted === true, video: info.videomuted === true };
}
