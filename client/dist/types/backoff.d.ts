/**
 * How long to wait before the next try: exponential with full jitter, so that many clients cut off at once come
 * back spread out. Pure: randomness is given.
 */
export interface BackoffOptions {
    /** Upper bound of the first wait. More spreads a crowd better, less brings a single client back sooner. */
    readonly baseMs: number;
    /** No wait is longer. More is kinder to a server that is down for long, less notices its return sooner. */
    readonly capMs: number;
}
export declare class Backoff {
    #private;
    private readonly options;
    /** Uniform in [0, 1), as `Math.random`. */
    private readonly random;
    constructor(options: BackoffOptions, 
    /** Uniform in [0, 1), as `Math.random`. */
    random: () => number);
    /** Waits handed out since the last reset. */
    get tries(): number;
    /** The next wait in milliseconds: uniform between 0 and min(cap, base × 2^tries). */
    next(): number;
    reset(): void;
}
