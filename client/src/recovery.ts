/**
 * Keeps the media of one stream flowing: decides when its peer connection is negotiated anew and when an ICE restart
 * will do. A state machine that is told the time; it owns no peer connection.
 *
 * ```text
 *  negotiate ──answered──▶ connecting ──DTLS──▶ connected ──ICE lost──▶ interrupted
 *      ▲                      │ 12 s               ▲                        │ 1.5 s, failed,
 *      │                      ▼                    │ ICE                    ▼ network changed
 *      └──────────────────  waiting ◀───────── restarted ◀──answered──── restart
 * ```
 * `negotiate` and `restart` need signalling; without it they wait for it, while media that flows flows on. A stream that
 * is to move while its media flows keeps the old connection until the new one carries it.
 */

import { Backoff, type BackoffOptions } from "./backoff.ts";
import type { Machine } from "./clock.ts";

/** Browsers connect within a second or not at all; a handshake under heavy loss has been seen to take 8 s. */
const CONNECT_WITHIN_MS = 12_000;
/** What comes back by itself does so within a second or two; longer makes real changes of network last longer. */
const INTERRUPTED_FOR_MS = 1_500;
/** After a restart was answered: checks run at once, a lost packet costs half a second. */
const RESTARTED_WITHIN_MS = 6_000;
/** The server forgets a silent stream after 30 s; three restarts fit in there. */
const MAX_RESTARTS = 3;
/** A server that goes away tells everybody at once: they spread over this time. */
const MIGRATION_SPREAD_MS = 1_000;
/** A first negotiation that fails for passing reasons is tried this often before the application hears of it. */
const FIRST_TRIES = 4;

const RETRY: BackoffOptions = { baseMs: 500, capMs: 15_000 };

export type RecoveryAction =
  /** Make a new peer connection and a new stream on the server. `keep`: the old ones carry the media until `settle`. */
  | { readonly do: "negotiate"; readonly keep: boolean }
  /** The new connection carries the media: the old one is done. */
  | { readonly do: "settle" }
  /** Restart ICE on the present one. */
  | { readonly do: "restart" }
  /** Give up for good and let go of everything. */
  | { readonly do: "end"; readonly failed: boolean };

/** What an application sees of it. */
export type MediaState = "connecting" | "connected" | "reconnecting" | "ended";

type State =
  | { readonly name: "idle" }
  /** Wants a new negotiation as soon as signalling is there and `at` has come. */
  | { readonly name: "waiting"; readonly at: number; readonly then: "negotiate" | "restart" }
  | { readonly name: "negotiating" }
  | { readonly name: "connecting"; readonly deadline: number }
  | { readonly name: "connected" }
  | { readonly name: "interrupted"; readonly restartAt: number }
  | { readonly name: "restarting" }
  | { readonly name: "restarted"; readonly deadline: number }
  | { readonly name: "ended" };

export class Recovery implements Machine<RecoveryAction> {
  #state: State = { name: "idle" };
  #signalling = false;
  #everNegotiated = false;
  #everConnected = false;
  /** ICE and DTLS as last reported; an answer may come after the change it was waited for. */
  #ice = false;
  #dtls = false;
  /** What carries the media until a new connection does: the present one, or the one before it. */
  #carrier: "none" | "present" | "former" = "none";
  #restarts = 0;
  /** The server wants to hear nothing of it before. */
  #notBefore = 0;
  readonly #actions: RecoveryAction[] = [];
  readonly #backoff: Backoff;

  constructor(private readonly random: () => number) {
    this.#backoff = new Backoff(RETRY, random);
  }

