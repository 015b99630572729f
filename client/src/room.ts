/**
 * A room as an application sees it: who is there, what they publish, and one's own publications and subscriptions,
 * which come back by themselves when a connection or a server is lost.
 */

import type { Clock } from "./clock.ts";
import { Emitter } from "./emitter.ts";
import { SluiceError } from "./error.ts";
import { asJson, type Json } from "./frames.ts";
import type { RoomAccess } from "./media.ts";
import { Membership } from "./membership.ts";
import type { Joined, Notification } from "./messages.ts";
import { Publication, type PublishOptions } from "./publication.ts";
import { type AnyStream, Recordings } from "./recordings.ts";
import type { RemoteStream } from "./remote-stream.ts";
import { type Change, Roster } from "./roster.ts";
import type { Signalling, SignallingState } from "./signalling.ts";
import { Streams } from "./streams.ts";
import { Subscription } from "./subscription.ts";

export type RoomState = "idle" | "connecting" | "connected" | "reconnecting" | "closed";

export interface RoomEvents {
  /**
   * `retryInMs`: while there is no connection, about how long until the next try; `error` then says why the last one
   * failed, where that is known. In `closed`: why, unless it was left.
   */
  state: { readonly state: RoomState; readonly retryInMs?: number; readonly error?: SluiceError };
  /** Someone is there: everybody who was there before comes this way, too, during `join`. */
  "peer-joined": { readonly uid: string };
  "peer-left": { readonly uid: string };
  /** A stream to subscribe to; those published before come this way, too, during `join`. */
  "stream-added": { readonly stream: RemoteStream };
  "stream-removed": { readonly stream: RemoteStream };
  /** Its `info` or `mid` changed: muted or unmuted, mostly; or it moved to another server. */
  "stream-updated": { readonly stream: RemoteStream };
  /** A stream, one's own as well, is recorded from now on, or no more: `stream.recording` says which recording. */
  recording: { readonly stream: RemoteStream | Publication };
  /** Someone's broadcast: any JSON value, from a stranger. */
  broadcast: { readonly uid: string; readonly data: Json };
  /** The server put this client out; it does not come back. */
  kicked: { readonly reason: string };
  /** State was taken over from a snapshot after an interruption too long to resume; broadcasts may have been missed. */
  resynced: undefined;
}

export interface RoomContext {
  readonly peer: string;
  readonly signalling: Signalling;
  readonly clock: Clock;
  readonly configuration: () => Promise<RTCConfiguration>;
}

/** Reasons of a `stream-remove` after which a publisher that is still there publishes the stream again. */
const COMES_BACK: ReadonlySet<string> = new Set(["node_lost", "transport_ended"]);

export class Room extends Emitter<RoomEvents> {
  readonly #membership: Membership;
  readonly #roster: Roster;
  readonly #streams: Streams;
  readonly #publications = new Set<Publication>();
  readonly #subscriptions = new Map<string, { subscription: Subscription; started: Promise<void> }>();
  readonly #recordings: Recordings;
  #state: RoomState = "idle";
  #joining: { promise: Promise<void>; resolve: () => void; reject: (error: SluiceError) => void } | undefined;
  readonly #offs: (() => void)[] = [];

