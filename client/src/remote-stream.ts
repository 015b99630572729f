/** A stream that someone else publishes in the room. The object stays the same while its `info` changes. */

import { type Muted, mutedOf, type Source, sourceOf } from "./info.ts";
import type { MediaInfo, StreamRecord } from "./messages.ts";

export class RemoteStream {
  /** Tells it from all others in the room, and stays the same when the stream moves, unlike `mid`. */
  readonly id: string;
  #record: StreamRecord;

  /** Made by `Room`. */
  constructor(record: StreamRecord) {
    this.id = record.mid;
    this.#record = record;
  }

  /** Its present id on the server. */
  get mid(): string {
    return this.#record.mid;
  }

  /** Who publishes it. */
  get uid(): string {
    return this.#record.uid;
  }

  /** `minfo` as its publisher gave it; `audio` and `video` are true where it said nothing of them. */
  get info(): MediaInfo {
    return this.#record.info;
  }

  /** The recording that is made of it, by its id; undefined: none. */
  get recording(): string | undefined {
    return this.#record.recording;
  }

  get source(): Source {
    return sourceOf(this.info);
  }

  /** What its publisher has silenced. */
  get muted(): Muted {
    return mutedOf(this.info);
  }

  /** @internal */
  update(record: StreamRecord): void {
    this.#record = record;
  }
}
