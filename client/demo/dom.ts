/** Small conveniences over the DOM. */

/** The element of this id, which index.html has. */
export function byId<Type extends Element = HTMLElement>(id: string): Type {
  const element = document.getElementById(id);
  if (!element) throw new Error(`index.html lacks #${id}`);
  return element as unknown as Type;
}

/** A new element with attributes and children; strings become text, never markup. */
export function make<Tag extends keyof HTMLElementTagNameMap>(
  tag: Tag,
  attributes: Record<string, string | boolean> = {},
  ...children: (Node | string)[]
): HTMLElementTagNameMap[Tag] {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (value === true) element.setAttribute(name, "");
    else if (value !== false) element.setAttribute(name, value);
  }
  element.append(...children);
  return element;
}

/** Long enough for a screen reader to take it up: after that it is only in the way of who walks through the page. */
const ANNOUNCED_FOR_MS = 10_000;

/** Tells who hears the page what others see happen; by an element that was there before, for readers heed no other. */
export function announce(words: string): void {
  const line = make("p", {}, words);
  byId("announcements").append(line);
  setTimeout(() => line.remove(), ANNOUNCED_FOR_MS);
}

const SVG = "http://www.w3.org/2000/svg";

/** An icon of the sprite in index.html. */
export function icon(name: string, more = ""): SVGSVGElement {
  const svg = document.createElementNS(SVG, "svg");
  svg.setAttribute("class", `icon ${more}`.trim());
  svg.setAttribute("aria-hidden", "true");
  const use = document.createElementNS(SVG, "use");
  use.setAttribute("href", `#i-${name}`);
  svg.append(use);
  return svg;
}

export interface SwitchView {
  readonly on: boolean;
  /** Asked for, and not there yet. */
  readonly busy: boolean;
  readonly icon: string;
  /** What a press does. */
  readonly hint: string;
}

/** Shows a switch's state. Its name stays: "Camera, pressed" says it is on, a name that changed as well would deny it. */
export function showSwitch(button: Element, { on, busy, icon, hint }: SwitchView): void {
  button.setAttribute("aria-pressed", String(on));
  button.setAttribute("aria-busy", String(busy));
  button.setAttribute("title", hint);
  button.querySelector("use")?.setAttribute("href", `#i-${icon}`);
}
