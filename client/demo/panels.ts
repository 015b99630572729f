/** The chat and statistics panels beside the stage: at most one is open. */

import { byId } from "./dom.ts";

export type PanelName = "chat" | "stats";

export interface PanelEvents {
  opened(name: PanelName): void;
  closed(name: PanelName): void;
}

export class Panels {
  #open: PanelName | undefined;

  constructor(
    private readonly events: PanelEvents,
    signal: AbortSignal,
  ) {
    for (const name of ["chat", "stats"] as const) {
      byId(name).addEventListener("click", () => this.toggle(name), { signal });
      document
        .querySelector(`[data-close=${name}]`)
        ?.addEventListener("click", () => this.#closeAndReturn(name), { signal });
    }
    document.addEventListener(
      "keydown",
      (event) => {
        const dialog = document.querySelector("dialog[open]");
        if (event.key === "Escape" && this.#open && !dialog) this.#closeAndReturn(this.#open);
      },
      { signal },
    );
  }

  get open(): PanelName | undefined {
    return this.#open;
  }

  toggle(name: PanelName): void {
    const opens = this.#open !== name;
    this.close();
    if (!opens) return;
    this.#open = name;
    byId(`${name}-panel`).hidden = false;
    byId(name).setAttribute("aria-expanded", "true");
    byId("call").dataset.panel = name;
    this.events.opened(name);
  }

  close(): void {
    const name = this.#open;
    if (!name) return;
    this.#open = undefined;
    byId(`${name}-panel`).hidden = true;
    byId(name).setAttribute("aria-expanded", "false");
    delete byId("call").dataset.panel;
    this.events.closed(name);
  }

  /** For whoever works with the keyboard, the focus goes back to where the panel came from. */
  #closeAndReturn(name: PanelName): void {
    this.close();
    byId(name).focus();
  }
}
