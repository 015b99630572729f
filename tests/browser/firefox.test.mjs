// Firefox and Chromium in one call, on a machine of their own. See firefox.cases.mjs.

import { runInNamespace } from './rig/namespace.mjs';

await runInNamespace(new URL('./firefox.cases.mjs', import.meta.url));
