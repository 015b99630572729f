import assert from "node:assert/strict";
import { test } from "node:test";
import { recordAdvice } from "../demo/advice.ts";
import { Client } from "../src/client.ts";
import { SluiceError } from "../src/error.ts";
import type { JsonObject } from "../src/frames.ts";
import { readJoined } from "../src/messages.ts";
import { Publication } from "../src/publication.ts";
import { FakeTrack } from "./support/devices.ts";
import { FakePeerConnection } from "./support/peer-connection.ts";
import { type Answer, type Request, Server } from "./support/server.ts";
import { VirtualClock } from "./support/virtual-time.ts";

const JSEP = { type: "answer", sdp: "v=0" };
const MINFO = { audio: true, video: true, videotype: 0 };

/** A room that bob publishes into, and a stream of one's own there. */
async function inRoom() {
  FakePeerConnection.install();
  const clock = new VirtualClock();
  const server = new Server();
  let published = 0;
  let recorded = 0;
  let seq = 3;
  server.rules = {
    join: (): Answer => ({
      ok: {
        users: [{ uid: "bob" }],
        pubs: [{ mid: "bob#1", uid: "bob", minfo: MINFO }],
        own: { pubs: [], subs: [] },
        session: "s",
        epoch: "e",
        seq,
      },
    }),
    publish: (): Answer => ({ ok: { mid: `me#${++published}`, sfuid: "s", jsep: JSEP } }),
    record: ({ data }): Answer => ({ ok: { recording: data.on ? `R${++recorded}` : `R${recorded}` } }),
    unpublish: () => ({ ok: {} }),
    leave: () => ({ ok: {} }),
    keepalive: () => ({ ok: {} }),
  };
  const client = new Client({ url: "ws://server/ws", peer: "me" }, clock, server.connect, async () => ({}));
  const room = client.room("tea");
  const heard: string[] = [];
  room.on("recording", ({ stream }) => heard.push(`${stream.mid} ${stream.recording ?? "off"}`));
  const joined = room.join();
  await clock.advance(0);
  await joined;
  const asked = room.publish({ source: "microphone", audio: new FakeTrack("audio") as unknown as MediaStreamTrack });
  await clock.advance(0);
  const publication = await asked;
  FakePeerConnection.all[0]?.connect();
  const notify = (method: string, data: JsonObject) => {
    seq += 1;
    server.last.notify(method, { rid: "tea", epoch: "e", seq, ...data });
  };
  const recordings = () => server.of("record").map(({ data }) => [data.mid, data.on]);
  const [bobs] = room.streams;
  if (!bobs) throw new Error("bob publishes");
  return { clock, server, room, heard, notify, recordings, publication, bobs };
}

test("a stream is recorded when asked for, one's own and anybody's, and that is told once each", async () => {
  const { clock, room, heard, recordings, publication, bobs } = await inRoom();
  const started = Promise.all([room.record(bobs, true), room.record(publication, true)]);
  await clock.advance(0);
  assert.deepEqual(await started, ["R1", "R2"]);
  assert.deepEqual([bobs.recording, publication.recording], ["R1", "R2"]);
  const ended = room.record(publication, false);
  await clock.advance(0);
  assert.equal(await ended, "R2");
  assert.equal(publication.recording, undefined);
  assert.deepEqual(heard, ["bob#1 R1", "me#1 R2", "me#1 off"]);
  assert.deepEqual(recordings(), [
    ["bob#1", true],
    ["me#1", true],
    ["me#1", false],
  ]);
});

test("what others begin and end is told, of one's own streams as well", async () => {
  const { heard, notify, publication, bobs } = await inRoom();
  notify("recording", { uid: "bob", mid: "bob#1", on: true, recording: "A" });
  notify("recording", { uid: "me", mid: "me#1", on: true, recording: "B" });
  assert.deepEqual([bobs.recording, publication.recording], ["A", "B"]);
  notify("recording", { uid: "bob", mid: "bob#1", on: false, recording: "A" });
  notify("recording", { uid: "me", mid: "me#1", on: false, recording: "B" });
  assert.deepEqual(heard, ["bob#1 A", "me#1 B", "bob#1 off", "me#1 off"]);
});

