import assert from "node:assert/strict";
import { test } from "node:test";
import { Client } from "../src/client.ts";
import { SluiceError } from "../src/error.ts";
import type { JsonObject } from "../src/frames.ts";
import type { Source } from "../src/info.ts";
import { FakeTrack } from "./support/devices.ts";
import { FakePeerConnection } from "./support/peer-connection.ts";
import { Server } from "./support/server.ts";
import { VirtualClock } from "./support/virtual-time.ts";

const EVENTS = ["peer-joined", "peer-left", "stream-added", "stream-removed", "stream-updated"] as const;

function bench(token?: () => string) {
  const clock = new VirtualClock();
  const server = new Server();
  server.rules.join = () => ({ ok: joined(3) });
  server.rules.keepalive = () => ({ ok: {} });
  server.rules.leave = () => ({ ok: {} });
  const client = new Client(
    { url: "ws://server/ws", peer: "me", ...(token ? { token } : {}) },
    clock,
    server.connect,
    async () => ({}),
  );
  const room = client.room("tea");
  const heard: string[] = [];
  for (const type of EVENTS) {
    room.on(type, (event) => heard.push(`${type} ${"uid" in event ? event.uid : event.stream.mid}`));
  }
  room.on("state", ({ state, error }) => heard.push(error ? `${state} ${error.name}` : state));
  room.on("broadcast", ({ uid, data }) => heard.push(`${uid} says ${JSON.stringify(data)}`));
  room.on("kicked", ({ reason }) => heard.push(`kicked ${reason}`));
  room.on("resynced", () => heard.push("resynced"));
  return { clock, server, client, room, heard };
}

function joined(seq: number, more: JsonObject = {}): JsonObject {
  const pubs = [{ mid: "bob#1", uid: "bob", sfuid: "s", minfo: { audio: true, video: true, videotype: 1 } }];
  return {
    users: [{ uid: "bob" }],
    pubs,
    own: { pubs: [], subs: [] },
    session: "s",
    epoch: "e",
    seq,
    ...more,
  };
}

async function inRoom() {
  const all = bench();
  const done = all.room.join();
  await all.clock.advance(0);
  await done;
  all.heard.length = 0;
  return all;
}

test("joining tells of everybody and everything that is there", async () => {
  const { clock, room, heard } = bench();
  const done = room.join();
  await clock.advance(0);
  await done;
  assert.deepEqual(heard, ["connecting", "peer-joined bob", "stream-added bob#1", "connected"]);
  assert.deepEqual(room.peers, ["bob"]);
  assert.equal(room.streams[0]?.source, "screen");
});

test("joining waits for a server out of reach, however long, and keeps saying so", async () => {
  const { clock, server, room, heard } = bench();
  server.accepting = false;
  let there = false;
  void room.join().then(() => {
    there = true;
  });
  await clock.advance(600_000);
  assert.equal(there, false);
  assert.ok(heard.length > 5 && heard.every((state) => state === "connecting"));
  server.accepting = true;
  await clock.advance(60_000);
  assert.equal(there, true);
});

test("joining a room that refuses rejects with the refusal", async () => {
  const { clock, server, room, heard } = bench();
  server.rules.join = () => ({ error: 403, name: "forbidden" });
  const outcome = assert.rejects(room.join(), { code: 403, name: "forbidden" });
  await clock.advance(0);
  await outcome;
  assert.deepEqual(heard, ["connecting", "closed forbidden"]);
});

test("a stream's object stays the same while it is muted and unmuted", async () => {
  const { server, room, heard } = await inRoom();
  const [stream] = room.streams;
  const minfo = { audio: true, video: true, videotype: 1, muted: { audio: true } };
  server.last.notify("stream-update", { rid: "tea", uid: "bob", mid: "bob#1", minfo, epoch: "e", seq: 4 });
  assert.deepEqual(heard, ["stream-updated bob#1"]);
  assert.deepEqual(stream?.muted, { audio: true, video: false });
  assert.equal(room.streams[0], stream);
});

