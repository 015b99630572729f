/**
 * The WebSocket under everything: drives `Link`, sends requests and matches answers. It knows nothing of rooms; what
 * outlives a lost socket is its users' business.
 */

import { type Clock, Driver, type TimerId } from "./clock.ts";
import type { Edges } from "./edges.ts";
import { Emitter } from "./emitter.ts";
import { SluiceError } from "./error.ts";
import { decodeFrame, encodeRequest, type JsonObject } from "./frames.ts";
import { CLOSE_FINAL, Link, type LinkAction } from "./link.ts";

/** The part of `WebSocket` that is used; tests bring their own. */
export interface Socket {
  readonly readyState: number;
  send(text: string): void;
  close(code?: number, reason?: string): void;
  onopen: ((event: never) => void) | null;
  onmessage: ((event: { data: unknown }) => void) | null;
  onclose: ((event: { code: number; reason: string }) => void) | null;
  onerror: ((event: never) => void) | null;
}

export type SocketFactory = (url: string, protocols: string[]) => Socket;

/** The access token, or what gets a fresh one each time it is needed. */
export type TokenSource = string | (() => string | Promise<string>);

export interface SignallingOptions {
  /** Where to connect: the next one after each connection that failed or was lost. */
  readonly edges: Edges;
  readonly peer: string;
  readonly token: TokenSource | undefined;
  readonly clock: Clock;
  readonly socket: SocketFactory;
}

export type SignallingState =
  | { readonly name: "connecting" }
  | { readonly name: "open" }
  /**
   * Not connected; the next try comes in about this many milliseconds. `error`: why the last one failed, where that is
   * known: the token function failed (`token_unavailable`), or the server refused an expired token (`refused`).
   */
  | { readonly name: "reconnecting"; readonly retryInMs: number; readonly error?: SluiceError }
  | { readonly name: "closed"; readonly error: SluiceError };

export interface SignallingEvents {
  state: SignallingState;
  notification: { readonly method: string; readonly data: JsonObject };
  /**
   * Time for a keepalive; any frame from the server is a sign of life. `hinted`: because something suggests that the
   * connection may be dead.
   */
  probe: { readonly hinted: boolean };
}

/** The server answers within 10 s; the rest is the way there and back. */
const REQUEST_WITHIN_MS = 12_000;
/** No user makes so many at once: more means that something runs wild, and the queue must end somewhere. */
const MAX_PENDING = 256;
/** A token provider that does not answer must not hang the reconnection for good. */
export const TOKEN_WITHIN_MS = 10_000;

/** Tokens in a row that the server finds expired, from a function that should give fresh ones, before that is final. */
const MAX_EXPIRED = 5;

interface Pending {
  readonly method: string;
  readonly timer: TimerId;
  readonly resolve: (data: JsonObject) => void;
  readonly reject: (error: SluiceError) => void;
}

export class Signalling extends Emitter<SignallingEvents> {
  readonly #link: Link;
  readonly #driver: Driver<LinkAction>;
  readonly #pending = new Map<number, Pending>();
  #socket: Socket | undefined;
  #nextId = 1;
  #state: SignallingState = { name: "connecting" };
  /** Why there is no connection, where more is known than that there is none. */
  #error: SluiceError | undefined;
  /** Connections in a row that ended because of an expired token before the server had said anything. */
  #expired = 0;

