import assert from "node:assert/strict";
import { test } from "node:test";
import { Summary } from "../src/stats.ts";

const chromium = (seconds: number, received: number, lost: number) => [
  {
    id: "T",
    type: "transport",
    dtlsState: "connected",
    srtpCipher: "AEAD_AES_256_GCM",
    selectedCandidatePairId: "P",
  },
  { id: "P", type: "candidate-pair", currentRoundTripTime: 0.012, localCandidateId: "L" },
  { id: "X", type: "candidate-pair", currentRoundTripTime: 9, nominated: true },
  { id: "L", type: "local-candidate", protocol: "udp", candidateType: "prflx" },
  { id: "C", type: "codec", mimeType: "video/VP8" },
  {
    id: "V",
    type: "inbound-rtp",
    kind: "video",
    codecId: "C",
    timestamp: seconds * 1000,
    bytesReceived: seconds * 125_000,
    packetsReceived: received,
    packetsLost: lost,
    jitter: 0.004,
    frameWidth: 1280,
    frameHeight: 720,
    framesPerSecond: 29,
    pliCount: 2,
  },
];

test("a receiver's numbers, rates from the second report on", () => {
  const summary = new Summary();
  const first = summary.of(chromium(1, 100, 0));
  assert.equal(first.tracks[0]?.bitrate, 0);
  const { tracks, ...connection } = summary.of(chromium(3, 290, 10));
  assert.deepEqual(connection, {
    rttMs: 12,
    srtpCipher: "AEAD_AES_256_GCM",
    dtlsState: "connected",
    path: "udp prflx",
    availableOutgoing: undefined,
  });
  assert.deepEqual(tracks, [
    {
      kind: "video",
      direction: "receive",
      bitrate: 1_000_000,
      loss: 0.05,
      jitterMs: 4,
      codec: "VP8",
      width: 1280,
      height: 720,
      framesPerSecond: 29,
      keyframeRequests: 2,
      limitedBy: undefined,
    },
  ]);
});

test("a sender's loss is what the receiver reports", () => {
  const report = (at: number, sent: number, lost: number) => [
    { id: "C", type: "codec", mimeType: "audio/opus", sdpFmtpLine: "minptime=10;stereo=1;useinbandfec=1" },
    { id: "R", type: "remote-inbound-rtp", packetsLost: lost, jitter: 0.002 },
    {
      id: "A",
      type: "outbound-rtp",
      kind: "audio",
      codecId: "C",
      remoteId: "R",
      timestamp: at,
      bytesSent: 0,
      packetsSent: sent,
    },
  ];
  const summary = new Summary();
  summary.of(report(0, 0, 0));
  const [track] = summary.of(report(1000, 50, 5)).tracks;
  assert.equal(track?.loss, 0.1);
  assert.equal(track?.jitterMs, 2);
  assert.equal(track?.codec, "opus");
  assert.equal(track?.direction, "send");
});

test("two agreed channels are stereo only of a stream that was published so", () => {
  const report = ["outbound-rtp", "inbound-rtp"].map((type) => ({ id: type, type, kind: "audio", codecId: "C" }));
  const codec = { id: "C", type: "codec", mimeType: "audio/opus", sdpFmtpLine: "stereo=1" };
  const of = (stereo: boolean) => new Summary(stereo).of([codec, ...report]).tracks.map((track) => track.codec);
  assert.deepEqual(of(false), ["opus", "opus"]);
  assert.deepEqual(of(true), ["opus stereo", "opus"]);
});

test("counters that run backwards give no negative rates", () => {
  const summary = new Summary();
  summary.of(chromium(3, 290, 10));
  const [track] = summary.of(chromium(1, 100, 0)).tracks;
  assert.equal(track?.bitrate, 0);
  assert.equal(track?.loss, 0);
});

test("reports without anything, or of strange shape, give a summary without numbers", () => {
  const summary = new Summary();
  assert.deepEqual(summary.of([]).tracks, []);
  const odd = [null, 3, { type: "inbound-rtp" }, { id: "a", type: "inbound-rtp", kind: "smell" }];
  assert.deepEqual(summary.of(odd).tracks, []);
  const bare = summary.of([{ id: "a", type: "inbound-rtp", kind: "audio", bytesReceived: "many" }]);
  assert.equal(bare.tracks[0]?.bitrate, 0);
  assert.equal(bare.rttMs, undefined);
});

test("a browser that marks the pair itself is understood", () => {
  const { rttMs } = new Summary().of([
    { id: "P", type: "candidate-pair", currentRoundTripTime: 0.5, nominated: true },
    { id: "Q", type: "candidate-pair", currentRoundTripTime: 0.05, selected: true },
  ]);
  assert.equal(rttMs, 50);
});

test("what may be sent is told of what is sent, and of nothing that is only received", () => {
  const pair = { id: "P", type: "candidate-pair", nominated: true, availableOutgoingBitrate: 300_000 };
  const of = (type: string) => new Summary().of([pair, { id: "A", type, kind: "video" }]).availableOutgoing;
  assert.equal(of("outbound-rtp"), 300_000);
  assert.equal(of("inbound-rtp"), undefined);
});
