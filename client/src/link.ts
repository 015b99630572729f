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

import { Backoff, type BackoffOptions } from "./backoff.ts";
import type { Machine } from "./clock.ts";

/** A close with this code is the server's last word. */
export const CLOSE_FINAL = 4000;
/** The server goes away, which is no trouble of ours or of the others'. */
const CLOSE_GOING_AWAY = 1001;
/** The server could not be rid of what it has for us: coming back at once, we would only be put out again. */
const CLOSE_TRY_LATER = 1013;

/** A socket that has not opened by then is given up; a TLS handshake over a bad mobile network takes up to 5 s. */
const OPEN_WITHIN_MS = 10_000;
/** Where there are others to try: a machine that died refuses nothing, it is silent. */
const OPEN_ONE_OF_SEVERAL_WITHIN_MS = 5_000;
/** For the client to find out that the server is gone. What the server wants to hear, the browser answers to its pings. */
const PROBE_EVERY_MS = 20_000;
/** The server answers each request within 10 s. */
const ANSWER_WITHIN_MS = 10_000;
/** After a hint that the network changed, waiting the full time would waste the hint. */
const HINTED_ANSWER_WITHIN_MS = 4_000;
/** A connection that held this long was a success; one that did not counts as another failed try. */
const STEADY_AFTER_MS = 10_000;
/** And one that the server ended because it goes away, this long: less may be a server that lets nobody stay. */
const STEADY_IF_GOING_AWAY_MS = 1_000;
/** At least this long after `CLOSE_TRY_LATER`. */
const LATER_MS = 1_000;
/** A hint reaches all tabs and machines of a network at once: they still must not come back in one instant. */
const HINT_SPREAD_MS = 500;

export const RECONNECT: BackoffOptions = { baseMs: 500, capMs: 20_000 };

export type LinkState =
  | { readonly name: "idle" }
  /** `deadline`: none before there is a socket; what it waits for then, the token, has a bound of its own. */
  | { readonly name: "connecting"; readonly deadline: number | undefined }
  | {
      readonly name: "open";
      readonly since: number;
      readonly probeAt: number;
      readonly answerBy: number | undefined;
    }
  | { readonly name: "waiting"; readonly until: number }
  | { readonly name: "closed"; readonly code: number; readonly reason: string };

export type LinkAction =
  /** Make a socket, which may take something first, and report that it is there (`handleOpening`) and what becomes of it. */
  | { readonly do: "open" }
  /** Close the present socket; nothing it says from now on matters. */
  | { readonly do: "abandon" }
  /** Send a keepalive. `hinted`: out of turn. */
  | { readonly do: "probe"; readonly hinted: boolean };

export class Link implements Machine<LinkAction> {
  #state: LinkState = { name: "idle" };
  readonly #actions: LinkAction[] = [];
  readonly #backoff: Backoff;

  constructor(
    private readonly random: () => number,
    /** How many there are to connect to, in turn. */
    private readonly edges = 1,
  ) {
    this.#backoff = new Backoff({ ...RECONNECT, perStep: edges }, random);
  }

  get state(): LinkState {
    return this.#state;
  }

  /** Tries since the last connection that held. */
  get tries(): number {
    return this.#backoff.tries;
  }

  handleStart(): void {
    if (this.#state.name === "idle") this.#connect();
  }

  /** There is a socket, and from now on it is waited for: the machine at its other end has no part in what came before. */
  handleOpening(now: number): void {
    if (this.#state.name !== "connecting") return;
    const within = this.edges > 1 ? OPEN_ONE_OF_SEVERAL_WITHIN_MS : OPEN_WITHIN_MS;
    this.#state = { name: "connecting", deadline: now + within };
  }

  handleOpened(now: number): void {
    if (this.#state.name !== "connecting") return;
    this.#state = { name: "open", since: now, probeAt: now + PROBE_EVERY_MS, answerBy: undefined };
  }

  /** Any frame arrived: the connection lives. */
  handleAlive(): void {
    if (this.#state.name === "open") this.#state = { ...this.#state, answerBy: undefined };
  }

  /** The socket closed, or could not be opened. `again`: another try may succeed even after the server's last word. */
  handleLost(now: number, code: number, reason: string, again = false): void {
    if (this.#state.name !== "connecting" && this.#state.name !== "open") return;
    if (code === CLOSE_FINAL && !again) this.#state = { name: "closed", code, reason };
    else this.#wait(now, code);
  }

  /** The network may have come back or changed, or the page is looked at again: find out now, not later. */
  handleHint(now: number): void {
    if (this.#state.name === "waiting") {
      const until = Math.min(this.#state.until, now + Math.floor(this.random() * HINT_SPREAD_MS));
      this.#state = { name: "waiting", until };
    } else if (this.#state.name === "open") {
      // Many hints of one cause, as from each of twenty streams that stop, are one question.
      const asked = this.#state.answerBy !== undefined && this.#state.answerBy <= now + HINTED_ANSWER_WITHIN_MS;
      if (!asked) this.#probe(now, true);
    }
  }

  /** The application is done. */
  handleStop(reason: string): void {
    if (this.#state.name === "closed") return;
    if (this.#state.name === "connecting" || this.#state.name === "open")
      this.#actions.push({ do: "abandon" });
    this.#state = { name: "closed", code: 1000, reason };
  }

  handleTimeout(now: number): void {
    const state = this.#state;
    if (state.name === "connecting" && state.deadline !== undefined && now >= state.deadline) {
      this.#actions.push({ do: "abandon" });
      this.#wait(now);
    } else if (state.name === "waiting" && now >= state.until) {
      this.#connect();
    } else if (state.name === "open" && state.answerBy !== undefined && now >= state.answerBy) {
      this.#actions.push({ do: "abandon" });
      this.#wait(now);
    } else if (state.name === "open" && now >= state.probeAt) {
      this.#probe(now, false);
    }
  }

  pollAction(): LinkAction | undefined {
    return this.#actions.shift();
  }

  pollTimeout(): number | undefined {
    const state = this.#state;
    if (state.name === "connecting") return state.deadline;
    if (state.name === "waiting") return state.until;
    if (state.name === "open") return Math.min(state.probeAt, state.answerBy ?? Number.POSITIVE_INFINITY);
    return undefined;
  }

  #connect(): void {
    this.#state = { name: "connecting", deadline: undefined };
    this.#actions.push({ do: "open" });
  }

  #probe(now: number, hinted: boolean): void {
    if (this.#state.name !== "open") return;
    const within = hinted ? HINTED_ANSWER_WITHIN_MS : ANSWER_WITHIN_MS;
    const answerBy = Math.min(this.#state.answerBy ?? Number.POSITIVE_INFINITY, now + within);
    this.#state = { ...this.#state, probeAt: now + PROBE_EVERY_MS, answerBy };
    this.#actions.push({ do: "probe", hinted });
  }

  #wait(now: number, code?: number): void {
    const heldFor = this.#state.name === "open" ? now - this.#state.since : 0;
    const steadyAfter = code === CLOSE_GOING_AWAY ? STEADY_IF_GOING_AWAY_MS : STEADY_AFTER_MS;
    if (heldFor >= steadyAfter) this.#backoff.reset();
    const least = code === CLOSE_TRY_LATER ? LATER_MS : 0;
    this.#state = { name: "waiting", until: now + least + this.#backoff.next() };
  }
}
