/**
 * Puts a room's notifications into the order of their positions: each once, none before the snapshot it builds on.
 * Pure. It cannot see gaps: a position is used up by the client's own changes, too, of which it is not notified; that
 * nothing is missing is what joining with `since` is for.
 */
/** A place in a room's log. `seq` grows by one with each entry; another `epoch` is another log. */
export interface Position {
    readonly epoch: string | number;
    readonly seq: number;
}
export declare class Feed<Notification> {
    #private;
    /** The last position delivered or covered by a snapshot: what to send as `since`. */
    get position(): Position | undefined;
    /** True when only a new join can tell the state: another epoch began, or too much was held. */
    get outdated(): boolean;
    /** A join is on its way: keeps what arrives until its answer is known. */
    hold(): void;
    /** The join was answered by a snapshot as of `at`. Returns the kept notifications that come after it. */
    startAt(at: Position | undefined): Notification[];
    /** The join was answered by "the missed notifications follow". Returns those kept so far. */
    goOn(): Notification[];
    /** A notification came. Returns what is to be delivered now. */
    push(at: Position | undefined, notification: Notification): Notification[];
}
