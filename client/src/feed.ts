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

/**
 * Notifications kept while a join is under way. A room of 1,000 where everybody comes back at once fits; beyond it
 * the snapshot is asked for again, which is cheaper than keeping more.
 */
const MAX_HELD = 1000;

export class Feed<Notification> {
  #position: Position | undefined;
  #held: { at: Position | undefined; notification: Notification }[] = [];
  #holding = true;
  #outdated = false;
  #overflowed = false;

  /** The last position delivered or covered by a snapshot: what to send as `since`. */
  get position(): Position | undefined {
    return this.#position;
  }

  /** True when only a new join can tell the state: another epoch began, or too much was held. */
  get outdated(): boolean {
    return this.#outdated;
  }

  /** A join is on its way: keeps what arrives until its answer is known. */
  hold(): void {
    this.#holding = true;
    // What was kept before an overflow is older than the answer to come.
    if (this.#overflowed) this.#held = [];
    this.#overflowed = false;
  }

  /** The join was answered by a snapshot as of `at`. Returns the kept notifications that come after it. */
  startAt(at: Position | undefined): Notification[] {
    this.#position = at;
    return this.#release();
  }

  /** The join was answered by "the missed notifications follow". Returns those kept so far. */
  goOn(): Notification[] {
    return this.#release();
  }

  /** A notification came. Returns what is to be delivered now. */
  push(at: Position | undefined, notification: Notification): Notification[] {
    if (this.#holding || this.#outdated) {
      this.#keep(at, notification);
      return [];
    }
    // What is not part of the room's state has no position and is not in the log.
    if (at === undefined || this.#position === undefined) return [notification];
    if (at.epoch !== this.#position.epoch) {
      this.#outdated = true;
      this.#keep(at, notification);
      return [];
    }
    if (at.seq <= this.#position.seq) return [];
    this.#position = at;
    return [notification];
  }

  #keep(at: Position | undefined, notification: Notification): void {
    if (this.#held.length < MAX_HELD) this.#held.push({ at, notification });
    else this.#overflowed = true;
  }

  #release(): Notification[] {
    const held = this.#held;
    this.#held = [];
    this.#holding = false;
    this.#outdated = this.#overflowed;
    if (this.#overflowed) return [];
    // Kept ones of another epoch are from before the answer: a newer epoch shows with the next one to come.
    const current = held.filter(({ at }) => !at || !this.#position || at.epoch === this.#position.epoch);
    return current.flatMap(({ at, notification }) => this.push(at, notification));
  }
}
