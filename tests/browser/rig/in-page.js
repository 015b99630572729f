// Put into every page under test, before its own scripts: eyes and ears. Knows nothing of Sluice.
(() => {
  const CELLS = 8;
  /** Less is silence, as is what an analyser gives for none at all: minus infinity. */
  const SILENCE_DB = -200;
  const canvas = document.createElement('canvas');
  const paper = canvas.getContext('2d', { willReadFrequently: true });

  /**
   * The numbered film in `video`: `{frame, colour: [r, g, b]}`, or null while what it shows is not the film (its first
   * bar white, its last black, every bar clearly one or the other).
   */
  function film(video) {
    if (!video || !video.videoWidth) return null;
    canvas.width = 160;
    canvas.height = 90;
    paper.drawImage(video, 0, 0, 160, 90);
    const mean = (x0, y0, w, h) => {
      const { data } = paper.getImageData(x0, y0, w, h);
      const sums = [0, 0, 0];
      for (let i = 0; i < data.length; i += 4) for (let c = 0; c < 3; c += 1) sums[c] += data[i + c];
      return sums.map((sum) => Math.round((sum * 4) / data.length));
    };
    let frame = 0;
    for (let cell = 0; cell < CELLS; cell += 1) {
      const [r, g, b] = mean(Math.round(((cell + 0.35) * 160) / CELLS), 12, 6, 20);
      const luma = (r + g + b) / 3;
      if (luma > 80 && luma < 175) return null;
      const bright = luma >= 175;
      if (cell === 0 ? !bright : cell === CELLS - 1 && bright) return null;
      if (cell > 0 && cell < CELLS - 1) frame = frame * 2 + (bright ? 1 : 0);
    }
    return { frame, colour: mean(60, 62, 40, 16) };
  }

  /** A cheap fingerprint of whatever `video` shows now: 64 coarse luma values. */
  function picture(video) {
    if (!video || !video.videoWidth) return null;
    canvas.width = 8;
    canvas.height = 8;
    paper.drawImage(video, 0, 0, 8, 8);
    const { data } = paper.getImageData(0, 0, 8, 8);
    const out = [];
    for (let i = 0; i < data.length; i += 4) out.push(Math.round((data[i] + data[i + 1] + data[i + 2]) / 3));
    return out;
  }

  const listeners = new Map();
  let context;

  /** What each ear hears in `stream` now: `[{hz, db}, {hz, db}]`, the strongest tone per channel. */
  function ears(stream) {
    const track = stream && stream.getAudioTracks()[0];
    if (!track) return null;
    context ??= new AudioContext();
    if (context.state !== 'running') context.resume();
    let listener = listeners.get(track.id);
    if (!listener) {
      const source = context.createMediaStreamSource(new MediaStream([track]));
      const splitter = context.createChannelSplitter(2);
      source.connect(splitter);
      const analysers = [0, 1].map((channel) => {
        const analyser = context.createAnalyser();
        analyser.fftSize = 8192;
        analyser.smoothingTimeConstant = 0;
        splitter.connect(analyser, channel);
        return analyser;
      });
      listener = { source, analysers };
      listeners.set(track.id, listener);
    }
    return listener.analysers.map((analyser) => {
      const bins = new Float32Array(analyser.frequencyBinCount);
      analyser.getFloatFrequencyData(bins);
      let best = 2;
      for (let i = 2; i < bins.length; i += 1) if (bins[i] > bins[best]) best = i;
      const db = Math.round(Math.max(SILENCE_DB, bins[best]));
      return { hz: Math.round((best * context.sampleRate) / analyser.fftSize), db };
    });
  }

  /** Loudness of one frequency in each ear, in dB: how much of the other ear's tone leaks over. */
  function level(stream, hz) {
    const track = stream.getAudioTracks()[0];
    return listeners.get(track.id).analysers.map((analyser) => {
      const bins = new Float32Array(analyser.frequencyBinCount);
      analyser.getFloatFrequencyData(bins);
      const at = Math.round((hz * analyser.fftSize) / context.sampleRate);
      return Math.round(Math.max(SILENCE_DB, ...bins.slice(at - 2, at + 3)));
    });
  }

  /**
   * Records `ms` of `stream` and decodes it: for each channel the loudness in dB of each of `frequencies`. Works where
   * there is no sound card to drive an AudioContext, which Firefox insists on.
   */
  async function recorded(stream, ms, frequencies) {
    const recorder = new MediaRecorder(new MediaStream(stream.getAudioTracks()));
    const chunks = [];
    recorder.ondataavailable = (event) => chunks.push(event.data);
    const stopped = new Promise((resolve, reject) => {
      recorder.onstop = resolve;
      recorder.onerror = reject;
    });
    recorder.start();
    setTimeout(() => recorder.stop(), ms);
    await stopped;
    const bytes = await new Blob(chunks).arrayBuffer();
    const sound = await new OfflineAudioContext(2, 48_000, 48_000).decodeAudioData(bytes);
    // The last second: what came before may hold the fade-in of a jitter buffer.
    const length = Math.min(sound.length, 48_000);
    return Array.from({ length: sound.numberOfChannels }, (_, channel) => {
      const samples = sound.getChannelData(channel).subarray(sound.length - length);
      return frequencies.map((hz) => {
        let real = 0;
        let imaginary = 0;
        for (let i = 0; i < length; i += 1) {
          const angle = (2 * Math.PI * hz * i) / sound.sampleRate;
          real += samples[i] * Math.cos(angle);
          imaginary += samples[i] * Math.sin(angle);
        }
        return Math.round(20 * Math.log10((2 * Math.hypot(real, imaginary)) / length + 1e-9));
      });
    });
  }

  /** Every report of `kind` a peer connection has, as plain objects. */
  async function stats(connection, kind) {
    const out = [];
    for (const report of (await connection.getStats()).values()) if (report.type === kind) out.push({ ...report });
    return out;
  }

  // Every peer connection the page makes, so that a test can ask each what it really negotiated.
  const connections = [];
  const Native = window.RTCPeerConnection;
  if (Native) {
    window.RTCPeerConnection = class extends Native {
      constructor(...args) {
        super(...args);
        connections.push(this);
      }
    };
  }

  window.rig = { film, picture, ears, level, recorded, stats, connections };
})();
