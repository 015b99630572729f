/**
 * One stream's peer connection, kept alive by `Recovery`: this is the shell that has the `RTCPeerConnection`, makes its
 * offers and carries the answers. Publications and subscriptions differ only in what they put into it.
 */
import { type Clock } from "./clock.ts";
import { SluiceError } from "./error.ts";
import { type JsonObject } from "./frames.ts";
import { type MediaState } from "./recovery.ts";
/** What a stream's owner does for its transport. */
export interface TransportOwner {
    /** Adds the transceivers to a new peer connection. */
    build(connection: RTCPeerConnection): void;
    /** Changes the browser's offer before it is used. */
    rewriteOffer(sdp: string): string;
    /** Changes the server's answers before they are used. */
    rewriteAnswer(sdp: string): string;
    /** Asks the server for the stream; returns the answer's data. */
    negotiate(jsep: JsonObject): Promise<JsonObject>;
    /** The answer is in place: last touches such as bitrates. */
    negotiated(connection: RTCPeerConnection): Promise<void>;
    /** Asks the server for an ICE restart; returns the answer's data. */
    restart(jsep: JsonObject): Promise<JsonObject>;
    /** The server's stream is of no more use: a new one follows, or none. */
    release(): void;
    stateChanged(state: MediaState): void;
    /** It is over; with an error if it failed. */
    ended(error: SluiceError | undefined): void;
}
export declare class Transport {
    #private;
    private readonly clock;
    private readonly configuration;
    private readonly owner;
    constructor(clock: Clock, configuration: () => Promise<RTCConfiguration>, owner: TransportOwner);
    get state(): MediaState;
    /** The present peer connection, for statistics. It is replaced when the stream is negotiated anew. */
    get connection(): RTCPeerConnection | undefined;
    /** A new stream is being asked for. */
    get negotiating(): boolean;
    start(signalling: boolean): void;
    setSignalling(up: boolean): void;
    networkChanged(): void;
    /** The server says the stream is gone or should move. */
    gone(): void;
    close(): void;
}
