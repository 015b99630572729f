// A call between two Chromium tabs while the network under it loses packets, loses its path, and is gone for a while.

import assert from 'node:assert/strict';
import { after, afterEach, before, test } from 'node:test';
import { openTab, startChromium } from './rig/chromium.mjs';
import { blockUdpPorts, countUdp, dropArrivingUdp, raiseLoopback } from './rig/namespace.mjs';
import { joinWithSdk } from './rig/sdk-page.mjs';
import { startSluice } from './rig/sluice.mjs';
import { until } from './rig/waiting.mjs';

let server;
let browser;
let ann;
let ben;

before(async () => {
  raiseLoopback();
  server = await startSluice({ args: ['--media-ip', '127.0.0.1'] });
  browser = await startChromium();
  ann = await joinWithSdk(await openTab(browser), server, { peer: 'ann', roomName: 'network', stereo: true });
  ben = await joinWithSdk(await openTab(browser), server, { peer: 'ben', roomName: 'network', stereo: true });
  await bothSee();
});
afterEach(() => {
  dropArrivingUdp(0);
  blockUdpPorts([]);
});
after(async () => {
  await browser?.close();
  await server?.stop();
});

const bothSee = (frames = 10, within = 15_000) =>
  Promise.all([ann.seesMoving('ben', { frames, within }), ben.seesMoving('ann', { frames, within })]);

/** The UDP ports a page's connections use now. */
const ports = (who) =>
  who.page.evaluate(async () => {
    const found = [];
    for (const connection of rig.connections.filter((one) => one.connectionState !== 'closed')) {
      const report = await connection.getStats();
      for (const transport of report.values()) {
        if (transport.type !== 'transport' || !transport.selectedCandidatePairId) continue;
        found.push(report.get(report.get(transport.selectedCandidatePairId).localCandidateId).port);
      }
    }
    return found.sort();
  });

test('one packet in twenty lost both ways: pictures move and tones sound, after retransmission', async () => {
  dropArrivingUdp(5);
  await bothSee(40);
  await ben.hears('ann', { left: 440, right: 880, apart: 20 });
  assert.ok(countUdp().dropped > 20, 'packets were really lost');
  const retransmitted = await until(
    () => ben.page.evaluate(async () => {
      const reports = await Promise.all(rig.connections.map((connection) => rig.stats(connection, 'inbound-rtp')));
      return reports.flat().reduce((sum, report) => sum + (report.retransmittedPacketsReceived ?? 0), 0);
    }),
    { what: 'retransmitted packets at ben' },
  );
  assert.ok(retransmitted > 0);
});

test('a path that dies is replaced: other ports, the same connections', async () => {
  const before = await ports(ann);
  assert.equal(before.length, 2);
  blockUdpPorts(before);
  const later = await until(async () => {
    const now = await ports(ann);
    return now.length === 2 && now.every((port) => !before.includes(port)) && now;
  }, { within: 40_000, every: 250, what: `ann leaving the ports ${before}` });
  assert.notDeepEqual(later, before);
  await bothSee(10, 20_000);
  assert.equal(await ann.page.evaluate(() => rig.connections.length), 2, 'ICE was restarted, nothing was made anew');
});

test('a network that is gone until it is noticed costs no more than that: the call goes on when it is back', async () => {
  dropArrivingUdp(100);
  await until(() => ben.page.evaluate(() => rig.connections.some(({ iceConnectionState }) => ['disconnected', 'failed'].includes(iceConnectionState))), {
    within: 20_000, what: 'ben noticing that nothing comes',
  });
  dropArrivingUdp(0);
  await bothSee(10, 20_000);
});
