/**
 * What is recorded of the streams in a room: asks for it, again where a stream moves, and puts together what answers and
 * notifications say of it, in whatever order they come.
 */

import { SluiceError } from "./error.ts";
import type { JsonObject } from "./frames.ts";
import type { Publication } from "./publication.ts";
import type { RemoteStream } from "./remote-stream.ts";

/** A stream of anybody's, one's own as well. */
export type AnyStream = RemoteStream | Publication;

export interface RecordingsRoom {
  /** Done once. With `isWanted` it is repeated while the server cannot for now, and that is so. */
  request(method: string, data: JsonObject, isWanted?: () => boolean): Promise<JsonObject>;
  /** What is recorded of the stream from now on; undefined: nothing. */
  show(stream: AnyStream, recording: string | undefined): void;
}

export class Recordings {
  /** What was asked for here and has not ended since: it is asked for again where the stream moves. */
  readonly #wanted = new WeakSet<AnyStream>();
  /** Of a stream, the recording that was last heard to have ended: that it has begun may be heard later. */
  readonly #over = new WeakMap<AnyStream, string>();

  constructor(private readonly room: RecordingsRoom) {}

  wants(stream: AnyStream): boolean {
    return this.#wanted.has(stream);
  }

  want(stream: AnyStream): void {
    this.#wanted.add(stream);
  }

  /** Whoever ended it, or what did, it is not to come back by itself. */
  forget(stream: AnyStream): void {
    this.#wanted.delete(stream);
  }

  /** See `Room.record`. */
  async ask(stream: AnyStream, on: boolean): Promise<string | undefined> {
    if (!on) this.forget(stream);
    // One that moves meanwhile is another stream to the server.
    for (;;) {
      const { mid } = stream;
      if (mid === undefined) throw SluiceError.local("bad_mid", "the stream is not published");
      try {
        const recording = await this.#askOf(stream, mid, on);
        if (stream.mid !== mid) continue;
        if (on && this.#over.get(stream) !== recording) this.want(stream);
        return recording;
      } catch (thrown) {
        const error = SluiceError.from(thrown);
        if (stream.mid !== mid) continue;
        if (on || error.name !== "bad_mid") throw error;
        // The server has lost the stream, and its recording has ended with it.
        this.room.show(stream, undefined);
        return undefined;
      }
    }
  }

  /** It is another stream to the server from now on: unless that records it anyway, it has to be told. */
  moved(stream: AnyStream): void {
    const { mid, recording } = stream;
    if (mid === undefined || recording !== undefined || !this.wants(stream)) return;
    const isWanted = () => stream.mid === mid && this.wants(stream);
    this.#askOf(stream, mid, true, isWanted).catch(() => undefined);
  }

  /**
   * A recording has begun or ended: what was asked for here is answered, everything else is notified. Either may come late:
   * what has ended does not begin any more, and does not end another that has begun since.
   */
  heard(stream: AnyStream, recording: string, on: boolean): void {
    if (on) {
      if (this.#over.get(stream) !== recording) this.room.show(stream, recording);
      return;
    }
    this.#over.set(stream, recording);
    // One that was never shown here: begun by a request that the server undid, and asked for again. Its answer is looked at above.
    if (stream.recording !== recording) return;
    this.forget(stream);
    this.room.show(stream, undefined);
  }

  async #askOf(stream: AnyStream, mid: string, on: boolean, isWanted?: () => boolean): Promise<string | undefined> {
    const answer = await this.room.request("record", { mid, on }, isWanted);
    const recording = typeof answer.recording === "string" ? answer.recording : undefined;
    if (recording !== undefined && stream.mid === mid) this.heard(stream, recording, on);
    return recording;
  }
}
