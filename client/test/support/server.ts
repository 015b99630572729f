/** The server's end of the WebSocket, played by a test: it sees what was sent and answers by hand or by rule. */

import type { JsonObject } from "../../src/frames.ts";
import type { Socket } from "../../src/signalling.ts";

export interface Request {
  readonly id: number;
  readonly method: string;
  readonly data: JsonObject;
  readonly connection: Connection;
}

/** What a rule answers: data, an error, or undefined for silence. */
export type Answer = { ok: JsonObject } | { error: number; name?: string; data?: JsonObject } | undefined;

export class Connection implements Socket {
  readyState = 0;
  onopen: ((event: never) => void) | null = null;
  onmessage: ((event: { data: unknown }) => void) | null = null;
  onclose: ((event: { code: number; reason: string }) => void) | null = null;
  onerror: ((event: never) => void) | null = null;
  /** Closed by the client. */
  closed = false;

  constructor(
    private readonly server: Server,
    readonly url: string,
    readonly protocols: string[],
  ) {}

  send(text: string): void {
    const { id, method, data } = JSON.parse(text);
    this.server.receive({ id, method, data, connection: this });
  }

  close(): void {
    this.closed = true;
    this.readyState = 3;
  }

  open(): void {
    this.readyState = 1;
    this.onopen?.(undefined as never);
  }

  /** The connection breaks, or the server closes it. */
  drop(code = 1006, reason = ""): void {
    this.readyState = 3;
    this.onclose?.({ code, reason });
  }

  deliver(frame: unknown): void {
    this.onmessage?.({ data: JSON.stringify(frame) });
  }

  notify(method: string, data: JsonObject): void {
    this.deliver({ notification: true, method, data });
  }

  answer(request: Request, answer: Answer): void {
    if (!answer) return;
    if ("ok" in answer) this.deliver({ response: true, id: request.id, ok: true, data: answer.ok });
    else {
      const { error, name, data = {} } = answer;
      this.deliver({
        response: true,
        id: request.id,
        ok: false,
        errorCode: error,
        error: name,
        errorReason: "no",
        data,
      });
    }
  }
}

export class Server {
  readonly connections: Connection[] = [];
  readonly requests: Request[] = [];
  /** Accepts connections at once; a test that wants otherwise opens or drops them itself. */
  accepting = true;
  rules: Record<string, (request: Request) => Answer> = {};

  readonly connect = (url: string, protocols: string[]): Connection => {
    const connection = new Connection(this, url, protocols);
    this.connections.push(connection);
    if (this.accepting) queueMicrotask(() => connection.open());
    return connection;
  };

  get last(): Connection {
    const last = this.connections.at(-1);
    if (!last) throw new Error("nobody has connected");
    return last;
  }

  /** Requests of a method so far. */
  of(method: string): Request[] {
    return this.requests.filter((request) => request.method === method);
  }

  receive(request: Request): void {
    this.requests.push(request);
    const answer = this.rules[request.method]?.(request);
    queueMicrotask(() => request.connection.answer(request, answer));
  }
}