test("a refusal is the asker's to hear and changes nothing", async () => {
  const { clock, server, room, heard, publication } = await inRoom();
  server.rules.record = () => ({ error: 409, name: "conflict" });
  const refused = assert.rejects(room.record(publication, true), { name: "conflict" });
  await clock.advance(0);
  await refused;
  assert.deepEqual([heard, publication.recording], [[], undefined]);
});

test("a recording that ended before its beginning was answered is over", async () => {
  const { clock, server, room, notify, bobs } = await inRoom();
  server.rules.record = () => {
    notify("recording", { uid: "bob", mid: "bob#1", on: false, recording: "R1" });
    return { ok: { recording: "R1" } };
  };
  const asked = room.record(bobs, true);
  await clock.advance(0);
  assert.equal(await asked, "R1");
  assert.equal(bobs.recording, undefined);
});

test("what was asked for here is asked for again when the stream moves, and what ended by itself is not", async () => {
  const { clock, room, notify, recordings, publication } = await inRoom();
  const asked = room.record(publication, true);
  await clock.advance(0);
  await asked;
  notify("stream-migrate", { mid: "me#1", reason: "draining" });
  await clock.advance(1_000);
  assert.equal(publication.mid, "me#2");
  await clock.advance(0);
  assert.deepEqual(recordings().at(-1), ["me#2", true]);
  assert.equal(publication.recording, "R2");
  notify("recording", { uid: "me", mid: "me#2", on: false, recording: "R2" });
  notify("stream-migrate", { mid: "me#2", reason: "draining" });
  await clock.advance(5_000);
  assert.equal(publication.mid, "me#3");
  assert.equal(recordings().length, 2);
});

test("somebody else's stream that moves is asked for again as well, unless its new server records it anyway", async () => {
  for (const already of [false, true]) {
    const { clock, room, notify, recordings, bobs } = await inRoom();
    const asked = room.record(bobs, true);
    await clock.advance(0);
    await asked;
    const minfo = { ...MINFO, replaces: "bob#1" };
    notify("stream-add", { uid: "bob", mid: "bob#2", minfo, ...(already && { recording: "X" }) });
    await clock.advance(0);
    assert.equal(bobs.mid, "bob#2");
    assert.equal(bobs.recording, already ? "X" : "R2");
    assert.equal(recordings().length, already ? 1 : 2);
  }
});

test("a stream may be published recorded", async () => {
  const { clock, server, room } = await inRoom();
  server.rules.publish = () => ({ ok: { mid: "me#9", sfuid: "s", jsep: JSEP, recording: "R9" } });
  const audio = new FakeTrack("audio") as unknown as MediaStreamTrack;
  const asked = room.publish({ source: "microphone", audio, record: true });
  await clock.advance(0);
  const publication = await asked;
  assert.ok(publication instanceof Publication);
  assert.equal(publication.recording, "R9");
  assert.equal((server.of("publish").at(-1)?.data.minfo as JsonObject).record, true);
});

/** A stream of one's own beside, recorded from its beginning: `me#2`. The server does what its `minfo` says. */
async function recordedFromItsBeginning() {
  const all = await inRoom();
  const { clock, server, room } = all;
  const published = server.rules.publish as (request: Request) => { ok: JsonObject };
  server.rules.publish = (request) => {
    const { ok } = published(request);
    const { record } = request.data.minfo as JsonObject;
    return { ok: { ...ok, ...(record === true && { recording: `P${ok.mid}` }) } };
  };
  const audio = new FakeTrack("audio") as unknown as MediaStreamTrack;
  const asked = room.publish({ source: "microphone", audio, record: true });
  await clock.advance(0);
  const stream = await asked;
  FakePeerConnection.all.at(-1)?.connect();
  assert.deepEqual([stream.mid, stream.recording], ["me#2", "Pme#2"]);
  const move = async () => {
    all.notify("stream-migrate", { mid: stream.mid as string, reason: "draining" });
    await clock.advance(5_000);
  };
  return { ...all, stream, move };
}

test("a stream published recorded is recorded from its beginning wherever it moves", async () => {
  const { recordings, stream, move } = await recordedFromItsBeginning();
  await move();
  assert.deepEqual([stream.mid, stream.recording], ["me#3", "Pme#3"]);
  assert.deepEqual(recordings(), []);
});

