import assert from "node:assert/strict";
import { test } from "node:test";
import { Edges } from "../src/edges.ts";
import type { JsonObject } from "../src/frames.ts";
import { Membership } from "../src/membership.ts";
import { Signalling } from "../src/signalling.ts";
import { type Connection, type Request, Server } from "./support/server.ts";
import { VirtualClock } from "./support/virtual-time.ts";

/** A member of room "tea" and the server it talks to. */
function bench() {
  const clock = new VirtualClock();
  const server = new Server();
  const heard: string[] = [];
  const signalling = new Signalling({
    edges: new Edges(["ws://server/ws"], clock.random),
    peer: "me",
    token: undefined,
    clock,
    socket: server.connect,
  });
  const membership = memberOf(signalling, clock, heard);
  signalling.on("notification", ({ method, data }) => membership.handleNotification(method, data));
  signalling.on("probe", () => membership.keepAlive());
  server.rules.join = () => ({ ok: joined(5) });
  server.rules.keepalive = () => ({ ok: {} });
  return { clock, server, signalling, membership, heard };
}

function memberOf(signalling: Signalling, clock: VirtualClock, heard: string[] = []): Membership {
  return new Membership("tea", signalling, clock, {
    resumed: () => heard.push("resumed"),
    snapshot: (joined) => heard.push(`snapshot ${joined.users.join(",")}`),
    lost: () => heard.push("lost"),
    notification: (notification) => {
      heard.push("uid" in notification ? `${notification.method} ${notification.uid}` : notification.method);
    },
    ended: (error) => heard.push(`ended ${error.name}`),
  });
}

function joined(seq: number, more: JsonObject = {}): JsonObject {
  return {
    users: [{ uid: "bob" }],
    pubs: [],
    own: { pubs: [], subs: [] },
    session: "s1",
    epoch: "e1",
    seq,
    ...more,
  };
}

async function inRoom() {
  const all = bench();
  all.signalling.start();
  all.membership.start();
  await all.clock.advance(0);
  assert.equal(all.membership.state, "joined");
  all.heard.length = 0;
  return all;
}

test("a first join names neither session nor position, and its snapshot is taken", async () => {
  const { server, heard, clock, signalling, membership } = bench();
  signalling.start();
  membership.start();
  await clock.advance(0);
  assert.deepEqual(server.of("join")[0]?.data, { rid: "tea" });
  assert.deepEqual(heard, ["snapshot bob"]);
});

test("after a lost connection it joins with session and last position, and goes on from there", async () => {
  const { server, heard, clock } = await inRoom();
  server.last.notify("peer-join", { rid: "tea", uid: "eve", epoch: "e1", seq: 6 });
  server.rules.join = (request) => {
    queueMicrotask(() => {
      // What was missed follows the answer; what was seen may be in it, too.
      request.connection.notify("peer-join", { rid: "tea", uid: "eve", epoch: "e1", seq: 6 });
      request.connection.notify("peer-leave", { rid: "tea", uid: "bob", epoch: "e1", seq: 8 });
    });
    return { ok: joined(8) };
  };
  server.last.drop();
  await clock.advance(1_000);
  assert.deepEqual(server.of("join")[1]?.data, { rid: "tea", session: "s1", since: { epoch: "e1", seq: 6 } });
  assert.deepEqual(heard, ["peer-join eve", "lost", "resumed", "peer-leave bob"]);
});

test("an answer with resync is a snapshot", async () => {
  const { server, heard, clock } = await inRoom();
  server.rules.join = () => ({ ok: joined(2, { epoch: "e2", resync: true, users: [{ uid: "kim" }] }) });
  server.last.drop();
  await clock.advance(1_000);
  assert.deepEqual(heard, ["lost", "snapshot kim"]);
});

/** The rest of a large room's snapshot as of `seq`, one notification per name. */
function restOf(connection: Connection, seq: number, ...uids: string[]): void {
  for (const uid of uids) connection.notify("peer-join", { rid: "tea", uid, epoch: "e1", seq });
}

test("a large room is entered when all of it has been told, and goes on from there", async () => {
  const { server, heard, clock, signalling, membership } = bench();
  server.rules.join = () => ({ ok: joined(5, { rest: 2 }) });
  signalling.start();
  membership.start();
  await clock.advance(0);
  restOf(server.last, 5, "eve");
  assert.deepEqual([membership.state, heard], ["joining", []]);
  restOf(server.last, 5, "kim");
  server.last.notify("peer-leave", { rid: "tea", uid: "eve", epoch: "e1", seq: 6 });
  assert.deepEqual([membership.state, heard], ["joined", ["snapshot bob,eve,kim", "peer-leave eve"]]);
});

