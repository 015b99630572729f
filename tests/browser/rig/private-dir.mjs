// A private directory for one test file, gone when the process ends.

import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

let directory;

/** The path of `name` inside this process's private directory. */
export function privatePath(name) {
  if (!directory) {
    directory = mkdtempSync(join(tmpdir(), 'sluice-test-'));
    process.on('exit', () => rmSync(directory, { recursive: true, force: true, maxRetries: 5 }));
  }
  return join(directory, name);
}
