/**
 * The keys that switch microphone and camera in a call: D and E with Ctrl, or with ⌘ on Apple's systems, whose text
 * fields need Ctrl+D and Ctrl+E for themselves. Pure.
 */

export interface Shortcut {
  /** For `aria-keyshortcuts`. */
  readonly name: string;
  /** For people. */
  readonly shown: string;
}

export type Pressed = Pick<KeyboardEvent, "key" | "ctrlKey" | "metaKey" | "altKey" | "shiftKey">;

export interface Shortcuts {
  readonly microphone: Shortcut;
  readonly camera: Shortcut;
  /** What the keys pressed are to switch. */
  deviceOf(event: Pressed): "microphone" | "camera" | undefined;
}

/** `agent` is `navigator.userAgent`. */
export function shortcuts(agent: string): Shortcuts {
  const apple = /Mac OS X/.test(agent);
  const shortcut = (key: string) =>
    apple ? { name: `Meta+${key}`, shown: `⌘${key}` } : { name: `Control+${key}`, shown: `Ctrl+${key}` };
  return {
    microphone: shortcut("D"),
    camera: shortcut("E"),
    deviceOf: ({ key, ctrlKey, metaKey, altKey, shiftKey }) => {
      if (ctrlKey === apple || metaKey !== apple || altKey || shiftKey) return undefined;
      return { d: "microphone", e: "camera" }[key.toLowerCase()] as "microphone" | "camera" | undefined;
    },
  };
}
