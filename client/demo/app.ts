/** The demo page: from the lobby into a call and back. */

import { type Client, connect, type Room, SluiceError } from "../src/index.ts";
import { type Advice, roomAdvice } from "./advice.ts";
import { Call } from "./call.ts";
import { byId } from "./dom.ts";
import { type Entry, Lobby } from "./lobby.ts";
import { LocalMedia } from "./local-media.ts";
import { cryptoDraw, makePeer, nameOf } from "./names.ts";
import { isOfThisMachine, readOptions, shownAddress, socketUrl, withToken } from "./page-options.ts";
import { keepPeer, keepToken, loadToken, takePeer } from "./prefs.ts";

declare global {
  interface Window {
    /** The room of the present call, for tests and the curious; see client/README.md. */
    sluice: Room | undefined;
  }
}

const options = readOptions(withToken(new URL(location.href), loadToken()));
showAddress(options.room);
const media = new LocalMedia({ audio: options.audio, video: options.video });
const lobby = new Lobby(media, options, (entry) => void enter(entry));
/** Who this tab was last, before a reload included. */
let lastPeer = takePeer();
let current: { client: Client; call: Call } | undefined;

async function enter(entry: Entry): Promise<void> {
  if (current) return;
  lobby.hide();
  showAddress(entry.room);
  let client: Client | undefined;
  try {
    client = connect({
      url: socketUrl(new URL(location.href)),
      peer: peerFor(entry.name),
      ...(options.token === undefined ? {} : { token: options.token }),
    });
    const room = client.room(entry.room);
    window.sluice = room;
    const call = new Call(client, room, media, () => leave());
    current = { client, call };
    room.on("state", ({ state, error }) => {
      if (state === "closed" && error) leave(roomAdvice(error));
    });
    await room.join();
  } catch (thrown) {
    const error = SluiceError.from(thrown);
    // Where no call came about nobody else closes it, and it would go on connecting.
    if (!current) void client?.close();
    // Left while it was still connecting: that is no error, and the lobby is there already.
    if (error.name !== "closed") leave(roomAdvice(error));
  }
}

/** Back to the lobby, from wherever we are. */
function leave(advice?: Advice): void {
  const left = current;
  current = undefined;
  window.sluice = undefined;
  if (left) {
    left.call.close();
    void left.client.close();
  }
  if (advice) void lobby.show(advice);
  else void lobby.showAgain();
}

/** A token names its owner. Otherwise it is the peer before a reload, if the name is still the same, or a new one. */
function peerFor(name: string): string {
  if (options.peer !== undefined) return options.peer;
  if (lastPeer !== undefined && nameOf(lastPeer) === name) return lastPeer;
  lastPeer = makePeer(name, cryptoDraw);
  return lastPeer;
}

/** So that a reload, a bookmark and the address bar lead here again. The token goes where a reload finds it. */
function showAddress(room: string | undefined): void {
  const { token } = options;
  const address = new URL(location.href);
  const kept = token !== undefined && keepToken({ token, room });
  // In a browser that keeps nothing the address must: a reload would lock its owner out.
  if (token === undefined || kept) history.replaceState(null, "", shownAddress(address, room));
}

window.addEventListener("pagehide", () => {
  if (lastPeer !== undefined) keepPeer(lastPeer);
});

/** Operators alone may look, and on their own machine they need nothing for it. Elsewhere nobody is bothered with a link that refuses. */
async function showLiveLink(): Promise<void> {
  if (!isOfThisMachine(location.hostname)) return;
  const answer = await fetch("live.json?limit=1", { method: "HEAD" }).catch(() => undefined);
  byId("live-link").hidden = answer?.ok !== true;
}

async function start(): Promise<void> {
  const shown = lobby.show();
  if (!options.autojoin) return;
  await shown;
  lobby.submit();
}

void start();
void showLiveLink();
