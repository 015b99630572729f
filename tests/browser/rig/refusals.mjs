// Requests that must fail, and who must be told so.

import assert from 'node:assert/strict';
import { connectProtoo } from './protoo-client.mjs';
import { connect } from './raw-client.mjs';

/** The protocol's errors that a client can meet; NEVER_MET are the others. */
export const NAMES = {
  '-1': 'unknown_method', 1: 'bad_uid', 2: 'not_in_room', 3: 'bad_mid', 4: 'bad_sid', 5: 'bad_jsep', 6: 'bad_sdp', 7: 'bad_minfo',
  8: 'publish_failed', 9: 'subscribe_failed', 10: 'no_sfu', 12: 'sfu_unreachable',
  401: 'unauthenticated', 403: 'forbidden', 409: 'conflict', 413: 'too_large', 429: 'rate_limited',
};

/** What a memory in the edge's process cannot fail with, and what takes a defect. */
export const NEVER_MET = { 11: 'store_unavailable', 14: 'internal' };

/** The clients that everything must reach: how to open one, by name. */
export const CLIENTS = { 'a raw client': connect, 'protoo-client': connectProtoo };

/** Sends a request that must fail with `code`, and says why. */
export async function fails(client, method, data, code) {
  const answer = await client.request(method, data);
  assertRefused(client, answer, code, `${method} ${JSON.stringify(data)?.slice(0, 200)}`);
  return answer;
}

/** `answer` refuses with `code` and all that belongs to it. */
export function assertRefused(client, { ok, errorCode, error, errorReason }, code, what) {
  assert.equal(ok, false, `${what} should fail`);
  assert.equal(errorCode, code, `${what}: ${errorCode} ${errorReason}`);
  assert.equal(error, client.knowsNames ? NAMES[code] : undefined, what);
  assert.ok(errorReason.length > 0 && errorReason.length < 1_000, `${what}: a reason a person can read`);
}
