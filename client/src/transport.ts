/**
 * One stream's peer connection, kept alive by `Recovery`: this is the shell that has the `RTCPeerConnection`, makes its
 * offers and carries the answers. Publications and subscriptions differ only in what they put into it.
 */

import { type Clock, Driver, type TimerId } from "./clock.ts";
import { SluiceError } from "./error.ts";
import { isObject, type Json, type JsonObject } from "./frames.ts";
import { type MediaState, Recovery, type RecoveryAction } from "./recovery.ts";

/** What a stream's owner does for its transport. */
export interface TransportOwner {
  /** Adds the transceivers to a new peer connection. */
  build(connection: RTCPeerConnection): void;
  /** The new peer connection is the one to show: at once, or, where an old one carries the media, when it carries them. */
  adopt(): void;
  /** How long the old peer connection is kept, where there is one, when the new one carries the media. */
  readonly overlapMs: number;
  /** Changes the browser's offer before it is used. */
  rewriteOffer(sdp: string): string;
  /** Changes the server's answers before they are used. */
  rewriteAnswer(sdp: string): string;
  /** Asks the server for the stream; returns the answer's data. */
  negotiate(jsep: JsonObject): Promise<JsonObject>;
  /** The answer is in place: last touches such as bitrates. */
  negotiated(): Promise<void>;
  /** Asks the server for an ICE restart; returns the answer's data. */
  restart(jsep: JsonObject): Promise<JsonObject>;
  /** Lets go of the server's stream: a new one follows, or none. What it returns ends it on the server. */
  detach(): () => void;
  stateChanged(state: MediaState): void;
  /** It is over; with an error if it failed. */
  ended(error: SluiceError | undefined): void;
}

/** Refusals of a restart after which the same stream may still be restarted; after all others it is gone. */
const RESTART_AGAIN = new Set([
  "timeout",
  "disconnected",
  "store_unavailable",
  "sfu_unreachable",
  "rate_limited",
  "internal",
]);

export class Transport {
  readonly #recovery: Recovery;
  readonly #driver: Driver<RecoveryAction>;
  #connection: RTCPeerConnection | undefined;
  #state: MediaState = "connecting";
  #error: SluiceError | undefined;
  #accepted = false;
  /** The connection before the present one, while it carries the media or others may still want it. */
  #former: { readonly connection: RTCPeerConnection; readonly end: () => void; timer?: TimerId } | undefined;