test("broadcasts come once each, in the order of the room", async () => {
  const { server, heard } = await inRoom();
  for (const seq of [4, 5, 5, 4, 7]) {
    server.last.notify("broadcast", { rid: "tea", uid: "bob", data: { n: seq }, epoch: "e", seq });
  }
  assert.deepEqual(heard, ['bob says {"n":4}', 'bob says {"n":5}', 'bob says {"n":7}']);
});

test("another room's notifications on the same connection are not this room's", async () => {
  const { server, heard } = await inRoom();
  server.last.notify("peer-join", { rid: "coffee", uid: "eve", epoch: "e", seq: 4 });
  assert.deepEqual(heard, []);
});

test("a resumed connection changes nothing on the screen", async () => {
  const { clock, server, heard } = await inRoom();
  server.last.drop();
  await clock.advance(1_000);
  assert.deepEqual(
    heard.filter((event) => event !== "reconnecting"),
    ["connected"],
  );
});

test("after a resync only what differs is told, and that it was one", async () => {
  const { clock, server, heard } = await inRoom();
  server.rules.join = () => ({
    ok: joined(1, { epoch: "f", resync: true, users: [{ uid: "bob" }, { uid: "eve" }] }),
  });
  server.last.drop();
  await clock.advance(1_000);
  assert.deepEqual(
    heard.filter((event) => event !== "reconnecting"),
    ["peer-joined eve", "connected", "resynced"],
  );
});

test("a stream of one's own that nobody here knows is taken off the server", async () => {
  const { clock, server, room } = bench();
  server.rules.join = () => ({ ok: joined(3, { own: { pubs: [{ mid: "me#1" }], subs: [] } }) });
  void room.join();
  await clock.advance(0);
  assert.equal(server.of("unpublish")[0]?.data.mid, "me#1");
});

test("what a server could not tell at once is not taken for lost or left over", async () => {
  const { clock, server, room } = bench();
  server.rules.join = () => ({ ok: joined(3, { own: { pubs: [{ mid: "me#1" }], subs: [], more: true } }) });
  void room.join();
  await clock.advance(0);
  assert.deepEqual(server.of("unpublish"), []);
});

test("put out is out: told once, and not tried again", async () => {
  const { clock, server, heard } = await inRoom();
  server.last.notify("peer-kick", { rid: "tea", uid: "me", reason: "newer connection" });
  server.last.drop(4000, "kicked");
  await clock.advance(3_600_000);
  assert.deepEqual(heard, ["kicked newer connection", "closed refused"]);
  assert.equal(server.connections.length, 1);
});

test("someone else put out is none of our business", async () => {
  const { server, heard, room } = await inRoom();
  server.last.notify("peer-kick", { rid: "tea", uid: "bob", reason: "x" });
  assert.deepEqual(heard, []);
  assert.equal(room.state, "connected");
});

test("what needs a joined room says so before and after", async () => {
  const { room } = bench();
  await assert.rejects(room.broadcast("x"), { name: "closed" });
  await assert.rejects(room.subscribe("bob#1"), { name: "closed" });
  const { room: left, clock } = await inRoom();
  await assert.rejects(left.subscribe("nobody#1"), { name: "bad_mid" });
  await assert.rejects(left.publish({ source: "camera" }), { name: "unsupported" });
  const leaving = left.leave();
  await clock.advance(0);
  await leaving;
  await assert.rejects(left.broadcast("x"), { name: "closed" });
  await assert.rejects(left.join(), { name: "closed" });
});

test("closing leaves every room, then the connection, and leaves no timer", async () => {
  const { clock, server, client, heard } = await inRoom();
  const closing = client.close();
  await clock.advance(0);
  await closing;
  assert.equal(server.of("leave").length, 1);
  assert.equal(server.last.closed, true);
  assert.equal(clock.pending, 0);
  assert.deepEqual(heard, ["closed"]);
});

