/** The ICE servers a deployment wants its clients to use, asked for at `/rtc-config` beside the WebSocket. */
import type { Clock } from "./clock.ts";
import { type Json } from "./frames.ts";
import { type TokenSource } from "./signalling.ts";
export declare class RtcConfig {
    #private;
    private readonly socketUrl;
    private readonly token;
    private readonly clock;
    constructor(socketUrl: string, token: TokenSource | undefined, clock: Clock);
    /** Never rejects: without an answer it is an empty configuration, and the next call asks again. */
    get(): Promise<RTCConfiguration>;
}
/** The ICE servers of an answer; what is none is left out. */
export declare function readIceServers(answer: Json): RTCIceServer[];
