/**
 * Where the tiles of a call go. Pure: sizes in, rectangles out, in CSS pixels from the top left.
 *
 * Without a shared screen tiles form the grid that gives each the most room. With one, it takes the stage and the
 * people a strip beside or below it. Two people on a phone: the other fills it, oneself sits in a corner.
 */

export interface Size {
  readonly width: number;
  readonly height: number;
}

export interface Rect extends Size {
  readonly x: number;
  readonly y: number;
}

export interface Arrangement {
  readonly mode: "grid" | "stage" | "duo";
  readonly screens: readonly Rect[];
  /** Oneself first, as given. */
  readonly people: readonly Rect[];
}

const GAP = 10;

/** Bounds of width to height. Beyond them a tile would cut too much off its picture. */
export interface Shape {
  readonly widest: number;
  readonly narrowest: number;
}

/** A screen is shown whole in whatever shape it gets. */
const ANY: Shape = { widest: Number.POSITIVE_INFINITY, narrowest: 0 };
const LANDSCAPE: Shape = { widest: 16 / 9, narrowest: 4 / 3 };
/** Upright phones send and show upright faces. */
const PORTRAIT: Shape = { widest: 16 / 9, narrowest: 0.6 };
const CORNER_SHAPE = 3 / 4;
/** A face below this width says nothing any more. */
const STRIP_TILE = 120;
/** Below this width a floor is a phone's. */
const PHONE = 600;

export function arrange(floor: Size, people: number, screens: number): Arrangement {
  if (screens > 0) return stage(floor, people, screens);
  if (people === 2 && floor.width < PHONE && floor.height > floor.width) return duo(floor);
  return { mode: "grid", screens: [], people: grid(whole(floor), people, shapeOn(floor)) };
}

/** The grid of `count` tiles with the largest area each, centred, a last row that is not full centred as well. */
export function grid(area: Rect, count: number, shape: Shape): Rect[] {
  let best: { columns: number; tile: Size } | undefined;
  for (let columns = 1; columns <= count; columns++) {
    const tile = tileSize(area, columns, Math.ceil(count / columns), shape);
    if (!best || tile.width * tile.height > best.tile.width * best.tile.height + 0.5)
      best = { columns, tile };
  }
  if (!best) return [];
  const { columns, tile } = best;
  const rows = Math.ceil(count / columns);
  const top = area.y + (area.height - rows * tile.height - (rows - 1) * GAP) / 2;
  return Array.from({ length: count }, (_, index) => {
    const row = Math.floor(index / columns);
    const inRow = row === rows - 1 ? count - row * columns : columns;
    const left = area.x + (area.width - inRow * tile.width - (inRow - 1) * GAP) / 2;
    return {
      x: left + (index % columns) * (tile.width + GAP),
      y: top + row * (tile.height + GAP),
      ...tile,
    };
  });
}

function tileSize(area: Size, columns: number, rows: number, shape: Shape): Size {
  const width = Math.max(0, (area.width - GAP * (columns - 1)) / columns);
  const height = Math.max(0, (area.height - GAP * (rows - 1)) / rows);
  return {
    width: Math.min(width, height * shape.widest),
    height: shape.narrowest > 0 ? Math.min(height, width / shape.narrowest) : height,
  };
}

function stage(floor: Size, people: number, screens: number): Arrangement {
  const beside = floor.width >= floor.height;
  const { main, strip } = split(floor, people, beside);
  return { mode: "stage", screens: grid(main, screens, ANY), people: grid(strip, people, shapeOn(floor)) };
}

/** The narrowest strip in which faces can be made out. */
function split(floor: Size, people: number, beside: boolean): { main: Rect; strip: Rect } {
  const cut = (share: number) => (beside ? cutRight(floor, share) : cutBottom(floor, share));
  for (const share of [0.16, 0.2, 0.25, 0.3]) {
    const parts = cut(share);
    const [tile] = grid(parts.strip, people, shapeOn(floor));
    if (!tile || tile.width >= STRIP_TILE) return parts;
  }
  return cut(0.35);
}

function cutRight({ width, height }: Size, share: number): { main: Rect; strip: Rect } {
  const strip = width * share;
  const main = width - strip - GAP;
  return { main: { x: 0, y: 0, width: main, height }, strip: { x: main + GAP, y: 0, width: strip, height } };
}

function cutBottom({ width, height }: Size, share: number): { main: Rect; strip: Rect } {
  const strip = height * share;
  const main = height - strip - GAP;
  return { main: { x: 0, y: 0, width, height: main }, strip: { x: 0, y: main + GAP, width, height: strip } };
}

function duo(floor: Size): Arrangement {
  const width = Math.min(150, floor.width * 0.3);
  const height = width / CORNER_SHAPE;
  const self = { x: floor.width - width - GAP, y: floor.height - height - GAP, width, height };
  return { mode: "duo", screens: [], people: [self, whole(floor)] };
}

function shapeOn(floor: Size): Shape {
  return floor.width >= floor.height ? LANDSCAPE : PORTRAIT;
}

function whole(floor: Size): Rect {
  return { x: 0, y: 0, ...floor };
}
