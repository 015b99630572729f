/**
 * `getStats()` in a few numbers: what flows on one stream's connection, and how well. Pure: reports in, summary out;
 * rates are differences between two reports.
 */

import type { Kind } from "./info.ts";

export interface TrackStats {
  readonly kind: Kind;
  readonly direction: "send" | "receive";
  /** Bit/s of payload since the last summary. */
  readonly bitrate: number;
  /** Lost share of the packets since the last summary, 0 to 1: of those received, or as the receiver reports. */
  readonly loss: number;
  readonly jitterMs: number | undefined;
  /** For example `VP8` or `opus`, with `stereo` if two channels are sent. */
  readonly codec: string | undefined;
  readonly width: number | undefined;
  readonly height: number | undefined;
  readonly framesPerSecond: number | undefined;
  /** Keyframe requests so far. */
  readonly keyframeRequests: number;
  /** What keeps the picture from being better, as the sender's encoder says: `cpu`, `bandwidth`. */
  readonly limitedBy: string | undefined;
}

export interface StreamStats {
  readonly rttMs: number | undefined;
  /** As negotiated by DTLS-SRTP, for example `AEAD_AES_128_GCM`. */
  readonly srtpCipher: string | undefined;
  readonly dtlsState: string | undefined;
  /** `udp` or `tcp`, and the kind of the local candidate: `host`, `srflx`, `prflx`, `relay`. */
  readonly path: string | undefined;
  /** Bit/s the browser believes it may send; of a stream that is sent only: otherwise it is nothing but a first guess. */
  readonly availableOutgoing: number | undefined;
  readonly tracks: readonly TrackStats[];
}

/** An entry of a report; every browser leaves out some. */
type Entry = { readonly [key: string]: unknown };

interface Counters {
  readonly at: number;
  readonly bytes: number;
  readonly packets: number;
  readonly lost: number;
}

export class Summary {
  #last = new Map<string, Counters>();

  /** `stereo`: what is sent has two channels. Reports do not tell: two are always agreed, so that subscribers may get them. */
  constructor(private readonly stereo = false) {}

  of(report: Iterable<unknown>): StreamStats {
    const entries = new Map<string, Entry>();
    for (const entry of report) {
      if (typeof entry === "object" && entry !== null)
        entries.set(text(entry as Entry, "id") ?? "", entry as Entry);
    }
    const all = [...entries.values()];
    const transport = all.find((entry) => entry.type === "transport");
    const pair = selectedPair(entries, all, transport);
    const local = entries.get(text(pair, "localCandidateId") ?? "");
    const counters = new Map<string, Counters>();
    const tracks = all
      .filter((entry) => entry.type === "inbound-rtp" || entry.type === "outbound-rtp")
      .flatMap((entry) => this.#track(entry, entries, counters) ?? []);
    this.#last = counters;
    return {
      rttMs: milliseconds(number(pair, "currentRoundTripTime")),
      srtpCipher: text(transport, "srtpCipher"),
      dtlsState: text(transport, "dtlsState"),
      path: local ? `${text(local, "protocol") ?? "?"} ${text(local, "candidateType") ?? "?"}` : undefined,
      availableOutgoing: tracks.some(({ direction }) => direction === "send")
        ? number(pair, "availableOutgoingBitrate")
        : undefined,
      tracks,
    };
  }

  #track(
    entry: Entry,
    entries: ReadonlyMap<string, Entry>,
    counters: Map<string, Counters>,
  ): TrackStats | undefined {
    const id = text(entry, "id");
    const kind = text(entry, "kind");
    if (id === undefined || (kind !== "audio" && kind !== "video")) return undefined;
    const send = entry.type === "outbound-rtp";
    // What was lost of what we send is known to the receiver only, and comes in its reports.
    const remote = entries.get(text(entry, "remoteId") ?? "");
    const judged = send ? remote : entry;
    const now: Counters = {
      at: number(entry, "timestamp") ?? 0,
      bytes: number(entry, send ? "bytesSent" : "bytesReceived") ?? 0,
      packets: number(entry, send ? "packetsSent" : "packetsReceived") ?? 0,
      lost: number(judged, "packetsLost") ?? 0,
    };
    counters.set(id, now);
    const before = this.#last.get(id);
    return {
      kind,
      direction: send ? "send" : "receive",
      bitrate: before ? rate(before, now) : 0,
      loss: before ? lossBetween(before, now, send) : 0,
      jitterMs: milliseconds(number(judged, "jitter")),
      codec: codecName(entries.get(text(entry, "codecId") ?? ""), send && kind === "audio" && this.stereo),
      width: number(entry, "frameWidth"),
      height: number(entry, "frameHeight"),
      framesPerSecond: number(entry, "framesPerSecond"),
      keyframeRequests: (number(entry, "pliCount") ?? 0) + (number(entry, "firCount") ?? 0),
      limitedBy: limitation(entry),
    };
  }
}

/** Chromium names the selected pair in the transport; Firefox marks the pair itself. */
function selectedPair(
  entries: ReadonlyMap<string, Entry>,
  all: readonly Entry[],
  transport: Entry | undefined,
): Entry | undefined {
  const named = entries.get(text(transport, "selectedCandidatePairId") ?? "");
  const pairs = all.filter((entry) => entry.type === "candidate-pair");
  return (
    named ?? pairs.find((pair) => pair.selected === true) ?? pairs.find((pair) => pair.nominated === true)
  );
}

function rate(before: Counters, now: Counters): number {
  const elapsed = now.at - before.at;
  return elapsed > 0 ? Math.max(0, ((now.bytes - before.bytes) * 8000) / elapsed) : 0;
}

/** Late packets can make the lost ones fewer again: never below 0. */
function lossBetween(before: Counters, now: Counters, send: boolean): number {
  const lost = Math.max(0, now.lost - before.lost);
  const packets = Math.max(0, now.packets - before.packets);
  const expected = send ? packets : packets + lost;
  return expected > 0 ? Math.min(1, lost / expected) : 0;
}

function codecName(codec: Entry | undefined, stereo: boolean): string | undefined {
  const name = text(codec, "mimeType")?.split("/")[1];
  return name && stereo ? `${name} stereo` : name;
}

function limitation(entry: Entry): string | undefined {
  const reason = text(entry, "qualityLimitationReason");
  return reason === "none" ? undefined : reason;
}

function number(entry: Entry | undefined, key: string): number | undefined {
  const value = entry?.[key];
  return typeof value === "number" && Number.isFinite(value) ? value : undefined;
}

function text(entry: Entry | undefined, key: string): string | undefined {
  const value = entry?.[key];
  return typeof value === "string" ? value : undefined;
}

function milliseconds(seconds: number | undefined): number | undefined {
  return seconds === undefined ? undefined : seconds * 1000;
}
