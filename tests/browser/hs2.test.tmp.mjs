import { runInNamespace } from './rig/namespace.mjs';
await runInNamespace(new URL('./hs2.tmp.mjs', import.meta.url));
