/** The operators' page of `sluice`: rooms, members, streams and load, as they are. */

import { byId, make } from "./dom.ts";
import { bitrate, count, type Live, type LiveNode, type LiveRoom, percent, streamWords } from "./live-model.ts";
import { nameOf } from "./names.ts";

/** Between two looks. */
const EVERY_MS = 1_000;
/** A server that has not answered by then is told of as out of reach. */
const WITHIN_MS = 5_000;
/** Rooms shown at first, and more at a press. */
const ROOMS = 50;
const TOKEN = "sluice.operator";

let token = sessionStorage.getItem(TOKEN) ?? undefined;
let shown = ROOMS;
let timer: number | undefined;

async function look(): Promise<void> {
  clearTimeout(timer);
  timer = undefined;
  try {
    const answer = await fetch(`live.json?limit=${Math.min(shown, 500)}`, {
      cache: "no-store",
      signal: AbortSignal.timeout(WITHIN_MS),
      headers: token === undefined ? {} : { authorization: `Bearer ${token}` },
    });
    if (answer.ok) {
      render((await answer.json()) as Live);
    } else if (answer.status === 401 || answer.status === 403) {
      return refused(answer.status);
    } else if (answer.status === 404) {
      return say("This server has no live view.", "off");
    } else {
      say(`The server answers ${answer.status}.`, "waiting");
    }
  } catch {
    say("The server cannot be reached. What is below is as it was.", "waiting");
  }
  if (!document.hidden) timer = window.setTimeout(() => void look(), EVERY_MS);
}

function refused(status: number): void {
  byId("live-view").hidden = true;
  if (status === 403 && token === undefined) {
    return say("Without authentication this is shown to browsers on the server’s own machine only.", "off");
  }
  byId("live-token-form").hidden = false;
  const again = token !== undefined;
  forget();
  say(again ? "This token does not grant admin for all rooms, or has expired." : "This is for operators.", "off");
}

function forget(): void {
  token = undefined;
  sessionStorage.removeItem(TOKEN);
}

function say(words: string | undefined, state: "live" | "waiting" | "off"): void {
  const notice = byId("live-notice");
  notice.hidden = words === undefined;
  if (notice.textContent !== (words ?? "")) notice.textContent = words ?? "";
  const pill = byId("live-state");
  pill.dataset.state = state === "live" ? "connected" : "reconnecting";
  const text = { live: "live", waiting: "waiting", off: "not shown" }[state];
  if (pill.textContent !== text) pill.textContent = text;
}

function render(live: Live): void {
  say(undefined, "live");
  byId("live-token-form").hidden = true;
  byId("live-view").hidden = false;
  const { counts, edge } = live;
  byId("live-counts").replaceChildren(
    figure("Rooms", counts.rooms),
    figure("Members", counts.members),
    figure("Streams", counts.streams),
    figure("Connections", edge.connections),
  );
  byId("live-nodes").replaceChildren(...live.nodes.map(nodeCard));
  keepRooms(live.rooms);
  byId("live-empty").hidden = counts.rooms > 0;
  byId("live-more").hidden = live.more === undefined || shown >= 500;
}

function figure(name: string, value: number): HTMLElement {
  return make("div", {}, make("dt", {}, name), make("dd", {}, value.toLocaleString("en")));
}

function nodeCard({ id, region, version, state, load, capacity }: LiveNode): HTMLElement {
  const head = make("header", {}, make("strong", {}, id), make("span", { class: "fine" }, `${region} · ${version}`));
  if (state === "draining") head.append(make("span", { class: "pill" }, "draining"));
  return make(
    "article",
    { class: "live-card" },
    head,
    bar("Pressure", load.pressure, load.pressure >= 1 ? "nothing new" : percent(load.pressure)),
    bar("CPU", load.cpu, percent(load.cpu)),
    bar("Egress", load.egress_bps / capacity.egress_bps, bitrate(load.egress_bps)),
    bar("Tracks", load.tracks / capacity.tracks, load.tracks.toLocaleString("en")),
    make(
      "p",
      { class: "fine" },
      `${load.packets_per_second.toLocaleString("en")} packets/s out · ${percent(load.loss)} lost on the way to subscribers`,
    ),
  );
}

function bar(name: string, share: number, words: string): HTMLElement {
  const meter = make("meter", { min: "0", max: "1", high: "0.85", value: String(Math.min(share, 1)) });
  return make("label", { class: "live-bar" }, make("span", {}, name), meter, make("b", {}, words));
}

/** A room that is the same as before keeps its element: what somebody reads or has selected does not flicker. */
const kept = new Map<string, { readonly text: string; readonly element: HTMLElement }>();

function keepRooms(rooms: readonly LiveRoom[]): void {
  const elements = rooms.map((room) => {
    const text = JSON.stringify(room);
    const known = kept.get(room.rid);
    if (known?.text === text) return known.element;
    const element = roomCard(room);
    kept.set(room.rid, { text, element });
    return element;
  });
  const there = new Set(rooms.map(({ rid }) => rid));
  for (const rid of kept.keys()) if (!there.has(rid)) kept.delete(rid);
  const list = byId("live-rooms");
  const same = list.childElementCount === elements.length && elements.every((it, at) => list.children[at] === it);
  if (!same) list.replaceChildren(...elements);
}

function roomCard({ rid, members }: LiveRoom): HTMLElement {
  const streams = members.reduce((sum, member) => sum + member.streams.length, 0);
  const rows = members.map(({ uid, streams }) => {
    const words = streams.map((stream) => make("span", { title: `${stream.mid} on ${stream.node}` }, streamWords(stream)));
    return make("li", {}, make("span", { class: "live-name", title: uid }, nameOf(uid)), ...words);
  });
  return make(
    "article",
    { class: "live-card" },
    make(
      "header",
      {},
      make("strong", {}, rid),
      make("span", { class: "fine" }, `${count(members.length, "member")} · ${count(streams, "stream")}`),
    ),
    make("ul", {}, ...rows),
  );
}

byId<HTMLFormElement>("live-token-form").addEventListener("submit", (event) => {
  event.preventDefault();
  token = byId<HTMLInputElement>("live-token").value.trim();
  sessionStorage.setItem(TOKEN, token);
  void look();
});
byId("live-more").addEventListener("click", () => {
  shown *= 2;
  void look();
});
document.addEventListener("visibilitychange", () => {
  if (!document.hidden && timer === undefined) void look();
  if (document.hidden) {
    clearTimeout(timer);
    timer = undefined;
  }
});
say(undefined, "waiting");
void look();
