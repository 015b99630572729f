import assert from "node:assert/strict";
import { test } from "node:test";
import { LocalMedia } from "../demo/local-media.ts";
import { FakeDevices, settled } from "./support/devices.ts";
import { VirtualClock } from "./support/virtual-time.ts";

/** Devices nobody has been asked for yet, and the page's view of them. */
function bench(initial: { audio: boolean; video: boolean } = { audio: false, video: false }) {
  const devices = new FakeDevices().install();
  const clock = new VirtualClock();
  const media = new LocalMedia(initial, clock);
  const failed: string[] = [];
  media.on("failed", ({ error, wanted, otherWorks }) =>
    failed.push(`${wanted} ${error.name}${otherWorks ? ", the other works" : ""}`),
  );
  return { clock, devices, media, failed };
}

test("a camera switched off while it opens is closed as soon as it is open", async () => {
  const { devices, media, failed } = bench();
  void media.setCamera(true);
  await settled();
  void media.setCamera(false);
  await devices.questions[0]?.allow();
  assert.deepEqual(devices.live, []);
  assert.equal(media.video, undefined);
  assert.equal(media.cameraOn, false);
  assert.deepEqual(failed, []);
});

test("camera and microphone switched off while both open are closed as soon as they are open", async () => {
  const { devices, media } = bench({ audio: true, video: true });
  void media.open();
  await settled();
  void media.setCamera(false);
  void media.setMicrophone(false);
  await devices.questions[0]?.allow();
  assert.deepEqual(devices.live, []);
  assert.equal(media.audio, undefined);
});

test("on, off and on again while it opens makes one camera, which going off closes", async () => {
  const { devices, media } = bench();
  for (const on of [true, false, true]) void media.setCamera(on);
  await settled();
  assert.equal(devices.questions.length, 1);
  await devices.questions[0]?.allow();
  assert.equal(devices.questions.length, 1);
  assert.deepEqual(devices.live, ["video"]);
  await media.setCamera(false);
  assert.deepEqual(devices.live, []);
});

test("however often the switch moves, no more than one camera is open, and none in the end", async () => {
  const { devices, media } = bench();
  devices.answers = () => undefined;
  for (let i = 0; i < 31; i++) {
    void media.setCamera(!media.cameraOn);
    if (i % 3 === 0) await settled();
    assert.ok(devices.live.length <= 1);
  }
  await media.setCamera(false);
  assert.deepEqual(devices.live, []);
});

test("a microphone that is switched off stays open and is on again without a question", async () => {
  const { devices, media } = bench();
  devices.answers = () => undefined;
  await media.setMicrophone(true);
  await media.setMicrophone(false);
  assert.equal(media.audio?.enabled, false);
  await media.setMicrophone(true);
  assert.equal(media.audio?.enabled, true);
  assert.equal(devices.questions.length, 1);
});

test("another camera chosen while the first opens is the one that stays open", async () => {
  const { devices, media } = bench();
  void media.setCamera(true);
  await settled();
  void media.flip();
  await devices.questions[0]?.allow();
  await devices.questions[1]?.allow();
  assert.deepEqual(devices.live, ["video"]);
  const { video } = devices.questions[1]?.constraints ?? {};
  assert.deepEqual((video as MediaTrackConstraints).facingMode, { ideal: "environment" });
  await media.setCamera(false);
  assert.deepEqual(devices.live, []);
});

test("turned round again and again, a phone has one camera open", async () => {
  const { devices, media } = bench();
  devices.answers = () => undefined;
  await media.setCamera(true);
  for (let i = 0; i < 5; i++) void media.flip();
  await media.open();
  assert.deepEqual(devices.live, ["video"]);
  assert.equal(media.facing, "environment");
});

test("a switch says that its device is being opened", async () => {
  const { devices, media } = bench();
  void media.setCamera(true);
  assert.equal(media.opening("camera"), true);
  await settled();
  await devices.questions[0]?.allow();
  assert.equal(media.opening("camera"), false);
});

test("a refusal of a camera that is not wanted any more is not told", async () => {
  const { devices, media, failed } = bench();
  void media.setCamera(true);
  await settled();
  void media.setCamera(false);
  await devices.questions[0]?.refuse("NotAllowedError");
  assert.deepEqual(failed, []);
  assert.equal(media.failure, undefined);
});

test("a blocked camera does not take the microphone along, which is asked for alone", async () => {
  const { devices, media, failed } = bench({ audio: true, video: true });
  devices.permissions = { camera: "denied", microphone: "prompt" };
  devices.answers = ({ video }) => (video ? "NotAllowedError" : undefined);
  await media.open();
  assert.deepEqual(devices.live, ["audio"]);
  assert.deepEqual(failed, ["camera permission_denied, the other works"]);
  assert.equal(devices.questions.length, 2);
  assert.equal(media.microphoneOn, true);
  assert.equal(media.cameraOn, false);
});

