/** A call on the screen: connects the room with tiles, sound, chat and controls. */

import { type Client, type Meter, type Publication, RemoteStream, type Room, SluiceError } from "../src/index.ts";
import { deviceAdvice, publishAdvice, recordAdvice, type Sent, subscribeAdvice } from "./advice.ts";
import { Chat } from "./chat.ts";
import { ConnectionView } from "./connection-view.ts";
import { DeviceForm } from "./device-form.ts";
import { byId, showSwitch } from "./dom.ts";
import { Incoming } from "./incoming.ts";
import { meterOf } from "./level.ts";
import type { DeviceFailure, LocalMedia } from "./local-media.ts";
import { nameOf } from "./names.ts";
import { Notices } from "./notices.ts";
import { Outgoing } from "./outgoing.ts";
import { roomLink } from "./page-options.ts";
import { Panels } from "./panels.ts";
import { shareLink } from "./share-link.ts";
import { type Shortcuts, shortcuts } from "./shortcuts.ts";
import { Sound } from "./sound.ts";
import { Stage } from "./stage.ts";
import { StatsPanel } from "./stats-panel.ts";
import type { Tile } from "./tile.ts";
import { stayAwake } from "./wake-lock.ts";

/** Ten times a second: quicker than one sees, slow enough to cost nothing. */
const LEVELS_EVERY_MS = 100;

export class Call {
  readonly #abort = new AbortController();
  readonly #stage = new Stage(byId("stage"));
  readonly #notices = new Notices(byId("notices"));
  readonly #sound: Sound;
  readonly #outgoing: Outgoing;
  readonly #incoming: Incoming;
  readonly #connection: ConnectionView;
  readonly #panels: Panels;
  readonly #stats: StatsPanel;
  readonly #chat: Chat;
  readonly #levels: ReturnType<typeof setInterval>;
  readonly #link: string;
  readonly #keys: Shortcuts = shortcuts(navigator.userAgent);
  readonly #offs: (() => void)[];
  #meter: { readonly track: MediaStreamTrack; readonly meter: Meter | undefined } | undefined;
  #unread = 0;

