/** How loud a track is, where the browser tells. */

import { Meter } from "../src/index.ts";

/** Browsers that guard against being recognised refuse to measure sound: there is no level then, and the call goes on. */
export function meterOf(track: MediaStreamTrack): Meter | undefined {
  try {
    return new Meter(track);
  } catch {
    return undefined;
  }
}
