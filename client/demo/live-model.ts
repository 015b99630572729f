/** What `/live.json` says, and how it reads. Pure. */

export interface Stream {
  readonly mid: string;
  readonly node: string;
  readonly audio: boolean;
  readonly video: boolean;
  readonly muted: { readonly audio: boolean; readonly video: boolean };
  readonly recorded: boolean;
}

export interface Member {
  readonly uid: string;
  readonly streams: readonly Stream[];
}

export interface LiveRoom {
  readonly rid: string;
  readonly members: readonly Member[];
}

export interface LiveNode {
  readonly id: string;
  readonly region: string;
  readonly version: string;
  readonly state: "ready" | "draining";
  readonly load: {
    /** The greatest of all, each over its mark: from 1 on nothing new is taken. */
    readonly pressure: number;
    readonly cpu: number;
    readonly egress_bps: number;
    readonly packets_per_second: number;
    readonly tracks: number;
    readonly loss: number;
  };
  readonly capacity: { readonly egress_bps: number; readonly tracks: number };
}

export interface Live {
  readonly edge: { readonly id: string; readonly version: string; readonly connections: number };
  readonly counts: { readonly rooms: number; readonly members: number; readonly streams: number };
  readonly nodes: readonly LiveNode[];
  readonly rooms: readonly LiveRoom[];
  /** Ask for what is after this room. */
  readonly more?: string;
}

/** What a stream carries now, in words. */
export function streamWords({ audio, video, muted, recorded }: Stream): string {
  const kinds = [
    ...(audio ? [muted.audio ? "microphone off" : "sound"] : []),
    ...(video ? [muted.video ? "camera off" : "picture"] : []),
  ];
  return [...(kinds.length > 0 ? [kinds.join(", ")] : ["no media"]), ...(recorded ? ["recorded"] : [])].join(" · ");
}

/** A rate as people read it: three digits at most. */
export function bitrate(bitsPerSecond: number): string {
  const units = ["bit/s", "kbit/s", "Mbit/s", "Gbit/s", "Tbit/s"];
  let [value, unit] = [bitsPerSecond, 0];
  while (value >= 999.5 && unit < units.length - 1) {
    value /= 1000;
    unit += 1;
  }
  const digits = unit === 0 || value >= 99.95 ? 0 : value >= 9.995 ? 1 : 2;
  return `${value.toFixed(digits)} ${units[unit]}`;
}

/** A share as a whole number of per cent; what is there and less than half of one is not "0 %". */
export function percent(share: number): string {
  const rounded = Math.round(share * 100);
  return share > 0 && rounded === 0 ? "< 1 %" : `${rounded} %`;
}

/** "1 room", "2 rooms". */
export function count(number: number, one: string, many = `${one}s`): string {
  return `${number.toLocaleString("en")} ${number === 1 ? one : many}`;
}
