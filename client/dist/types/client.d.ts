/** The connection to a server, and the rooms joined over it. */
import { type Clock } from "./clock.ts";
import { Emitter } from "./emitter.ts";
import { Room } from "./room.ts";
import { type SignallingState, type Socket, type TokenSource } from "./signalling.ts";
export interface ConnectOptions {
    /** The server's WebSocket, for example `wss://calls.example/ws`, or `/ws` on the page's own server. */
    url: string | URL;
    /** Who this is: 1–128 characters, no control characters and none of `/ # * ? [ ] { }`; unique in each room. */
    peer: string;
    /** Access token, or a function that gets one; it is called for each connection and before a token expires. */
    token?: TokenSource | undefined;
    /** For peer connections. Default: the ICE servers the server names at `/rtc-config`. */
    rtc?: RTCConfiguration | undefined;
}
export interface ClientEvents {
    state: SignallingState;
}
export declare class Client extends Emitter<ClientEvents> {
    #private;
    private readonly options;
    private readonly clock;
    private readonly configuration;
    /** Who this is in every room. */
    readonly peer: string;
    /** @internal See `connect`. */
    constructor(options: ConnectOptions, clock: Clock, socket: (url: string, protocols: string[]) => Socket, configuration: () => Promise<RTCConfiguration>);
    get state(): SignallingState;
    /** A room; listen to it first, then `join()` it. The same object for the same name, until it is left. */
    room(name: string): Room;
    /** Checks the connection now, or tries again at once if there is none: for a button of that name. */
    retryNow(): void;
    /** Leaves all rooms and closes the connection for good. */
    close(): Promise<void>;
}
/** Connects to a server, and keeps connecting until `close`; a server that refuses for good ends it, too. */
export declare function connect(options: ConnectOptions): Client;
