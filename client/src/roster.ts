/**
 * Who is in the room and what they publish, and what changes when a notification or a snapshot arrives. Pure. What is
 * the same before and after a snapshot makes no change, so nothing on the screen flickers when a client comes back.
 */

import type { MediaInfo, Notification, StreamRecord } from "./messages.ts";

export type Change =
  | { readonly kind: "peer-joined"; readonly uid: string }
  | { readonly kind: "peer-left"; readonly uid: string }
  | { readonly kind: "stream-added"; readonly stream: StreamRecord }
  | { readonly kind: "stream-removed"; readonly stream: StreamRecord }
  | { readonly kind: "stream-updated"; readonly stream: StreamRecord }
  | { readonly kind: "recording-changed"; readonly stream: StreamRecord };

export class Roster {
  readonly #users = new Set<string>();
  readonly #streams = new Map<string, StreamRecord>();

  /** `self` is never listed: neither the user nor the streams. */
  constructor(private readonly self: string) {}

  get users(): ReadonlySet<string> {
    return this.#users;
  }

  get streams(): ReadonlyMap<string, StreamRecord> {
    return this.#streams;
  }

  /** Takes over a snapshot. Changes come in the order in which they make sense: leaving before coming. */
  reconcile(users: readonly string[], streams: readonly StreamRecord[]): Change[] {
    const changes: Change[] = [];
    const present = new Set([...users, ...streams.map((stream) => stream.uid)]);
    const published = new Set(streams.map((stream) => stream.mid));
    for (const mid of [...this.#streams.keys()]) {
      if (!published.has(mid)) changes.push(...this.#removeStream(mid));
    }
    for (const uid of [...this.#users]) {
      if (!present.has(uid)) changes.push(...this.#removeUser(uid));
    }
    for (const uid of users) changes.push(...this.#addUser(uid));
    for (const stream of streams) changes.push(...this.#addStream(stream));
    return changes;
  }

  /** Takes over a notification; one that tells nothing new makes no change. */
  apply(notification: Notification): Change[] {
    switch (notification.method) {
      case "peer-join":
        return this.#addUser(notification.uid);
      case "peer-leave":
        return this.#removeUser(notification.uid);
      case "stream-add":
        return this.#addStream(notification.stream);
      case "stream-remove":
        return this.#removeStream(notification.mid);
      case "stream-update":
        return this.#updateStream(notification.mid, notification.info);
      case "recording":
        return this.record(notification.mid, notification.on ? notification.recording : undefined);
      default:
        return [];
    }
  }

  /** A stream is recorded from now on, or no more. */
  record(mid: string, recording: string | undefined): Change[] {
    const known = this.#streams.get(mid);
    if (!known || known.recording === recording) return [];
    const stream = { ...known, recording };
    this.#streams.set(mid, stream);
    return [{ kind: "recording-changed", stream }];
  }

  /** Empties the room, as when it is left. */
  clear(): void {
    this.#users.clear();
    this.#streams.clear();
  }

  #addUser(uid: string): Change[] {
    if (uid === this.self || this.#users.has(uid)) return [];
    this.#users.add(uid);
    return [{ kind: "peer-joined", uid }];
  }

  #removeUser(uid: string): Change[] {
    const mids = [...this.#streams.values()]
      .filter((stream) => stream.uid === uid)
      .map((stream) => stream.mid);
    const removed = mids.flatMap((mid) => this.#removeStream(mid));
    return this.#users.delete(uid) ? [...removed, { kind: "peer-left", uid }] : removed;
  }

  #addStream(stream: StreamRecord): Change[] {
    if (stream.uid === this.self) return [];
    const known = this.#streams.get(stream.mid);
    if (known) return [...this.#updateStream(stream.mid, stream.info), ...this.record(stream.mid, stream.recording)];
    const joined = this.#addUser(stream.uid);
    this.#streams.set(stream.mid, stream);
    return [...joined, { kind: "stream-added", stream }];
  }

  #removeStream(mid: string): Change[] {
    const stream = this.#streams.get(mid);
    if (!stream) return [];
    this.#streams.delete(mid);
    return [{ kind: "stream-removed", stream }];
  }

  #updateStream(mid: string, info: MediaInfo): Change[] {
    const known = this.#streams.get(mid);
    if (!known || JSON.stringify(known.info) === JSON.stringify(info)) return [];
    const stream = { ...known, info };
    this.#streams.set(mid, stream);
    return [{ kind: "stream-updated", stream }];
  }
}
