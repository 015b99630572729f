import assert from "node:assert/strict";
import { test } from "node:test";
import { deviceAdvice, publishAdvice, roomAdvice, subscribeAdvice } from "../demo/advice.ts";
import { readText } from "../demo/chat.ts";
import { hueOf, initialsOf, makePeer, makeRoom, nameOf, tidyName, tidyRoom } from "../demo/names.ts";
import {
  mayAutojoin,
  readOptions,
  roomLink,
  shownAddress,
  socketUrl,
  withToken,
} from "../demo/page-options.ts";
import { shortcuts } from "../demo/shortcuts.ts";
import { SluiceError } from "../src/error.ts";

const first = () => 0;
const token = (claims: object) => `x.${Buffer.from(JSON.stringify(claims)).toString("base64url")}.y`;
const at = (query: string) => readOptions(new URL(`http://localhost:8080/${query}`));

test("a name survives the way through a peer, without what the server forbids", () => {
  assert.equal(nameOf(makePeer("Ada Lovelace", first)), "Ada Lovelace");
  assert.equal(makePeer("  a/b#c*{d}\u0007 ~e ", first), "a b c d e~222222");
  assert.equal([...tidyName("ä".repeat(200))].length, 40);
});

test("a peer made elsewhere is shown as it is", () => {
  assert.equal(nameOf("bot-7"), "bot-7");
  assert.equal(nameOf("~x"), "~x");
});

