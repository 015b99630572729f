// Waiting for conditions with deadlines. There is no sleeping for a fixed time anywhere in these tests: a pause here is
// only the interval between two looks at a condition.

const LOOK_EVERY_MS = 25;

const pause = (ms) => new Promise((resolve) => setTimeout(resolve, ms));

/**
 * Resolves with the first truthy value of `condition()`; rejects when `within` milliseconds have passed, naming `what`
 * and the last value or error seen.
 */
export async function until(condition, { within = 10_000, what = 'condition', every = LOOK_EVERY_MS } = {}) {
  const started = performance.now();
  let last;
  for (;;) {
    try {
      last = await deadline(Promise.resolve(condition()), Math.max(1, within - (performance.now() - started)), what);
      if (last) return last;
    } catch (error) {
      last = error;
    }
    if (performance.now() - started >= within) {
      const seen = last instanceof Error ? last.stack : JSON.stringify(last);
      throw new Error(`${what}: not within ${within} ms; last seen: ${seen}`);
    }
    await pause(every);
  }
}

/** `promise`, or a rejection naming `what` after `ms` milliseconds. */
export function deadline(promise, ms, what = 'promise') {
  let timer;
  const expiry = new Promise((_, reject) => {
    timer = setTimeout(() => reject(new Error(`${what}: no answer within ${ms} ms`)), ms);
  });
  return Promise.race([promise, expiry]).finally(() => clearTimeout(timer));
}

/** Holds `check` (which throws when broken) true for `ms` milliseconds: for things that must *not* happen. */
export async function holds(check, ms, every = 50) {
  const end = performance.now() + ms;
  while (performance.now() < end) {
    await check();
    await pause(every);
  }
}
