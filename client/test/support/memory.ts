/** What the garbage collector would take: a WeakRef tells after a collection that is asked for. */

import { setFlagsFromString } from "node:v8";
import { runInNewContext } from "node:vm";
import { settle } from "./virtual-time.ts";

setFlagsFromString("--expose-gc");
const collect = runInNewContext("gc") as () => void;

/** Of these, how many somebody still holds. */
export async function held(references: readonly WeakRef<object>[]): Promise<number> {
  // What a WeakRef was made of or gave stays until the job that did so ends.
  await settle();
  collect();
  return references.filter((reference) => reference.deref() !== undefined).length;
}
