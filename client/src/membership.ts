/**
 * Being in a room across lost connections: joins, joins again with `session` and `since`, and gives notifications in
 * order. Knows no media. Requests made through it carry an `op`, so that one repeated after a lost connection is not
 * done twice.
 */

import { Backoff } from "./backoff.ts";
import type { Clock, TimerId } from "./clock.ts";
import { SluiceError } from "./error.ts";
import { Feed, type Position } from "./feed.ts";
import type { JsonObject } from "./frames.ts";
import { RECONNECT } from "./link.ts";
import { type Joined, type Notification, readJoined, readNotification, readPosition } from "./messages.ts";
import { type Signalling, within } from "./signalling.ts";
import { Snapshot } from "./snapshot.ts";

export interface MembershipEvents {
  /** In the room with nothing missed; notifications that were missed follow. */
  resumed(joined: Joined): void;
  /** In the room, and the snapshot is the state. */
  snapshot(joined: Joined): void;
  /** Requests cannot be sent any more for now. */
  lost(): void;
  notification(notification: Notification): void;
  /** Will not come back: refused for good. */
  ended(error: SluiceError): void;
}

export type MembershipState = "joining" | "joined" | "rejoining" | "ended";

/** A request, its repetitions after lost connections included. The server keeps a lost member for 30 s. */
const REQUEST_WITHIN_MS = 30_000;
/** A member that goes away unheard is removed by the server after its grace; nobody waits for that. */
const LEAVE_WITHIN_MS = 2_000;
/** Errors after which a leave may not have been done. */
const UNANSWERED = new Set(["timeout", "store_unavailable", "internal", "rate_limited"]);
/** The rest of a snapshot comes as fast as it is taken: after such a pause it does not come any more. */
const REST_WITHIN_MS = 10_000;
/** Refusals of a join that no retry changes. All others may pass, a full room included. */
const FINAL = new Set(["bad_uid", "forbidden", "unknown_method", "too_large"]);
/** And before the first join: whoever wants in should hear why not. */
const FINAL_AT_FIRST = new Set([...FINAL, "not_in_room", "conflict", "unauthenticated"]);

export class Membership {
  #state: MembershipState = "joining";
  #session: string | undefined;
  #joinedBefore = false;
  /** A join was sent: the server may have let us in, whatever became of its answer. */
  #asked = false;
  /** Counts joins; an answer to any but the last is of no interest. */
  #attempt = 0;
  #retry: TimerId | undefined;
  /** What the last join was answered with, while a part of it is still to come. */
  #snapshot: Snapshot | undefined;
  #waiting = new Set<() => void>();
  readonly #feed = new Feed<Notification | undefined>();
  readonly #backoff: Backoff;
  #offState: () => void = () => undefined;

  constructor(
    readonly rid: string,
    private readonly signalling: Signalling,
    private readonly clock: Clock,
    private readonly events: MembershipEvents,
  ) {
    this.#backoff = new Backoff(RECONNECT, clock.random);
  }

  get state(): MembershipState {
    return this.#state;
  }

  /** Joins as soon as there is a connection, and again whenever there is another. */
  start(): void {
    this.#offState = this.signalling.on("state", () => this.#signallingChanged());
    this.#signallingChanged();
  }

