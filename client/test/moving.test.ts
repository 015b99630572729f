import assert from "node:assert/strict";
import { test } from "node:test";
import { Client } from "../src/client.ts";
import type { JsonObject } from "../src/frames.ts";
import type { Answer, Request } from "./support/server.ts";
import { FakeTrack } from "./support/devices.ts";
import { FakePeerConnection } from "./support/peer-connection.ts";
import { Server } from "./support/server.ts";
import { VirtualClock } from "./support/virtual-time.ts";

const JSEP = { type: "answer", sdp: "v=0" };
const MINFO = { audio: true, video: true, videotype: 0 };

/** A room that bob publishes `bob#1` into. The server numbers what is published and subscribed. */
async function inRoom() {
  FakePeerConnection.install();
  const clock = new VirtualClock();
  const server = new Server();
  let published = 0;
  let subscribed = 0;
  let seq = 3;
  server.rules = {
    join: () => ({
      ok: {
        users: [{ uid: "bob" }, { uid: "eve" }],
        pubs: [{ mid: "bob#1", uid: "bob", minfo: MINFO }],
        own: { pubs: [], subs: [] },
        session: "s",
        epoch: "e",
        seq,
      },
    }),
    publish: () => ({ ok: { mid: `me#${++published}`, sfuid: "s", jsep: JSEP } }),
    subscribe: (): Answer => ({ ok: { sid: `me#s${++subscribed}`, sfuid: "s", jsep: JSEP } }),
    unpublish: () => ({ ok: {} }),
    unsubscribe: () => ({ ok: {} }),
    mute: () => ({ ok: {} }),
    leave: () => ({ ok: {} }),
    keepalive: () => ({ ok: {} }),
  };
  const client = new Client({ url: "ws://server/ws", peer: "me" }, clock, server.connect, async () => ({}));
  const room = client.room("tea");
  const heard: string[] = [];
  room.on("stream-added", ({ stream }) => heard.push(`added ${stream.mid}`));
  room.on("stream-removed", ({ stream }) => heard.push(`removed ${stream.mid}`));
  room.on("stream-updated", ({ stream }) => heard.push(`updated ${stream.mid}`));
  room.on("peer-left", ({ uid }) => heard.push(`left ${uid}`));
  const done = room.join();
  await clock.advance(0);
  await done;
  heard.length = 0;
  const notify = (method: string, data: JsonObject) => {
    seq += 1;
    server.last.notify(method, { rid: "tea", epoch: "e", seq, ...data });
  };
  const sent = (method: string, key: "mid" | "sid") => server.of(method).map(({ data }) => data[key]);
  return { clock, server, client, room, heard, notify, sent };
}

/** And what is published there, with media that flows. */
async function publishing() {
  const all = await inRoom();
  const video = new FakeTrack("video") as unknown as MediaStreamTrack;
  const asked = all.room.publish({ source: "camera", video, info: { title: "Ada" } });
  await all.clock.advance(0);
  const publication = await asked;
  const connection = FakePeerConnection.all[0] as FakePeerConnection;
  connection.connect();
  return { ...all, publication, connection };
}

/** And what is received of bob, with media that flows. */
async function receiving() {
  const all = await inRoom();
  const asked = all.room.subscribe("bob#1");
  await all.clock.advance(0);
  const subscription = await asked;
  const connection = FakePeerConnection.all[0] as FakePeerConnection;
  connection.connect();
  const states: string[] = [];
  subscription.on("state", ({ state }) => states.push(state));
  return { ...all, subscription, connection, states, stream: subscription.stream };
}

const last = () => FakePeerConnection.all.at(-1) as FakePeerConnection;
const minfo = (request: Request | undefined) => request?.data.minfo as JsonObject;

test("a stream whose server goes away is published elsewhere before it goes, and stays connected all along", async () => {
  const { clock, notify, sent, publication, connection } = await publishing();
  const states: string[] = [];
  publication.on("state", ({ state }) => states.push(state));
  notify("stream-migrate", { mid: "me#1", reason: "draining" });
  await clock.advance(1_000);
  assert.equal(publication.mid, "me#2");
  assert.equal(connection.closed, false);
  last().connect();
  // The others follow while the old one still flows.
  await clock.advance(2_999);
  assert.equal(connection.closed, false);
  assert.deepEqual(sent("unpublish", "mid"), []);
  await clock.advance(1);
  assert.equal(connection.closed, true);
  assert.deepEqual(sent("unpublish", "mid"), ["me#1"]);
  assert.deepEqual(states, []);
});

