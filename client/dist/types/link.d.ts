/**
 * The life of the signalling connection as a state machine that is told the time. It decides when to open and when to
 * give up a socket; it owns none.
 *
 * ```text
 *            start                 opened
 *   idle ───────────▶ connecting ──────────▶ open ──┐
 *                      ▲   │ lost, too slow   │     │ every 20 s: probe
 *              waited, │   ▼                  │ lost, silent
 *                 hint └─ waiting ◀───────────┘
 *   any ──── stop, close code 4000 ────▶ closed      (4000 for a token that ran out: waiting, if another can be had)
 * ```
 */
import { type BackoffOptions } from "./backoff.ts";
import type { Machine } from "./clock.ts";
/** A close with this code is the server's last word. */
export declare const CLOSE_FINAL = 4000;
export declare const RECONNECT: BackoffOptions;
export type LinkState = {
    readonly name: "idle";
} | {
    readonly name: "connecting";
    readonly deadline: number;
} | {
    readonly name: "open";
    readonly since: number;
    readonly probeAt: number;
    readonly answerBy: number | undefined;
} | {
    readonly name: "waiting";
    readonly until: number;
} | {
    readonly name: "closed";
    readonly code: number;
    readonly reason: string;
};
export type LinkAction = 
/** Make a socket and report what becomes of it. */
{
    readonly do: "open";
}
/** Close the present socket; nothing it says from now on matters. */
 | {
    readonly do: "abandon";
}
/** Send a keepalive. */
 | {
    readonly do: "probe";
};
export declare class Link implements Machine<LinkAction> {
    #private;
    private readonly random;
    constructor(random: () => number, backoff?: BackoffOptions);
    get state(): LinkState;
    /** Tries since the last connection that held. */
    get tries(): number;
    handleStart(now: number): void;
    handleOpened(now: number): void;
    /** Any frame arrived: the connection lives. */
    handleAlive(): void;
    /** The socket closed, or could not be opened. `again`: another try may succeed even after the server's last word. */
    handleLost(now: number, code: number, reason: string, again?: boolean): void;
    /** The network may have come back or changed, or the page is looked at again: find out now, not later. */
    handleHint(now: number): void;
    /** The application is done. */
    handleStop(reason: string): void;
    handleTimeout(now: number): void;
    pollAction(): LinkAction | undefined;
    pollTimeout(): number | undefined;
}
