/** Time and randomness as the SDK's shells use them, so that tests can run them in virtual time. */

/** A timer handle; its type differs between browsers and Node. */
export type TimerId = unknown;

export interface Clock {
  /** Monotonic milliseconds. */
  now(): number;
  setTimer(callback: () => void, ms: number): TimerId;
  clearTimer(timer: TimerId): void;
  /** Uniform in [0, 1). Spreads retries; nothing secret depends on it. */
  random(): number;
}

export const systemClock: Clock = {
  now: () => performance.now(),
  setTimer: (callback, ms) => setTimeout(callback, ms),
  clearTimer: (timer) => clearTimeout(timer as ReturnType<typeof setTimeout>),
  random: () => Math.random(),
};

/** What a state machine that is told the time looks like to its driver. */
export interface Machine<Action> {
  handleTimeout(now: number): void;
  /** The next thing to do, or undefined. */
  pollAction(): Action | undefined;
  /** When `handleTimeout` wants to be called, on the clock's scale, or undefined. */
  pollTimeout(): number | undefined;
}

/** Runs a machine: carries out its actions after every input and keeps its one timer. */
export class Driver<Action> {
  #timer: TimerId | undefined;
  #busy = false;

  constructor(
    private readonly clock: Clock,
    private readonly machine: Machine<Action>,
    private readonly perform: (action: Action) => void,
    /** Called when all that followed from an input is done. */
    private readonly settled: () => void,
  ) {}

  /** Call after every input given to the machine. */
  turn(): void {
    // An action may give the machine its next input at once: the outer loop picks up what follows from it.
    if (this.#busy) return;
    this.#busy = true;
    try {
      for (let action = this.machine.pollAction(); action !== undefined; action = this.machine.pollAction()) {
        this.perform(action);
      }
    } finally {
      this.#busy = false;
    }
    this.#arm();
    this.settled();
  }

  #arm(): void {
    if (this.#timer !== undefined) this.clock.clearTimer(this.#timer);
    this.#timer = undefined;
    const at = this.machine.pollTimeout();
    if (at === undefined) return;
    // Timers know whole milliseconds only, and must not come before their time.
    const wait = Math.max(0, Math.ceil(at - this.clock.now()));
    this.#timer = this.clock.setTimer(() => {
      this.#timer = undefined;
      this.machine.handleTimeout(this.clock.now());
      this.turn();
    }, wait);
  }
}
