/** Subscribes to every stream in the room and keeps trying while it is there. */

import type { RemoteStream, Room, Subscription } from "../src/index.ts";

export interface IncomingEvents {
  /** Streams, subscriptions or their states are others than before. */
  changed(uid: string): void;
  subscribed(subscription: Subscription): void;
  ended(subscription: Subscription): void;
}

/** After the SDK has given up on a stream that is still there. */
const AGAIN_AFTER_MS = 5_000;

export class Incoming {
  readonly #subscriptions = new Map<string, Subscription>();
  #closed = false;

  constructor(
    private readonly room: Room,
    private readonly events: IncomingEvents,
  ) {
    room.on("stream-added", ({ stream }) => {
      this.events.changed(stream.uid);
      void this.#subscribe(stream);
    });
    room.on("stream-updated", ({ stream }) => this.events.changed(stream.uid));
    room.on("stream-removed", ({ stream }) => this.events.changed(stream.uid));
  }

  /** The subscription to a stream, once the server has accepted it. */
  of(stream: RemoteStream): Subscription | undefined {
    return this.#subscriptions.get(stream.mid);
  }

  get all(): readonly Subscription[] {
    return [...this.#subscriptions.values()];
  }

  close(): void {
    this.#closed = true;
  }

  async #subscribe(stream: RemoteStream): Promise<void> {
    if (this.#closed || !this.room.streams.includes(stream)) return;
    try {
      const subscription = await this.room.subscribe(stream);
      if (this.#closed) return;
      this.#subscriptions.set(stream.mid, subscription);
      this.events.subscribed(subscription);
      subscription.on("state", () => this.events.changed(stream.uid));
      subscription.on("media", () => this.events.changed(stream.uid));
      subscription.on("ended", ({ error }) => {
        this.#subscriptions.delete(stream.mid);
        this.events.ended(subscription);
        this.events.changed(stream.uid);
        if (error) this.#later(stream);
      });
      this.events.changed(stream.uid);
    } catch {
      this.#later(stream);
    }
  }

  #later(stream: RemoteStream): void {
    setTimeout(() => void this.#subscribe(stream), AGAIN_AFTER_MS);
  }
}
