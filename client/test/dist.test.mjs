// The built files are committed, because building the server needs no Node: they must be what the sources give.

import assert from "node:assert/strict";
import { mkdtemp, readFile, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { test } from "node:test";
import { fileURLToPath } from "node:url";
import { buildInto, filesBelow } from "../scripts/build.mjs";

const committed = join(dirname(fileURLToPath(import.meta.url)), "../dist");

test("the committed dist is what the sources build to, byte for byte", async () => {
  const fresh = await mkdtemp(join(tmpdir(), "sluice-client-dist-"));
  try {
    await buildInto(fresh);
    const names = await filesBelow(fresh);
    assert.deepEqual(await filesBelow(committed), names);
    for (const name of names) {
      const [built, kept] = await Promise.all([readFile(join(fresh, name)), readFile(join(committed, name))]);
      assert.ok(built.equals(kept), `${name} is stale: run npm run build`);
    }
  } finally {
    await rm(fresh, { recursive: true, force: true });
  }
});
