/** What a browser tells of the network and of the page's life. Not in a browser it tells nothing. */

export interface NetworkListener {
  /** Worth checking the connection now. */
  hint(): void;
  /** The way to the server is another one than before. */
  changed(): void;
  /** The page goes away for good. */
  hidden(): void;
}

/** Network information where it exists; its `type` is given on phones only. */
interface Connection extends EventTarget {
  readonly type?: string;
}

/** Listens until the function returned is called. */
export function watchNetwork(listener: NetworkListener): () => void {
  const offs: (() => void)[] = [];
  const on = (target: EventTarget | undefined, type: string, act: (event: Event) => void) => {
    target?.addEventListener(type, act);
    offs.push(() => target?.removeEventListener(type, act));
  };
  if (typeof window === "undefined") return () => undefined;
  on(window, "online", () => {
    listener.hint();
    listener.changed();
  });
  on(document, "visibilitychange", () => {
    if (document.visibilityState === "visible") listener.hint();
  });
  on(window, "pagehide", (event) => {
    if (!(event as PageTransitionEvent).persisted) listener.hidden();
  });
  const connection = (navigator as Navigator & { connection?: Connection }).connection;
  let type = connection?.type;
  on(connection, "change", () => {
    // The event also comes for mere changes of estimated speed.
    if (connection?.type === type) return;
    type = connection?.type;
    listener.hint();
    listener.changed();
  });
  return () => {
    for (const off of offs) off();
  };
}
