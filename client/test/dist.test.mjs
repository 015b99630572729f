// The built files are committed, because building the server needs no Node: they must be what the sources give.

import assert from "node:assert/strict";
import { execFile } from "node:child_process";
import { cp, mkdtemp, readFile, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { test } from "node:test";
import { fileURLToPath } from "node:url";
import { promisify } from "node:util";
import { buildInto, filesBelow } from "../scripts/build.mjs";
import { bundleTypes } from "../scripts/bundle-types.mjs";

const tsc = join(dirname(fileURLToPath(import.meta.url)), "../node_modules/typescript/bin/tsc");
const application = join(dirname(fileURLToPath(import.meta.url)), "support/application.ts");
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

test("the module and its types are two files, and an application that has copied them compiles at its strictest", async () => {
  const project = await mkdtemp(join(tmpdir(), "sluice-client-app-"));
  try {
    for (const name of ["sluice-client.js", "sluice-client.d.ts"]) {
      await cp(join(committed, name), join(project, "dist", name));
    }
    const app = join(project, "src/app/main.ts");
    await cp(application, app);
    const options = ["--strict", "--exactOptionalPropertyTypes", "--noUncheckedIndexedAccess", "--noEmit"];
    const where = ["--target", "es2022", "--module", "esnext", "--moduleResolution", "bundler", "--types", ""];
    const done = promisify(execFile)(process.execPath, [tsc, ...options, ...where, app], { cwd: project });
    await assert.doesNotReject(done, ({ stdout }) => assert.fail(stdout));
  } finally {
    await rm(project, { recursive: true, force: true });
  }
});

test("bundled types hold what is exported and what that needs, and hide how objects are made", () => {
  const modules = new Map([
    ["index", 'export { Call } from "./call.js";\nexport type { State } from "./state.js";\n'],
    [
      "call",
      `/** A call. */
import { type State } from "./state.js";
export declare class Call {
    /** Made by \`connect\`. */
    constructor(secret: {
        key: string;
    });
    get state(): State;
}
export declare const internal: number;
`,
    ],
    ["state", '/** States. */\nexport type State = "on" | {\n    off: Reason;\n};\nexport interface Reason {\n    why: string;\n}\n'],
  ]);
  assert.equal(
    bundleTypes("index", modules),
    `/** A call. */
declare class Call {
    private constructor();
    get state(): State;
}

type State = "on" | {
    off: Reason;
};

interface Reason {
    why: string;
}

export {
  Call,
  type State,
};
`,
  );
});

test("types that cannot be bundled are an error, not a loss", () => {
  const of = (...modules) => bundleTypes("index", new Map(modules));
  const index = ["index", 'export { A } from "./a.js";\n'];
  assert.throws(() => of(index, ["a", "export declare class B {\n}\n"]), /A is exported and declared nowhere/);
  assert.throws(() => of(index, ["a", "export default class A {\n}\n"]), /does not know/);
  assert.throws(() => of(index, ["a", "export declare class A {\n"]), /ends within A/);
  const twice = "export interface A {\n}\n";
  assert.throws(() => of(index, ["a", twice], ["b", twice]), /A is declared twice/);
});