test("after a resync a large room's members are not taken for gone before all have been told", async () => {
  const { server, heard, clock } = await inRoom();
  server.rules.join = () => ({ ok: joined(9, { resync: true, rest: 1 }) });
  server.last.drop();
  await clock.advance(1_000);
  assert.deepEqual(heard, ["lost"]);
  restOf(server.last, 9, "kim");
  assert.deepEqual(heard, ["lost", "snapshot bob,kim"]);
});

test("a connection lost before all of a large room was told asks for all of it again", async () => {
  const { server, heard, clock, signalling, membership } = bench();
  server.rules.join = () => ({ ok: joined(5, { rest: 2 }) });
  signalling.start();
  membership.start();
  await clock.advance(0);
  restOf(server.last, 5, "eve");
  server.last.drop();
  await clock.advance(1_000);
  assert.deepEqual(server.of("join")[1]?.data, { rid: "tea", session: "s1" });
  restOf(server.last, 5, "eve", "kim");
  assert.deepEqual(heard, ["snapshot bob,eve,kim"]);
});

test("a large room whose rest stays away is joined again; one that comes slowly is waited for", async () => {
  const { server, heard, clock, signalling, membership } = bench();
  server.rules.join = () => ({ ok: joined(5, { rest: 3 }) });
  signalling.start();
  membership.start();
  await clock.advance(9_000);
  restOf(server.last, 5, "eve");
  await clock.advance(9_000);
  assert.equal(server.of("join").length, 1);
  await clock.advance(1_000);
  assert.equal(server.of("join").length, 2);
  restOf(server.last, 5, "eve", "kim", "zoe");
  assert.deepEqual(heard, ["snapshot bob,eve,kim,zoe"]);
});

test("leaving while a large room is still being told leaves no timer", async () => {
  const { server, clock, signalling, membership, heard } = bench();
  server.rules.join = () => ({ ok: joined(5, { rest: 2 }) });
  server.rules.leave = () => ({ ok: {} });
  signalling.start();
  membership.start();
  await clock.advance(0);
  await membership.leave();
  restOf(server.last, 5, "eve", "kim");
  signalling.stop("left");
  assert.deepEqual(heard, []);
  assert.equal(clock.pending, 0);
});

test("a notification of another epoch on a live connection brings a new join", async () => {
  const { server, heard, clock } = await inRoom();
  server.rules.join = () => ({ ok: joined(2, { epoch: "e2", resync: true, users: [{ uid: "kim" }] }) });
  server.last.notify("peer-join", { rid: "tea", uid: "kim", epoch: "e2", seq: 2 });
  server.last.notify("peer-join", { rid: "tea", uid: "zoe", epoch: "e2", seq: 3 });
  await clock.advance(0);
  assert.deepEqual(heard, ["lost", "snapshot kim", "peer-join zoe"]);
  assert.equal(server.connections.length, 1);
});

test("a request caught by a lost connection is sent again with the same op, and answered once", async () => {
  const { server, membership, clock } = await inRoom();
  const answer = membership.request("publish", { jsep: {} });
  await clock.advance(0);
  server.rules.publish = () => ({ ok: { mid: "me#1" } });
  server.last.drop();
  await clock.advance(1_000);
  assert.deepEqual(await answer, { mid: "me#1" });
  const ops = server.of("publish").map((request) => request.data.op);
  assert.equal(ops.length, 2);
  assert.equal(ops[0], ops[1]);
  assert.match(String(ops[0]), /^[0-9a-f]{24}$/);
});

test("a request made while there is no connection waits for the room, not for ever", async () => {
  const { server, membership, clock } = await inRoom();
  server.accepting = false;
  server.last.drop();
  const outcome = assert.rejects(membership.request("broadcast", { data: 1 }), {
    name: "disconnected",
    code: 0,
  });
  await clock.advance(31_000);
  await outcome;
});

test("a request that is never answered is repeated with its op until its time is up", async () => {
  const { server, membership, clock } = await inRoom();
  const outcome = assert.rejects(membership.request("broadcast", { data: 1 }), { name: "timeout" });
  await clock.advance(60_000);
  await outcome;
  const ops = new Set(server.of("broadcast").map((request) => request.data.op));
  assert.equal(ops.size, 1);
});

