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

/** A stream that knows its tracks. */
class FakeStream {
  readonly #tracks = new Set<{ kind: string }>();

  addTrack(track: { kind: string }): void {
    this.#tracks.add(track);
  }

  removeTrack(track: { kind: string }): void {
    this.#tracks.delete(track);
  }

  getTracks(): { kind: string }[] {
    return [...this.#tracks];
  }
}

interface FakeTransceiver {
  readonly sender: FakeSender;
  readonly receiver: { readonly track: { readonly kind: string } };
  readonly kind: string;
  readonly direction: string;
  currentDirection: string | null;
}

export class FakePeerConnection {
  static readonly all: FakePeerConnection[] = [];
  /** What making one fails with, if anything. */
  static failure: Error | undefined;
  /** Kinds that the other side's answer refuses. */
  static refused: string[] = [];

  static install(): void {
    FakePeerConnection.all.length = 0;
    FakePeerConnection.failure = undefined;
    FakePeerConnection.refused = [];
    const globals = { RTCPeerConnection: FakePeerConnection, RTCRtpSender: {}, MediaStream: FakeStream };
    Object.assign(globalThis, globals);
  }

  readonly transceivers: FakeTransceiver[] = [];
  iceConnectionState = "new";
  connectionState = "new";
  signalingState = "stable";
  closed = false;
  oniceconnectionstatechange: (() => void) | null = null;
  onconnectionstatechange: (() => void) | null = null;

  constructor() {
    if (FakePeerConnection.failure) throw FakePeerConnection.failure;
    FakePeerConnection.all.push(this);
  }

  get senders(): FakeSender[] {
    return this.transceivers.map(({ sender }) => sender);
  }

  addTransceiver(trackOrKind: string | { kind: string }, { direction }: { direction: string }): FakeTransceiver {
    const [kind, track] = typeof trackOrKind === "string" ? [trackOrKind, null] : [trackOrKind.kind, trackOrKind];
    const receiver = { track: { kind } };
    const transceiver = { sender: new FakeSender(track), receiver, kind, direction, currentDirection: null };
    this.transceivers.push(transceiver);
    return transceiver;
  }

  async createOffer(): Promise<{ type: string; sdp: string }> {
    return { type: "offer", sdp: "v=0\r\n" };
  }

  async setLocalDescription(): Promise<void> {}

  async setRemoteDescription(): Promise<void> {
    for (const transceiver of this.transceivers) {
      const refused = FakePeerConnection.refused.includes(transceiver.kind);
      transceiver.currentDirection = refused ? "inactive" : transceiver.direction;
    }
  }

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

  close(): void {
    this.closed = true;
  }
}