test("a blocked microphone does not take the camera along", async () => {
  const { devices, media, failed } = bench({ audio: true, video: true });
  devices.permissions = { camera: "prompt", microphone: "denied" };
  devices.answers = ({ audio }) => (audio ? "NotAllowedError" : undefined);
  await media.open();
  assert.deepEqual(devices.live, ["video"]);
  assert.deepEqual(failed, ["microphone permission_denied, the other works"]);
});

test("whoever refuses both is not asked for what is blocked", async () => {
  const { devices, media, failed } = bench({ audio: true, video: true });
  devices.permissions = { camera: "denied", microphone: "denied" };
  devices.answers = () => "NotAllowedError";
  await media.open();
  assert.equal(devices.questions.length, 1);
  assert.deepEqual(failed, ["camera and microphone permission_denied"]);
});

test("a question closed without an answer is asked once more, for the microphone, and no third time", async () => {
  const { devices, media, failed } = bench({ audio: true, video: true });
  devices.permissions = { camera: "prompt", microphone: "prompt" };
  devices.answers = () => "NotAllowedError";
  await media.open();
  assert.deepEqual(
    devices.questions.map(({ constraints }) => [Boolean(constraints.audio), Boolean(constraints.video)]),
    [
      [true, true],
      [true, false],
    ],
  );
  assert.deepEqual(failed, ["camera and microphone permission_denied"]);
});

test("without a camera the microphone works, and what failed is remembered until it is given up", async () => {
  const { devices, media, failed } = bench({ audio: true, video: true });
  devices.answers = ({ video }) => (video ? "NotFoundError" : undefined);
  await media.open();
  assert.deepEqual(devices.live, ["audio"]);
  assert.deepEqual(failed, ["camera no_device, the other works"]);
  assert.equal(media.failure?.wanted, "camera");
  await media.setCamera(false);
  assert.equal(media.failure, undefined);
});

test("a device that is unplugged without another is told, and its switch is off", async () => {
  const { clock, devices, media, failed } = bench();
  devices.answers = () => undefined;
  await media.setCamera(true);
  await clock.advance(60_000);
  devices.answers = () => "NotFoundError";
  devices.tracks[0]?.unplug();
  await settled();
  assert.deepEqual(failed, ["camera no_device"]);
  assert.equal(media.cameraOn, false);
  devices.answers = () => undefined;
  await media.retry("camera");
  assert.deepEqual(devices.live, ["video"]);
});

test("a headset that is unplugged gives way to the microphone that is left, each time, and nothing is told", async () => {
  const { clock, devices, media, failed } = bench();
  devices.answers = () => undefined;
  await media.setMicrophone(true);
  for (let i = 0; i < 3; i++) {
    await clock.advance(60_000);
    devices.tracks.at(-1)?.unplug();
    assert.equal(media.opening("microphone"), true);
    await settled();
    assert.deepEqual(devices.live, ["audio"]);
    assert.equal(media.microphoneOn, true);
  }
  assert.deepEqual(failed, []);
});

test("a device that does not hold is told, and not opened over and over", async () => {
  const { devices, media, failed } = bench();
  devices.answers = () => undefined;
  await media.setCamera(true);
  devices.tracks[0]?.unplug();
  await settled();
  assert.deepEqual(failed, ["camera no_device"]);
  assert.equal(devices.questions.length, 1);
  assert.equal(media.cameraOn, false);
});

test("of two devices remembered, the one that is there is taken although the other is gone", async () => {
  const { devices, media } = bench({ audio: true, video: true });
  devices.remember({ camera: "desk camera", microphone: "headset" });
  const exact = (constraints: MediaTrackConstraints) =>
    (constraints.deviceId as ConstrainDOMStringParameters).exact;
  devices.answers = ({ audio }) =>
    exact(audio as MediaTrackConstraints) === "headset" ? "OverconstrainedError" : undefined;
  await media.open();
  assert.deepEqual(devices.live, ["audio", "video"]);
  const { video } = devices.questions.at(-1)?.constraints ?? {};
  assert.deepEqual((video as MediaTrackConstraints).deviceId, { ideal: "desk camera" });
});

test("what the system takes away for a while is not sent, and is told as it goes and comes", async () => {
  const { devices, media } = bench();
  devices.answers = () => undefined;
  await media.setCamera(true);
  const told: boolean[] = [];
  media.on("changed", () => told.push(media.sends("camera")));
  devices.tracks[0]?.setMuted(true);
  devices.tracks[0]?.setMuted(false);
  assert.deepEqual(told, [false, true]);
  assert.equal(media.cameraOn, true);
  await media.setCamera(false);
  assert.equal(media.sends("camera"), false);
});