test("a stream published recorded is not recorded any more where it moves once that has ended, whoever ended it", async () => {
  const ends = {
    here: async ({ clock, server, room, stream }) => {
      server.rules.record = () => ({ ok: { recording: "Pme#2" } });
      const ended = room.record(stream, false);
      await clock.advance(0);
      await ended;
    },
    elsewhere: async ({ notify }) => notify("recording", { uid: "me", mid: "me#2", on: false, recording: "Pme#2" }),
    "while away": async ({ clock, server }) => {
      const own = { pubs: [{ mid: "me#1" }, { mid: "me#2" }], subs: [] };
      server.rules.join = () => ({ ok: { users: [], pubs: [], own, session: "s", epoch: "e", seq: 3, resync: true } });
      server.last.drop();
      await clock.advance(5_000);
    },
  } satisfies Record<string, (all: Awaited<ReturnType<typeof recordedFromItsBeginning>>) => Promise<void>>;
  for (const [who, end] of Object.entries(ends)) {
    const all = await recordedFromItsBeginning();
    await end(all);
    assert.equal(all.stream.recording, undefined, who);
    const asked = all.recordings().length;
    await all.move();
    assert.deepEqual([all.stream.mid, all.stream.recording], ["me#3", undefined], who);
    assert.equal(all.recordings().length, asked, who);
  }
});

test("ended while it is being published anew, a recording ends there as well", async () => {
  const { clock, server, room, notify, recordings, stream } = await recordedFromItsBeginning();
  server.rules.publish = () => undefined;
  notify("stream-remove", { uid: "me", mid: "me#2", reason: "node_lost" });
  await clock.advance(1_000);
  server.rules.record = ({ data }) =>
    data.mid === "me#2" ? { error: 3, name: "bad_mid" } : { ok: { recording: "Pme#3" } };
  const ended = room.record(stream, false);
  await clock.advance(0);
  assert.equal(await ended, undefined);
  assert.equal(stream.recording, undefined);
  const request = server.of("publish").at(-1) as Request;
  assert.equal((request.data.minfo as JsonObject).record, true);
  request.connection.answer(request, { ok: { mid: "me#3", sfuid: "s", jsep: JSEP, recording: "Pme#3" } });
  await clock.advance(0);
  assert.deepEqual(recordings(), [
    ["me#2", false],
    ["me#3", false],
  ]);
  assert.equal(stream.recording, undefined);
});

test("what ended while away is not asked for again when somebody else's stream moves", async () => {
  const { clock, server, room, recordings, bobs } = await inRoom();
  const asked = room.record(bobs, true);
  await clock.advance(0);
  await asked;
  const own = { pubs: [{ mid: "me#1" }], subs: [] };
  const pubs = [{ mid: "bob#1", uid: "bob", minfo: MINFO }];
  server.rules.join = () => ({ ok: { users: [], pubs, own, session: "s", epoch: "f", seq: 50, resync: true } });
  server.last.drop();
  await clock.advance(5_000);
  assert.equal(bobs.recording, undefined);
  const minfo = { ...MINFO, replaces: "bob#1" };
  server.last.notify("stream-add", { rid: "tea", epoch: "f", seq: 51, uid: "bob", mid: "bob#2", minfo });
  await clock.advance(1_000);
  assert.equal(bobs.mid, "bob#2");
  assert.equal(recordings().length, 1);
});

test("a recording that began since is not hidden by another's end, answered or told late", async () => {
  const { clock, server, room, notify, bobs } = await inRoom();
  const begin = (recording: string) => notify("recording", { uid: "bob", mid: "bob#1", on: true, recording });
  begin("A");
  server.rules.record = () => {
    begin("B");
    return { ok: { recording: "A" } };
  };
  const ended = room.record(bobs, false);
  await clock.advance(0);
  assert.equal(await ended, "A");
  assert.equal(bobs.recording, "B");
  server.rules.record = () => ({ ok: { recording: "C" } });
  const asked = room.record(bobs, true);
  await clock.advance(0);
  await asked;
  notify("recording", { uid: "bob", mid: "bob#1", on: false, recording: "B" });
  assert.equal(bobs.recording, "C");
});

