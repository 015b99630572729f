/** Browser SDK of Sluice. See docs/sdk.md. */
export { type CameraOptions, type Captured, listDevices, type MicrophoneOptions, openCamera, openDevices, openMicrophone, openScreen, } from "./capture.ts";
export { Client, type ClientEvents, type ConnectOptions, connect } from "./client.ts";
export { SluiceError, type SluiceErrorName } from "./error.ts";
export type { Json } from "./frames.ts";
export type { Kind, Muted, Source } from "./info.ts";
export type { MediaInfo } from "./messages.ts";
export { Meter } from "./meter.ts";
export { Publication, type PublicationEvents, type PublishOptions } from "./publication.ts";
export type { MediaState } from "./recovery.ts";
export { RemoteStream } from "./remote-stream.ts";
export { Room, type RoomEvents, type RoomState } from "./room.ts";
export type { SignallingState, TokenSource } from "./signalling.ts";
export type { StreamStats, TrackStats } from "./stats.ts";
export { Subscription, type SubscriptionEvents } from "./subscription.ts";
