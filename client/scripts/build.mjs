// Builds the SDK and the demo page into a directory: `node scripts/build.mjs DIR`. The same sources give the same bytes.

import { execFile } from "node:child_process";
import { cp, mkdir, mkdtemp, readdir, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { dirname, join, resolve } from "node:path";
import { fileURLToPath } from "node:url";
import { promisify } from "node:util";
import { build } from "esbuild";
import { bundleTypes } from "./bundle-types.mjs";

const root = join(dirname(fileURLToPath(import.meta.url)), "..");
const banner = { js: "/* Sluice client. MIT OR Apache-2.0 */" };

/** What the browsers of the last three years understand. */
const target = ["chrome108", "firefox115", "safari16"];

export async function buildInto(directory) {
  const out = resolve(directory);
  await rm(out, { recursive: true, force: true });
  await mkdir(out, { recursive: true });
  const common = {
    absWorkingDir: root,
    bundle: true,
    target,
    charset: "utf8",
    legalComments: "none",
    banner,
  };
  await Promise.all([
    build({
      ...common,
      entryPoints: ["src/index.ts"],
      format: "esm",
      outfile: join(out, "sluice-client.js"),
    }),
    build({
      ...common,
      entryPoints: ["demo/app.ts"],
      format: "esm",
      minify: true,
      outfile: join(out, "app.js"),
    }),
    build({
      ...common,
      entryPoints: ["demo/live.ts"],
      format: "esm",
      minify: true,
      outfile: join(out, "live.js"),
    }),
    build({
      ...common,
      banner: { css: banner.js },
      entryPoints: ["demo/app.css"],
      minify: true,
      outfile: join(out, "app.css"),
    }),
    cp(join(root, "demo/index.html"), join(out, "index.html")),
    cp(join(root, "demo/embed.html"), join(out, "embed.html")),
    cp(join(root, "demo/live.html"), join(out, "live.html")),
    cp(join(root, "demo/icon.svg"), join(out, "icon.svg")),
    cp(join(root, "demo/favicon.ico"), join(out, "favicon.ico")),
    writeTypes(out),
  ]);
}

/** The types as one file beside the bundle: whoever copies the two has all there is. */
async function writeTypes(out) {
  const directory = await mkdtemp(join(tmpdir(), "sluice-client-types-"));
  try {
    const tsc = join(root, "node_modules/typescript/bin/tsc");
    const args = [tsc, "-p", join(root, "tsconfig.types.json"), "--outDir", directory];
    await promisify(execFile)(process.execPath, args, { cwd: root });
    const names = await filesBelow(directory);
    const sources = await Promise.all(names.map((name) => readFile(join(directory, name), "utf8")));
    const modules = new Map(names.map((name, index) => [name.replace(/\.d\.ts$/, ""), sources[index]]));
    await writeFile(join(out, "sluice-client.d.ts"), `${banner.js}\n${bundleTypes("index", modules)}`);
  } finally {
    await rm(directory, { recursive: true, force: true });
  }
}

/** Every file below a directory, relative to it, sorted. */
export async function filesBelow(directory) {
  const entries = await readdir(directory, { withFileTypes: true });
  const found = await Promise.all(
    entries.map(async (entry) => {
      if (!entry.isDirectory()) return [entry.name];
      return (await filesBelow(join(directory, entry.name))).map((name) => `${entry.name}/${name}`);
    }),
  );
  return found.flat().sort();
}

if (process.argv[1] === fileURLToPath(import.meta.url)) {
  await buildInto(resolve(process.argv[2] ?? "dist"));
}
