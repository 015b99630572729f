/**
 * The few changes the SDK makes to a browser's SDP. Pure text in, text out; lines it does not understand stay as they
 * are.
 */

/** Parameters of an fmtp line. */
type Parameters = Readonly<Record<string, string>>;
/** What to put into the fmtp line of Opus (RFC 7587, section 7). */
export type OpusParameters = Parameters;

/** A publisher of stereo: it can send two channels and wants to be sent two. */
export const STEREO_PUBLISHER: OpusParameters = { stereo: "1", "sprop-stereo": "1" };
/** A subscriber that plays two channels: Chromium mixes them into one unless its own offer says this. */
export const STEREO_SUBSCRIBER: OpusParameters = { stereo: "1" };

/** Sets parameters of Opus in every audio section, keeping those that are there already. */
export function withOpusParameters(sdp: string, parameters: OpusParameters): string {
  return inSections(sdp, "audio", /^a=rtpmap:(\d+) opus\/48000\b.*$/gim, parameters);
}

/**
 * Tells Chromium's encoder in an answer how much bandwidth to start with, in kbit/s. It assumes 300 otherwise, shrinks
 * the picture to that, and takes half a minute to grow it again although the bandwidth is known within a second. Other
 * browsers ignore it.
 */
export function withStartBitrate(sdp: string, kilobits: number): string {
  return inSections(sdp, "video", /^a=rtpmap:(\d+) VP8\/90000\b.*$/gim, {
    "x-google-start-bitrate": String(Math.round(kilobits)),
  });
}

function inSections(sdp: string, kind: "audio" | "video", rtpmap: RegExp, parameters: Parameters): string {
  return sections(sdp)
    .map((section) =>
      section.startsWith(`m=${kind} `) ? setInSection(section, rtpmap, parameters) : section,
    )
    .join("");
}

function setInSection(section: string, rtpmap: RegExp, parameters: Parameters): string {
  let changed = section;
  for (const match of section.matchAll(rtpmap)) {
    changed = setForPayloadType(changed, match[1] ?? "", match[0], parameters);
  }
  return changed;
}

function setForPayloadType(
  section: string,
  payloadType: string,
  rtpmap: string,
  parameters: Parameters,
): string {
  const line = new RegExp(`^a=fmtp:${payloadType} (.*)$`, "m");
  const present = line.exec(section);
  if (!present) {
    // Right after its rtpmap, where browsers put it.
    const end = section.includes("\r\n") ? "\r\n" : "\n";
    return section.replace(rtpmap, () => `${rtpmap}${end}a=fmtp:${payloadType} ${write(parameters)}`);
  }
  const merged = { ...read(present[1] ?? ""), ...parameters };
  return section.replace(line, () => `a=fmtp:${payloadType} ${write(merged)}`);
}

function read(parameters: string): Record<string, string> {
  const found: Record<string, string> = {};
  for (const part of parameters.split(";")) {
    const [key, ...value] = part.trim().split("=");
    if (key) found[key] = value.join("=");
  }
  return found;
}

function write(parameters: Parameters): string {
  return Object.entries(parameters)
    .map(([key, value]) => (value === "" ? key : `${key}=${value}`))
    .join(";");
}

/** The session part and each media section, line ends kept. */
function sections(sdp: string): string[] {
  return sdp.split(/^(?=m=)/m);
}
