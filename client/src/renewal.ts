/**
 * A new token for a connection whose present one nears its end, so that it need not end with it. What cannot be renewed
 * in time is closed by the server, and comes back as a new connection with a new token.
 */

import { Backoff } from "./backoff.ts";
import type { Clock, TimerId } from "./clock.ts";
import { SluiceError } from "./error.ts";
import { RECONNECT } from "./link.ts";
import { resolveToken, type Signalling, TOKEN_WITHIN_MS, type TokenSource, within } from "./signalling.ts";

/** Tokens made at once end at once: whoever makes them is asked over this share of the time that is left. */
const SPREAD_SHARE = 1 / 3;
/** And over no more than this, so that a failure leaves time for another try. */
const MAX_SPREAD_MS = 20_000;
/** Refusals that another try does not change: a server that knows no `refresh`. */
const FINAL: ReadonlySet<string> = new Set(["unknown_method", "disconnected"]);

export class Renewal {
  #timer: TimerId | undefined;
  /** Counts what was begun; a stale one ends by itself. */
  #current = 0;
  readonly #backoff: Backoff;

  constructor(
    private readonly signalling: Signalling,
    private readonly token: TokenSource | undefined,
    private readonly clock: Clock,
  ) {
    this.#backoff = new Backoff(RECONNECT, clock.random);
  }

  /** The server says that the token ends in so many milliseconds. A token that is text has no successor. */
  handleExpiring(inMs: number): void {
    if (typeof this.token !== "function" || !(inMs > 0)) return;
    this.stop();
    this.#backoff.reset();
    const spread = Math.min(inMs * SPREAD_SHARE, MAX_SPREAD_MS);
    this.#after(Math.floor(this.clock.random() * spread), this.clock.now() + inMs);
  }

  /** The connection is gone, or is about to have a fresh token anyway. */
  stop(): void {
    this.#current += 1;
    if (this.#timer !== undefined) this.clock.clearTimer(this.#timer);
    this.#timer = undefined;
  }

  #after(ms: number, deadline: number): void {
    const mine = this.#current;
    this.#timer = this.clock.setTimer(() => {
      this.#timer = undefined;
      void this.#renew(mine, deadline);
    }, ms);
  }

  async #renew(mine: number, deadline: number): Promise<void> {
    try {
      const token = await within(this.clock, TOKEN_WITHIN_MS, resolveToken(this.token));
      if (mine !== this.#current) return;
      await this.signalling.request("refresh", { access_token: token });
    } catch (thrown) {
      if (mine !== this.#current) return;
      const error = SluiceError.from(thrown);
      const wait = Math.max(error.retryAfterMs ?? 0, this.#backoff.next());
      if (!FINAL.has(error.name) && this.clock.now() + wait < deadline) this.#after(wait, deadline);
    }
  }
}
