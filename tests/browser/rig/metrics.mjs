// What a server says about itself at /metrics.

import { readdirSync } from 'node:fs';
import { get } from 'node:http';
import { text } from 'node:stream/consumers';

/** How many there are of each now, in all. */
const POPULATION = [
  'sluice_edge_connections',
  'sluice_sfu_rooms',
  'sluice_sfu_transports',
  'sluice_sfu_shard_transports',
  'sluice_sfu_publications',
  'sluice_sfu_subscriptions',
];

/** Every metric of `server`, summed over its labels, by name. */
export async function metrics(server) {
  // On a connection of its own that is gone afterwards: who looks must not change what is there.
  const answer = await new Promise((resolve, reject) => get(new URL('/metrics', server.url), { agent: false }, resolve).on('error', reject));
  const sums = new Map();
  for (const [, name, value] of (await text(answer)).matchAll(/^(\w+)(?:\{.*\})? (\S+)$/gm)) sums.set(name, (sums.get(name) ?? 0) + Number(value));
  return sums;
}

/** What is alive in `server`, as an object to compare. */
export async function population(server) {
  const all = await metrics(server);
  for (const name of POPULATION) if (!all.has(name)) throw new Error(`no metric ${name}`);
  return Object.fromEntries(POPULATION.map((name) => [name, all.get(name)]));
}

/** How many files and sockets `server` has open. */
export const openFiles = (server) => readdirSync(`/proc/${server.pid}/fd`).length;
