import assert from "node:assert/strict";
import { test } from "node:test";
import { Backoff } from "../src/backoff.ts";

const OPTIONS = { baseMs: 500, capMs: 20_000 };

test("the ceiling doubles from the base to the cap and stays there", () => {
  const backoff = new Backoff(OPTIONS, () => 0.999999);
  const waits = Array.from({ length: 9 }, () => backoff.next());
  assert.deepEqual(waits, [499, 999, 1999, 3999, 7999, 15999, 19999, 19999, 19999]);
});

test("full jitter reaches down to no wait at all", () => {
  const backoff = new Backoff(OPTIONS, () => 0);
  assert.deepEqual([backoff.next(), backoff.next(), backoff.next()], [0, 0, 0]);
});

test("2,000 clients cut off at once spread evenly over the first wait", () => {
  const waits = Array.from({ length: 2000 }, (_, i) => new Backoff(OPTIONS, () => i / 2000).next());
  const inFirstTenth = waits.filter((wait) => wait < 50).length;
  assert.equal(inFirstTenth, 200);
  assert.equal(Math.max(...waits), 499);
});

test("it never ends, and stays finite after ten thousand tries", () => {
  const backoff = new Backoff(OPTIONS, () => 0.5);
  for (let i = 0; i < 10_000; i++) backoff.next();
  assert.equal(backoff.next(), 10_000);
});

test("a reset starts over", () => {
  const backoff = new Backoff(OPTIONS, () => 0.5);
  backoff.next();
  backoff.next();
  backoff.reset();
  assert.equal(backoff.tries, 0);
  assert.equal(backoff.next(), 250);
});
