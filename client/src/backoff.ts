/**
 * How long to wait before the next try: exponential with full jitter, so that many clients cut off at once come
 * back spread out. Pure: randomness is given.
 */

export interface BackoffOptions {
  /** Upper bound of the first wait. More spreads a crowd better, less brings a single client back sooner. */
  readonly baseMs: number;
  /** No wait is longer. More is kinder to a server that is down for long, less notices its return sooner. */
  readonly capMs: number;
  /** Waits before the bound doubles, 1 if absent: of four servers the fourth is tried as soon as the second. */
  readonly perStep?: number;
}

export class Backoff {
  #tries = 0;

  constructor(
    private readonly options: BackoffOptions,
    /** Uniform in [0, 1), as `Math.random`. */
    private readonly random: () => number,
  ) {}

  /** Waits handed out since the last reset. */
  get tries(): number {
    return this.#tries;
  }

  /** The next wait in milliseconds: uniform between 0 and min(cap, base × 2^(tries / perStep)). */
  next(): number {
    // 2^30 × any base is beyond every cap; the bound keeps the power finite however long the outage.
    const step = Math.min(Math.floor(this.#tries / (this.options.perStep ?? 1)), 30);
    const ceiling = Math.min(this.options.capMs, this.options.baseMs * 2 ** step);
    this.#tries += 1;
    return Math.floor(this.random() * ceiling);
  }

  reset(): void {
    this.#tries = 0;
  }
}