test("what would leave no name to be seen, or turn those beside it round, is no part of a name", () => {
  for (const nothing of ["", "   ", "###", "\u200b", "\u2060\u200e", "\u3164", "\u2800", "\u200d", "\u0301"]) {
    assert.equal(tidyName(nothing), "", JSON.stringify(nothing));
    assert.equal(tidyRoom(nothing.replace(/#/g, "")), "", JSON.stringify(nothing));
  }
  assert.equal(tidyName("R\u202ethgir\u200b"), "Rthgir");
  assert.equal(nameOf("R\u202ethgir~aaaaaa"), "Rthgir");
  for (const blank of ["\u200b", "\u200b~\u200b"]) assert.match(nameOf(blank), /\w|~/);
});

test("names of joined characters stay whole", () => {
  for (const name of ["👩‍👩‍👧‍👦", "🏴󠁧󠁢󠁳󠁣󠁴󠁿", "می‌خواهم", "王小明", "🙂"]) {
    assert.equal(tidyName(name), name);
    assert.equal(nameOf(makePeer(name, first)), name);
  }
});

test("initials are of the first and the last word", () => {
  assert.equal(initialsOf("ada king lovelace"), "AL");
  assert.equal(initialsOf("émile"), "É");
  assert.equal(initialsOf("王 小明"), "王小");
  assert.equal(initialsOf(""), "");
});

test("a person keeps their colour whatever the tail of their peer", () => {
  assert.equal(hueOf("Ada~aaaaaa"), hueOf("Ada~bbbbbb"));
  assert.ok(hueOf("Ada") >= 0 && hueOf("Ada") < 360);
});

test("rooms are what the server takes", () => {
  assert.equal(makeRoom(first), "calm-river-222222");
  assert.equal(tidyRoom("a/b#c"), "a-b-c");
});

test("the address says where to go and as whom", () => {
  const options = at("?room=tea%2Ftime&name=Ada&autojoin=1&video=0");
  assert.equal(options.room, "tea-time");
  assert.equal(options.name, "Ada");
  assert.equal(options.autojoin, true);
  assert.equal(options.video, false);
  assert.equal(options.audio, undefined);
});

test("a token names peer and room; a prefix is no room", () => {
  const claims = { sub: "Ada Ö~1", rid: "tea" };
  assert.equal(at(`?token=${token(claims)}`).peer, "Ada Ö~1");
  assert.equal(at(`?token=${token(claims)}`).room, "tea");
  assert.equal(at(`?token=${token({ sub: "a", rid: "tea*" })}`).room, undefined);
  assert.equal(at("?token=nonsense&peer=me").peer, "me");
});

test("a token says who its owner is, and no field is needed to ask", () => {
  assert.equal(at(`?token=${token({ sub: "ada" })}`).named, true);
  assert.equal(at(`?token=${token({})}&name=Ada`).named, false);
  assert.equal(at("?peer=me").named, false);
});

test("the address that is shown has the room and no token, and a reload finds the token again", () => {
  const jwt = token({ sub: "ada", rid: "tea" });
  const opened = new URL(`https://calls.example/app/?token=${jwt}&video=0`);
  const { room } = readOptions(opened);
  const shown = shownAddress(opened, room);
  assert.equal(shown.href, "https://calls.example/app/?video=0&room=tea");
  const again = readOptions(withToken(shown, { token: jwt, room }));
  assert.equal(again.token, jwt);
  assert.equal(again.peer, "ada");
});

test("a token that was kept is for the room it came with, and gives way to another", () => {
  const kept = { token: "a.b.c", room: "tea" };
  assert.equal(readOptions(withToken(new URL("https://calls.example/?room=coffee"), kept)).token, undefined);
  assert.equal(readOptions(withToken(new URL("https://calls.example/"), kept)).token, undefined);
  const other = new URL("https://calls.example/?room=tea&token=x.y.z");
  assert.equal(readOptions(withToken(other, kept)).token, "x.y.z");
  assert.equal(readOptions(withToken(other, undefined)).token, "x.y.z");
  const anywhere = { token: "a.b.c", room: undefined };
  assert.equal(readOptions(withToken(new URL("https://calls.example/"), anywhere)).token, "a.b.c");
});

test("no link puts a camera into a stranger's room: a public page does not join by itself", () => {
  for (const host of [
    "localhost",
    "127.0.0.1",
    "[::1]",
    "10.1.2.3",
    "192.168.0.9",
    "172.16.0.1",
    "[fd00::1]",
  ]) {
    assert.equal(mayAutojoin(host), true, host);
  }
  for (const host of [
    "calls.example",
    "172.32.0.1",
    "8.8.8.8",
    "10.1.2.3.example",
    "localhost.example",
    "[2001:db8::1]",
  ]) {
    assert.equal(mayAutojoin(host), false, host);
  }
  assert.equal(readOptions(new URL("https://calls.example/?autojoin=1")).autojoin, false);
});

test("the link for others carries the room and no token", () => {
  const link = roomLink(new URL("https://calls.example/app/?token=secret&room=x"), "tea & cake");
  assert.equal(link, "https://calls.example/app/?room=tea+%26+cake");
});

test("the WebSocket is beside the page, as secure as the page", () => {
  assert.equal(socketUrl(new URL("https://calls.example/?room=x#y")), "wss://calls.example/ws");
  assert.equal(socketUrl(new URL("http://localhost:8080/app/index.html")), "ws://localhost:8080/app/ws");
});

test("broadcasts that are no chat message are not shown", () => {
  for (const data of [
    null,
    3,
    "text",
    [],
    {},
    { type: "chat" },
    { type: "chat", text: 5 },
    { type: "chat", text: " " },
  ]) {
    assert.equal(readText(data), undefined);
  }
  assert.equal(readText({ type: "chat", text: "hello" }), "hello");
  assert.equal(readText({ type: "chat", text: "x".repeat(9999) })?.length, 2000);
});

test("a blocked permission comes with the way to unblock it in this browser", () => {
  const error = SluiceError.local("permission_denied", "no");
  const of = (agent: string) => deviceAdvice(error, "camera", agent).text;
  assert.match(
    of("Mozilla/5.0 (X11; Linux x86_64; rv:150.0) Gecko/20100101 Firefox/150.0"),
    /crossed-out icon/,
  );
  assert.match(of("Mozilla/5.0 (iPhone; CPU iPhone OS 19_0) Version/19.0 Safari/604.1"), /aA/);
  assert.match(of("Mozilla/5.0 (Linux; Android 15) Chrome/150.0 Mobile Safari/537.36"), /Tap the icon/);
  assert.match(of("Mozilla/5.0 (Macintosh) Version/19.0 Safari/605.1"), /Safari, Settings/);
  assert.match(of("Mozilla/5.0 (X11) Chrome/150.0 Safari/537.36"), /Click the icon/);
});

test("whoever lacks one device is told that the other works", () => {
  for (const name of ["no_device", "permission_denied", "device_busy"]) {
    const error = SluiceError.local(name, "");
    assert.match(deviceAdvice(error, "camera", "", true).text, /Your microphone works/, name);
    assert.match(deviceAdvice(error, "microphone", "", true).text, /Your camera works/, name);
    assert.match(deviceAdvice(error, "camera and microphone", "").text, /can watch and listen/, name);
  }
});

test("every error has something a person can read", () => {
  for (const name of ["no_device", "device_busy", "insecure_context", "unsupported", "permission_denied"]) {
    const { title, text } = deviceAdvice(SluiceError.local(name, ""), "camera", "");
    assert.ok(title.length > 5 && text.length > 20, name);
  }
  assert.match(roomAdvice(new SluiceError(4000, "refused", "token expired")).text, /new link/);
  assert.match(roomAdvice(new SluiceError(409, "conflict", "")).title, /full/);
  assert.match(publishAdvice(SluiceError.local("no_sfu", ""), "person").title, /see you$/);
  assert.match(publishAdvice(SluiceError.local("no_sfu", ""), "screen").title, /your screen$/);
  assert.match(subscribeAdvice(SluiceError.local("forbidden", "")).text, /does not allow watching/);
});

test("Ctrl, or on Apple's systems ⌘, with D and E are microphone and camera; what text fields need is left alone", () => {
  const none = { ctrlKey: false, metaKey: false, altKey: false, shiftKey: false };
  const linux = shortcuts("Mozilla/5.0 (X11; Linux x86_64) Chrome/150.0 Safari/537.36");
  assert.deepEqual(linux.microphone, { name: "Control+D", shown: "Ctrl+D" });
  assert.equal(linux.deviceOf({ ...none, key: "d", ctrlKey: true }), "microphone");
  assert.equal(linux.deviceOf({ ...none, key: "E", ctrlKey: true }), "camera");
  assert.equal(linux.deviceOf({ ...none, key: "e", metaKey: true }), undefined);
  for (const key of ["d", "e"]) {
    assert.equal(linux.deviceOf({ ...none, key }), undefined);
    assert.equal(linux.deviceOf({ ...none, key, ctrlKey: true, altKey: true }), undefined);
  }
  assert.equal(linux.deviceOf({ ...none, key: "x", ctrlKey: true }), undefined);
  for (const agent of ["(Macintosh; Intel Mac OS X 10_15_7)", "(iPad; CPU OS 18_0 like Mac OS X)"]) {
    const apple = shortcuts(`Mozilla/5.0 ${agent} Version/18.0 Safari/605.1`);
    assert.deepEqual(apple.camera, { name: "Meta+E", shown: "⌘E" });
    assert.equal(apple.deviceOf({ ...none, key: "e", metaKey: true }), "camera");
    assert.equal(apple.deviceOf({ ...none, key: "e", ctrlKey: true }), undefined);
    assert.equal(apple.deviceOf({ ...none, key: "d", ctrlKey: true, metaKey: true }), undefined);
  }
});
