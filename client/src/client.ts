/** The connection to a server, and the rooms joined over it. */

import { type Clock, systemClock } from "./clock.ts";
import { Edges } from "./edges.ts";
import { Emitter } from "./emitter.ts";
import { SluiceError } from "./error.ts";
import { watchNetwork } from "./network.ts";
import { Renewal } from "./renewal.ts";
import { Room } from "./room.ts";
import { RtcConfig } from "./rtc-config.ts";
import { Signalling, type SignallingState, type Socket, type TokenSource } from "./signalling.ts";

export interface ConnectOptions {
  /**
   * The server's WebSocket, for example `wss://calls.example/ws`, or `/ws` on the page's own server. Of several, all alike,
   * one at random; the next one when a connection fails or is lost.
   */
  url: string | URL | readonly (string | URL)[];
  /** Who this is: 1–128 characters, no control characters and none of `/ # * ? [ ] { }`; unique in each room. */
  peer: string;
  /** Access token, or a function that gets one; it is called for each connection, and when a token nears its end. */
  token?: TokenSource | undefined;
  /** For peer connections. Default: the ICE servers the server names at `/rtc-config`. */
  rtc?: RTCConfiguration | undefined;
}

export interface ClientEvents {
  state: SignallingState;
}

/** A name that a server will accept as `peer` or room. */
const NAME = /^[^\p{Cc}/#*?[\]{}]{1,128}$/u;

/** The connection to a server, which keeps itself up, and the rooms joined over it. */
export class Client extends Emitter<ClientEvents> {
  /** Who this is in every room. */
  readonly peer: string;
  readonly #edges: Edges;
  readonly #signalling: Signalling;
  readonly #rooms = new Map<string, Room>();
  readonly #unwatch: () => void;

  readonly #renewal: Renewal;

  /** Made by `connect`. */
  constructor(
    options: ConnectOptions,
    private readonly clock: Clock,
    socket: (url: string, protocols: string[]) => Socket,
    private readonly configuration: (edge: string) => Promise<RTCConfiguration>,
  ) {
    super();
    if (!NAME.test(options.peer)) throw SluiceError.local("bad_uid", "peer must be 1–128 allowed characters");
    this.peer = options.peer;
    this.#edges = edgesOf(options.url, clock.random);
    const edges = this.#edges;
    this.#signalling = new Signalling({ edges, peer: options.peer, token: options.token, clock, socket });
    this.#renewal = new Renewal(this.#signalling, options.token, clock);
    this.#signalling.on("state", (state) => {
      // The next connection has a fresh token.
      if (state.name !== "open") this.#renewal.stop();
      this.emit("state", state);
      if (state.name === "closed") this.#unwatch();
    });
    this.#signalling.on("notification", ({ method, data }) => {
      if (method === "token-expiring" && typeof data.inMs === "number") this.#renewal.handleExpiring(data.inMs);
      if (typeof data.rid === "string") this.#rooms.get(data.rid)?.handleNotification(method, data);
      else for (const room of this.#rooms.values()) room.handleNotification(method, data);
    });
    this.#signalling.on("probe", ({ hinted }) => this.#probe(hinted));
    this.#unwatch = watchNetwork({
      hint: () => this.#signalling.hint(),
      changed: () => {
        for (const room of this.#rooms.values()) room.networkChanged();
      },
      hidden: () => {
        for (const room of this.#rooms.values()) room.pageHidden();
      },
    });
    this.#signalling.start();
  }

  get state(): SignallingState {
    return this.#signalling.state;
  }

  /** A room; listen to it first, then `join()` it. The same object for the same name, until it is left. */
  room(name: string): Room {
    if (!NAME.test(name))
      throw SluiceError.local("not_in_room", "a room's name must be 1–128 allowed characters");
    const present = this.#rooms.get(name);
    if (present && present.state !== "closed") return present;
    const room = new Room(name, {
      peer: this.peer,
      signalling: this.#signalling,
      clock: this.clock,
      configuration: () => this.configuration(this.#edges.current),
    });
    this.#rooms.set(name, room);
    room.on("state", ({ state }) => {
      if (state === "closed" && this.#rooms.get(name) === room) this.#rooms.delete(name);
    });
    return room;
  }

  /** Checks the connection now, or tries again at once if there is none: for a button of that name. */
  retryNow(): void {
    this.#signalling.hint();
  }

  /** Leaves all rooms and closes the connection for good. */
  async close(): Promise<void> {
    await Promise.all([...this.#rooms.values()].map((room) => room.leave()));
    this.#signalling.stop("closed by the application");
  }

  #probe(hinted: boolean): void {
    const sent = [...this.#rooms.values()].filter((room) => room.keepAlive());
    if (sent.length > 0) return;
    // Without a room the server's pings keep the connection. After a hint any answer, a refusal included, shows that it lives.
    if (hinted) this.#signalling.request("keepalive", {}).catch(() => undefined);
    else this.#signalling.skipProbe();
  }
}

/** The WebSocket's full address: that of a page is a WebSocket's, and what is no full address is seen from the page. */
function socketAddress(url: string | URL): string {
  const base = typeof document === "undefined" ? undefined : document.baseURI;
  let address: URL;
  try {
    address = new URL(url, base);
  } catch {
    throw SluiceError.local("bad_url", `${url} is no address of a WebSocket`);
  }
  if (address.protocol === "http:") address.protocol = "ws:";
  if (address.protocol === "https:") address.protocol = "wss:";
  if (!/^wss?:$/.test(address.protocol)) throw SluiceError.local("bad_url", `${url} is no address of a WebSocket`);
  // A fragment is the page's own; browsers refuse it in a WebSocket's address.
  address.hash = "";
  return address.href;
}

/** Where to connect: the addresses given, each once. */
function edgesOf(url: ConnectOptions["url"], random: () => number): Edges {
  const urls = typeof url === "string" || url instanceof URL ? [url] : url;
  if (urls.length === 0) throw SluiceError.local("bad_url", "there is no address of a WebSocket");
  return new Edges([...new Set(urls.map(socketAddress))], random);
}

/** Connects to a server, and keeps connecting until `close`; a server that refuses for good ends it, too. */
export function connect(options: ConnectOptions): Client {
  const { rtc, token } = options;
  const asked = new RtcConfig(token, systemClock);
  return new Client(
    options,
    systemClock,
    (url, protocols) => new WebSocket(url, protocols) as Socket,
    (edge) => (rtc ? Promise.resolve(rtc) : asked.get(edge)),
  );
}