  constructor(
    private readonly client: Client,
    private readonly room: Room,
    private readonly media: LocalMedia,
    private readonly leave: () => void,
  ) {
    this.#link = roomLink(new URL(location.href), room.name);
    this.#sound = new Sound(() => this.#soundBlocked());
    this.#outgoing = new Outgoing(room, media, {
      changed: () => this.#showSelf(),
      publishFailed: (error, what) => this.#publishFailed(error, what),
      screenFailed: (error) =>
        this.#notices.show({ ...deviceAdvice(error, "screen", navigator.userAgent), forMs: 8_000 }),
    });
    this.#incoming = new Incoming(room, {
      changed: (uid) => this.#showPeer(uid),
      subscribed: (subscription) => this.#sound.add(subscription),
      ended: (subscription) => this.#sound.remove(subscription),
      refused: (error) => this.#subscribeRefused(error),
    });
    this.#stats = new StatsPanel(room, byId("stats-list"));
    this.#panels = new Panels(
      {
        opened: (name) => (name === "chat" ? this.#chatOpened() : this.#stats.open()),
        closed: (name) => (name === "stats" ? this.#stats.close() : undefined),
      },
      this.#abort.signal,
    );
    this.#chat = new Chat(
      room,
      client.peer,
      {
        list: byId("messages"),
        form: byId<HTMLFormElement>("composer"),
        input: byId<HTMLTextAreaElement>("chat-input"),
      },
      (peer, text) => this.#chatReceived(peer, text),
      this.#abort.signal,
    );
    this.#offs = [
      media.on("changed", () => {
        // What was asked for again is not refused any more, or is told anew.
        if (!media.failure) this.#notices.hide("devices");
        this.#showSelf();
      }),
      media.on("failed", (failure) => this.#deviceFailed(failure)),
    ];
    room.on("peer-joined", ({ uid }) => this.#showPeer(uid));
    room.on("peer-left", ({ uid }) => {
      this.#stage.remove(personKey(uid));
      this.#showPeople();
    });
    room.on("state", () => this.#showPeople());
    room.on("recording", ({ stream }) =>
      stream instanceof RemoteStream ? this.#showPeer(stream.uid) : this.#showSelf(),
    );
    this.#connection = new ConnectionView(client, room, this.#notices);
    this.#bind();
    this.#show();
    this.#levels = setInterval(() => this.#hear(), LEVELS_EVERY_MS);
    this.#outgoing.sync();
  }

  /** Takes everything off the screen; the room itself is left by whoever owns it. */
  close(): void {
    clearInterval(this.#levels);
    this.#connection.close();
    this.#abort.abort();
    for (const off of this.#offs) off();
    this.#outgoing.close();
    this.#incoming.close();
    this.#panels.close();
    this.#sound.close();
    this.#notices.clear();
    this.#stage.close();
    this.#meter?.meter?.close();
    byId<HTMLDialogElement>("settings-dialog").close();
    byId("call").hidden = true;
  }

  #show(): void {
    byId("call").hidden = false;
    byId("call-room").textContent = this.room.name;
    byId("invite-link").textContent = this.#link.replace(/^https?:\/\//, "");
    byId("screen").hidden = typeof navigator.mediaDevices?.getDisplayMedia !== "function";
    byId("call-devices").replaceChildren();
    byId("mic").setAttribute("aria-keyshortcuts", this.#keys.microphone.name);
    byId("cam").setAttribute("aria-keyshortcuts", this.#keys.camera.name);
    this.#setUnread(0);
    this.#showSelf();
    this.#showPeople();
    // Told in the lobby already, but from here on it is others who do not see or hear.
    if (this.media.failure) this.#deviceFailed(this.media.failure);
    stayAwake(this.#abort.signal);
  }

  #bind(): void {
    const { signal } = this.#abort;
    const click = (id: string, act: () => void) => byId(id).addEventListener("click", act, { signal });
    click("mic", () => void this.media.setMicrophone(!this.media.microphoneOn));
    click("cam", () => void this.media.setCamera(!this.media.cameraOn));
    click("flip", () => void this.media.flip());
    click("screen", () =>
      this.#outgoing.screen ? this.#outgoing.stopScreen() : void this.#outgoing.shareScreen(),
    );
    click("copy", () => void shareLink(this.#link, this.#notices));
    click("invite-copy", () => void shareLink(this.#link, this.#notices));
    click("leave", this.leave);
    const devices = new DeviceForm(
      byId("call-devices"),
      this.media,
      (id) => this.#sound.setSpeaker(id),
      signal,
    );
    click("settings", () => {
      void devices.refresh();
      byId<HTMLDialogElement>("settings-dialog").showModal();
    });
    document.addEventListener("keydown", (event) => this.#key(event), { signal });
  }

  #key(event: KeyboardEvent): void {
    const device = this.#keys.deviceOf(event);
    if (!device) return;
    event.preventDefault();
    // A key held down is one wish.
    if (event.repeat) return;
    if (device === "microphone") void this.media.setMicrophone(!this.media.microphoneOn);
    else void this.media.setCamera(!this.media.cameraOn);
  }

  #showSelf(): void {
    // Leaving ends every stream, and each end is told here.
    if (this.#abort.signal.aborted) return;
    const { media } = this;
    const { person, screen } = this.#outgoing;
    const tile = this.#stage.tile(personKey(this.client.peer), {
      peer: this.client.peer,
      kind: "person",
      self: true,
      record: (on) => void this.#record(this.#outgoing.person, on),
    });
    const heard = media.sends("microphone");
    const seen = media.sends("camera");
    tile.show({
      video: seen ? media.video : undefined,
      mirrored: media.facing === "user",
      microphone: heard ? "on" : "off",
      recorded: person?.recording !== undefined,
      recordable: person?.state === "connected",
      state: person?.state ?? "none",
    });
    this.#listenTo(heard ? media.audio : undefined);
    showSwitch(byId("mic"), {
      on: media.microphoneOn,
      busy: media.opening("microphone"),
      icon: media.microphoneOn ? "mic" : "mic-off",
      hint: `${media.microphoneOn ? "Mute" : "Unmute"} (${this.#keys.microphone.shown})`,
    });
    showSwitch(byId("cam"), {
      on: media.cameraOn,
      busy: media.opening("camera"),
      icon: media.cameraOn ? "cam" : "cam-off",
      hint: `Turn the camera ${media.cameraOn ? "off" : "on"} (${this.#keys.camera.shown})`,
    });
    showSwitch(byId("screen"), {
      on: screen !== undefined,
      busy: this.#outgoing.startsScreen,
      icon: "screen",
      hint: screen ? "Stop sharing" : "Share your screen",
    });
    byId("flip").hidden = !seen || !matchMedia("(pointer: coarse)").matches;
    this.#showOwnScreen();
  }

  #showOwnScreen(): void {
    const { screen } = this.#outgoing;
    const key = "screen own";
    if (!screen) {
      this.#stage.remove(key);
      return;
    }
    const { publication } = screen;
    const tile = this.#stage.tile(key, {
      peer: this.client.peer,
      kind: "screen",
      self: true,
      record: (on) => void this.#record(this.#outgoing.screen?.publication, on),
    });
    tile.show({
      video: screen.video,
      mirrored: false,
      microphone: "on",
      recorded: publication?.recording !== undefined,
      recordable: publication?.state === "connected",
      state: screen.state,
    });
  }

  #showPeer(uid: string): void {
    if (this.#abort.signal.aborted) return;
    const streams = this.room.streams.filter((stream) => stream.uid === uid);
    if (this.room.peers.includes(uid)) {
      const own = streams.filter((stream) => stream.source !== "screen");
      const showing = own.find((stream) => stream.info.video && !stream.muted.video);
      const subscriptions = own.flatMap((stream) => this.#incoming.of(stream) ?? []);
      const seen = subscriptions.find((subscription) => subscription.stream === showing);
      const refused = own.some((stream) => this.#incoming.refused(stream));
      const waiting = own.length > subscriptions.length;
      this.#stage.tile(personKey(uid), { peer: uid, kind: "person", self: false }).show({
        video: seen?.media.getVideoTracks()[0],
        mirrored: false,
        microphone: own.some((stream) => stream.info.audio && !stream.muted.audio) ? "on" : "off",
        recorded: own.some((stream) => stream.recording !== undefined),
        state: refused
          ? "refused"
          : waiting
            ? "connecting"
            : worst(subscriptions.map((subscription) => subscription.state)),
      });
    }
    this.#showScreens(uid);
    this.#showPeople();
  }

  #showScreens(uid: string): void {
    const screens = this.room.streams.filter((stream) => stream.uid === uid && stream.source === "screen");
    for (const stream of screens) {
      const subscription = this.#incoming.of(stream);
      this.#stage.tile(screenKey(stream.id), { peer: uid, kind: "screen", self: false }).show({
        video: subscription?.media.getVideoTracks()[0],
        mirrored: false,
        microphone: "on",
        recorded: stream.recording !== undefined,
        state: this.#incoming.refused(stream) ? "refused" : (subscription?.state ?? "connecting"),
      });
    }
    const shown = new Set(screens.map((stream) => screenKey(stream.id)));
    for (const key of this.#stage.keys) {
      const tile = this.#stage.find(key) as Tile;
      const theirs = tile.options.kind === "screen" && !tile.options.self && tile.options.peer === uid;
      if (theirs && !shown.has(key)) this.#stage.remove(key);
    }
  }

  #showPeople(): void {
    const count = this.room.peers.length + 1;
    const number = byId("people").querySelector("b");
    if (number) number.textContent = String(count);
    byId("invite").hidden =
      this.room.state !== "connected" || count > 1 || this.#outgoing.screen !== undefined;
  }

  /** Lights the rings of whoever speaks. */
  #hear(): void {
    const now = performance.now();
    this.#stage.find(personKey(this.client.peer))?.hear(this.#meter?.meter?.level ?? 0, now);
    // Who has no stream any more is silent.
    const levels = new Map(this.room.peers.map((uid) => [uid, 0]));
    for (const subscription of this.#incoming.all) {
      if (subscription.stream.source === "screen") continue;
      const { uid } = subscription.stream;
      levels.set(uid, Math.max(levels.get(uid) ?? 0, subscription.audioLevel));
    }
    for (const [uid, level] of levels) this.#stage.find(personKey(uid))?.hear(level, now);
  }

  #listenTo(track: MediaStreamTrack | undefined): void {
    if (this.#meter?.track === track) return;
    this.#meter?.meter?.close();
    this.#meter = track ? { track, meter: meterOf(track) } : undefined;
  }

  /** Any click or key will do for the browser; the button only says so. */
  #soundBlocked(): void {
    const unblock = () => {
      this.#notices.hide("sound");
      this.#sound.unblock();
    };
    for (const type of ["pointerup", "keydown"]) {
      document.addEventListener(type, unblock, { signal: this.#abort.signal, once: true });
    }
    this.#notices.show({
      key: "sound",
      title: "Your browser keeps the sound off",
      action: { label: "Tap to hear", testid: "tap-to-hear", run: unblock },
    });
  }

  #deviceFailed({ error, wanted, otherWorks }: DeviceFailure): void {
    this.#notices.show({
      key: `devices ${wanted}`,
      ...deviceAdvice(error, wanted, navigator.userAgent, otherWorks),
      tone: "problem",
      action: { label: "Try again", testid: "retry-devices", run: () => void this.media.retry(wanted) },
    });
  }

  #publishFailed(error: SluiceError, what: Sent): void {
    const again = {
      person: { label: "Try again", run: () => this.#outgoing.sync() },
      screen: { label: "Share again", run: () => void this.#outgoing.shareScreen() },
    };
    this.#notices.show({
      key: `publish ${what}`,
      ...publishAdvice(error, what),
      tone: "problem",
      // What a link does not allow it will not allow the next time.
      ...(error.name === "forbidden" ? {} : { action: again[what] }),
    });
  }

  async #record(publication: Publication | undefined, on: boolean): Promise<void> {
    if (!publication) return;
    try {
      await this.room.record(publication, on);
      this.#notices.hide("record");
    } catch (thrown) {
      const advice = recordAdvice(SluiceError.from(thrown), on);
      if (!this.#abort.signal.aborted) this.#notices.show({ key: "record", ...advice, tone: "problem" });
    }
  }

  #subscribeRefused(error: SluiceError): void {
    this.#notices.show({ key: "subscribe", ...subscribeAdvice(error), tone: "problem" });
  }

  #chatOpened(): void {
    this.#setUnread(0);
    this.#notices.hide("chat");
    this.#chat.focus();
  }

  #chatReceived(peer: string, text: string): void {
    if (this.#panels.open === "chat") return;
    this.#setUnread(this.#unread + 1);
    this.#notices.show({
      key: `chat ${peer}`,
      title: nameOf(peer),
      text: text.length > 120 ? `${text.slice(0, 120)}…` : text,
      action: { label: "Open", run: () => this.#panels.toggle("chat") },
      forMs: 6_000,
    });
  }

  #setUnread(count: number): void {
    this.#unread = count;
    const badge = byId("unread");
    badge.hidden = count === 0;
    badge.textContent = count > 99 ? "99+" : String(count);
    byId("chat").setAttribute("aria-label", count === 0 ? "Chat" : `Chat, ${count} unread`);
    document.title = count === 0 ? `${this.room.name} · Sluice` : `(${count}) ${this.room.name} · Sluice`;
  }
}

function personKey(uid: string): string {
  return `person ${uid}`;
}

function screenKey(id: string): string {
  return `screen ${id}`;
}

/** What a tile of several connections should warn of. */
function worst<State extends string>(states: readonly State[]): State | "none" {
  const order = ["reconnecting", "connecting", "connected", "ended"];
  return [...states].sort((a, b) => order.indexOf(a) - order.indexOf(b))[0] ?? "none";
}