test("what was ended here does not begin by being told of late", async () => {
  const { clock, server, room, heard, notify, bobs } = await inRoom();
  server.rules.record = () => ({ ok: { recording: "A" } });
  const ended = room.record(bobs, false);
  await clock.advance(0);
  await ended;
  notify("recording", { uid: "bob", mid: "bob#1", on: true, recording: "A" });
  assert.deepEqual([bobs.recording, heard], [undefined, []]);
});

test("a stream that moves while its recording is asked for, or its end, is asked for where it is then", async () => {
  for (const on of [true, false]) {
    for (const old of [{ ok: { recording: "A" } }, { error: 3, name: "bad_mid" }]) {
      const { clock, server, room, notify, recordings, bobs } = await inRoom();
      server.rules.record = ({ data }) => {
        if (data.mid === "bob#2") return { ok: { recording: "B" } };
        const minfo = { ...MINFO, replaces: "bob#1" };
        notify("stream-add", { uid: "bob", mid: "bob#2", minfo, ...(!on && { recording: "B" }) });
        return old;
      };
      const asked = room.record(bobs, on);
      await clock.advance(0);
      assert.equal(await asked, "B");
      assert.equal(bobs.recording, on ? "B" : undefined);
      assert.deepEqual(recordings(), [
        ["bob#1", on],
        ["bob#2", on],
      ]);
    }
  }
});

test("a stream that has moved is asked for until its server answers, for half a minute", async () => {
  for (const isBack of [true, false]) {
    const { clock, server, room, notify, recordings, bobs } = await inRoom();
    const asked = room.record(bobs, true);
    await clock.advance(0);
    await asked;
    let undone = 0;
    server.rules.record = () => {
      // What could not be begun is undone, which everybody is told.
      notify("recording", { uid: "bob", mid: "bob#2", on: false, recording: `undone-${++undone}` });
      return { error: 12, name: "sfu_unreachable" };
    };
    notify("stream-add", { uid: "bob", mid: "bob#2", minfo: { ...MINFO, replaces: "bob#1" } });
    await clock.advance(5_000);
    assert.ok(recordings().length > 3);
    if (isBack) server.rules.record = () => ({ ok: { recording: "B" } });
    await clock.advance(60_000);
    assert.equal(bobs.recording, isBack ? "B" : undefined);
    const before = recordings().length;
    await clock.advance(60_000);
    assert.equal(recordings().length, before);
  }
});

test("nobody asks again for what is not wanted any more", async () => {
  const { clock, server, room, notify, recordings, bobs } = await inRoom();
  const asked = room.record(bobs, true);
  await clock.advance(0);
  await asked;
  server.rules.record = ({ data }) => (data.on ? { error: 12, name: "sfu_unreachable" } : { ok: {} });
  notify("stream-add", { uid: "bob", mid: "bob#2", minfo: { ...MINFO, replaces: "bob#1" } });
  await clock.advance(0);
  const ended = room.record(bobs, false);
  await clock.advance(60_000);
  assert.equal(await ended, undefined);
  assert.deepEqual(recordings().slice(1), [
    ["bob#2", true],
    ["bob#2", false],
  ]);
});

test("a join tells what is recorded, one's own included", () => {
  const pub = (mid: string, recording?: string) => ({ mid, uid: "u", minfo: MINFO, ...(recording && { recording }) });
  const joined = readJoined({
    users: [],
    pubs: [pub("a", "R1"), pub("b")],
    own: { pubs: [pub("c", "R2"), pub("d")], subs: [] },
  });
  assert.deepEqual(joined.streams.map(({ recording }) => recording), ["R1", undefined]);
  assert.deepEqual([...(joined.own?.recordings ?? [])], [["c", "R2"]]);
});

test("who may not record is told what to do", () => {
  const forbidden = new SluiceError(403, "forbidden", "no");
  assert.notEqual(recordAdvice(forbidden, true).text, recordAdvice(forbidden, false).text);
  assert.match(recordAdvice(new SluiceError(409, "conflict", "the disk"), true).text, /the disk/);
});
