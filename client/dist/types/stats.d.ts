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
    /** For example `VP8` or `opus`, with `stereo` if two channels are agreed. */
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
export declare class Summary {
    #private;
    of(report: Iterable<unknown>): StreamStats;
}
