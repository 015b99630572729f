/**
 * Which of several edges to connect to. Each client has an order of its own, so that those of an edge that dies spread over
 * all others. Pure: randomness is given.
 */

export class Edges {
  readonly #order: readonly string[];
  #at = 0;

  /** `urls`: at least one; `random`: uniform in [0, 1), as `Math.random`. */
  constructor(urls: readonly string[], random: () => number) {
    this.#order = shuffled(urls, random);
  }

  get count(): number {
    return this.#order.length;
  }

  /** Where to connect now. */
  get current(): string {
    return this.#order[this.#at] as string;
  }

  /** The present one failed or sent us away. */
  next(): void {
    this.#at = (this.#at + 1) % this.#order.length;
  }
}

/** Fisher and Yates. */
function shuffled(urls: readonly string[], random: () => number): string[] {
  const order = [...urls];
  for (let i = order.length - 1; i > 0; i--) {
    const j = Math.floor(random() * (i + 1));
    [order[i], order[j]] = [order[j] as string, order[i] as string];
  }
  return order;
}
