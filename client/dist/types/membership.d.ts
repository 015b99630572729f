/**
 * Being in a room across lost connections: joins, joins again with `session` and `since`, and gives notifications in
 * order. Knows no media. Requests made through it carry an `op`, so that one repeated after a lost connection is not
 * done twice.
 */
import type { Clock } from "./clock.ts";
import { SluiceError } from "./error.ts";
import type { JsonObject } from "./frames.ts";
import { type Joined, type Notification } from "./messages.ts";
import { type Signalling } from "./signalling.ts";
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
export declare class Membership {
    #private;
    readonly rid: string;
    private readonly signalling;
    private readonly clock;
    private readonly events;
    constructor(rid: string, signalling: Signalling, clock: Clock, events: MembershipEvents);
    get state(): MembershipState;
    /** Joins as soon as there is a connection, and again whenever there is another. */
    start(): void;
    /**
     * Sends a request once the room is joined, again after lost connections, until it is answered or 30 s are over.
     * `persistent` ones are also sent again when the server says that it cannot for now.
     */
    request(method: string, data: JsonObject, persistent?: boolean): Promise<JsonObject>;
    /** Tells the server that the member is there; false if it is not, for now. */
    keepAlive(): boolean;
    handleNotification(method: string, data: JsonObject): void;
    /** Leaves: tells the server if it can be told, and does not wait for long. */
    leave(): Promise<void>;
    /** The page goes away: says so without waiting for anything. */
    post(): void;
    /** Ends without telling the server, which knows. */
    fail(error: SluiceError): void;
}
