/** A typed event emitter. A listener that throws is reported and does not keep the others from hearing. */

export class Emitter<Events extends object> {
  readonly #listeners = new Map<keyof Events, Set<(event: never) => void>>();

  /** Calls `listener` for each event of this type; the function returned takes it off again. */
  on<Type extends keyof Events>(type: Type, listener: (event: Events[Type]) => void): () => void {
    let listeners = this.#listeners.get(type);
    if (!listeners) {
      listeners = new Set();
      this.#listeners.set(type, listeners);
    }
    listeners.add(listener);
    return () => this.off(type, listener);
  }

  /** As `on`, for one event. */
  once<Type extends keyof Events>(type: Type, listener: (event: Events[Type]) => void): () => void {
    const off = this.on(type, (event) => {
      off();
      listener(event);
    });
    return off;
  }

  off<Type extends keyof Events>(type: Type, listener: (event: Events[Type]) => void): void {
    this.#listeners.get(type)?.delete(listener);
  }

  protected emit<Type extends keyof Events>(type: Type, event: Events[Type]): void {
    for (const listener of [...(this.#listeners.get(type) ?? [])]) {
      try {
        (listener as (event: Events[Type]) => void)(event);
      } catch (error) {
        // As an event target does: the page's error handler hears of it. (Node has no `reportError`.)
        if (typeof reportError === "function") reportError(error);
        else console.error(error);
      }
    }
  }
}
