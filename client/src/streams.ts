/**
 * What others publish in the room, as objects that outlive a change of server: a stream that is published anew elsewhere is
 * the same stream, and one whose server died is waited for. Subscriptions are the room's business.
 */

import type { Clock, TimerId } from "./clock.ts";
import type { StreamRecord } from "./messages.ts";
import { RemoteStream } from "./remote-stream.ts";
import type { Change } from "./roster.ts";

export interface StreamsEvents {
  added(stream: RemoteStream): void;
  /** For good. */
  removed(stream: RemoteStream): void;
  /** Its info is another. */
  updated(stream: RemoteStream): void;
  /** It is recorded from now on, or no more. */
  recorded(stream: RemoteStream): void;
  /** The server does not have it for now. */
  lost(stream: RemoteStream): void;
  /** It was `mid` before, and can be had. */
  moved(stream: RemoteStream, mid: string): void;
}

/** For a publisher to find out, to reach the server and be let in. Longer leaves a still picture of who is not coming. */
const COMES_BACK_WITHIN_MS = 8_000;

export class Streams {
  readonly #all = new Map<string, RemoteStream>();
  /** By `mid`: those that the server lost and their publishers are to bring back. */
  readonly #awaited = new Map<string, TimerId>();

  constructor(
    private readonly clock: Clock,
    private readonly events: StreamsEvents,
  ) {}

  get all(): RemoteStream[] {
    return [...this.#all.values()];
  }

  get(mid: string): RemoteStream | undefined {
    return this.#all.get(mid);
  }

  /** The server has lost it; it may come back. */
  isAwaited(stream: RemoteStream): boolean {
    return this.#awaited.has(stream.mid);
  }

  /** `mid`s that streams among these changes were before they moved. */
  static replacedIn(changes: readonly Change[]): ReadonlySet<string> {
    return new Set(changes.flatMap((change) => (change.kind === "stream-added" ? replacedBy(change.stream) : [])));
  }

  add(record: StreamRecord): void {
    const moved = replacedBy(record).flatMap((mid) => this.#all.get(mid) ?? [])[0];
    // Only its publisher can move a stream.
    if (moved?.uid === record.uid) {
      this.#move(moved, record);
      return;
    }
    const stream = new RemoteStream(record);
    this.#all.set(stream.mid, stream);
    this.events.added(stream);
  }

  update(record: StreamRecord): void {
    const stream = this.#all.get(record.mid);
    if (!stream) return;
    stream.update(record);
    this.events.updated(stream);
  }

  record(record: StreamRecord): void {
    const stream = this.#all.get(record.mid);
    if (!stream) return;
    stream.update(record);
    this.events.recorded(stream);
  }

  /** The server has it no more. `comesBack`: its publisher is expected to publish it again. */
  remove(mid: string, comesBack: boolean): void {
    const stream = this.#all.get(mid);
    if (!stream) return;
    if (comesBack) this.#await(stream);
    else this.#end(stream);
  }

  /** Who has left brings nothing back. */
  removeOf(uid: string): void {
    for (const stream of this.all) {
      if (stream.uid === uid) this.#end(stream);
    }
  }

  /** Forgets all of them, silently. */
  clear(): void {
    for (const timer of this.#awaited.values()) this.clock.clearTimer(timer);
    this.#awaited.clear();
    this.#all.clear();
  }

  #await(stream: RemoteStream): void {
    this.#awaitNoMore(stream);
    this.#awaited.set(
      stream.mid,
      this.clock.setTimer(() => this.#end(stream), COMES_BACK_WITHIN_MS),
    );
    this.events.lost(stream);
  }

  #awaitNoMore(stream: RemoteStream): void {
    this.clock.clearTimer(this.#awaited.get(stream.mid));
    this.#awaited.delete(stream.mid);
  }

  #end(stream: RemoteStream): void {
    this.#awaitNoMore(stream);
    this.#all.delete(stream.mid);
    this.events.removed(stream);
  }

  #move(stream: RemoteStream, record: StreamRecord): void {
    const { mid, recording } = stream;
    this.#awaitNoMore(stream);
    this.#all.delete(mid);
    stream.update(record);
    this.#all.set(stream.mid, stream);
    this.events.moved(stream, mid);
    if (stream.recording !== recording) this.events.recorded(stream);
  }
}

/** The `mid` of what a stream was before it moved, if it did. */
function replacedBy({ info }: StreamRecord): string[] {
  return typeof info.replaces === "string" ? [info.replaces] : [];
}
