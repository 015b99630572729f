// A page built on the SDK and nothing else: it is in one room, receives every stream and shows it in an element of its own.
// `sdk` is the SDK's module. Puts `call` into the window.
(() => {
  /** @type {Map<string, {subscription: any, video: HTMLVideoElement, uid: string, askedAt: number, pictureAt?: number}>} */
  const views = new Map();
  const log = [];

  async function view(room, stream) {
    const video = document.createElement('video');
    video.autoplay = true;
    video.playsInline = true;
    document.body.append(video);
    const entry = { uid: stream.uid, video, askedAt: performance.now() };
    views.set(stream.id, entry);
    // Polled and not by requestVideoFrameCallback, which tabs in the background do not get.
    const looking = setInterval(() => {
      if (video.videoWidth > 0 && video.currentTime > 0 && rig.film(video)) {
        entry.pictureAt = performance.now();
        clearInterval(looking);
      }
    }, 10);
    try {
      entry.subscription = await room.subscribe(stream);
      video.srcObject = entry.subscription.media;
    } catch (error) {
      log.push(`subscribe ${stream.mid}: ${error}`);
    }
  }

  window.startCall = async (sdk, { peer, roomName, url = `${location.origin.replace('http', 'ws')}/ws`, token, publish = true, stereo = false, watch = true, inOrder = false }) => {
    // Of several addresses the client goes to one at random; with this, to the first.
    const { random } = Math;
    if (inOrder) Math.random = () => 0.999;
    const client = sdk.connect({ url, peer, token });
    Math.random = random;
    const room = client.room(roomName);
    const seen = [];
    for (const name of ['peer-joined', 'peer-left', 'stream-added', 'stream-removed', 'stream-updated', 'broadcast', 'kicked', 'resynced', 'state']) {
      room.on(name, (event) => seen.push({ name, uid: event?.uid ?? event?.stream?.uid, mid: event?.stream?.mid, state: event?.state, data: event?.data, error: event?.error && String(event.error) }));
    }
    if (watch) {
      room.on('stream-added', ({ stream }) => view(room, stream));
      room.on('stream-removed', ({ stream }) => {
        views.get(stream.id)?.video.remove();
        views.delete(stream.id);
      });
    }
    await room.join();
    let publication;
    if (publish) {
      const media = await navigator.mediaDevices.getUserMedia({
        video: { width: 320, height: 180 },
        audio: { echoCancellation: false, noiseSuppression: false, autoGainControl: false, channelCount: 2 },
      });
      publication = await room.publish({
        source: 'camera', stereo, audio: media.getAudioTracks()[0], video: media.getVideoTracks()[0],
      });
    }
    const of = (uid) => [...views.values()].find((entry) => entry.uid === uid);
    /** Milliseconds that the film of each of these stood still at the most, from when it was asked to be watched. */
    const standstills = new Map();
    const watchMoving = (uid) => {
      let [shown, since] = [null, performance.now()];
      standstills.set(uid, 0);
      setInterval(() => {
        const [frame, now] = [rig.film(of(uid)?.video)?.frame ?? shown, performance.now()];
        standstills.set(uid, Math.max(standstills.get(uid), Math.round(now - since)));
        if (frame !== shown) [shown, since] = [frame, now];
      }, 30);
    };
    window.call = {
      client, room, publication, views, seen, log,
      /** What of `uid` is seen now: the film's frame and colour. */
      film: (uid) => rig.film(of(uid)?.video),
      picture: (uid) => rig.picture(of(uid)?.video),
      ears: (uid) => rig.ears(of(uid)?.subscription?.media),
      level: (uid, hz) => rig.level(of(uid).subscription.media, hz),
      recorded: (uid, ms, frequencies) => rig.recorded(of(uid).subscription.media, ms, frequencies),
      /** Milliseconds from asking for the stream of `uid` to its first picture on the page. */
      waited: (uid) => {
        const entry = of(uid);
        return entry?.pictureAt === undefined ? null : Math.round(entry.pictureAt - entry.askedAt);
      },
      watchMoving,
      standstill: (uid) => standstills.get(uid),
      uids: () => [...views.values()].map((entry) => entry.uid).sort(),
      ciphers: async () => {
        const open = rig.connections.filter((connection) => connection.connectionState === 'connected');
        const reports = await Promise.all(open.map((connection) => rig.stats(connection, 'transport')));
        return reports.flat().map((report) => report.srtpCipher);
      },
    };
  };
})();
