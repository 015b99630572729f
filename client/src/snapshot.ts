/**
 * A room's state as the answer to a join gives it. Of a large room the answer has a part: the rest follows as
 * notifications at the answer's own position. Pure.
 */

import type { Position } from "./feed.ts";
import type { Joined, Notification, StreamRecord } from "./messages.ts";

export class Snapshot {
  readonly #users: string[];
  readonly #streams: StreamRecord[];
  #missing: number;

  constructor(private readonly answer: Joined) {
    this.#users = [...answer.users];
    this.#streams = [...answer.streams];
    this.#missing = answer.rest;
  }

  /** All of the room is known. */
  get isWhole(): boolean {
    return this.#missing === 0;
  }

  /** The answer as it would be if it had all. */
  get joined(): Joined {
    return { ...this.answer, users: this.#users, streams: this.#streams, rest: 0 };
  }

  /** Takes a notification that is part of the rest; false: it is none. */
  take(at: Position | undefined, notification: Notification | undefined): boolean {
    const { position } = this.answer;
    if (this.isWhole || !at || !position || at.epoch !== position.epoch || at.seq !== position.seq) return false;
    if (notification?.method === "peer-join") this.#users.push(notification.uid);
    else if (notification?.method === "stream-add") this.#streams.push(notification.stream);
    this.#missing -= 1;
    return true;
  }
}