test("told to move, and again by the edge it then resumes on, a stream moves once and stays connected all along", async () => {
  const { clock, server, notify, sent, publication, connection } = await publishing();
  const states: string[] = [];
  publication.on("state", ({ state }) => states.push(state));
  // The move waits as long as it ever does: the client is on another edge before.
  clock.draw = () => 0.999;
  const own = { pubs: [{ mid: "me#1" }], subs: [] };
  server.rules.join = () => ({ ok: { users: [], pubs: [], own, session: "s", epoch: "e", seq: 4 } });
  notify("stream-migrate", { mid: "me#1", reason: "draining" });
  clock.draw = () => 0;
  server.last.drop(1001, "going away");
  await clock.advance(1);
  assert.equal(server.of("join").length, 2);
  notify("stream-migrate", { mid: "me#1", reason: "draining" });
  await clock.advance(1_000);
  assert.equal(publication.mid, "me#2");
  assert.equal(connection.closed, false);
  last().connect();
  await clock.advance(3_000);
  assert.equal(connection.closed, true);
  assert.deepEqual(sent("unpublish", "mid"), ["me#1"]);
  assert.deepEqual(states, []);
});

test("what moves says what it was, keeps its own info, and stays muted", async () => {
  const { clock, server, notify, publication } = await publishing();
  await publication.mute("video");
  notify("stream-migrate", { mid: "me#1", reason: "draining" });
  await clock.advance(1_000);
  const [first, second] = server.of("publish");
  assert.equal(minfo(first).replaces, undefined);
  assert.equal(minfo(second).replaces, "me#1");
  assert.equal(minfo(second).title, "Ada");
  assert.deepEqual(minfo(second).muted, { audio: false, video: true });
  assert.deepEqual(publication.muted, { audio: false, video: true });
});

test("muted while it moves, the new stream is told", async () => {
  const { clock, server, notify, publication } = await publishing();
  server.rules.publish = () => undefined;
  notify("stream-migrate", { mid: "me#1", reason: "draining" });
  await clock.advance(1_000);
  await publication.mute("video");
  const [, request] = server.of("publish");
  assert.ok(request);
  server.last.answer(request, { ok: { mid: "me#2", sfuid: "t", jsep: JSEP } });
  await clock.advance(0);
  assert.deepEqual(server.of("mute").map(({ data }) => [data.mid, data.video]), [["me#1", true], ["me#2", true]]);
});

test("a stream whose server died is published anew within a second", async () => {
  const { clock, notify, publication, connection, sent } = await publishing();
  notify("stream-remove", { mid: "me#1", uid: "me", reason: "node_lost" });
  notify("stream-migrate", { mid: "me#1", reason: "node_lost" });
  assert.equal(publication.state, "reconnecting");
  await clock.advance(1_000);
  assert.equal(connection.closed, true);
  last().connect();
  assert.equal(publication.state, "connected");
  assert.deepEqual([publication.mid, sent("publish", "mid").length], ["me#2", 2]);
});

test("a server that dies while its stream moves away is not waited for", async () => {
  const { clock, notify, publication, connection, sent } = await publishing();
  notify("stream-migrate", { mid: "me#1", reason: "draining" });
  await clock.advance(1_000);
  notify("stream-remove", { mid: "me#1", uid: "me", reason: "node_lost" });
  assert.equal(connection.closed, true);
  assert.equal(publication.state, "reconnecting");
  last().connect();
  assert.equal(publication.state, "connected");
  await clock.advance(60_000);
  assert.equal(sent("publish", "mid").length, 2);
});

test("a stream that may not be there twice is published anew within a second of the old one's end", async () => {
  const { clock, server, notify, sent, publication, connection } = await publishing();
  const { publish } = server.rules;
  assert.ok(publish);
  server.rules.publish = () => ({ error: 409, name: "conflict" });
  notify("stream-migrate", { mid: "me#1", reason: "draining" });
  // Until the pauses between tries are long, and one has just begun.
  await clock.advance(60_000);
  const tries = sent("publish", "mid").length;
  while (sent("publish", "mid").length === tries) await clock.advance(100);
  assert.equal(publication.state, "connected");
  server.rules.publish = publish;
  notify("stream-remove", { mid: "me#1", uid: "me", reason: "node_lost" });
  assert.equal(connection.closed, true);
  await clock.advance(1_000);
  assert.equal(publication.mid, "me#2");
  last().connect();
  assert.equal(publication.state, "connected");
});

