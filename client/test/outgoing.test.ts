import assert from "node:assert/strict";
import { test } from "node:test";
import { LocalMedia } from "../demo/local-media.ts";
import { Outgoing } from "../demo/outgoing.ts";
import { Emitter } from "../src/emitter.ts";
import { SluiceError } from "../src/error.ts";
import type { Kind } from "../src/info.ts";
import type { Publication, PublishOptions } from "../src/publication.ts";
import type { Room } from "../src/room.ts";
import { FakeDevices, settled } from "./support/devices.ts";

/** A publication whose server has answered. */
class FakePublication extends Emitter<{ state: unknown; ended: { error: SluiceError | undefined } }> {
  state = "connected";
  /** What others hear and see of it. */
  readonly muted = { audio: false, video: false };

  constructor(private readonly options: PublishOptions) {
    super();
    Object.assign(this.muted, options.muted);
  }

  track(kind: Kind): MediaStreamTrack | null | undefined {
    return this.options[kind];
  }

  async mute(kind: Kind): Promise<void> {
    this.muted[kind] = true;
  }

  async unmute(kind: Kind): Promise<void> {
    this.muted[kind] = false;
  }

  /** The server or the network ended it. */
  fail(name: string): void {
    this.state = "ended";
    this.emit("ended", { error: SluiceError.local(name, "") });
  }

  unpublish(): void {
    if (this.state === "ended") return;
    this.state = "ended";
    this.options.audio?.stop();
    this.options.video?.stop();
    this.emit("ended", { error: undefined });
  }
}

/** A room whose server answers a publish when the test says so. */
function bench() {
  const devices = new FakeDevices().install();
  const published: FakePublication[] = [];
  const answers: { take(): Promise<void>; refuse(): Promise<void> }[] = [];
  const room = {
    publish: (options: PublishOptions) =>
      new Promise<FakePublication>((resolve, reject) => {
        answers.push({
          take: async () => {
            const publication = new FakePublication(options);
            published.push(publication);
            resolve(publication);
            await settled();
          },
          refuse: async () => {
            reject(SluiceError.local("forbidden", "no"));
            await settled();
          },
        });
      }),
  };
  const told: string[] = [];
  const media = new LocalMedia({ audio: false, video: false });
  const outgoing = new Outgoing(room as unknown as Room, media, {
    changed: () => undefined,
    publishFailed: ({ name }, what) => told.push(`publish ${what} ${name}`),
    screenFailed: ({ name }) => told.push(`screen ${name}`),
  });
  const running = () => (published as unknown as Publication[]).filter(({ state }) => state !== "ended").length;
  return { devices, media, outgoing, answers, published, told, running };
}

test("a second click while a screen is picked or published shares nothing more", async () => {
  const { devices, outgoing, answers, running } = bench();
  void outgoing.shareScreen();
  assert.equal(outgoing.startsScreen, true);
  void outgoing.shareScreen();
  await devices.questions[0]?.allow();
  assert.equal(outgoing.startsScreen, true);
  assert.ok(outgoing.screen, "the screen is captured: the page must say so");
  void outgoing.shareScreen();
  await answers[0]?.take();
  assert.equal(outgoing.startsScreen, false);
  void outgoing.shareScreen();
  assert.equal(devices.questions.length, 1);
  assert.equal(running(), 1);
  outgoing.stopScreen();
  assert.equal(running(), 0);
  assert.deepEqual(devices.live, []);
  assert.equal(outgoing.screen, undefined);
});

test("stopped before the server has answered, nothing is captured or published", async () => {
  const { devices, outgoing, answers, running, told } = bench();
  void outgoing.shareScreen();
  await devices.questions[0]?.allow();
  outgoing.stopScreen();
  assert.deepEqual(devices.live, []);
  assert.equal(outgoing.screen, undefined);
  await answers[0]?.take();
  assert.equal(running(), 0);
  assert.deepEqual(told, []);
});

test("after a stop another screen can be shared, whatever becomes of the first", async () => {
  const { devices, outgoing, answers, running } = bench();
  void outgoing.shareScreen();
  await devices.questions[0]?.allow();
  outgoing.stopScreen();
  void outgoing.shareScreen();
  await devices.questions[1]?.allow();
  await answers[1]?.take();
  await answers[0]?.take();
  assert.equal(running(), 1);
  assert.deepEqual(devices.live, ["audio", "video"]);
  outgoing.stopScreen();
  assert.equal(running(), 0);
  assert.deepEqual(devices.live, []);
});

test("the browser's own button ends sharing, before and after the server's answer", async () => {
  for (const answered of [false, true]) {
    const { devices, outgoing, answers, running } = bench();
    void outgoing.shareScreen();
    await devices.questions[0]?.allow();
    if (answered) await answers[0]?.take();
    devices.tracks.find(({ kind }) => kind === "video")?.unplug();
    if (!answered) await answers[0]?.take();
    assert.equal(outgoing.screen, undefined);
    assert.equal(running(), 0);
    assert.deepEqual(devices.live, []);
  }
});

test("leaving the call while a screen is being picked captures nothing", async () => {
  const { devices, outgoing, answers, told } = bench();
  void outgoing.shareScreen();
  outgoing.close();
  await devices.questions[0]?.allow();
  assert.deepEqual(devices.live, []);
  assert.equal(answers.length, 0);
  assert.deepEqual(told, []);
});

test("a screen that is not picked, or not taken by the server, is told and can be tried again", async () => {
  const { devices, outgoing, answers, told } = bench();
  void outgoing.shareScreen();
  await devices.questions[0]?.refuse("NotAllowedError");
  void outgoing.shareScreen();
  await devices.questions[1]?.allow();
  await answers[0]?.refuse();
  assert.deepEqual(told, ["screen permission_denied", "publish screen forbidden"]);
  assert.deepEqual(devices.live, []);
  void outgoing.shareScreen();
  assert.equal(devices.questions.length, 3);
});

test("a screen that the server ends later is told as a screen", async () => {
  const { devices, outgoing, answers, published, told } = bench();
  void outgoing.shareScreen();
  await devices.questions[0]?.allow();
  await answers[0]?.take();
  published[0]?.fail("publish_failed");
  assert.deepEqual(told, ["publish screen publish_failed"]);
  assert.equal(outgoing.screen, undefined);
});

test("a camera that the system takes away for a while is off to others, and on again with it", async () => {
  const { devices, media, answers, published } = bench();
  devices.answers = () => undefined;
  await media.setCamera(true);
  await settled();
  await answers[0]?.take();
  assert.deepEqual(published[0]?.muted, { audio: true, video: false });
  for (const muted of [true, false]) {
    devices.tracks[0]?.setMuted(muted);
    await settled();
    assert.equal(published[0]?.muted.video, muted);
  }
});