  /**
   * Sends a request once the room is joined, again after lost connections, until it is answered or 30 s are over.
   * With `isWanted` it is also sent again when the server says that it cannot for now, while that is so.
   */
  async request(method: string, data: JsonObject, isWanted?: () => boolean): Promise<JsonObject> {
    const deadline = this.clock.now() + REQUEST_WITHIN_MS;
    const backoff = new Backoff(RECONNECT, this.clock.random);
    let op = newOp();
    for (;;) {
      // Sent at once if it can be: what is asked for first must reach the server first, a leave that follows included.
      if (this.#state !== "joined") await this.#whenJoined(deadline);
      const attempt = this.#attempt;
      let error: SluiceError;
      try {
        return await this.signalling.request(method, { ...data, rid: this.rid, op });
      } catch (thrown) {
        error = SluiceError.from(thrown);
      }
      if (this.clock.now() >= deadline) throw error;
      // Nobody knows whether it was done: the same `op` finds out.
      if (error.name === "disconnected" || error.name === "timeout") continue;
      // The server has forgotten us, after an outage of its own for one: come back, then ask again.
      if (error.name === "not_in_room") this.#joinAgain(attempt);
      else if (!(error.passing && isWanted?.()) && error.name !== "rate_limited") throw error;
      op = newOp();
      await this.#sleep(Math.max(error.retryAfterMs ?? 0, backoff.next()));
      if (isWanted?.() === false) throw error;
    }
  }

  /** Tells the server that the member is there; false if it is not, for now. */
  keepAlive(): boolean {
    if (this.#state !== "joined") return false;
    const attempt = this.#attempt;
    this.signalling.request("keepalive", { rid: this.rid }).catch((thrown) => {
      if (SluiceError.from(thrown).name === "not_in_room") this.#joinAgain(attempt);
    });
    return true;
  }

  handleNotification(method: string, data: JsonObject): void {
    if (this.#state === "ended") return;
    const at = readPosition(data);
    const notification = readNotification(method, data);
    if (this.#snapshot?.take(at, notification)) {
      this.#awaitSnapshot(this.#snapshot);
      return;
    }
    // Unknown ones count for the position, too: they are not to be sent again.
    this.#deliver(this.#feed.push(at, notification));
    if (this.#feed.outdated && this.#state === "joined") this.#join();
  }

  /** Leaves: tells the server if it can be told, and does not wait for long. */
  async leave(): Promise<void> {
    if (this.#state === "ended") return;
    this.#end();
    // A join under way is carried out before this: the server keeps the order within a room.
    if (!this.#asked) return;
    const goodbye = this.#sayGoodbye().finally(() => this.#forgetJoin());
    await within(this.clock, LEAVE_WITHIN_MS, goodbye).catch(() => undefined);
  }

  /**
   * Repeats it until it is answered: a connection that stays open keeps the member there. When the connection ends, or the
   * room is joined anew over it, so does this.
   */
  async #sayGoodbye(): Promise<void> {
    const backoff = new Backoff(RECONNECT, this.clock.random);
    const op = newOp();
    let wait = 0;
    do {
      try {
        await this.signalling.request("leave", { rid: this.rid, op });
        return;
      } catch (thrown) {
        const error = SluiceError.from(thrown);
        if (!UNANSWERED.has(error.name)) return;
        wait = Math.max(error.retryAfterMs ?? 0, backoff.next());
      }
    } while (await this.#isConnectedFor(wait));
  }

  /** Resolves to true after that time, to false when the connection ends before or another membership asks to join the room. */
  #isConnectedFor(ms: number): Promise<boolean> {
    return new Promise((resolve) => {
      const end = (isConnected: boolean) => {
        this.clock.clearTimer(timer);
        off();
        resolve(isConnected && lastToJoin(this.signalling).get(this.rid) === this);
      };
      const timer = this.clock.setTimer(() => end(true), ms);
      const off = this.signalling.on("state", () => end(false));
    });
  }

  #forgetJoin(): void {
    const joined = lastToJoin(this.signalling);
    if (joined.get(this.rid) === this) joined.delete(this.rid);
  }

  /** The page goes away: says so without waiting for anything. */
  post(): void {
    if (this.#state !== "ended" && this.#asked) this.signalling.post("leave", { rid: this.rid });
  }

  /** Ends without telling the server, which knows. */
  fail(error: SluiceError): void {
    if (this.#state === "ended") return;
    this.#end();
    this.#forgetJoin();
    this.events.ended(error);
  }

  #signallingChanged(): void {
    const { state } = this.signalling;
    if (this.#state === "ended") return;
    if (state.name === "open") this.#join();
    else if (state.name === "closed") this.fail(state.error);
    else this.#lose();
  }

  #lose(): void {
    this.#attempt += 1;
    this.#clearRetry();
    this.#snapshot = undefined;
    if (this.#state !== "joined") return;
    this.#state = "rejoining";
    this.#feed.hold();
    this.events.lost();
  }

  #join(): void {
    this.#lose();
    void this.#askToJoin(this.#attempt);
  }

  /** Joins again unless that has happened since `attempt`. */
  #joinAgain(attempt: number): void {
    if (this.#state === "joined" && attempt === this.#attempt) this.#join();
  }

  async #askToJoin(attempt: number): Promise<void> {
    this.#asked = true;
    lastToJoin(this.signalling).set(this.rid, this);
    const since = this.#session === undefined ? undefined : this.#feed.position;
    try {
      const answer = await this.signalling.request("join", {
        rid: this.rid,
        session: this.#session,
        since: since && { epoch: since.epoch, seq: since.seq },
      });
      if (attempt === this.#attempt && this.#state !== "ended") this.#answered(readJoined(answer), since);
    } catch (thrown) {
      if (attempt === this.#attempt && this.#state !== "ended") this.#joinFailed(SluiceError.from(thrown));
    }
  }

  #answered(joined: Joined, since: Position | undefined): void {
    this.#session = joined.session;
    if (since !== undefined && !joined.resync && joined.position?.epoch === since.epoch) {
      this.#enter(joined, true);
    } else {
      this.#awaitSnapshot(new Snapshot(joined));
    }
  }

  /** Goes in once the snapshot is whole: until then nobody can tell who has left from who is still to be told of. */
  #awaitSnapshot(snapshot: Snapshot): void {
    this.#clearRetry();
    if (snapshot.isWhole) {
      this.#snapshot = undefined;
      this.#enter(snapshot.joined, false);
      return;
    }
    this.#snapshot = snapshot;
    this.#retry = this.clock.setTimer(() => this.#join(), REST_WITHIN_MS);
  }

  #enter(joined: Joined, resumed: boolean): void {
    this.#backoff.reset();
    this.#state = "joined";
    this.#joinedBefore = true;
    if (resumed) this.events.resumed(joined);
    else this.events.snapshot(joined);
    this.#deliver(resumed ? this.#feed.goOn() : this.#feed.startAt(joined.position));
    const waiting = [...this.#waiting];
    this.#waiting.clear();
    for (const wake of waiting) wake();
    if (this.#feed.outdated) this.#join();
  }

  #joinFailed(error: SluiceError): void {
    const final = this.#joinedBefore ? FINAL : FINAL_AT_FIRST;
    if (final.has(error.name)) {
      this.fail(error);
      return;
    }
    // A lost connection starts another join by itself when it is back.
    if (error.name === "disconnected") return;
    const wait = Math.max(error.retryAfterMs ?? 0, this.#backoff.next());
    this.#retry = this.clock.setTimer(() => {
      this.#retry = undefined;
      if (this.signalling.state.name === "open") this.#join();
    }, wait);
  }

  #deliver(notifications: (Notification | undefined)[]): void {
    for (const notification of notifications) {
      if (notification) this.events.notification(notification);
    }
  }

  /** Resolves when the room is joined; rejects when it has ended or the time is up. */
  #whenJoined(deadline: number): Promise<void> {
    return new Promise((resolve, reject) => {
      if (this.#state === "joined") return resolve();
      if (this.#state === "ended") return reject(SluiceError.local("closed", "the room has been left"));
      const wake = () => {
        this.#waiting.delete(wake);
        this.clock.clearTimer(timer);
        if (this.#state === "joined") resolve();
        else reject(SluiceError.local("closed", "the room has been left"));
      };
      const timer = this.clock.setTimer(
        () => {
          this.#waiting.delete(wake);
          reject(SluiceError.local("disconnected", "there was no connection to the room in time"));
        },
        Math.max(0, deadline - this.clock.now()),
      );
      this.#waiting.add(wake);
    });
  }

  #sleep(ms: number): Promise<void> {
    return new Promise((resolve) => {
      this.clock.setTimer(resolve, ms);
    });
  }

  #clearRetry(): void {
    if (this.#retry !== undefined) this.clock.clearTimer(this.#retry);
    this.#retry = undefined;
  }

  #end(): void {
    this.#state = "ended";
    this.#attempt += 1;
    this.#clearRetry();
    this.#snapshot = undefined;
    this.#offState();
    const waiting = [...this.#waiting];
    this.#waiting.clear();
    for (const wake of waiting) wake();
  }
}

const joinedOver = new WeakMap<Signalling, Map<string, Membership>>();

/** Of each room, who asked last to join it over this connection: a late goodbye of another would end that membership. */
function lastToJoin(signalling: Signalling): Map<string, Membership> {
  const known = joinedOver.get(signalling) ?? new Map<string, Membership>();
  joinedOver.set(signalling, known);
  return known;
}

/** A name for one intent that nobody else makes up. */
function newOp(): string {
  const bytes = crypto.getRandomValues(new Uint8Array(12));
  return Array.from(bytes, (byte) => byte.toString(16).padStart(2, "0")).join("");
}