test("at its token's end the connection is renewed with another token, and the room resumed", async () => {
  let n = 0;
  const { clock, server, room, heard } = bench(() => `token-${n++}`);
  void room.join();
  await clock.advance(0);
  heard.length = 0;
  server.last.notify("token-expiring", { inMs: 60_000 });
  server.last.drop(4000, "token expired");
  await clock.advance(1_000);
  assert.deepEqual(
    server.connections.map(({ protocols }) => protocols),
    [
      ["protoo", "bearer.token-0"],
      ["protoo", "bearer.token-1"],
    ],
  );
  assert.deepEqual(server.of("join")[1]?.data, { rid: "tea", session: "s", since: { epoch: "e", seq: 3 } });
  assert.equal(heard.at(-1), "connected");
});

test("a peer or room the server would refuse is refused at once", () => {
  const { client } = bench();
  for (const name of ["", "a/b", "a#b", "a\nb", "x".repeat(129)]) {
    assert.throws(() => client.room(name), { name: "not_in_room" });
    assert.throws(
      () =>
        new Client(
          { url: "ws://s/", peer: name },
          new VirtualClock(),
          () => assert.fail(),
          async () => ({}),
        ),
      {
        name: "bad_uid",
      },
    );
  }
});

test("a connection without a room asks nothing until something suggests that it is dead", async () => {
  const clock = new VirtualClock();
  const server = new Server();
  server.rules.keepalive = () => ({ error: 2, name: "not_in_room" });
  const client = new Client({ url: "ws://server/ws", peer: "me" }, clock, server.connect, async () => ({}));
  await clock.advance(120_000);
  assert.deepEqual([server.connections.length, server.requests, client.state.name], [1, [], "open"]);
  client.retryNow();
  await clock.advance(5_000);
  assert.deepEqual([server.connections.length, server.of("keepalive").length], [1, 1]);
  server.rules.keepalive = () => undefined;
  client.retryNow();
  await clock.advance(4_000);
  assert.equal(client.state.name, "reconnecting");
});

test("a dead connection without a room is found when a room is joined", async () => {
  const { clock, server, room } = bench();
  await clock.advance(120_000);
  server.rules = {};
  let there = false;
  void room.join().then(() => {
    there = true;
  });
  // The join's own time, the question whether the server lives, the wait before the next try.
  await clock.advance(12_000 + 4_000);
  server.rules.join = () => ({ ok: joined(3) });
  await clock.advance(500);
  assert.deepEqual([there, server.connections.length], [true, 2]);
});

test("a token function that fails shows in the state of the room that waits for it", async () => {
  const { clock, room } = bench(() => {
    throw new Error("no session");
  });
  const errors = new Set<string | undefined>();
  room.on("state", ({ state, error, retryInMs }) => {
    if (retryInMs !== undefined) errors.add(`${state} ${error?.name}`);
  });
  void room.join();
  await clock.advance(30_000);
  assert.deepEqual([...errors], ["connecting token_unavailable"]);
});

test("leaving during the join, and closing during the join, leave nobody behind", async () => {
  for (const close of [false, true]) {
    const { clock, server, client, room } = bench();
    server.rules.join = () => undefined;
    const joining = assert.rejects(room.join(), { name: "closed" });
    await clock.advance(0);
    void (close ? client.close() : room.leave());
    await clock.advance(0);
    await joining;
    assert.deepEqual(
      server.requests.map(({ method }) => method),
      ["join", "leave"],
    );
  }
});

test("what is broadcast is what it was when it was sent, and must be JSON", async () => {
  const { clock, server, room } = await inRoom();
  server.rules.broadcast = () => ({ ok: {} });
  interface Message {
    text: string;
    at?: Date;
  }
  const message: Message = { text: "hello", at: new Date(0) };
  const sent = room.broadcast(message);
  message.text = "changed";
  await clock.advance(0);
  await sent;
  assert.deepEqual(server.of("broadcast")[0]?.data.data, { text: "hello", at: "1970-01-01T00:00:00.000Z" });
  const circle: { self?: unknown } = {};
  circle.self = circle;
  for (const value of [undefined, () => 1, circle, 5n]) {
    await assert.rejects(room.broadcast(value), { name: "unsupported" });
  }
});