test("a refusal is handed on, without a retry", async () => {
  const { server, membership, clock } = await inRoom();
  server.rules.publish = () => ({ error: 403, name: "forbidden" });
  const outcome = assert.rejects(membership.request("publish", {}), { code: 403, name: "forbidden" });
  await clock.advance(60_000);
  await outcome;
  assert.equal(server.of("publish").length, 1);
});

test("too many requests are held back as long as the server asks for", async () => {
  const { server, membership, clock } = await inRoom();
  server.rules.broadcast = () => ({ error: 429, name: "rate_limited", data: { retryAfterMs: 3_000 } });
  const answer = membership.request("broadcast", { data: 1 });
  await clock.advance(2_999);
  assert.equal(server.of("broadcast").length, 1);
  server.rules.broadcast = () => ({ ok: {} });
  await clock.advance(1);
  assert.deepEqual(await answer, {});
});

test("a server that has forgotten the member is joined again, and the request repeated", async () => {
  const { server, membership, clock, heard } = await inRoom();
  let known = false;
  server.rules.join = () => {
    known = true;
    return { ok: joined(1, { epoch: "e9", resync: true }) };
  };
  server.rules.broadcast = () => (known ? { ok: {} } : { error: 2, name: "not_in_room" });
  const answer = membership.request("broadcast", { data: 1 });
  await clock.advance(1_000);
  assert.deepEqual(await answer, {});
  assert.deepEqual(heard, ["lost", "snapshot bob"]);
});

test("a keepalive refused as not in the room brings a new join, once", async () => {
  const { server, clock } = await inRoom();
  server.rules.keepalive = () => ({ error: 2, name: "not_in_room" });
  await clock.advance(20_000);
  assert.equal(server.of("keepalive").length, 1);
  assert.equal(server.of("join").length, 2);
});

test("keepalives go out every 20 s", async () => {
  const { server, clock } = await inRoom();
  await clock.advance(100_000);
  assert.deepEqual(
    server.of("keepalive").map((request) => request.data),
    Array.from({ length: 5 }, () => ({ rid: "tea" })),
  );
});

test("a first join that is refused ends it; a join again is retried where that can help", async () => {
  const first = bench();
  first.server.rules.join = () => ({ error: 409, name: "conflict" });
  first.signalling.start();
  first.membership.start();
  await first.clock.advance(60_000);
  assert.deepEqual(first.heard, ["ended conflict"]);
  assert.equal(first.server.of("join").length, 1);

  const again = await inRoom();
  again.server.rules.join = () => ({ error: 409, name: "conflict" });
  again.server.last.drop();
  await again.clock.advance(120_000);
  assert.ok(again.server.of("join").length > 4);
  again.server.rules.join = () => ({ ok: joined(9, { resync: true }) });
  await again.clock.advance(20_000);
  assert.deepEqual(again.heard, ["lost", "snapshot bob"]);
});

test("a store that is away keeps nobody out for good", async () => {
  const { server, heard, clock, signalling, membership } = bench();
  server.rules.join = () => ({ error: 11, name: "store_unavailable" });
  signalling.start();
  membership.start();
  await clock.advance(600_000);
  assert.deepEqual(heard, []);
  server.rules.join = () => ({ ok: joined(1) });
  await clock.advance(20_000);
  assert.deepEqual(heard, ["snapshot bob"]);
});

test("a server away for an hour is found again", async () => {
  const { server, heard, clock } = await inRoom();
  server.accepting = false;
  server.last.drop();
  for (let i = 0; i < 360; i++) {
    await clock.advance(10_000);
    if (server.last.readyState === 0) server.last.drop();
  }
  server.accepting = true;
  server.rules.join = () => ({ ok: joined(1, { epoch: "e2", resync: true }) });
  await clock.advance(30_000);
  assert.deepEqual(heard, ["lost", "snapshot bob"]);
});

test("close code 4000 ends it with the server's reason", async () => {
  const { server, heard, clock, membership } = await inRoom();
  const waiting = assert.rejects(membership.request("broadcast", { data: 1 }), { name: "closed" });
  server.last.drop(4000, "token expired");
  await clock.advance(3_600_000);
  await waiting;
  assert.deepEqual(heard, ["ended refused"]);
  assert.equal(server.connections.length, 1);
  assert.equal(clock.pending, 0);
});

