/** Peer connections of a browser whose media a test starts and stops; they agree to everything. */

export class FakeSender {
  /** What `replaceTrack` fails with, if anything. */
  failure: Error | undefined;

  constructor(public track: unknown) {}

  async replaceTrack(track: unknown): Promise<void> {
    if (this.failure) throw this.failure;
    this.track = track;
  }

  getParameters(): object {
    return {};
  }

  async setParameters(): Promise<void> {}
}

export class FakePeerConnection {
  static readonly all: FakePeerConnection[] = [];
  /** What making one fails with, if anything. */
  static failure: Error | undefined;

  static install(): void {
    FakePeerConnection.all.length = 0;
    FakePeerConnection.failure = undefined;
    Object.assign(globalThis, { RTCPeerConnection: FakePeerConnection, RTCRtpSender: {} });
  }

  readonly senders: FakeSender[] = [];
  iceConnectionState = "new";
  connectionState = "new";
  signalingState = "stable";
  oniceconnectionstatechange: (() => void) | null = null;
  onconnectionstatechange: (() => void) | null = null;

  constructor() {
    if (FakePeerConnection.failure) throw FakePeerConnection.failure;
    FakePeerConnection.all.push(this);
  }

  addTransceiver(trackOrKind: unknown): { sender: FakeSender } {
    const sender = new FakeSender(typeof trackOrKind === "string" ? null : trackOrKind);
    this.senders.push(sender);
    return { sender };
  }

  async createOffer(): Promise<{ type: string; sdp: string }> {
    return { type: "offer", sdp: "v=0\r\n" };
  }

  async setLocalDescription(): Promise<void> {}

  async setRemoteDescription(): Promise<void> {}

  /** ICE as the browser sees it from now on. */
  ice(state: string): void {
    this.iceConnectionState = state;
    this.oniceconnectionstatechange?.();
  }

  /** ICE and DTLS are up. */
  connect(): void {
    this.ice("connected");
    this.connectionState = "connected";
    this.onconnectionstatechange?.();
  }

  close(): void {}
}