  constructor(
    private readonly clock: Clock,
    private readonly configuration: () => Promise<RTCConfiguration>,
    private readonly owner: TransportOwner,
  ) {
    this.#recovery = new Recovery(clock.random);
    this.#driver = new Driver(
      clock,
      this.#recovery,
      (action) => this.#perform(action),
      () => this.#publishState(),
    );
  }

  get state(): MediaState {
    return this.#state;
  }

  /** The present peer connection, for statistics. It is replaced when the stream is negotiated anew. */
  get connection(): RTCPeerConnection | undefined {
    return this.#connection;
  }

  /** A new stream is being asked for. */
  get negotiating(): boolean {
    return this.#recovery.negotiating;
  }

  /** There is an older stream on the server, too. */
  get hasFormer(): boolean {
    return this.#former !== undefined;
  }

  start(signalling: boolean): void {
    this.#input((now) => {
      this.#recovery.handleSignalling(now, signalling);
      this.#recovery.handleStart(now);
    });
  }

  setSignalling(up: boolean): void {
    this.#input((now) => this.#recovery.handleSignalling(now, up));
  }

  networkChanged(): void {
    this.#input((now) => this.#recovery.handleNetworkChanged(now));
  }

  /** The server says that the stream is gone. */
  gone(): void {
    this.#input((now) => this.#recovery.handleGone(now));
  }

  /** The server says that the stream should move, and carries it until then. */
  migrate(): void {
    this.#input((now) => this.#recovery.handleMigrate(now));
  }

  /** The older stream is gone. */
  formerGone(): void {
    this.#discardFormer();
    this.#input((now) => this.#recovery.handleFormerLost(now));
  }

  close(): void {
    this.#input(() => this.#recovery.handleClose());
  }

  #input(give: (now: number) => void): void {
    give(this.clock.now());
    this.#driver.turn();
  }

  #perform(action: RecoveryAction): void {
    switch (action.do) {
      case "negotiate":
        void this.#negotiate(action.keep);
        break;
      case "restart":
        void this.#restart();
        break;
      case "settle":
        this.owner.adopt();
        this.#endFormerAfter(this.owner.overlapMs);
        break;
      case "end":
        this.#discardFormer();
        this.#discard();
        this.#publishState();
        this.owner.ended(action.failed ? this.#error : undefined);
        break;
    }
  }

  async #negotiate(keep: boolean): Promise<void> {
    // One that only waits for others to follow is not what carries the media now.
    if (!keep || this.#former?.timer !== undefined) this.#discardFormer();
    if (keep && !this.#former) this.#keepAsFormer();
    else this.#discard();
    const configuration = await this.configuration();
    // Closed while waiting: an attempt that nobody wants any more.
    if (!this.#recovery.negotiating) return;
    let connection: RTCPeerConnection;
    try {
      connection = new RTCPeerConnection(configuration);
    } catch (thrown) {
      // WebRTC switched off, or a configuration the browser does not take.
      this.#negotiationFailed(SluiceError.local("unsupported", SluiceError.from(thrown).reason));
      return;
    }
    this.#connection = connection;
    this.#watch(connection);
    const current = () => this.#connection === connection;
    try {
      this.owner.build(connection);
      if (!this.#former) this.owner.adopt();
      const offer = await this.#offer(connection, {});
      if (!current()) return;
      const answer = await this.owner.negotiate(offer);
      // Closed or replaced in the meantime: the server's stream is nobody's.
      if (!current()) return this.owner.detach()();
      await connection.setRemoteDescription(this.#answer(answer.jsep));
      await this.owner.negotiated();
      if (!current()) return;
      this.#accepted = true;
      this.#input((now) => this.#recovery.handleNegotiated(now));
    } catch (thrown) {
      if (current()) this.#negotiationFailed(SluiceError.from(thrown));
    }
  }

  #negotiationFailed(error: SluiceError): void {
    this.#error = error;
    // A stream that was in the room already comes back when there is space again; a new one is told.
    const passing = error.passing || (this.#accepted && error.name === "conflict");
    this.#input((now) => this.#recovery.handleNegotiationFailed(now, passing, error.retryAfterMs));
  }

  async #restart(): Promise<void> {
    const connection = this.#connection;
    if (!connection) return;
    const current = () => this.#connection === connection;
    try {
      const offer = await this.#offer(connection, { iceRestart: true });
      if (!current()) return;
      const answer = await this.owner.restart(offer);
      if (!current()) return;
      await connection.setRemoteDescription(this.#answer(answer.jsep));
      this.#input((now) => this.#recovery.handleRestarted(now));
    } catch (thrown) {
      if (!current()) return;
      const error = SluiceError.from(thrown);
      // The next offer must start from a stable state.
      if (connection.signalingState === "have-local-offer") {
        await connection.setLocalDescription({ type: "rollback" }).catch(() => undefined);
      }
      if (!current()) return;
      const again = RESTART_AGAIN.has(error.name);
      this.#input((now) => this.#recovery.handleRestartFailed(now, again, error.retryAfterMs));
    }
  }

  /** Makes and applies an offer. It names no candidates: the server is ICE-lite and learns ours from our checks. */
  async #offer(connection: RTCPeerConnection, options: RTCOfferOptions): Promise<JsonObject> {
    const plain = await connection.createOffer(options);
    const offer = { type: "offer" as const, sdp: this.owner.rewriteOffer(plain.sdp ?? "") };
    try {
      await connection.setLocalDescription(offer);
    } catch {
      // A browser that does not take the changed text gets its own; the server still sees what we want.
      await connection.setLocalDescription(plain);
    }
    return offer;
  }

  #answer(jsep: Json | undefined): RTCSessionDescriptionInit {
    if (!isObject(jsep) || jsep.type !== "answer" || typeof jsep.sdp !== "string") {
      throw SluiceError.local("protocol", "the server's answer carries no SDP");
    }
    return { type: "answer", sdp: this.owner.rewriteAnswer(jsep.sdp) };
  }

  /** Another peer connection follows; this one goes on for now. */
  #keepAsFormer(): void {
    const connection = this.#connection;
    if (!connection) return;
    const end = this.owner.detach();
    this.#connection = undefined;
    this.#former = { connection, end };
    connection.oniceconnectionstatechange = null;
    connection.onconnectionstatechange = () => {
      if (this.#former?.connection === connection && connection.connectionState !== "connected") this.formerGone();
    };
  }

  #endFormerAfter(ms: number): void {
    if (!this.#former) return;
    if (ms === 0) this.#discardFormer();
    else this.#former.timer = this.clock.setTimer(() => this.#discardFormer(), ms);
  }

  #discardFormer(): void {
    const former = this.#former;
    if (!former) return;
    this.#former = undefined;
    if (former.timer !== undefined) this.clock.clearTimer(former.timer);
    former.connection.onconnectionstatechange = null;
    former.connection.close();
    former.end();
  }

  #watch(connection: RTCPeerConnection): void {
    const current = () => this.#connection === connection;
    connection.oniceconnectionstatechange = () => {
      if (!current()) return;
      const state = connection.iceConnectionState;
      this.#input((now) => {
        if (state === "connected" || state === "completed") this.#recovery.handleIceConnected();
        else if (state === "disconnected") this.#recovery.handleIceDisconnected(now);
        else if (state === "failed") this.#recovery.handleIceFailed(now);
      });
    };
    connection.onconnectionstatechange = () => {
      if (!current()) return;
      const { connectionState: state, iceConnectionState: ice } = connection;
      this.#input((now) => {
        if (state === "connected") this.#recovery.handleSecured();
        else if (state === "failed" && ice !== "failed") this.#recovery.handleTransportFailed(now);
      });
    };
  }

  /** Lets go of the peer connection and the server's stream behind it. */
  #discard(): void {
    const connection = this.#connection;
    if (!connection) return;
    this.#connection = undefined;
    connection.oniceconnectionstatechange = null;
    connection.onconnectionstatechange = null;
    connection.close();
    this.owner.detach()();
  }

  #publishState(): void {
    const state = this.#recovery.mediaState;
    if (state === this.#state) return;
    this.#state = state;
    this.owner.stateChanged(state);
  }
}
