/** What the page remembers: on this device across visits, and in this tab across reloads. */

import type { KeptToken } from "./page-options.ts";

export interface Prefs {
  name?: string;
  camera?: string;
  microphone?: string;
  speaker?: string;
  cameraOn?: boolean;
  microphoneOn?: boolean;
}

const KEY = "sluice.prefs";
const PEER = "sluice.peer";
const TOKEN = "sluice.token";

export function loadPrefs(): Prefs {
  try {
    const value: unknown = JSON.parse(localStorage.getItem(KEY) ?? "{}");
    return typeof value === "object" && value !== null ? pick(value as Record<string, unknown>) : {};
  } catch {
    // Private windows may refuse storage: the page works without.
    return {};
  }
}

export function savePrefs(change: Prefs): void {
  try {
    localStorage.setItem(KEY, JSON.stringify({ ...loadPrefs(), ...change }));
  } catch {
    // As above.
  }
}

/**
 * The `peer` this tab had before a reload, so that others see the same person come back. It is taken out while the page
 * lives: a duplicated tab copies the storage and must not become the same person.
 */
export function takePeer(): string | undefined {
  try {
    const peer = sessionStorage.getItem(PEER) ?? undefined;
    sessionStorage.removeItem(PEER);
    return peer;
  } catch {
    return undefined;
  }
}

export function keepPeer(peer: string): void {
  try {
    sessionStorage.setItem(PEER, peer);
  } catch {
    // The person comes back as a new one.
  }
}

/** The token this tab was opened with, so that the address need not carry it on. */
export function loadToken(): KeptToken | undefined {
  try {
    const { token, room } = JSON.parse(sessionStorage.getItem(TOKEN) ?? "{}");
    return typeof token === "string" ? { token, room: typeof room === "string" ? room : undefined } : undefined;
  } catch {
    return undefined;
  }
}

/** False if this browser keeps nothing. */
export function keepToken(kept: KeptToken): boolean {
  try {
    sessionStorage.setItem(TOKEN, JSON.stringify(kept));
    return true;
  } catch {
    return false;
  }
}

function pick(value: Record<string, unknown>): Prefs {
  const prefs: Prefs = {};
  for (const key of ["name", "camera", "microphone", "speaker"] as const) {
    if (typeof value[key] === "string") prefs[key] = value[key];
  }
  for (const key of ["cameraOn", "microphoneOn"] as const) {
    if (typeof value[key] === "boolean") prefs[key] = value[key];
  }
  return prefs;
}
