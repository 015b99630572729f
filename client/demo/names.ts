/**
 * Names of people and rooms. The protocol knows a person by `peer` alone, so the page puts the name they gave in front
 * of it: `Ada~k3x9w2`. Pure but for the random source it is given.
 */

/** What the server forbids in names, and the mark between name and tail. */
const FORBIDDEN = /[\p{Cc}/#*?[\]{}~]/gu;
/**
 * Characters without a shape of their own, some of which turn the text after them round. Two joiners stay: families of
 * emoji and Persian are written with them. So do the tags that flags are made of.
 */
const SHAPELESS = /(?![\u200c\u200d\u{e0020}-\u{e007f}])\p{Cf}|[\u115f\u1160\u2800\u3164\uffa0]/gu;
/** At least one of these must be left for a name to be seen. */
const SHAPE = /[\p{L}\p{N}\p{P}\p{S}]/u;
const MAX_NAME = 40;
const LETTERS = "23456789abcdefghjkmnpqrstuvwxyz";

/** Uniform integers below a bound. */
export type Draw = (below: number) => number;

export const cryptoDraw: Draw = (below) => {
  const [value = 0] = crypto.getRandomValues(new Uint32Array(1));
  return value % below;
};

/** A name as it can be shown and sent: trimmed, without what is forbidden or has no shape, at most 40 long. */
export function tidyName(text: string): string {
  const tidy = shaped(text.replace(FORBIDDEN, " ")).replace(/\s+/g, " ").trim();
  return SHAPE.test(tidy) ? [...tidy].slice(0, MAX_NAME).join("").trim() : "";
}

function shaped(text: string): string {
  return text.replace(SHAPELESS, "");
}

/** A `peer` of one's own for a name. */
export function makePeer(name: string, draw: Draw): string {
  return `${tidyName(name)}~${letters(6, draw)}`;
}

/** The name to show for a `peer`; one that was not made here is shown as it is, as far as there is something to see. */
export function nameOf(peer: string): string {
  const mark = peer.lastIndexOf("~");
  const name = shaped(mark > 0 ? peer.slice(0, mark) : peer).trim();
  if (SHAPE.test(name)) return name;
  return SHAPE.test(shaped(peer)) ? shaped(peer) : "Nameless";
}

/** Up to two letters for an avatar. */
export function initialsOf(name: string): string {
  const words = name.split(/[\s._-]+/).filter(Boolean);
  const picked = words.length > 1 ? [words[0], words[words.length - 1]] : words;
  return picked
    .map((word) => [...(word ?? "")][0] ?? "")
    .join("")
    .toLocaleUpperCase();
}

/** A hue of 0 to 359 that stays with a `peer`. */
export function hueOf(peer: string): number {
  let hash = 7;
  for (const character of nameOf(peer)) hash = (hash * 31 + (character.codePointAt(0) ?? 0)) % 9973;
  return (hash * 47) % 360;
}

/** A room name as the server takes it. */
export function tidyRoom(text: string): string {
  const tidy = shaped(text).replace(FORBIDDEN, "-").trim();
  return SHAPE.test(tidy) ? [...tidy].slice(0, 100).join("") : "";
}

const FIRST = [
  "calm",
  "clear",
  "quiet",
  "bright",
  "gentle",
  "silver",
  "green",
  "early",
  "warm",
  "wide",
  "still",
  "light",
];
const SECOND = [
  "river",
  "harbour",
  "meadow",
  "lake",
  "brook",
  "canal",
  "garden",
  "bridge",
  "island",
  "delta",
  "spring",
  "cove",
];

/** A room nobody else will hit upon: `quiet-river-k3x9w2`. */
export function makeRoom(draw: Draw): string {
  return `${FIRST[draw(FIRST.length)]}-${SECOND[draw(SECOND.length)]}-${letters(6, draw)}`;
}

function letters(count: number, draw: Draw): string {
  return Array.from({ length: count }, () => LETTERS[draw(LETTERS.length)]).join("");
}