test("a resumed room does not take off the stream that is being replaced", async () => {
  const { clock, server, notify, sent, publication } = await publishing();
  notify("stream-migrate", { mid: "me#1", reason: "draining" });
  await clock.advance(1_000);
  const own = { pubs: [{ mid: "me#1" }, { mid: "me#2" }], subs: [] };
  server.rules.join = () => ({ ok: { users: [], pubs: [], own, session: "s", epoch: "e", seq: 4 } });
  server.last.drop();
  await clock.advance(1_000);
  assert.deepEqual(sent("unpublish", "mid"), []);
  last().connect();
  await clock.advance(3_000);
  assert.deepEqual(sent("unpublish", "mid"), ["me#1"]);
  assert.equal(publication.state, "connected");
});

test("asked to move again while the others still follow, the stream moves again", async () => {
  const { clock, notify, sent, publication } = await publishing();
  for (const mid of ["me#1", "me#2"]) {
    notify("stream-migrate", { mid, reason: "draining" });
    await clock.advance(1_000);
    last().connect();
  }
  await clock.advance(3_000);
  assert.equal(publication.mid, "me#3");
  assert.deepEqual(sent("unpublish", "mid"), ["me#1", "me#2"]);
  assert.deepEqual(FakePeerConnection.all.map(({ closed }) => closed), [true, true, false]);
});

test("leaving while a stream moves closes both connections and leaves no timer", async () => {
  const { clock, client, notify } = await publishing();
  notify("stream-migrate", { mid: "me#1", reason: "draining" });
  await clock.advance(1_000);
  last().connect();
  const closing = client.close();
  await clock.advance(0);
  await closing;
  assert.deepEqual(FakePeerConnection.all.map(({ closed }) => closed), [true, true]);
  assert.equal(clock.pending, 0);
});

test("a stream that moves is received from its new place before the old one ends, and is the same on screen", async () => {
  const { clock, room, notify, heard, sent, subscription, connection, states, stream } = await receiving();
  const [old] = subscription.media.getTracks();
  notify("stream-add", { mid: "bob#2", uid: "bob", minfo: { ...MINFO, replaces: "bob#1" } });
  await clock.advance(1_000);
  assert.deepEqual(sent("subscribe", "mid"), ["bob#1", "bob#2"]);
  assert.equal(subscription.media.getTracks()[0], old);
  assert.equal(connection.closed, false);
  last().connect();
  assert.notEqual(subscription.media.getTracks()[0], old);
  assert.equal(subscription.media.getTracks().length, 2);
  assert.equal(connection.closed, true);
  notify("stream-remove", { mid: "bob#1", uid: "bob", reason: "unpublished" });
  await clock.advance(60_000);
  assert.deepEqual(heard, ["updated bob#2"]);
  assert.deepEqual(states, []);
  assert.deepEqual(room.streams, [stream]);
  assert.deepEqual(room.subscriptions, [subscription]);
  assert.deepEqual([stream.id, stream.mid], ["bob#1", "bob#2"]);
  assert.equal(await room.subscribe("bob#2"), subscription);
});

test("a stream that moves twice in a moment is received from the last place only, and without a gap", async () => {
  const { clock, notify, sent, subscription, connection, states } = await receiving();
  for (const [mid, replaces] of [["bob#2", "bob#1"], ["bob#3", "bob#2"]]) {
    notify("stream-add", { mid, uid: "bob", minfo: { ...MINFO, replaces } });
    await clock.advance(100);
  }
  await clock.advance(1_000);
  assert.deepEqual(sent("subscribe", "mid"), ["bob#1", "bob#3"]);
  assert.equal(connection.closed, false);
  last().connect();
  assert.equal(connection.closed, true);
  assert.equal(subscription.state, "connected");
  assert.deepEqual(states, []);
});

test("a stream whose server died is received again when its publisher brings it back, and is the same on screen", async () => {
  const { clock, notify, heard, sent, subscription, states } = await receiving();
  notify("stream-remove", { mid: "bob#1", uid: "bob", reason: "node_lost" });
  assert.equal(subscription.state, "reconnecting");
  await clock.advance(2_000);
  // What the server has not cannot be asked for.
  assert.deepEqual(sent("subscribe", "mid"), ["bob#1"]);
  notify("stream-add", { mid: "bob#2", uid: "bob", minfo: { ...MINFO, replaces: "bob#1" } });
  await clock.advance(0);
  assert.deepEqual(sent("subscribe", "mid"), ["bob#1", "bob#2"]);
  last().connect();
  assert.deepEqual(states, ["reconnecting", "connected"]);
  assert.deepEqual(heard, ["updated bob#2"]);
});

