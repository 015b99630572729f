/** A stream that someone else publishes in the room. The object stays the same while its `info` changes. */
import { type Muted, type Source } from "./info.ts";
import type { MediaInfo, StreamRecord } from "./messages.ts";
export declare class RemoteStream {
    #private;
    /** @internal */
    constructor(record: StreamRecord);
    /** Its id in the room. */
    get mid(): string;
    /** Who publishes it. */
    get uid(): string;
    /** The SFU node that carries it. */
    get sfuid(): string | undefined;
    /** `minfo` as its publisher gave it. */
    get info(): MediaInfo;
    get source(): Source;
    /** What its publisher has silenced. */
    get muted(): Muted;
    /** @internal */
    update(record: StreamRecord): void;
}
