/** Keeps the tiles and puts them where the layout says, whenever their number or the floor's size changes. */

import { arrange } from "./layout.ts";
import { Tile, type TileOptions } from "./tile.ts";

export class Stage {
  readonly #tiles = new Map<string, Tile>();
  readonly #observer: ResizeObserver;

  constructor(private readonly floor: HTMLElement) {
    this.#observer = new ResizeObserver(() => this.#arrange());
    this.#observer.observe(floor);
  }

  /** The tile of this key, made if it is not there yet. */
  tile(key: string, options: TileOptions): Tile {
    const present = this.#tiles.get(key);
    if (present) return present;
    const tile = new Tile(options);
    this.#tiles.set(key, tile);
    this.floor.append(tile.element);
    this.#arrange();
    return tile;
  }

  find(key: string): Tile | undefined {
    return this.#tiles.get(key);
  }

  get keys(): readonly string[] {
    return [...this.#tiles.keys()];
  }

  get tiles(): readonly Tile[] {
    return [...this.#tiles.values()];
  }

  remove(key: string): void {
    this.#tiles.get(key)?.remove();
    if (this.#tiles.delete(key)) this.#arrange();
  }

  close(): void {
    this.#observer.disconnect();
    for (const tile of this.#tiles.values()) tile.remove();
    this.#tiles.clear();
  }

  #arrange(): void {
    const { clientWidth: width, clientHeight: height } = this.floor;
    if (width === 0 || height === 0) return;
    const people = this.tiles.filter((tile) => tile.options.kind === "person");
    const screens = this.tiles.filter((tile) => tile.options.kind === "screen");
    const places = arrange({ width, height }, people.length, screens.length);
    this.floor.dataset.mode = places.mode;
    people.forEach((tile, index) => {
      const rect = places.people[index];
      if (rect) tile.place(rect, places.mode === "duo" && index === 0);
    });
    screens.forEach((tile, index) => {
      const rect = places.screens[index];
      if (rect) tile.place(rect, false);
    });
  }
}
