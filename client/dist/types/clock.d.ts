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
export declare const systemClock: Clock;
/** What a state machine that is told the time looks like to its driver. */
export interface Machine<Action> {
    handleTimeout(now: number): void;
    /** The next thing to do, or undefined. */
    pollAction(): Action | undefined;
    /** When `handleTimeout` wants to be called, on the clock's scale, or undefined. */
    pollTimeout(): number | undefined;
}
/** Runs a machine: carries out its actions after every input and keeps its one timer. */
export declare class Driver<Action> {
    #private;
    private readonly clock;
    private readonly machine;
    private readonly perform;
    /** Called when all that followed from an input is done. */
    private readonly settled;
    constructor(clock: Clock, machine: Machine<Action>, perform: (action: Action) => void, 
    /** Called when all that followed from an input is done. */
    settled: () => void);
    /** Call after every input given to the machine. */
    turn(): void;
}
