/**
 * Who is in the room and what they publish, and what changes when a notification or a snapshot arrives. Pure. What is
 * the same before and after a snapshot makes no change, so nothing on the screen flickers when a client comes back.
 */
import type { Notification, StreamRecord } from "./messages.ts";
export type Change = {
    readonly kind: "peer-joined";
    readonly uid: string;
} | {
    readonly kind: "peer-left";
    readonly uid: string;
} | {
    readonly kind: "stream-added";
    readonly stream: StreamRecord;
} | {
    readonly kind: "stream-removed";
    readonly stream: StreamRecord;
} | {
    readonly kind: "stream-updated";
    readonly stream: StreamRecord;
};
export declare class Roster {
    #private;
    private readonly self;
    /** `self` is never listed: neither the user nor the streams. */
    constructor(self: string);
    get users(): ReadonlySet<string>;
    get streams(): ReadonlyMap<string, StreamRecord>;
    /** Takes over a snapshot. Changes come in the order in which they make sense: leaving before coming. */
    reconcile(users: readonly string[], streams: readonly StreamRecord[]): Change[];
    /** Takes over a notification; one that tells nothing new makes no change. */
    apply(notification: Notification): Change[];
    /** Empties the room, as when it is left. */
    clear(): void;
}
