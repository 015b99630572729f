/** How each stream does, once a second. */

import type { Kind, Publication, Room, StreamStats, Subscription, TrackStats } from "../src/index.ts";
import { make } from "./dom.ts";
import { nameOf } from "./names.ts";

const EVERY_MS = 1000;
/** Seconds of history in the small curves. */
const HISTORY = 40;

/** The last bit rates of each part of a stream. */
type Curves = Partial<Record<Kind, number[]>>;

export class StatsPanel {
  #timer: ReturnType<typeof setInterval> | undefined;
  #busy = false;
  #curves = new WeakMap<Publication | Subscription, Curves>();

  constructor(
    private readonly room: Room,
    private readonly list: HTMLElement,
  ) {}

  open(): void {
    this.#timer ??= setInterval(() => void this.#refresh(), EVERY_MS);
    void this.#refresh();
  }

  close(): void {
    clearInterval(this.#timer);
    this.#timer = undefined;
    this.#curves = new WeakMap();
    this.list.replaceChildren();
  }

  async #refresh(): Promise<void> {
    // A slow getStats must not pile up behind itself.
    if (this.#busy) return;
    this.#busy = true;
    try {
      const cards = await Promise.all([
        ...this.room.publications.map((publication) =>
          this.#card("You", publication.source, publication, "send"),
        ),
        ...this.room.subscriptions.map((subscription) =>
          this.#card(nameOf(subscription.stream.uid), subscription.stream.source, subscription, "receive"),
        ),
      ]);
      if (this.#timer === undefined) return;
      const empty = make("p", { class: "fine" }, "Nothing is sent or received yet.");
      this.list.replaceChildren(...(cards.length > 0 ? cards : [empty]));
    } finally {
      this.#busy = false;
    }
  }

  async #card(
    name: string,
    source: string,
    media: Publication | Subscription,
    direction: "send" | "receive",
  ): Promise<HTMLElement> {
    const stats = await media.stats();
    const card = make("section", {
      class: "stat-card",
      "data-testid": "stats-card",
      "data-direction": direction,
    });
    card.append(
      make(
        "header",
        {},
        make("h3", { title: name }, name),
        make("span", { class: "fine" }, source),
        make("span", { class: "pill", "data-state": media.state }, media.state),
      ),
    );
    if (!stats) return card;
    const curves = this.#curves.get(media) ?? {};
    this.#curves.set(media, curves);
    for (const track of stats.tracks.filter(({ kind }) => flows(media, kind))) {
      curves[track.kind] = [...(curves[track.kind] ?? []), track.bitrate].slice(-HISTORY);
      card.append(trackRow(track, curves[track.kind] ?? []));
    }
    card.append(make("p", { class: "fine" }, connection(stats)));
    return card;
  }
}

function trackRow(track: TrackStats, rates: readonly number[]): HTMLElement {
  const facts = [
    picture(track),
    track.codec,
    track.jitterMs === undefined ? undefined : `jitter ${track.jitterMs.toFixed(0)} ms`,
    `loss ${(track.loss * 100).toFixed(1)} %`,
    track.limitedBy === undefined ? undefined : `limited by ${track.limitedBy}`,
  ];
  return make(
    "div",
    { class: "stat-row", "data-testid": `stats-${track.kind}` },
    make("div", { class: "stat-main" }, make("span", {}, track.kind), make("b", {}, bits(track.bitrate))),
    sparkline(rates),
    make("p", {}, facts.filter(Boolean).join(" · ")),
  );
}

/** A part that is switched off has no numbers worth a line. */
function flows(media: Publication | Subscription, kind: Kind): boolean {
  return "stream" in media ? !media.stream.muted[kind] : Boolean(media.track(kind)) && !media.muted[kind];
}

function picture({ width, height, framesPerSecond }: TrackStats): string | undefined {
  if (width === undefined || height === undefined) return undefined;
  return `${width}×${height}${framesPerSecond === undefined ? "" : ` at ${Math.round(framesPerSecond)} fps`}`;
}

function connection({ rttMs, srtpCipher, path, availableOutgoing }: StreamStats): string {
  const facts = [
    rttMs === undefined ? undefined : `${rttMs.toFixed(0)} ms round trip`,
    srtpCipher,
    path,
    availableOutgoing === undefined ? undefined : `${bits(availableOutgoing)} available`,
  ];
  return facts.filter(Boolean).join(" · ");
}

function bits(rate: number): string {
  if (rate >= 1_000_000) return `${(rate / 1_000_000).toFixed(2)} Mbit/s`;
  return `${Math.round(rate / 1000)} kbit/s`;
}

/** A curve of the last values, on its own scale. */
function sparkline(values: readonly number[]): SVGSVGElement {
  const svg = document.createElementNS("http://www.w3.org/2000/svg", "svg");
  svg.setAttribute("viewBox", `0 0 ${HISTORY - 1} 20`);
  svg.setAttribute("preserveAspectRatio", "none");
  svg.setAttribute("class", "spark");
  svg.setAttribute("aria-hidden", "true");
  const top = Math.max(1, ...values);
  const left = HISTORY - values.length;
  const points = values.map((value, index) => `${left + index},${(19 - (value / top) * 18).toFixed(1)}`);
  const line = document.createElementNS("http://www.w3.org/2000/svg", "polyline");
  line.setAttribute("points", points.join(" "));
  svg.append(line);
  return svg;
}
