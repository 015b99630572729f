// A test file that hangs ends, with a failure: the runner of Node.js 18 has no limit of its own.

const LIMIT_MS = 8 * 60_000;

// Does not keep the process alive; it only strikes when something else does.
setTimeout(() => {
  console.error(`not done after ${LIMIT_MS / 60_000} minutes; still open: ${process.getActiveResourcesInfo()}`);
  process.exit(1);
}, LIMIT_MS).unref();
