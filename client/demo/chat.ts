/** Text between all in the room, carried by `broadcast`. There is no history: who comes later missed it. */

import type { Json, Room } from "../src/index.ts";
import { make } from "./dom.ts";
import { hueOf, nameOf } from "./names.ts";

/** More is an essay, and the server limits messages as well. */
const MAX_TEXT = 2000;
/** Older ones go: a call of days must not fill the memory. */
const MAX_MESSAGES = 500;

/** So near the end counts as at the end. */
const AT_END_PX = 40;

interface Line {
  readonly peer: string;
  readonly text: string;
  readonly own: boolean;
}

export class Chat {
  readonly #list: HTMLElement;
  readonly #input: HTMLTextAreaElement;
  #lastPeer = "";
  #atEnd = true;
  /** Of the list, when it was last known where its end is. */
  #height = 0;

  constructor(
    private readonly room: Room,
    private readonly self: string,
    elements: {
      readonly list: HTMLElement;
      readonly form: HTMLFormElement;
      readonly input: HTMLTextAreaElement;
    },
    /** Someone else wrote. */
    private readonly received: (peer: string, text: string) => void,
    signal: AbortSignal,
  ) {
    this.#list = elements.list;
    this.#stayAtEnd(signal);
    this.#input = elements.input;
    this.#list.replaceChildren(make("li", { class: "hint" }, "Messages go to everyone who is here now."));
    this.#input.value = "";
    elements.form.addEventListener("submit", (event) => this.#submit(event), { signal });
    this.#input.addEventListener(
      "keydown",
      (event) => {
        if (event.key === "Enter" && !event.shiftKey && !composes(event)) this.#submit(event);
      },
      { signal },
    );
    this.#input.addEventListener("input", () => this.#fit(), { signal });
    room.on("broadcast", ({ uid, data }) => this.#receive(uid, data));
  }

  focus(): void {
    this.#input.focus();
    this.#showEnd();
  }

  /** A keyboard that opens, or a phone that is turned, must not push the last line out of sight for whoever reads it. */
  #stayAtEnd(signal: AbortSignal): void {
    this.#list.addEventListener("scroll", () => this.#noteEnd(), { signal, passive: true });
    const observer = new ResizeObserver(() => {
      if (this.#atEnd) this.#showEnd();
      else this.#height = this.#list.clientHeight;
    });
    observer.observe(this.#list);
    signal.addEventListener("abort", () => observer.disconnect());
  }

  /** Of a smaller list the browser keeps the top in place and tells of no scrolling: where the end was is remembered. */
  #noteEnd(): void {
    const { scrollTop, clientHeight, scrollHeight } = this.#list;
    // Scrolling that a change of size brings along says nothing about what the reader wants.
    if (clientHeight !== this.#height) return;
    this.#atEnd = scrollTop + clientHeight >= scrollHeight - AT_END_PX;
  }

  #showEnd(): void {
    this.#list.scrollTop = this.#list.scrollHeight;
    this.#height = this.#list.clientHeight;
    this.#atEnd = true;
  }

  #submit(event: Event): void {
    event.preventDefault();
    const text = this.#input.value.trim().slice(0, MAX_TEXT);
    if (text === "") return;
    this.#input.value = "";
    this.#fit();
    const line = this.#add({ peer: this.self, text, own: true });
    this.#send(line, text);
  }

  #send(line: HTMLElement, text: string): void {
    line.dataset.status = "sending";
    this.room.broadcast({ type: "chat", text }).then(
      () => {
        line.dataset.status = "sent";
      },
      () => {
        line.dataset.status = "failed";
        const retry = make("button", { class: "retry" }, "Not sent. Try again");
        retry.addEventListener("click", () => {
          retry.remove();
          this.#send(line, text);
        });
        line.append(retry);
      },
    );
  }

  #receive(peer: string, data: Json): void {
    const text = readText(data);
    if (text === undefined) return;
    this.#add({ peer, text, own: false });
    this.received(peer, text);
  }

  #add({ peer, text, own }: Line): HTMLElement {
    this.#list.querySelector(".hint")?.remove();
    const line = make("li", { class: own ? "message own" : "message", "data-testid": "chat-message" });
    if (this.#lastPeer !== peer) {
      line.classList.add("first");
      const time = new Date().toLocaleTimeString([], { hour: "2-digit", minute: "2-digit" });
      const author = make("span", { class: "author" }, own ? "You" : nameOf(peer));
      author.style.setProperty("--hue", String(hueOf(peer)));
      line.append(make("div", { class: "meta" }, author, make("time", {}, time)));
    }
    this.#lastPeer = peer;
    line.append(make("p", { class: "bubble" }, ...withLinks(text)));
    this.#list.append(line);
    while (this.#list.children.length > MAX_MESSAGES) this.#list.firstElementChild?.remove();
    if (this.#atEnd || own) this.#showEnd();
    return line;
  }

  /** As high as the text, up to a few lines. */
  #fit(): void {
    this.#input.style.height = "auto";
    this.#input.style.height = `${Math.min(120, this.#input.scrollHeight)}px`;
  }
}

/** The key belongs to an input method. Safari ends the composition before the key that confirms it: 229 tells. */
function composes(event: KeyboardEvent): boolean {
  return event.isComposing || event.keyCode === 229;
}

/** The text of a chat message, from whomever it came; undefined if it is none. */
export function readText(data: Json): string | undefined {
  if (typeof data !== "object" || data === null || Array.isArray(data) || data.type !== "chat")
    return undefined;
  return typeof data.text === "string" && data.text.trim() !== "" ? data.text.slice(0, MAX_TEXT) : undefined;
}

/** Text with its web addresses made into links. */
function withLinks(text: string): (Node | string)[] {
  return text.split(/(https?:\/\/[^\s<>"]+)/g).map((part, index) => {
    if (index % 2 === 0) return part;
    return make("a", { href: part, target: "_blank", rel: "noopener noreferrer nofollow" }, part);
  });
}
