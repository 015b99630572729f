// Connections set up under loss: in a network namespace whose loopback loses datagrams. See handshakes.cases.mjs.

import { mkdirSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { runInNamespace } from './rig/namespace.mjs';

// Here and not in there, where it would be root's.
mkdirSync(fileURLToPath(new URL('../../target/test-results/', import.meta.url)), { recursive: true });
await runInNamespace(new URL('./handshakes.cases.mjs', import.meta.url));