  get mediaState(): MediaState {
    switch (this.#state.name) {
      case "connected":
        return "connected";
      case "ended":
        return "ended";
      case "interrupted":
        return "reconnecting";
      default:
        if (this.#flows || this.#carrier !== "none") return "connected";
        return this.#everConnected ? "reconnecting" : "connecting";
    }
  }

  get negotiating(): boolean {
    return this.#state.name === "negotiating";
  }

  handleStart(now: number): void {
    if (this.#state.name === "idle") this.#wait(now, 0, "negotiate");
  }

  /** Requests can be sent from now on, or no longer. */
  handleSignalling(now: number, up: boolean): void {
    if (this.#signalling === up) return;
    this.#signalling = up;
    if (up) this.#advance(now);
  }

  /** The server accepted the stream and its answer is in place. */
  handleNegotiated(now: number): void {
    if (this.#state.name !== "negotiating") return;
    this.#everNegotiated = true;
    this.#await("connecting", now + CONNECT_WITHIN_MS);
  }

  /** The negotiation failed; `passing` says whether another may succeed. */
  handleNegotiationFailed(now: number, passing: boolean, retryAfterMs = 0): void {
    if (this.#state.name !== "negotiating") return;
    const lastTry = !this.#everNegotiated && this.#backoff.tries + 1 >= FIRST_TRIES;
    this.#notBefore = now + retryAfterMs;
    if (!passing || lastTry) this.#end(true);
    else this.#wait(now, Math.max(retryAfterMs, this.#backoff.next()), "negotiate");
  }

  handleRestarted(now: number): void {
    if (this.#state.name === "restarting") this.#await("restarted", now + RESTARTED_WITHIN_MS);
  }

  /** The restart failed; `passing`: the stream may live, otherwise the server does not know it any more. */
  handleRestartFailed(now: number, passing: boolean, retryAfterMs = 0): void {
    if (this.#state.name !== "restarting") return;
    if (passing) this.#restartOrRenew(now, Math.max(retryAfterMs, this.#backoff.next()));
    else this.#wait(now, 0, "negotiate");
  }

  /** ICE has a way. On a connection that was secured before, media flows. */
  handleIceConnected(): void {
    this.#ice = true;
    if (!this.#flows) return;
    const { name } = this.#state;
    // During a negotiation or a restart the answer comes first: it decides.
    if (name === "connecting" || name === "interrupted" || name === "restarted" || this.#awaitsRestart()) {
      this.#connected();
    }
  }

  /** ICE and DTLS are up. A handshake that hangs under a way that works would be a black picture. */
  handleSecured(): void {
    this.#dtls = true;
    this.handleIceConnected();
  }

  /** No answers to checks for a while; may come back by itself. */
  handleIceDisconnected(now: number): void {
    this.#ice = false;
    this.#presentCarriesNoMore();
    if (this.#state.name === "connected") {
      this.#state = { name: "interrupted", restartAt: now + INTERRUPTED_FOR_MS };
    }
  }

  /** Will not come back by itself. */
  handleIceFailed(now: number): void {
    this.#ice = false;
    this.#presentCarriesNoMore();
    const { name } = this.#state;
    if (name === "connected" || name === "interrupted") this.#restartOrRenew(now, 0);
    else if (name === "restarted") this.#restartOrRenew(now, this.#backoff.next());
    else if (name === "connecting") this.#wait(now, this.#backoff.next(), "negotiate");
  }

  /** DTLS failed or was closed: a restart keeps DTLS, so only a new connection helps. */
  handleTransportFailed(now: number): void {
    this.#dtls = false;
    this.#presentCarriesNoMore();
    const { name } = this.#state;
    if (name === "idle" || name === "ended" || name === "negotiating" || name === "waiting") return;
    this.#wait(now, this.#backoff.next(), "negotiate");
  }

  /** The machine's addresses changed: do not wait for checks to fail. */
  handleNetworkChanged(now: number): void {
    const { name } = this.#state;
    if (name === "connected" || name === "interrupted") this.#restartOrRenew(now, 0);
  }

  /** The server no longer has the stream, or wants it elsewhere. */
  handleGone(now: number): void {
    const { name } = this.#state;
    this.#presentCarriesNoMore();
    if (name === "idle" || name === "ended" || name === "negotiating") return;
    if (name === "waiting" && this.#state.then === "negotiate") return;
    this.#wait(now, Math.floor(this.random() * MIGRATION_SPREAD_MS), "negotiate");
  }

  /** The server wants the stream elsewhere, and carries it until it is there. */
  handleMigrate(now: number): void {
    const state = this.#state;
    // Told again, as by the edge that it resumed on: it is about to, and what carries the media until then goes on.
    if (state.name === "waiting" && state.then === "negotiate") return;
    if (state.name !== "connected") return this.handleGone(now);
    this.#carrier = "present";
    this.#wait(now, Math.floor(this.random() * MIGRATION_SPREAD_MS), "negotiate");
  }

  /** The connection before the present one carries nothing any more. */
  handleFormerLost(now: number): void {
    if (this.#carrier !== "former") return;
    this.#carrier = "none";
    const state = this.#state;
    if (state.name !== "waiting") return;
    // Nothing flows now; and the server may have refused a new stream because there was the old one.
    const soon = Math.min(state.at, now + this.random() * MIGRATION_SPREAD_MS);
    this.#wait(now, Math.floor(Math.max(this.#notBefore, soon) - now), "negotiate");
  }

  /** The application or the stream's publisher is done with it. */
  handleClose(): void {
    if (this.#state.name !== "ended") this.#end(false);
  }

  handleTimeout(now: number): void {
    const state = this.#state;
    if (state.name === "waiting") this.#advance(now);
    else if (state.name === "connecting" && now >= state.deadline) {
      this.#wait(now, this.#backoff.next(), "negotiate");
    } else if (state.name === "interrupted" && now >= state.restartAt) this.#restartOrRenew(now, 0);
    else if (state.name === "restarted" && now >= state.deadline) this.#restartOrRenew(now, 0);
  }

  pollAction(): RecoveryAction | undefined {
    return this.#actions.shift();
  }

  pollTimeout(): number | undefined {
    const state = this.#state;
    if (state.name === "waiting") return this.#signalling ? state.at : undefined;
    if (state.name === "connecting" || state.name === "restarted") return state.deadline;
    if (state.name === "interrupted") return state.restartAt;
    return undefined;
  }

  /** Media can flow. */
  get #flows(): boolean {
    return this.#ice && this.#dtls;
  }

  #stopsFlowing(): void {
    this.#ice = false;
    this.#dtls = false;
  }

  #awaitsRestart(): boolean {
    return this.#state.name === "waiting" && this.#state.then === "restart";
  }

  #presentCarriesNoMore(): void {
    if (this.#carrier === "present") this.#carrier = "none";
  }

  /** Starts what was waited for, if signalling is there and its time has come. */
  #advance(now: number): void {
    const state = this.#state;
    if (state.name !== "waiting" || !this.#signalling || now < state.at) return;
    // The old connection may have come up once more while a new one was waited for.
    if (state.then === "restart") {
      this.#state = { name: "restarting" };
      this.#actions.push({ do: "restart" });
      return;
    }
    this.#stopsFlowing();
    this.#state = { name: "negotiating" };
    if (this.#carrier === "present") this.#carrier = "former";
    this.#actions.push({ do: "negotiate", keep: this.#carrier === "former" });
  }

  #await(name: "connecting" | "restarted", deadline: number): void {
    this.#state = { name, deadline };
    if (this.#flows) this.#connected();
  }

  #connected(): void {
    this.#state = { name: "connected" };
    this.#everConnected = true;
    this.#restarts = 0;
    this.#backoff.reset();
    if (this.#carrier === "former") this.#actions.push({ do: "settle" });
    this.#carrier = "none";
  }

  #restartOrRenew(now: number, after: number): void {
    if (this.#restarts >= MAX_RESTARTS) {
      this.#wait(now, this.#backoff.next(), "negotiate");
      return;
    }
    this.#restarts += 1;
    this.#wait(now, after, "restart");
  }

  #wait(now: number, after: number, then: "negotiate" | "restart"): void {
    if (then === "negotiate") {
      this.#restarts = 0;
      this.#stopsFlowing();
    }
    this.#state = { name: "waiting", at: now + after, then };
    this.#advance(now);
  }

  #end(failed: boolean): void {
    this.#carrier = "none";
    this.#state = { name: "ended" };
    this.#actions.push({ do: "end", failed });
  }
}
