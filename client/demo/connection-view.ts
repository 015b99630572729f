/** How the connection to the server is: always in the pill above, and with words and a button when it lasts. */

import type { Client, Room, RoomState } from "../src/index.ts";
import { byId } from "./dom.ts";
import type { Notices } from "./notices.ts";

/** Most lost connections are back before one has read that they were lost. */
const OUTAGE_AFTER_MS = 1_500;

export class ConnectionView {
  #outage: ReturnType<typeof setTimeout> | undefined;

  constructor(
    private readonly client: Client,
    room: Room,
    private readonly notices: Notices,
  ) {
    room.on("state", ({ state, retryInMs }) => this.#show(state, retryInMs));
    this.#show(room.state);
  }

  close(): void {
    clearTimeout(this.#outage);
    this.#outage = undefined;
  }

  #show(state: RoomState, retryInMs?: number): void {
    const pill = byId("connection");
    pill.dataset.state = state;
    pill.textContent = words(state);
    byId("call").dataset.state = state;
    if (state === "connected" || state === "closed") {
      this.close();
      this.notices.hide("connection");
    } else if (retryInMs !== undefined) {
      this.#outage ??= setTimeout(() => this.#tell(state), OUTAGE_AFTER_MS);
    }
  }

  /** The notice is gone with the press: it comes back when this try, too, has failed. */
  #retry(): void {
    this.close();
    this.client.retryNow();
  }

  #tell(state: RoomState): void {
    const first = state === "connecting";
    this.notices.show({
      key: "connection",
      title: first ? "The server does not answer" : "Connection to the server lost",
      text: first
        ? "Trying again by itself. Is this device online?"
        : "Coming back by itself. Sound and picture go on as long as they can.",
      tone: "problem",
      action: { label: "Try now", testid: "retry-now", run: () => this.#retry() },
    });
  }
}

function words(state: RoomState): string {
  switch (state) {
    case "connected":
      return "Connected";
    case "reconnecting":
      return "Reconnecting…";
    case "closed":
      return "Left";
    default:
      return "Connecting…";
  }
}