  /** Made by `Client.room`. */
  constructor(
    /** The room's name. */
    readonly name: string,
    private readonly context: RoomContext,
  ) {
    super();
    this.#roster = new Roster(context.peer);
    this.#streams = new Streams(context.clock, {
      added: (stream) => this.emit("stream-added", { stream }),
      removed: (stream) => {
        this.#subscriptions.get(stream.mid)?.subscription.abandon();
        this.emit("stream-removed", { stream });
      },
      updated: (stream) => this.emit("stream-updated", { stream }),
      recorded: (stream) => this.emit("recording", { stream }),
      lost: (stream) => this.#subscriptions.get(stream.mid)?.subscription.lost(),
      moved: (stream, mid) => this.#moved(stream, mid),
    });
    this.#recordings = new Recordings({
      request: (method, data, isWanted) => this.#membership.request(method, data, isWanted),
      show: (stream, recording) => this.#showRecording(stream, recording),
    });
    this.#membership = new Membership(name, context.signalling, context.clock, {
      resumed: (joined) => this.#joined(joined),
      snapshot: (joined) => this.#snapshot(joined),
      lost: () => this.#lost(),
      notification: (notification) => this.#notified(notification),
      ended: (error) => this.#close(error),
    });
  }

  get state(): RoomState {
    return this.#state;
  }

  /** Everybody else in the room. */
  get peers(): string[] {
    return [...this.#roster.users];
  }

  /** What everybody else publishes. */
  get streams(): RemoteStream[] {
    return this.#streams.all;
  }

  get publications(): Publication[] {
    return [...this.#publications];
  }

  get subscriptions(): Subscription[] {
    return [...this.#subscriptions.values()].map(({ subscription }) => subscription);
  }

  /**
   * Goes in. Resolves when in, however long the server takes to come within reach; rejects when it refuses.
   * From then on the room is kept until `leave`.
   */
  join(): Promise<void> {
    if (this.#state === "closed")
      return Promise.reject(SluiceError.local("closed", "the room has been left"));
    if (this.#joining) return this.#joining.promise;
    let settle!: { resolve: () => void; reject: (error: SluiceError) => void };
    const promise = new Promise<void>((resolve, reject) => {
      settle = { resolve, reject };
    });
    this.#joining = { promise, ...settle };
    this.#offs.push(this.context.signalling.on("state", (state) => this.#signallingChanged(state)));
    this.#setState("connecting");
    this.#membership.start();
    // Asked for now, it is there when the first stream needs it.
    void this.context.configuration();
    return promise;
  }

  /** Goes out: ends all publications and subscriptions. Resolves when the server knows, or cannot be told. */
  async leave(): Promise<void> {
    const told = this.#membership.leave();
    this.#close(undefined);
    await told;
  }

  /**
   * Publishes up to one audio and one video track as one stream. Resolves when the server has accepted it. For
   * cameras, microphones and screens see `openCamera` and its siblings.
   */
  async publish(options: PublishOptions): Promise<Publication> {
    this.#mustBeOpen();
    if (options.audio === undefined && options.video === undefined) {
      throw SluiceError.local("unsupported", "a stream needs audio or video");
    }
    const publication = new Publication(this.#access(), options, this.#recordings);
    this.#publications.add(publication);
    publication.on("ended", () => this.#publications.delete(publication));
    publication.on("recording", () => this.emit("recording", { stream: publication }));
    publication.on("republished", () => this.#recordings.moved(publication));
    await publication.start();
    return publication;
  }

  /** Receives a stream. Resolves when the server has accepted; a stream is received once, however often asked for. */
  async subscribe(stream: RemoteStream | string): Promise<Subscription> {
    this.#mustBeOpen();
    const mid = typeof stream === "string" ? stream : stream.mid;
    const present = this.#subscriptions.get(mid);
    if (present) {
      await present.started;
      return present.subscription;
    }
    const remote = this.#streams.get(mid);
    if (!remote) throw SluiceError.local("bad_mid", `there is no stream ${mid} in the room`);
    const subscription = new Subscription(this.#access(remote), remote);
    subscription.on("ended", () => {
      if (this.#subscriptions.get(remote.mid)?.subscription === subscription) this.#subscriptions.delete(remote.mid);
    });
    const started = subscription.start();
    this.#subscriptions.set(mid, { subscription, started });
    await started;
    return subscription;
  }

  /** Sends a value to everybody else in the room, who get what JSON keeps of it. */
  async broadcast(data: unknown): Promise<void> {
    this.#mustBeOpen();
    await this.#membership.request("broadcast", { data: asJson(data) });
  }

  /**
   * Has a stream recorded, anybody's, or no longer; needs the grant `record`. Resolves to the recording's id: the one that
   * begins or was under way already, or the one that ends; undefined: there was none to end. One that was asked for here is
   * asked for again when the stream has to move to another server, as another recording, unless somebody has ended it.
   */
  async record(stream: RemoteStream | Publication, on: boolean): Promise<string | undefined> {
    this.#mustBeOpen();
    return this.#recordings.ask(stream, on);
  }

  /** @internal */
  handleNotification(method: string, data: { [key: string]: Json | undefined }): void {
    this.#membership.handleNotification(method, data);
  }

  /** @internal False if there is no membership to keep alive now. */
  keepAlive(): boolean {
    return this.#membership.keepAlive();
  }

  /** @internal */
  networkChanged(): void {
    for (const media of this.#media()) media.networkChanged();
  }

  /** @internal The page goes away. */
  pageHidden(): void {
    this.#membership.post();
  }

  /** `stream`: what is received, which may be away for a while. */
  #access(stream?: RemoteStream): RoomAccess {
    const membership = this.#membership;
    const streams = this.#streams;
    return {
      clock: this.context.clock,
      configuration: this.context.configuration,
      get joined() {
        return membership.state === "joined" && !(stream && streams.isAwaited(stream));
      },
      interrupted: () => {
        // Media stops before an idle WebSocket is missed: both go to the same machine.
        if (this.context.signalling.state.name === "open") this.context.signalling.hint();
      },
      request: (method, data) => membership.request(method, data),
      attempt: (method, data) => {
        membership.request(method, data, () => true).catch(() => undefined);
      },
    };
  }

  #media(): (Publication | Subscription)[] {
    return [...this.publications, ...this.subscriptions];
  }

  #snapshot(joined: Joined): void {
    const again = this.#state !== "connecting";
    this.#show(this.#roster.reconcile(joined.users, joined.streams));
    this.#joined(joined);
    if (again) this.emit("resynced", undefined);
  }

  #joined(joined: Joined): void {
    if (joined.own) this.#compareOwn(joined.own);
    for (const publication of this.publications) publication.setSignalling(true);
    for (const subscription of this.subscriptions) {
      if (!this.#streams.isAwaited(subscription.stream)) subscription.setSignalling(true);
    }
    this.#setState("connected");
    this.#joining?.resolve();
  }

  /** Finds out what of our own the server has lost, or has and we do not know. */
  #compareOwn(own: NonNullable<Joined["own"]>): void {
    for (const publication of this.publications) {
      if (publication.negotiating) continue;
      for (const mid of publication.mids) if (!own.mids.has(mid)) publication.removed(mid);
      const { mid } = publication;
      if (mid === undefined || !own.mids.has(mid)) continue;
      const recording = own.recordings?.get(mid);
      if (recording === undefined && publication.recording !== undefined) this.#recordings.forget(publication);
      publication.recorded(recording);
    }
    for (const subscription of this.subscriptions) {
      const { sid, negotiating } = subscription;
      if (sid !== undefined && !negotiating && !own.sids.has(sid)) subscription.gone();
    }
    // A publish may have been carried out whose answer is still to come: what looks like a stranger may be its stream.
    if (this.publications.some((publication) => publication.negotiating)) return;
    const known = new Set(this.publications.flatMap((publication) => publication.mids));
    for (const mid of own.mids) {
      if (!known.has(mid)) this.#access().attempt("unpublish", { mid });
    }
  }

  #lost(): void {
    for (const media of this.#media()) media.setSignalling(false);
    this.#setState("reconnecting");
  }

  #notified(notification: Notification): void {
    switch (notification.method) {
      case "broadcast":
        this.emit("broadcast", { uid: notification.uid, data: notification.data });
        break;
      case "peer-kick":
        if (notification.uid === undefined || notification.uid === this.context.peer) {
          this.emit("kicked", { reason: notification.reason });
          this.#membership.fail(
            new SluiceError(4000, "refused", notification.reason || "put out of the room"),
          );
        }
        break;
      case "recording": {
        const { mid, on, recording } = notification;
        const stream = this.publications.find((publication) => publication.mid === mid) ?? this.#streams.get(mid);
        if (stream) this.#recordings.heard(stream, recording, on);
        break;
      }
      case "stream-migrate":
        this.publications.find(({ mid }) => mid === notification.mid)?.migrate();
        break;
      case "stream-remove":
        for (const publication of this.publications) publication.removed(notification.mid);
        this.#show(this.#roster.apply(notification), COMES_BACK.has(notification.reason));
        break;
      default:
        this.#show(this.#roster.apply(notification));
    }
  }

  /** `comesBack`: what is removed is expected to be published again. */
  #show(changes: readonly Change[], comesBack = false): void {
    const replaced = Streams.replacedIn(changes);
    for (const change of changes) {
      switch (change.kind) {
        case "peer-joined":
          this.emit("peer-joined", { uid: change.uid });
          break;
        case "peer-left":
          this.#streams.removeOf(change.uid);
          this.emit("peer-left", { uid: change.uid });
          break;
        case "stream-added":
          this.#streams.add(change.stream);
          break;
        case "stream-removed":
          this.#streams.remove(change.stream.mid, comesBack || replaced.has(change.stream.mid));
          break;
        case "stream-updated":
          this.#streams.update(change.stream);
          break;
        case "recording-changed": {
          const stream = this.#streams.get(change.stream.mid);
          if (stream && change.stream.recording === undefined) this.#recordings.forget(stream);
          this.#streams.record(change.stream);
          break;
        }
      }
    }
  }

  /** Published anew elsewhere: on screen it stays what it was. */
  #moved(stream: RemoteStream, mid: string): void {
    const subscribed = this.#subscriptions.get(mid);
    this.#subscriptions.delete(mid);
    if (subscribed) {
      this.#subscriptions.set(stream.mid, subscribed);
      subscribed.subscription.migrate();
      subscribed.subscription.setSignalling(this.#membership.state === "joined");
    }
    this.emit("stream-updated", { stream });
    this.#recordings.moved(stream);
  }

  #showRecording(stream: AnyStream, recording: string | undefined): void {
    if (stream instanceof Publication) stream.recorded(recording);
    else this.#show(this.#roster.record(stream.mid, recording));
  }

  #signallingChanged(state: SignallingState): void {
    if (state.name === "reconnecting" && this.#state !== "closed") {
      // Not yet in: it stays "connecting" for whoever waits, with the time of the next try.
      const name = this.#state === "connecting" ? "connecting" : "reconnecting";
      this.#setState(name, { retryInMs: state.retryInMs, ...(state.error && { error: state.error }) });
    }
  }

  #setState(state: RoomState, more: { retryInMs?: number; error?: SluiceError } = {}): void {
    if (state === this.#state && more.retryInMs === undefined) return;
    this.#state = state;
    this.emit("state", { state, ...more });
  }

  #close(error: SluiceError | undefined): void {
    if (this.#state === "closed") return;
    for (const off of this.#offs) off();
    for (const media of this.#media()) media.abandon();
    this.#roster.clear();
    this.#streams.clear();
    this.#setState("closed", error ? { error } : {});
    this.#joining?.reject(error ?? SluiceError.local("closed", "the room was left before it was joined"));
    this.#joining?.promise.catch(() => undefined);
  }

  #mustBeOpen(): void {
    if (this.#state === "idle" || this.#state === "closed") {
      throw SluiceError.local("closed", "the room is not joined");
    }
  }
}