test("leaving tells the server and leaves no timer behind", async () => {
  const { server, clock, membership, signalling } = await inRoom();
  server.rules.leave = () => ({ ok: {} });
  await membership.leave();
  signalling.stop("left");
  assert.equal(server.of("leave")[0]?.data.rid, "tea");
  assert.equal(clock.pending, 0);
  assert.equal(server.last.closed, true);
});

test("leaving is repeated, as one intent, until the server has answered", async () => {
  const { server, clock, membership, signalling } = await inRoom();
  server.rules.leave = () => ({ error: 11, name: "store_unavailable" });
  void membership.leave();
  await clock.advance(5_000);
  const refused = server.of("leave").length;
  assert.ok(refused > 2, `${refused}`);
  server.rules.leave = () => undefined;
  await clock.advance(15_000);
  server.rules.leave = () => ({ ok: {} });
  await clock.advance(20_000);
  const all = server.of("leave");
  assert.equal(new Set(all.map(({ data }) => data.op)).size, 1);
  await clock.advance(60_000);
  assert.equal(server.of("leave").length, all.length);
  signalling.stop("left");
  assert.equal(clock.pending, 0);
});

test("leaving ends with the connection, and leaves no timer behind", async () => {
  const { server, clock, membership, signalling } = await inRoom();
  server.rules.leave = () => ({ error: 11, name: "store_unavailable" });
  clock.draw = () => 0.9;
  void membership.leave();
  await clock.advance(0);
  signalling.stop("left");
  await clock.advance(0);
  // The time that `leave` waits for at most is over, too.
  await clock.advance(0);
  assert.equal(clock.pending, 0);
  assert.equal(server.of("leave").length, 1);
});

test("a goodbye that is not answered yet does not end what is joined after it", async () => {
  const { server, clock, membership, signalling } = await inRoom();
  server.rules.leave = () => ({ error: 11, name: "store_unavailable" });
  void membership.leave();
  await clock.advance(0);
  const next = memberOf(signalling, clock);
  next.start();
  await clock.advance(60_000);
  assert.equal(next.state, "joined");
  const methods = server.requests.map(({ method }) => method);
  assert.ok(methods.lastIndexOf("leave") < methods.lastIndexOf("join"), methods.join(" "));
});

test("leaving does not wait for a server that does not answer", async () => {
  const { clock, membership } = await inRoom();
  let left = false;
  void membership.leave().then(() => {
    left = true;
  });
  await clock.advance(2_000);
  assert.equal(left, true);
});

test("leaving while the join is under way tells the server, after the join", async () => {
  const { clock, server, signalling, membership } = bench();
  server.rules.join = () => undefined;
  server.rules.leave = () => ({ ok: {} });
  signalling.start();
  membership.start();
  await clock.advance(0);
  await membership.leave();
  assert.deepEqual(
    server.requests.map(({ method, data }) => [method, data.rid]),
    [
      ["join", "tea"],
      ["leave", "tea"],
    ],
  );
  server.last.answer(server.of("join")[0] as Request, { ok: joined(1) });
  await clock.advance(0);
  assert.equal(membership.state, "ended");
});

test("leaving while it joins again tells the server", async () => {
  const { clock, server, membership } = await inRoom();
  server.rules.join = () => undefined;
  server.rules.leave = () => ({ ok: {} });
  server.last.drop();
  await clock.advance(1_000);
  assert.equal(membership.state, "rejoining");
  await membership.leave();
  assert.deepEqual(
    server.requests.slice(-2).map(({ method }) => method),
    ["join", "leave"],
  );
});

test("leaving what nobody asked to join tells nobody", async () => {
  const { clock, server, signalling, membership } = bench();
  signalling.start();
  await clock.advance(0);
  await membership.leave();
  membership.post();
  assert.deepEqual(server.requests, []);
});

test("a page that goes away while it joins says so", async () => {
  const { clock, server, signalling, membership } = bench();
  server.rules.join = () => undefined;
  signalling.start();
  membership.start();
  await clock.advance(0);
  membership.post();
  assert.equal(server.of("leave").length, 1);
});

test("what is asked for right before leaving reaches the server before it", async () => {
  const { server, membership } = await inRoom();
  server.rules.unpublish = () => ({ ok: {} });
  server.rules.leave = () => ({ ok: {} });
  const unpublished = membership.request("unpublish", { mid: "me#1" });
  await membership.leave();
  await unpublished;
  assert.deepEqual(
    server.requests.slice(-2).map(({ method }) => method),
    ["unpublish", "leave"],
  );
});
