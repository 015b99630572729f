/** Messages over the stage: what happened and, where there is one, the button that helps. */

import { icon, make } from "./dom.ts";

export interface NoticeOptions {
  /** A notice of the same key takes the other's place. */
  readonly key?: string;
  readonly title: string;
  readonly text?: string;
  readonly tone?: "plain" | "problem";
  readonly action?: { readonly label: string; readonly testid?: string; run(): void };
  /** Goes away by itself after this long; without it, it stays until closed. */
  readonly forMs?: number;
}

/** More than these at once hide the people one came to see. */
const MAX_SHOWN = 3;

export class Notices {
  constructor(private readonly container: HTMLElement) {}

  show(options: NoticeOptions): void {
    const key = options.key ?? options.title;
    this.hide(key);
    const notice = make("div", {
      class: `toast ${options.tone ?? "plain"}`,
      "data-testid": "notice",
      "data-key": key,
    });
    const text = make("div", { class: "toast-text" }, make("strong", {}, options.title));
    if (options.text) text.append(make("span", {}, options.text));
    notice.append(text);
    const { action } = options;
    if (action) {
      const button = make(
        "button",
        { class: "toast-action", "data-testid": action.testid ?? false },
        action.label,
      );
      button.addEventListener("click", () => {
        notice.remove();
        action.run();
      });
      notice.append(button);
    }
    const close = make("button", { class: "toast-close", "aria-label": "Dismiss" }, icon("close", "small"));
    close.addEventListener("click", () => notice.remove());
    notice.append(close);
    this.container.append(notice);
    if (options.forMs !== undefined) setTimeout(() => notice.remove(), options.forMs);
    while (this.container.children.length > MAX_SHOWN) {
      // What went wrong is worth more than what was said.
      const plain = this.container.querySelector(".toast.plain:not(:last-child)");
      (plain ?? this.container.firstElementChild)?.remove();
    }
  }

  /** Takes away the notice of this key, and those of the keys that begin with it and a space. */
  hide(key: string): void {
    for (const notice of this.container.querySelectorAll<HTMLElement>(".toast")) {
      const shown = notice.dataset.key;
      if (shown === key || shown?.startsWith(`${key} `)) notice.remove();
    }
  }

  clear(): void {
    this.container.replaceChildren();
  }
}