/** A room with a publication, a camera's if nothing else is said, whose media flows. */
async function publishing(source: Source = "camera", stopTracks = true) {
  FakePeerConnection.install();
  const all = await inRoom();
  all.server.rules.publish = () => ({ ok: { mid: "me#1", sfuid: "s", jsep: { type: "answer", sdp: "v=0" } } });
  all.server.rules.unpublish = () => ({ ok: {} });
  const video = new FakeTrack("video");
  const asked = all.room.publish({ source, audio: undefined, video: track(video), stopTracks });
  await all.clock.advance(0);
  const publication = await asked;
  const [connection] = FakePeerConnection.all;
  assert.ok(connection);
  connection.ice("connected");
  assert.equal(publication.state, "connecting");
  connection.connect();
  assert.equal(publication.state, "connected");
  return { ...all, publication, connection, video };
}

const track = (fake: FakeTrack) => fake as unknown as MediaStreamTrack;

test("media that stops makes the client ask whether the server lives, once, and find out if it does not", async () => {
  const { clock, server, room, connection } = await publishing();
  const before = server.of("keepalive").length;
  server.rules.keepalive = () => undefined;
  server.rules.restart = () => undefined;
  connection.ice("disconnected");
  connection.ice("connected");
  connection.ice("disconnected");
  await clock.advance(0);
  assert.equal(server.of("keepalive").length, before + 1);
  assert.equal(room.state, "connected");
  await clock.advance(4_000);
  assert.equal(room.state, "reconnecting");
});

test("media that stops under a server that answers leaves the room connected", async () => {
  const { clock, room, connection } = await publishing();
  connection.ice("disconnected");
  await clock.advance(10_000);
  assert.equal(room.state, "connected");
});

test("a track of the wrong kind is refused, and what was sent goes on", async () => {
  const { room, publication, connection, video } = await publishing();
  const sound = track(new FakeTrack("audio"));
  await assert.rejects(publication.replaceTrack("video", sound), SluiceError);
  assert.equal(publication.track("video"), track(video));
  assert.equal(connection.senders[0]?.track, video);
  assert.equal(video.readyState, "live");
  await assert.rejects(room.publish({ source: "camera", video: sound }), { name: "unsupported" });
});

test("a track the browser does not take leaves the old one in place, and one it takes stops it", async () => {
  const { publication, connection, video } = await publishing();
  const next = new FakeTrack("video");
  const [sender] = connection.senders;
  assert.ok(sender);
  sender.failure = new Error("InvalidModificationError");
  await assert.rejects(publication.replaceTrack("video", track(next)), { name: "unsupported" });
  assert.equal(publication.track("video"), track(video));
  assert.equal(video.readyState, "live");
  sender.failure = undefined;
  await publication.replaceTrack("video", track(next));
  assert.equal(publication.track("video"), track(next));
  assert.equal(video.readyState, "ended");
});

test("unpublished and closed at once, the server hears both in that order", async () => {
  const { clock, server, client, publication } = await publishing();
  publication.unpublish();
  const closing = client.close();
  await clock.advance(0);
  await closing;
  assert.deepEqual(
    server.requests.slice(-2).map(({ method }) => method),
    ["unpublish", "leave"],
  );
});