  constructor(private readonly options: SignallingOptions) {
    super();
    this.#link = new Link(options.clock.random, options.edges.count);
    this.#driver = new Driver(
      options.clock,
      this.#link,
      (action) => this.#perform(action),
      () => this.#publishState(),
    );
  }

  get state(): SignallingState {
    return this.#state;
  }

  start(): void {
    this.#input(() => this.#link.handleStart());
  }

  /** Something suggests that the network changed or is back. */
  hint(): void {
    this.#input((now) => this.#link.handleHint(now));
  }

  /** Nothing was sent for the present probe, so nothing is to be waited for. */
  skipProbe(): void {
    this.#input(() => this.#link.handleAlive());
  }

  /** Ends the connection for good. */
  stop(reason: string): void {
    this.#input(() => this.#link.handleStop(reason));
  }

  /**
   * Sends a request over the present socket. Rejects with `disconnected` if there is none or it is lost before the
   * answer, `timeout` if none comes, or what the server answered.
   */
  request(method: string, data: JsonObject): Promise<JsonObject> {
    const socket = this.#socket;
    if (this.#link.state.name !== "open" || !socket) {
      return Promise.reject(SluiceError.local("disconnected", "there is no connection to the server"));
    }
    if (this.#pending.size >= MAX_PENDING) {
      return Promise.reject(SluiceError.local("rate_limited", `more than ${MAX_PENDING} requests at once`));
    }
    const id = this.#nextId++;
    const text = encodeRequestOrReject(id, method, data);
    if (text instanceof SluiceError) return Promise.reject(text);
    return new Promise((resolve, reject) => {
      const timer = this.options.clock.setTimer(() => {
        this.#pending.delete(id);
        reject(SluiceError.local("timeout", `the server did not answer ${method} in time`));
        // An open socket that does not answer may be dead.
        this.hint();
      }, REQUEST_WITHIN_MS);
      this.#pending.set(id, { method, timer, resolve, reject });
      socket.send(text);
    });
  }

  /** Sends a request whose answer nobody waits for, as when the page goes away. */
  post(method: string, data: JsonObject): void {
    if (this.#link.state.name === "open") this.#socket?.send(encodeRequest(this.#nextId++, method, data));
  }

  #input(give: (now: number) => void): void {
    give(this.options.clock.now());
    this.#driver.turn();
  }

  #perform(action: LinkAction): void {
    switch (action.do) {
      case "open":
        void this.#open();
        break;
      case "abandon":
        this.#error = undefined;
        this.#abandon();
        this.options.edges.next();
        break;
      case "probe":
        this.emit("probe", { hinted: action.hinted });
        break;
    }
  }

  async #open(): Promise<void> {
    const attempt = this.#link.state;
    let token: string | undefined;
    try {
      token = await within(this.options.clock, TOKEN_WITHIN_MS, resolveToken(this.options.token));
    } catch (thrown) {
      // Without a token there is no use in connecting: this try has failed, another follows.
      if (this.#link.state !== attempt) return;
      const { reason } = SluiceError.from(thrown);
      this.#error = SluiceError.local("token_unavailable", `the token function failed: ${reason}`);
      this.#input((now) => this.#link.handleLost(now, 0, "no token"));
      return;
    }
    if (this.#link.state !== attempt) return;
    let socket: Socket;
    try {
      socket = this.options.socket(...target(this.options, token));
    } catch (error) {
      // The browser forbids such a connection at all, `ws:` from an `https:` page for one: no retry changes that.
      this.#input((now) => this.#link.handleLost(now, CLOSE_FINAL, SluiceError.from(error).reason));
      return;
    }
    this.#use(socket);
    this.#input((now) => this.#link.handleOpening(now));
  }

  #use(socket: Socket): void {
    this.#socket = socket;
    socket.onopen = () => {
      if (this.#socket !== socket) return;
      this.#error = undefined;
      this.#input((now) => this.#link.handleOpened(now));
    };
    socket.onmessage = ({ data }) => {
      if (this.#socket === socket) this.#receive(data);
    };
    socket.onclose = ({ code, reason }) => {
      if (this.#socket !== socket) return;
      this.#socket = undefined;
      const again = code === CLOSE_FINAL && this.#hasFreshToken(reason);
      this.#error = again ? closeError(code, reason) : undefined;
      // Another token is no reason to leave an edge that works.
      if (code !== CLOSE_FINAL) this.options.edges.next();
      this.#input((now) => this.#link.handleLost(now, code, reason, again));
      this.#failPending();
    };
    // A close event always follows and says as much.
    socket.onerror = null;
  }

  /** A token that ran out, as that of a laptop that slept, is no last word where a function gives another. */
  #hasFreshToken(reason: string): boolean {
    if (typeof this.options.token !== "function" || !/\btoken expired$/.test(reason)) return false;
    this.#expired += 1;
    return this.#expired <= MAX_EXPIRED;
  }

  #receive(data: unknown): void {
    const frame = decodeFrame(data);
    if (!frame) return;
    // The server took the token.
    this.#expired = 0;
    this.#input(() => this.#link.handleAlive());
    if (frame.kind === "notification") {
      this.emit("notification", frame);
      return;
    }
    const pending = this.#pending.get(frame.id);
    if (!pending) return;
    this.#pending.delete(frame.id);
    this.options.clock.clearTimer(pending.timer);
    if (frame.kind === "response") pending.resolve(frame.data);
    else pending.reject(frame.error);
  }

  #abandon(): void {
    const socket = this.#socket;
    this.#socket = undefined;
    if (socket) {
      socket.onopen = null;
      socket.onmessage = null;
      socket.onclose = null;
      socket.close(1000);
    }
    this.#failPending();
  }

  #failPending(): void {
    const pending = [...this.#pending.values()];
    this.#pending.clear();
    for (const { method, timer, reject } of pending) {
      this.options.clock.clearTimer(timer);
      reject(SluiceError.local("disconnected", `the connection was lost before ${method} was answered`));
    }
  }

  #publishState(): void {
    const state = this.#describe();
    if (state.name === this.#state.name && state.name !== "reconnecting") return;
    if (JSON.stringify(state) === JSON.stringify(this.#state)) return;
    this.#state = state;
    this.emit("state", state);
  }

  #describe(): SignallingState {
    const state = this.#link.state;
    switch (state.name) {
      case "open":
        return { name: "open" };
      case "closed":
        return { name: "closed", error: closeError(state.code, state.reason) };
      case "waiting":
        return this.#reconnecting(Math.max(0, Math.ceil(state.until - this.options.clock.now())));
      default:
        return this.#link.tries > 0 || this.#state.name !== "connecting"
          ? this.#reconnecting(0)
          : { name: "connecting" };
    }
  }

  #reconnecting(retryInMs: number): SignallingState {
    return { name: "reconnecting", retryInMs, ...(this.#error && { error: this.#error }) };
  }
}

/** Where to connect, and with which subprotocols. */
function target(options: SignallingOptions, token: string | undefined): [string, string[]] {
  const url = new URL(options.edges.current);
  url.searchParams.set("peer", options.peer);
  const protocols = ["protoo"];
  // As a subprotocol the token stays out of access logs; only a token of other than JWT's letters needs the query.
  if (token !== undefined && /^[\w.~-]+$/.test(token)) protocols.push(`bearer.${token}`);
  else if (token !== undefined) url.searchParams.set("access_token", token);
  return [url.href, protocols];
}

/** The token to use now. */
export async function resolveToken(source: TokenSource | undefined): Promise<string | undefined> {
  return typeof source === "function" ? await source() : source;
}

function closeError(code: number, reason: string): SluiceError {
  if (code === CLOSE_FINAL)
    return new SluiceError(code, "refused", reason || "the server closed the connection");
  return SluiceError.local("closed", reason);
}

function encodeRequestOrReject(id: number, method: string, data: JsonObject): string | SluiceError {
  try {
    return encodeRequest(id, method, data);
  } catch (error) {
    return SluiceError.from(error);
  }
}

/** The promise's outcome, or a `timeout` if it takes longer than `ms`. */
export function within<Value>(clock: Clock, ms: number, promise: Promise<Value>): Promise<Value> {
  return new Promise((resolve, reject) => {
    const timer = clock.setTimer(() => reject(SluiceError.local("timeout", `took longer than ${ms} ms`)), ms);
    promise.then(resolve, reject).finally(() => clock.clearTimer(timer));
  });
}
