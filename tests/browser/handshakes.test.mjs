// Connections set up under loss: in a network namespace whose loopback loses datagrams. See handshakes.cases.mjs.

import { runInNamespace } from './rig/namespace.mjs';

await runInNamespace(new URL('./handshakes.cases.mjs', import.meta.url));