test("a stream whose publisher does not bring it back is removed after 8 s, or with its publisher", async () => {
  const { clock, room, notify, heard, subscription, sent } = await receiving();
  notify("stream-remove", { mid: "bob#1", uid: "bob", reason: "node_lost" });
  await clock.advance(7_999);
  assert.deepEqual(heard, []);
  await clock.advance(1);
  assert.deepEqual(heard, ["removed bob#1"]);
  assert.equal(subscription.state, "ended");
  assert.deepEqual(room.streams, []);
  const other = await receiving();
  other.notify("stream-remove", { mid: "bob#1", uid: "bob", reason: "node_lost" });
  other.notify("peer-leave", { uid: "bob" });
  assert.deepEqual(other.heard, ["removed bob#1", "left bob"]);
  await clock.advance(60_000);
  assert.deepEqual(sent("subscribe", "mid"), ["bob#1"]);
});

test("a stream that its publisher ended is removed at once", async () => {
  for (const reason of ["unpublished", "owner_left", "owner_expired", undefined]) {
    const { notify, heard } = await receiving();
    notify("stream-remove", { mid: "bob#1", uid: "bob", reason });
    assert.deepEqual(heard, ["removed bob#1"]);
  }
});

test("nobody but its publisher can move a stream", async () => {
  const { clock, notify, heard, sent } = await receiving();
  notify("stream-add", { mid: "eve#1", uid: "eve", minfo: { ...MINFO, replaces: "bob#1" } });
  await clock.advance(2_000);
  assert.deepEqual(heard, ["added eve#1"]);
  assert.deepEqual(sent("subscribe", "mid"), ["bob#1"]);
});

test("a connection lost while a stream is away asks for it when it is back, not before", async () => {
  const { clock, server, notify, sent, subscription } = await receiving();
  notify("stream-remove", { mid: "bob#1", uid: "bob", reason: "node_lost" });
  const own = { pubs: [], subs: [] };
  const moved = { mid: "bob#2", uid: "bob", minfo: { ...MINFO, replaces: "bob#1" } };
  server.rules.join = () => ({ ok: { users: [{ uid: "bob" }], pubs: [], own, session: "s", epoch: "e", seq: 4 } });
  server.last.drop();
  await clock.advance(2_000);
  assert.deepEqual(sent("subscribe", "mid"), ["bob#1"]);
  notify("stream-add", moved);
  await clock.advance(1_000);
  assert.deepEqual(sent("subscribe", "mid"), ["bob#1", "bob#2"]);
  last().connect();
  assert.equal(subscription.state, "connected");
});

test("a stream that moved while nobody could tell is the same after a snapshot", async () => {
  const { clock, server, room, heard, subscription, stream } = await receiving();
  const pubs = [{ mid: "bob#2", uid: "bob", minfo: { ...MINFO, replaces: "bob#1" } }];
  server.rules.join = () => ({
    ok: { users: [{ uid: "bob" }, { uid: "eve" }], pubs, own: { pubs: [], subs: [] }, session: "s", epoch: "f", seq: 1, resync: true },
  });
  server.last.drop();
  await clock.advance(3_000);
  last().connect();
  assert.deepEqual(heard, ["updated bob#2"]);
  assert.deepEqual(room.streams, [stream]);
  assert.equal(subscription.state, "connected");
  await clock.advance(60_000);
  assert.deepEqual(heard, ["updated bob#2"]);
});

test("a stream that moves while it is asked for is had from its new place", async () => {
  const { clock, server, room, notify, sent } = await inRoom();
  server.rules.subscribe = () => undefined;
  const asked = room.subscribe("bob#1");
  await clock.advance(0);
  notify("stream-add", { mid: "bob#2", uid: "bob", minfo: { ...MINFO, replaces: "bob#1" } });
  server.rules.subscribe = () => ({ ok: { sid: "me#s2", sfuid: "t", jsep: JSEP } });
  const [request] = server.of("subscribe");
  assert.ok(request);
  server.last.answer(request, { error: 3, name: "bad_mid" });
  await clock.advance(0);
  const subscription = await asked;
  assert.deepEqual(sent("subscribe", "mid"), ["bob#1", "bob#2"]);
  assert.equal(subscription.sid, "me#s2");
});

test("and if it was had from the old place in time, that is given back", async () => {
  const { clock, server, room, notify, sent } = await inRoom();
  server.rules.subscribe = () => undefined;
  const asked = room.subscribe("bob#1");
  await clock.advance(0);
  notify("stream-add", { mid: "bob#2", uid: "bob", minfo: { ...MINFO, replaces: "bob#1" } });
  server.rules.subscribe = () => ({ ok: { sid: "me#s2", sfuid: "t", jsep: JSEP } });
  const [request] = server.of("subscribe");
  assert.ok(request);
  server.last.answer(request, { ok: { sid: "me#s1", sfuid: "s", jsep: JSEP } });
  await clock.advance(0);
  assert.equal((await asked).sid, "me#s2");
  assert.deepEqual(sent("unsubscribe", "sid"), ["me#s1"]);
});
