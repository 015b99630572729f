/**
 * The few changes the SDK makes to a browser's SDP. Pure text in, text out; lines it does not understand stay as they
 * are.
 */
/** Parameters of an fmtp line. */
type Parameters = Readonly<Record<string, string>>;
/** What to put into the fmtp line of Opus (RFC 7587, section 7). */
export type OpusParameters = Parameters;
/** A publisher of stereo: it can send two channels and wants to be sent two. */
export declare const STEREO_PUBLISHER: OpusParameters;
/** A subscriber that plays two channels: Chromium mixes them into one unless its own offer says this. */
export declare const STEREO_SUBSCRIBER: OpusParameters;
/** Sets parameters of Opus in every audio section, keeping those that are there already. */
export declare function withOpusParameters(sdp: string, parameters: OpusParameters): string;
/**
 * Tells Chromium's encoder in an answer how much bandwidth to start with, in kbit/s. It assumes 300 otherwise, shrinks
 * the picture to that, and takes half a minute to grow it again although the bandwidth is known within a second. Other
 * browsers ignore it.
 */
export declare function withStartBitrate(sdp: string, kilobits: number): string;
export {};
