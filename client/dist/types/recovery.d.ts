/**
 * Keeps the media of one stream flowing: decides when its peer connection is negotiated anew and when an ICE restart
 * will do. A state machine that is told the time; it owns no peer connection.
 *
 * ```text
 *  negotiate ──answered──▶ connecting ──ice──▶ connected ──ice lost──▶ interrupted
 *      ▲                      │ 12 s              ▲                        │ 1.5 s, failed,
 *      │                      ▼                   │ ice                    ▼ network changed
 *      └──────────────────  waiting ◀──────── restarted ◀──answered──── restart
 * ```
 * `negotiate` and `restart` need signalling; without it they wait for it, while media that flows flows on.
 */
import type { Machine } from "./clock.ts";
export type RecoveryAction = 
/** Make a new peer connection and a new stream on the server. */
{
    readonly do: "negotiate";
}
/** Restart ICE on the present one. */
 | {
    readonly do: "restart";
}
/** Give up for good and let go of everything. */
 | {
    readonly do: "end";
    readonly failed: boolean;
};
/** What an application sees of it. */
export type MediaState = "connecting" | "connected" | "reconnecting" | "ended";
export declare class Recovery implements Machine<RecoveryAction> {
    #private;
    private readonly random;
    constructor(random: () => number);
    get mediaState(): MediaState;
    get negotiating(): boolean;
    handleStart(now: number): void;
    /** Requests can be sent from now on, or no longer. */
    handleSignalling(now: number, up: boolean): void;
    /** The server accepted the stream and its answer is in place. */
    handleNegotiated(now: number): void;
    /** The negotiation failed; `passing` says whether another may succeed. */
    handleNegotiationFailed(now: number, passing: boolean, retryAfterMs?: number): void;
    handleRestarted(now: number): void;
    /** The restart failed; `passing`: the stream may live, otherwise the server does not know it any more. */
    handleRestartFailed(now: number, passing: boolean, retryAfterMs?: number): void;
    /** Media can flow. */
    handleIceConnected(): void;
    /** No answers to checks for a while; may come back by itself. */
    handleIceDisconnected(now: number): void;
    /** Will not come back by itself. */
    handleIceFailed(now: number): void;
    /** DTLS failed or was closed: a restart keeps DTLS, so only a new connection helps. */
    handleTransportFailed(now: number): void;
    /** The machine's addresses changed: do not wait for checks to fail. */
    handleNetworkChanged(now: number): void;
    /** The server no longer has the stream, or wants it elsewhere. */
    handleGone(now: number): void;
    /** The application or the stream's publisher is done with it. */
    handleClose(): void;
    handleTimeout(now: number): void;
    pollAction(): RecoveryAction | undefined;
    pollTimeout(): number | undefined;
}
