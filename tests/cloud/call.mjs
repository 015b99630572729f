// Two people in a call, in real Chromium with the SDK: who sees and hears whom. For programs that have set up where they call.
//
//   node call.mjs '{"urls": {"ann": "wss://…/ws", "ben": "wss://…/ws"}, "room": "…", "tokens": {"ann": "…", "ben": "…"}}'
//
// Says `{"up": true}` when both see and hear each other; then, for each line `watch` or `standstill` on its input, how long the films
// have stood still, in milliseconds; ends with its input.

import { createServer } from 'node:http';
import { createInterface } from 'node:readline';
import { openTab, startChromium } from '../browser/rig/chromium.mjs';
import { joinWithSdk } from '../browser/rig/sdk-page.mjs';

const { urls, room, tokens } = JSON.parse(process.argv[2]);
const say = (what) => process.stdout.write(`${JSON.stringify(what)}\n`);
// Browsers give cameras to pages from HTTPS, or from the machine itself: this one.
const site = createServer((_, answer) => answer.setHeader('content-type', 'text/html').end('<title>A page of yours</title>'));
await new Promise((listening) => site.listen(0, '127.0.0.1', listening));
const browser = await startChromium({ left: 440, right: 880 });
try {
  const [ann, ben] = await Promise.all(['ann', 'ben'].map(async (peer) => {
    const page = await openTab(browser);
    try {
      return await joinWithSdk(page, { url: `http://127.0.0.1:${site.address().port}` }, { peer, roomName: room, url: urls[peer], token: tokens[peer], stereo: true });
    } catch (error) {
      throw new Error(`${error.message}\n${page.said.join('\n')}`);
    }
  }));
  const both = (act) => Promise.all([act(ann, 'ben'), act(ben, 'ann')]);
  await both((who, whom) => who.seesMoving(whom, { within: 30_000 }));
  await both((who, whom) => who.hears(whom, { left: 440, right: 880, apart: 20, within: 30_000 }));
  say({ up: true });
  for await (const line of createInterface({ input: process.stdin })) {
    if (line === 'watch') say(await both((who, whom) => who.watchesMoving(whom)).then(() => ({ watching: true })));
    if (line === 'moving') say(await both((who, whom) => who.seesMoving(whom, { frames: 10, within: 30_000 })).then(() => ({ moving: true })));
    if (line === 'standstill') say({ standstill: await both((who, whom) => who.sawStandstill(whom)) });
  }
} catch (error) {
  say({ failed: String(error.stack ?? error) });
  process.exitCode = 1;
} finally {
  await browser.close();
  site.close();
}
