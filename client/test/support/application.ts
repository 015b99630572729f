/** What docs/sdk.md shows and says, as an application has it: checked against the types that are shipped. It never runs. */

import {
  type Client,
  connect,
  type Json,
  listDevices,
  Meter,
  openCamera,
  openDevices,
  openMicrophone,
  openScreen,
  type Publication,
  type RemoteStream,
  type Room,
  type SluiceError,
  type StreamStats,
  type Subscription,
} from "../../dist/sluice-client.js";

interface ChatMessage {
  text: string;
  at?: number;
}

export async function call(fetchToken: () => Promise<string>): Promise<void> {
  const client: Client = connect({ url: "/ws", peer: "ada", token: fetchToken });
  const room: Room = client.room("tea");
  const off: () => void = client.on("state", (state) => {
    if (state.name === "closed") fail(state.error);
    else if (state.name === "reconnecting") state.retryInMs.toFixed(state.error?.code);
  });
  room.on("stream-added", async ({ stream }) => {
    const subscription: Subscription = await room.subscribe(stream);
    const video = document.createElement("video");
    Object.assign(video, { srcObject: subscription.media, autoplay: true, playsInline: true });
    subscription.once("ended", ({ error }) => error && fail(error));
    const level: number = subscription.audioLevel;
    const stats: StreamStats | undefined = await subscription.stats();
    stats?.tracks.map((track) => [level, track.bitrate, track.codec, track.limitedBy]);
  });
  room.on("stream-removed", ({ stream }) => shown(stream));
  room.on("state", ({ state, retryInMs, error }) => [state, retryInMs?.toFixed(), error && fail(error)]);
  room.on("recording", ({ stream }) => [stream.mid, stream.recording?.length]);
  room.on("broadcast", ({ uid, data }) => [uid, readText(data)]);
  await room.join();
  const { audio, video } = await openDevices({ audio: {}, video: {} });
  const publication: Publication = await room.publish({ source: "camera", audio, video });
  publication.on("track-ended", ({ kind }) => publication.replaceTrack(kind, null));
  const recording: string | undefined = await room.record(publication, true);
  await room.record(publication, recording === undefined);
  await room.publish({ source: "camera", audio: null, video: null, record: true });
  await publication.mute("audio");
  await publication.replaceTrack("video", await openCamera({ deviceId: (await listDevices())[0]?.deviceId }));
  await publication.replaceTrack("video", null);
  await room.publish({ source: "screen", ...(await openScreen()) });
  const microphone = await openMicrophone({ stereo: true });
  const info: ChatMessage = { text: "a guitar" };
  await room.publish({ source: "microphone", audio: microphone, stereo: true, muted: { audio: true }, info });
  const meter = new Meter(microphone);
  meter.level.toFixed();
  meter.close();
  const message: ChatMessage = { text: "hello" };
  await room.broadcast(message);
  off();
  client.retryNow();
  await room.leave();
  await client.close();
  // @ts-expect-error: rooms are made by clients.
  new (room.constructor as typeof Room)("tea");
}

function fail({ code, name, reason, passing, retryAfterMs }: SluiceError): void {
  console.error(code, name, reason, passing, retryAfterMs);
}

function shown({ mid, uid, info, source, muted }: RemoteStream): unknown {
  const from: "camera" | "microphone" | "screen" = source;
  return [mid, uid, info.videotype, from, muted.audio];
}

function readText(data: Json): string | undefined {
  return typeof data === "string" ? data : undefined;
}
