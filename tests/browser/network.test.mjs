// Calls on a network that loses packets and paths. See network.cases.mjs.

import { runInNamespace } from './rig/namespace.mjs';

await runInNamespace(new URL('./network.cases.mjs', import.meta.url));
