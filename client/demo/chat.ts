/** Text between all in the room, carried by `broadcast`. There is no history: who comes later missed it. */

import type { Json, Room } from "../src/index.ts";
import { make } from "./dom.ts";
import { hueOf, nameOf } from "./names.ts";

/** More is an essay, and the server limits messages as well. */
const MAX_TEXT = 2000;
/** Older ones go: a call of days must not fill the memory. */
const MAX_MESSAGES = 500;

interface Line {
  readonly peer: string;
  readonly text: string;
  readonly own: boolean;
}

export class Chat {
  readonly #list: HTMLElement;
  readonly #input: HTMLTextAreaElement;
  #lastPeer = "";

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
    this.#input = elements.input;
    this.#list.replaceChildren(make("li", { class: "hint" }, "Messages go to everyone who is here now."));
    this.#input.value = "";
    elements.form.addEventListener("submit", (event) => this.#submit(event), { signal });
    this.#input.addEventListener(
      "keydown",
      (event) => {
        if (event.key === "Enter" && !event.shiftKey && !event.isComposing) this.#submit(event);
      },
      { signal },
    );
    this.#input.addEventListener("input", () => this.#fit(), { signal });
    room.on("broadcast", ({ uid, data }) => this.#receive(uid, data));
  }

  focus(): void {
    this.#input.focus();
    this.#list.scrollTop = this.#list.scrollHeight;
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
    const atEnd = this.#list.scrollTop + this.#list.clientHeight >= this.#list.scrollHeight - 40;
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
    if (atEnd || own) this.#list.scrollTop = this.#list.scrollHeight;
    return line;
  }

  /** As high as the text, up to a few lines. */
  #fit(): void {
    this.#input.style.height = "auto";
    this.#input.style.height = `${Math.min(120, this.#input.scrollHeight)}px`;
  }
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
