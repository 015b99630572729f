/** Subscribes to every stream in the room and keeps trying while it is there and may be had. */

import { Backoff } from "../src/backoff.ts";
import { type Clock, systemClock, type TimerId } from "../src/clock.ts";
import { type RemoteStream, type Room, SluiceError, type Subscription } from "../src/index.ts";

export interface IncomingEvents {
  /** Streams, subscriptions or their states are others than before. */
  changed(uid: string): void;
  subscribed(subscription: Subscription): void;
  ended(subscription: Subscription): void;
  /** A stream will not be had, however often one asks. */
  refused(error: SluiceError): void;
}

/**
 * After the SDK, which has tried for seconds by then, has given up on a stream that is still there. The first wait is
 * short enough for whoever looks at a spinner; the longest one asks little of a server that is in trouble.
 */
const AGAIN = { baseMs: 5_000, capMs: 60_000 };

/** One stream that is to be received. */
interface Reception {
  readonly stream: RemoteStream;
  readonly backoff: Backoff;
  subscription?: Subscription | undefined;
  refused: boolean;
  timer?: TimerId;
}

export class Incoming {
  readonly #receptions = new Map<RemoteStream, Reception>();
  #closed = false;

  constructor(
    private readonly room: Room,
    private readonly events: IncomingEvents,
    private readonly clock: Clock = systemClock,
  ) {
    room.on("stream-added", ({ stream }) => {
      if (this.#closed) return;
      const reception = { stream, backoff: new Backoff(AGAIN, () => this.clock.random()), refused: false };
      this.#receptions.set(stream, reception);
      this.events.changed(stream.uid);
      void this.#subscribe(reception);
    });
    room.on("stream-updated", ({ stream }) => this.events.changed(stream.uid));
    room.on("stream-removed", ({ stream }) => {
      this.clock.clearTimer(this.#receptions.get(stream)?.timer);
      this.#receptions.delete(stream);
      this.events.changed(stream.uid);
    });
  }

  /** The subscription to a stream, once the server has accepted it. */
  of(stream: RemoteStream): Subscription | undefined {
    return this.#receptions.get(stream)?.subscription;
  }

  /** It was asked for and will not be had. */
  refused(stream: RemoteStream): boolean {
    return this.#receptions.get(stream)?.refused ?? false;
  }

  get all(): readonly Subscription[] {
    return [...this.#receptions.values()].flatMap(({ subscription }) => subscription ?? []);
  }

  close(): void {
    this.#closed = true;
    for (const { timer } of this.#receptions.values()) this.clock.clearTimer(timer);
  }

  async #subscribe(reception: Reception): Promise<void> {
    const { stream } = reception;
    try {
      const subscription = await this.room.subscribe(stream);
      if (this.#closed) return;
      reception.subscription = subscription;
      reception.backoff.reset();
      this.events.subscribed(subscription);
      subscription.on("state", () => this.events.changed(stream.uid));
      subscription.on("media", () => this.events.changed(stream.uid));
      subscription.on("ended", ({ error }) => {
        reception.subscription = undefined;
        this.events.ended(subscription);
        this.events.changed(stream.uid);
        if (error) this.#failed(reception, error);
      });
      this.events.changed(stream.uid);
    } catch (thrown) {
      this.#failed(reception, SluiceError.from(thrown));
    }
  }

  #failed(reception: Reception, error: SluiceError): void {
    const { stream, backoff } = reception;
    // Left, or removed meanwhile: nobody wants it any more.
    if (this.#closed || this.#receptions.get(stream) !== reception) return;
    // Unknown to the server it is not here yet, or about to be removed.
    if (error.passing || error.name === "bad_mid") {
      const wait = Math.max(backoff.next(), error.retryAfterMs ?? 0);
      reception.timer = this.clock.setTimer(() => void this.#subscribe(reception), wait);
      return;
    }
    reception.refused = true;
    this.events.refused(error);
    this.events.changed(stream.uid);
  }
}
