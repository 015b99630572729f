// Bundles each test with what it tests (Node before 22 runs no TypeScript) and hands them to Node's own runner.

import { spawn } from "node:child_process";
import { mkdtemp, readdir, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import { build } from "esbuild";

const root = join(dirname(fileURLToPath(import.meta.url)), "..");
const directory = await mkdtemp(join(tmpdir(), "sluice-client-test-"));
try {
  const names = (await readdir(join(root, "test"))).filter((name) => name.endsWith(".test.ts"));
  await build({
    absWorkingDir: root,
    entryPoints: names.map((name) => `test/${name}`),
    bundle: true,
    format: "esm",
    platform: "node",
    target: "node18",
    sourcemap: "inline",
    outdir: directory,
    outExtension: { ".js": ".mjs" },
  });
  const tests = [
    ...names.map((name) => join(directory, name.replace(/\.ts$/, ".mjs"))),
    join(root, "test/dist.test.mjs"),
  ];
  // Browsers have it, and Node from 19 on.
  const crypto = globalThis.crypto ? [] : ["--experimental-global-webcrypto"];
  const node = spawn(process.execPath, [...crypto, "--enable-source-maps", "--test", ...tests], {
    stdio: "inherit",
    cwd: root,
  });
  process.exitCode = await new Promise((resolve) => node.on("exit", (code) => resolve(code ?? 1)));
} finally {
  await rm(directory, { recursive: true, force: true });
}