test("the server's address may be that of a page, or be seen from the page; anything else is refused", async () => {
  const connected = async (url: string | URL) => {
    const clock = new VirtualClock();
    const server = new Server();
    const client = new Client({ url, peer: "me" }, clock, server.connect, async () => ({}));
    await clock.advance(0);
    await client.close();
    return server.last.url;
  };
  assert.equal(await connected("https://calls.example/ws#top"), "wss://calls.example/ws?peer=me");
  for (const url of ["/ws", "", "mailto:me", "nonsense"]) {
    await assert.rejects(connected(url), { name: "bad_url" }, url);
  }
  Object.assign(globalThis, { document: { baseURI: "http://localhost:8080/app/?room=x" } });
  try {
    assert.equal(await connected("/ws"), "ws://localhost:8080/ws?peer=me");
    assert.equal(await connected("ws"), "ws://localhost:8080/app/ws?peer=me");
  } finally {
    Reflect.deleteProperty(globalThis, "document");
  }
});

test("a room that was made is joined when asked for, not when the connection opens", async () => {
  const { clock, server, room, heard } = bench();
  await clock.advance(1_000);
  assert.deepEqual(server.of("join"), []);
  assert.equal(room.state, "idle");
  void room.join();
  await clock.advance(0);
  assert.equal(server.of("join").length, 1);
  assert.equal(heard.at(-1), "connected");
});

test("a browser that makes no peer connection says why, at once and for good", async () => {
  FakePeerConnection.install();
  const { clock, room } = await inRoom();
  FakePeerConnection.failure = new SyntaxError("'stun:s?x' is not a valid URL");
  const video = new FakeTrack("video");
  const refused = assert.rejects(room.publish({ source: "camera", video: track(video) }), {
    name: "unsupported",
    reason: "'stun:s?x' is not a valid URL",
  });
  await clock.advance(0);
  await refused;
  assert.deepEqual(room.publications, []);
  assert.equal(video.readyState, "ended");
});

test("a camera whose track ends by itself is told of, and goes on with another", async () => {
  const { publication, video } = await publishing();
  const heard: string[] = [];
  publication.on("track-ended", ({ kind }) => heard.push(kind));
  const next = new FakeTrack("video");
  await publication.replaceTrack("video", track(next));
  video.unplug();
  assert.deepEqual(heard, [], "that one is not sent any more");
  next.unplug();
  assert.deepEqual([heard, publication.state], [["video"], "connected"]);
});

test("a screen that the browser stops sharing is unpublished", async () => {
  const { clock, server, room, publication, video } = await publishing("screen");
  const heard: string[] = [];
  publication.on("track-ended", ({ kind }) => heard.push(`${kind} ended`));
  publication.on("ended", ({ error }) => heard.push(`over ${error}`));
  video.unplug();
  await clock.advance(0);
  assert.deepEqual(heard, ["video ended", "over undefined"]);
  assert.deepEqual([server.of("unpublish")[0]?.data.mid, room.publications], ["me#1", []]);
});

test("a track that outlives its publication is no concern of it any more", async () => {
  const { publication, video } = await publishing("screen", false);
  const heard: string[] = [];
  publication.on("track-ended", ({ kind }) => heard.push(kind));
  publication.unpublish();
  assert.equal(video.readyState, "live");
  video.unplug();
  assert.deepEqual(heard, []);
});

test("a stream whose publisher did not say what it has is asked for whole, and has what the answer gives", async () => {
  FakePeerConnection.install();
  const { clock, server, room } = await inRoom();
  server.rules.subscribe = () => ({ ok: { sid: "me#2", sfuid: "s", jsep: { type: "answer", sdp: "v=0" } } });
  server.last.notify("stream-add", { rid: "tea", uid: "bob", mid: "bob#2", minfo: {}, epoch: "e", seq: 4 });
  FakePeerConnection.refused = ["audio"];
  const asked = room.subscribe("bob#2");
  await clock.advance(0);
  const { media } = await asked;
  const [connection] = FakePeerConnection.all;
  assert.deepEqual(connection?.transceivers.map(({ kind }) => kind), ["audio", "video"]);
  assert.deepEqual(media.getTracks().map(({ kind }) => kind), ["video"]);
  const { rid, mid, jsep, op, ...more } = server.of("subscribe")[0]?.data ?? {};
  assert.deepEqual([rid, mid, more], ["tea", "bob#2", {}]);
});
