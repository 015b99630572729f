/**
 * What a stream of one's own and one of another have in common: a connection that lives as long as the room needs it, its
 * state, its statistics, and the server's first answer to wait for.
 */

import type { Clock } from "./clock.ts";
import { Emitter } from "./emitter.ts";
import { SluiceError } from "./error.ts";
import type { JsonObject } from "./frames.ts";
import type { MediaState } from "./recovery.ts";
import { type StreamStats, Summary } from "./stats.ts";
import { Transport } from "./transport.ts";

/** What a publication or subscription needs of its room. */
export interface RoomAccess {
  readonly clock: Clock;
  configuration(): Promise<RTCConfiguration>;
  readonly joined: boolean;
  /** Media stopped flowing: the server may be gone. */
  interrupted(): void;
  /** A request with identity: carried over lost connections, done once. */
  request(method: string, data: JsonObject): Promise<JsonObject>;
  /** A request whose failure changes nothing for the caller. */
  attempt(method: string, data: JsonObject): void;
}

export interface MediaEvents {
  state: { readonly state: MediaState };
  /** It is over, for good; with an error if it failed. */
  ended: { readonly error: SluiceError | undefined };
}

/** Of publications and subscriptions alike. */
export abstract class Media<Events extends MediaEvents> extends Emitter<Events> {
  readonly #room: RoomAccess;
  readonly #transport: Transport;
  readonly #summary: Summary;
  readonly #accepted: Promise<void>;
  #settle!: { resolve: () => void; reject: (error: SluiceError) => void };
  #keepOnServer = false;

  /** @internal `stereo`: what is sent has two channels. */
  constructor(room: RoomAccess, stereo?: boolean) {
    super();
    this.#room = room;
    this.#summary = new Summary(stereo);
    this.#accepted = new Promise((resolve, reject) => {
      this.#settle = { resolve, reject };
    });
    // Nobody may be waiting any more when it ends.
    this.#accepted.catch(() => undefined);
    this.#transport = new Transport(room.clock, () => room.configuration(), {
      build: (connection) => this.build(connection),
      adopt: () => this.adopt(),
      overlapMs: this.overlapMs,
      rewriteOffer: (sdp) => this.rewriteOffer(sdp),
      rewriteAnswer: (sdp) => this.rewriteAnswer(sdp),
      negotiate: (jsep) => this.negotiate(jsep),
      negotiated: async () => {
        await this.negotiated();
        this.#settle.resolve();
      },
      restart: (jsep) => room.request("restart", { ...this.restartId(), jsep }),
      detach: () => this.#detach(),
      stateChanged: (state) => {
        if (state === "reconnecting") room.interrupted();
        this.emit("state", { state });
      },
      ended: (error) => {
        this.#settle.reject(error ?? SluiceError.local("closed", "the stream ended before the server had answered"));
        this.emit("ended", { error });
      },
    });
  }

  get state(): MediaState {
    return this.#transport.state;
  }

  /** What its connection does at present; rates are those since the last call. */
  async stats(): Promise<StreamStats | undefined> {
    const report = await this.#transport.connection?.getStats();
    return report ? this.#summary.of(report.values()) : undefined;
  }

  /** @internal Resolves when the server has accepted it. */
  async start(): Promise<void> {
    this.#transport.start(this.#room.joined);
    await this.#accepted;
  }

  /** @internal */
  setSignalling(up: boolean): void {
    this.#transport.setSignalling(up);
  }

  /** @internal */
  networkChanged(): void {
    this.#transport.networkChanged();
  }

  /** @internal The server does not know it any more. */
  gone(): void {
    this.#transport.gone();
  }

  /** @internal The server wants it elsewhere, and carries it until then. */
  migrate(): void {
    this.#transport.migrate();
  }

  /** @internal The server has removed what a newer stream replaces. */
  protected formerGone(): void {
    this.#transport.formerGone();
  }

  /** @internal What a newer stream replaces is still there. */
  protected get hasFormer(): boolean {
    return this.#transport.hasFormer;
  }

  /** @internal Its id on the server is about to be given or to change. */
  get negotiating(): boolean {
    return this.#transport.negotiating;
  }

  /** @internal The server has removed it or will: there is nothing to take back. */
  abandon(): void {
    this.#keepOnServer = true;
    this.#transport.close();
  }

  /** @internal Ends it, on the server, too. */
  protected end(): void {
    this.#transport.close();
  }

  /** @internal Adds the transceivers to a new peer connection. */
  protected abstract build(connection: RTCPeerConnection): void;

  /** @internal The peer connection built last is the one to show. */
  protected adopt(): void {}

  /** @internal How long what was replaced is kept for those who have not followed yet. */
  protected get overlapMs(): number {
    return 0;
  }

  /** @internal Changes the browser's offer before it is used. */
  protected abstract rewriteOffer(sdp: string): string;

  /** @internal Changes the server's answers before they are used. */
  protected abstract rewriteAnswer(sdp: string): string;

  /** @internal Asks the server for the stream; returns the answer's data. */
  protected abstract negotiate(jsep: JsonObject): Promise<JsonObject>;

  /** @internal The answer is in place. */
  protected abstract negotiated(): Promise<void>;

  /** @internal What names it in a restart. */
  protected abstract restartId(): JsonObject;

  /** @internal The request that ends it on the server; undefined if it is not there, as it is from now on. */
  protected abstract takeBack(): { readonly method: string; readonly data: JsonObject } | undefined;

  #detach(): () => void {
    const request = this.takeBack();
    return () => {
      if (request && !this.#keepOnServer) this.#room.attempt(request.method, request.data);
    };
  }
}
