/* Sluice client. MIT OR Apache-2.0 */

// src/error.ts
var SERVER_NAMES = {
  [-1]: "unknown_method",
  1: "bad_uid",
  2: "not_in_room",
  3: "bad_mid",
  4: "bad_sid",
  5: "bad_jsep",
  6: "bad_sdp",
  7: "bad_minfo",
  8: "publish_failed",
  9: "subscribe_failed",
  10: "no_sfu",
  11: "store_unavailable",
  12: "sfu_unreachable",
  14: "internal",
  401: "unauthenticated",
  403: "forbidden",
  409: "conflict",
  413: "too_large",
  429: "rate_limited"
};
var PASSING = /* @__PURE__ */ new Set([
  "publish_failed",
  "subscribe_failed",
  "no_sfu",
  "store_unavailable",
  "sfu_unreachable",
  "internal",
  "rate_limited",
  "timeout",
  "disconnected",
  "token_unavailable",
  "not_in_room"
]);
var SluiceError = class _SluiceError extends Error {
  /** The server's number, 4000 for `refused`, 0 for what the SDK found itself. */
  code;
  /** Stable, for programs. */
  name;
  /** For people. */
  reason;
  /** With `rate_limited`: when to try again, in milliseconds from now. */
  retryAfterMs;
  constructor(code, name, reason, retryAfterMs) {
    super(`${name}: ${reason}`);
    this.code = code;
    this.name = name;
    this.reason = reason;
    this.retryAfterMs = retryAfterMs;
  }
  /** True if trying again later makes sense. */
  get passing() {
    return PASSING.has(this.name);
  }
  /** An error the SDK found itself. */
  static local(name, reason) {
    return new _SluiceError(0, name, reason);
  }
  /** An error the server answered with. */
  static fromServer(code, name, reason, retryAfterMs) {
    return new _SluiceError(code, name ?? SERVER_NAMES[code] ?? "internal", reason, retryAfterMs);
  }
  /** Anything thrown, as a `SluiceError`. */
  static from(thrown) {
    if (thrown instanceof _SluiceError) return thrown;
    const reason = thrown instanceof Error ? thrown.message : String(thrown);
    return _SluiceError.local("protocol", reason);
  }
};

// src/capture.ts
async function openDevices(wanted) {
  const devices = mediaDevices();
  try {
    const media = await devices.getUserMedia(constraintsOf(wanted, true)).catch((error) => {
      if (!isNamed(error, "OverconstrainedError")) throw error;
      return devices.getUserMedia(constraintsOf(wanted, false));
    });
    return { audio: media.getAudioTracks()[0], video: media.getVideoTracks()[0] };
  } catch (error) {
    throw captureError(error);
  }
}
async function openCamera(options = {}) {
  return present((await openDevices({ video: options })).video);
}
async function openMicrophone(options = {}) {
  return present((await openDevices({ audio: options })).audio);
}
async function openScreen(options = {}) {
  const devices = mediaDevices();
  if (!devices.getDisplayMedia) throw SluiceError.local("unsupported", "this browser cannot share a screen");
  try {
    const media = await devices.getDisplayMedia({
      video: { frameRate: { ideal: options.frameRate ?? 15 } },
      audio: true
    });
    return { audio: media.getAudioTracks()[0], video: media.getVideoTracks()[0] };
  } catch (error) {
    throw captureError(error);
  }
}
async function listDevices() {
  return await mediaDevices().enumerateDevices();
}
function mediaDevices() {
  const devices = navigator.mediaDevices;
  if (devices) return devices;
  if (!window.isSecureContext) {
    throw SluiceError.local(
      "insecure_context",
      "cameras and microphones are given to HTTPS pages and localhost only"
    );
  }
  throw SluiceError.local("unsupported", "this browser has no cameras or microphones");
}
function constraintsOf(wanted, exact) {
  return {
    audio: wanted.audio ? microphoneConstraints(wanted.audio, exact) : false,
    video: wanted.video ? cameraConstraints(wanted.video, exact) : false
  };
}
function microphoneConstraints({ deviceId, stereo }, exact) {
  return {
    ...device(deviceId, exact),
    // Processing for speech mixes the channels into one.
    echoCancellation: !stereo,
    noiseSuppression: !stereo,
    autoGainControl: !stereo,
    ...stereo ? { channelCount: { ideal: 2 } } : {}
  };
}
function cameraConstraints(options, exact) {
  const { deviceId, facing, width = 1280, height = 720, frameRate = 30 } = options;
  return {
    ...device(deviceId, exact),
    ...facing && deviceId === void 0 ? { facingMode: { ideal: facing } } : {},
    width: { ideal: width },
    height: { ideal: height },
    frameRate: { ideal: frameRate }
  };
}
function device(deviceId, exact) {
  if (deviceId === void 0) return {};
  return { deviceId: exact ? { exact: deviceId } : { ideal: deviceId } };
}
function present(track) {
  if (!track) throw SluiceError.local("no_device", "the browser gave no track");
  return track;
}
function captureError(thrown) {
  if (thrown instanceof SluiceError) return thrown;
  const { name, message } = thrown;
  const reason = message ?? String(thrown);
  switch (name) {
    case "NotAllowedError":
    case "SecurityError":
      return SluiceError.local("permission_denied", reason);
    case "NotFoundError":
    case "OverconstrainedError":
      return SluiceError.local("no_device", reason);
    case "NotReadableError":
    case "AbortError":
      return SluiceError.local("device_busy", reason);
    default:
      return SluiceError.local("unsupported", reason);
  }
}
function isNamed(error, name) {
  return error?.name === name;
}

// src/clock.ts
var systemClock = {
  now: () => performance.now(),
  setTimer: (callback, ms) => setTimeout(callback, ms),
  clearTimer: (timer) => clearTimeout(timer),
  random: () => Math.random()
};
var Driver = class {
  constructor(clock, machine, perform, settled) {
    this.clock = clock;
    this.machine = machine;
    this.perform = perform;
    this.settled = settled;
  }
  clock;
  machine;
  perform;
  settled;
  #timer;
  #busy = false;
  /** Call after every input given to the machine. */
  turn() {
    if (this.#busy) return;
    this.#busy = true;
    try {
      for (let action = this.machine.pollAction(); action !== void 0; action = this.machine.pollAction()) {
        this.perform(action);
      }
    } finally {
      this.#busy = false;
    }
    this.#arm();
    this.settled();
  }
  #arm() {
    if (this.#timer !== void 0) this.clock.clearTimer(this.#timer);
    this.#timer = void 0;
    const at = this.machine.pollTimeout();
    if (at === void 0) return;
    const wait = Math.max(0, Math.ceil(at - this.clock.now()));
    this.#timer = this.clock.setTimer(() => {
      this.#timer = void 0;
      this.machine.handleTimeout(this.clock.now());
      this.turn();
    }, wait);
  }
};

// src/edges.ts
var Edges = class {
  #order;
  #at = 0;
  /** `urls`: at least one; `random`: uniform in [0, 1), as `Math.random`. */
  constructor(urls, random) {
    this.#order = shuffled(urls, random);
  }
  get count() {
    return this.#order.length;
  }
  /** Where to connect now. */
  get current() {
    return this.#order[this.#at];
  }
  /** The present one failed or sent us away. */
  next() {
    this.#at = (this.#at + 1) % this.#order.length;
  }
};
function shuffled(urls, random) {
  const order = [...urls];
  for (let i = order.length - 1; i > 0; i--) {
    const j = Math.floor(random() * (i + 1));
    [order[i], order[j]] = [order[j], order[i]];
  }
  return order;
}

// src/emitter.ts
var Emitter = class {
  #listeners = /* @__PURE__ */ new Map();
  /** Calls `listener` for each event of this type; the function returned takes it off again. */
  on(type, listener) {
    let listeners = this.#listeners.get(type);
    if (!listeners) {
      listeners = /* @__PURE__ */ new Set();
      this.#listeners.set(type, listeners);
    }
    listeners.add(listener);
    return () => this.off(type, listener);
  }
  /** As `on`, for one event. */
  once(type, listener) {
    const off = this.on(type, (event) => {
      off();
      listener(event);
    });
    return off;
  }
  off(type, listener) {
    this.#listeners.get(type)?.delete(listener);
  }
  emit(type, event) {
    for (const listener of [...this.#listeners.get(type) ?? []]) {
      try {
        listener(event);
      } catch (error) {
        if (typeof reportError === "function") reportError(error);
        else console.error(error);
      }
    }
  }
};

// src/network.ts
function watchNetwork(listener) {
  const offs = [];
  const on = (target2, type2, act) => {
    target2?.addEventListener(type2, act);
    offs.push(() => target2?.removeEventListener(type2, act));
  };
  if (typeof window === "undefined") return () => void 0;
  on(window, "online", () => {
    listener.hint();
    listener.changed();
  });
  on(document, "visibilitychange", () => {
    if (document.visibilityState === "visible") listener.hint();
  });
  on(window, "pagehide", (event) => {
    if (!event.persisted) listener.hidden();
  });
  const connection = navigator.connection;
  let type = connection?.type;
  on(connection, "change", () => {
    if (connection?.type === type) return;
    type = connection?.type;
    listener.hint();
    listener.changed();
  });
  return () => {
    for (const off of offs) off();
  };
}

// src/backoff.ts
var Backoff = class {
  constructor(options, random) {
    this.options = options;
    this.random = random;
  }
  options;
  random;
  #tries = 0;
  /** Waits handed out since the last reset. */
  get tries() {
    return this.#tries;
  }
  /** The next wait in milliseconds: uniform between 0 and min(cap, base × 2^(tries / perStep)). */
  next() {
    const step = Math.min(Math.floor(this.#tries / (this.options.perStep ?? 1)), 30);
    const ceiling = Math.min(this.options.capMs, this.options.baseMs * 2 ** step);
    this.#tries += 1;
    return Math.floor(this.random() * ceiling);
  }
  reset() {
    this.#tries = 0;
  }
};

// src/link.ts
var CLOSE_FINAL = 4e3;
var CLOSE_GOING_AWAY = 1001;
var CLOSE_TRY_LATER = 1013;
var OPEN_WITHIN_MS = 1e4;
var OPEN_ONE_OF_SEVERAL_WITHIN_MS = 5e3;
var PROBE_EVERY_MS = 2e4;
var ANSWER_WITHIN_MS = 1e4;
var HINTED_ANSWER_WITHIN_MS = 4e3;
var STEADY_AFTER_MS = 1e4;
var STEADY_IF_GOING_AWAY_MS = 1e3;
var LATER_MS = 1e3;
var HINT_SPREAD_MS = 500;
var RECONNECT = { baseMs: 500, capMs: 2e4 };
var Link = class {
  constructor(random, edges = 1) {
    this.random = random;
    this.edges = edges;
    this.#backoff = new Backoff({ ...RECONNECT, perStep: edges }, random);
  }
  random;
  edges;
  #state = { name: "idle" };
  #actions = [];
  #backoff;
  get state() {
    return this.#state;
  }
  /** Tries since the last connection that held. */
  get tries() {
    return this.#backoff.tries;
  }
  handleStart() {
    if (this.#state.name === "idle") this.#connect();
  }
  /** There is a socket, and from now on it is waited for: the machine at its other end has no part in what came before. */
  handleOpening(now) {
    if (this.#state.name !== "connecting") return;
    const within2 = this.edges > 1 ? OPEN_ONE_OF_SEVERAL_WITHIN_MS : OPEN_WITHIN_MS;
    this.#state = { name: "connecting", deadline: now + within2 };
  }
  handleOpened(now) {
    if (this.#state.name !== "connecting") return;
    this.#state = { name: "open", since: now, probeAt: now + PROBE_EVERY_MS, answerBy: void 0 };
  }
  /** Any frame arrived: the connection lives. */
  handleAlive() {
    if (this.#state.name === "open") this.#state = { ...this.#state, answerBy: void 0 };
  }
  /** The socket closed, or could not be opened. `again`: another try may succeed even after the server's last word. */
  handleLost(now, code, reason, again = false) {
    if (this.#state.name !== "connecting" && this.#state.name !== "open") return;
    if (code === CLOSE_FINAL && !again) this.#state = { name: "closed", code, reason };
    else this.#wait(now, code);
  }
  /** The network may have come back or changed, or the page is looked at again: find out now, not later. */
  handleHint(now) {
    if (this.#state.name === "waiting") {
      const until = Math.min(this.#state.until, now + Math.floor(this.random() * HINT_SPREAD_MS));
      this.#state = { name: "waiting", until };
    } else if (this.#state.name === "open") {
      const asked = this.#state.answerBy !== void 0 && this.#state.answerBy <= now + HINTED_ANSWER_WITHIN_MS;
      if (!asked) this.#probe(now, true);
    }
  }
  /** The application is done. */
  handleStop(reason) {
    if (this.#state.name === "closed") return;
    if (this.#state.name === "connecting" || this.#state.name === "open")
      this.#actions.push({ do: "abandon" });
    this.#state = { name: "closed", code: 1e3, reason };
  }
  handleTimeout(now) {
    const state = this.#state;
    if (state.name === "connecting" && state.deadline !== void 0 && now >= state.deadline) {
      this.#actions.push({ do: "abandon" });
      this.#wait(now);
    } else if (state.name === "waiting" && now >= state.until) {
      this.#connect();
    } else if (state.name === "open" && state.answerBy !== void 0 && now >= state.answerBy) {
      this.#actions.push({ do: "abandon" });
      this.#wait(now);
    } else if (state.name === "open" && now >= state.probeAt) {
      this.#probe(now, false);
    }
  }
  pollAction() {
    return this.#actions.shift();
  }
  pollTimeout() {
    const state = this.#state;
    if (state.name === "connecting") return state.deadline;
    if (state.name === "waiting") return state.until;
    if (state.name === "open") return Math.min(state.probeAt, state.answerBy ?? Number.POSITIVE_INFINITY);
    return void 0;
  }
  #connect() {
    this.#state = { name: "connecting", deadline: void 0 };
    this.#actions.push({ do: "open" });
  }
  #probe(now, hinted) {
    if (this.#state.name !== "open") return;
    const within2 = hinted ? HINTED_ANSWER_WITHIN_MS : ANSWER_WITHIN_MS;
    const answerBy = Math.min(this.#state.answerBy ?? Number.POSITIVE_INFINITY, now + within2);
    this.#state = { ...this.#state, probeAt: now + PROBE_EVERY_MS, answerBy };
    this.#actions.push({ do: "probe", hinted });
  }
  #wait(now, code) {
    const heldFor = this.#state.name === "open" ? now - this.#state.since : 0;
    const steadyAfter = code === CLOSE_GOING_AWAY ? STEADY_IF_GOING_AWAY_MS : STEADY_AFTER_MS;
    if (heldFor >= steadyAfter) this.#backoff.reset();
    const least = code === CLOSE_TRY_LATER ? LATER_MS : 0;
    this.#state = { name: "waiting", until: now + least + this.#backoff.next() };
  }
};

// src/frames.ts
var MAX_OUTBOUND_BYTES = 256 * 1024;
var MAX_INBOUND_CHARS = 1024 * 1024;
function encodeRequest(id, method, data) {
  const text3 = JSON.stringify({ request: true, id, method, data });
  if (text3.length * 3 > MAX_OUTBOUND_BYTES && new TextEncoder().encode(text3).length > MAX_OUTBOUND_BYTES) {
    throw new SluiceError(413, "too_large", `a message may have at most ${MAX_OUTBOUND_BYTES} bytes`);
  }
  return text3;
}
function asJson(value) {
  let text3;
  try {
    text3 = JSON.stringify(value);
  } catch {
  }
  if (text3 === void 0) throw SluiceError.local("unsupported", "the value cannot be written as JSON");
  return JSON.parse(text3);
}
function decodeFrame(text3) {
  if (typeof text3 !== "string" || text3.length > MAX_INBOUND_CHARS) return void 0;
  let frame;
  try {
    frame = JSON.parse(text3);
  } catch {
    return void 0;
  }
  if (!isObject(frame)) return void 0;
  const data = isObject(frame.data) ? frame.data : {};
  if (frame.response === true && typeof frame.id === "number") {
    if (frame.ok === true) return { kind: "response", id: frame.id, data };
    return { kind: "error", id: frame.id, error: errorOf(frame, data) };
  }
  if (frame.notification === true && typeof frame.method === "string") {
    return { kind: "notification", method: frame.method, data };
  }
  return void 0;
}
function isObject(value) {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}
function errorOf(frame, data) {
  const code = typeof frame.errorCode === "number" ? frame.errorCode : 14;
  const name = typeof frame.error === "string" ? frame.error : void 0;
  const reason = typeof frame.errorReason === "string" ? frame.errorReason : "the server gave no reason";
  const retryAfterMs = typeof data.retryAfterMs === "number" ? data.retryAfterMs : void 0;
  return SluiceError.fromServer(code, name, reason, retryAfterMs);
}

// src/signalling.ts
var REQUEST_WITHIN_MS = 12e3;
var MAX_PENDING = 256;
var TOKEN_WITHIN_MS = 1e4;
var MAX_EXPIRED = 5;
var Signalling = class extends Emitter {
  constructor(options) {
    super();
    this.options = options;
    this.#link = new Link(options.clock.random, options.edges.count);
    this.#driver = new Driver(
      options.clock,
      this.#link,
      (action) => this.#perform(action),
      () => this.#publishState()
    );
  }
  options;
  #link;
  #driver;
  #pending = /* @__PURE__ */ new Map();
  #socket;
  #nextId = 1;
  #state = { name: "connecting" };
  /** Why there is no connection, where more is known than that there is none. */
  #error;
  /** Connections in a row that ended because of an expired token before the server had said anything. */
  #expired = 0;
  get state() {
    return this.#state;
  }
  start() {
    this.#input(() => this.#link.handleStart());
  }
  /** Something suggests that the network changed or is back. */
  hint() {
    this.#input((now) => this.#link.handleHint(now));
  }
  /** Nothing was sent for the present probe, so nothing is to be waited for. */
  skipProbe() {
    this.#input(() => this.#link.handleAlive());
  }
  /** Ends the connection for good. */
  stop(reason) {
    this.#input(() => this.#link.handleStop(reason));
  }
  /**
   * Sends a request over the present socket. Rejects with `disconnected` if there is none or it is lost before the
   * answer, `timeout` if none comes, or what the server answered.
   */
  request(method, data) {
    const socket = this.#socket;
    if (this.#link.state.name !== "open" || !socket) {
      return Promise.reject(SluiceError.local("disconnected", "there is no connection to the server"));
    }
    if (this.#pending.size >= MAX_PENDING) {
      return Promise.reject(SluiceError.local("rate_limited", `more than ${MAX_PENDING} requests at once`));
    }
    const id = this.#nextId++;
    const text3 = encodeRequestOrReject(id, method, data);
    if (text3 instanceof SluiceError) return Promise.reject(text3);
    return new Promise((resolve, reject) => {
      const timer = this.options.clock.setTimer(() => {
        this.#pending.delete(id);
        reject(SluiceError.local("timeout", `the server did not answer ${method} in time`));
        this.hint();
      }, REQUEST_WITHIN_MS);
      this.#pending.set(id, { method, timer, resolve, reject });
      socket.send(text3);
    });
  }
  /** Sends a request whose answer nobody waits for, as when the page goes away. */
  post(method, data) {
    if (this.#link.state.name === "open") this.#socket?.send(encodeRequest(this.#nextId++, method, data));
  }
  #input(give) {
    give(this.options.clock.now());
    this.#driver.turn();
  }
  #perform(action) {
    switch (action.do) {
      case "open":
        void this.#open();
        break;
      case "abandon":
        this.#error = void 0;
        this.#abandon();
        this.options.edges.next();
        break;
      case "probe":
        this.emit("probe", { hinted: action.hinted });
        break;
    }
  }
  async #open() {
    const attempt = this.#link.state;
    let token;
    try {
      token = await within(this.options.clock, TOKEN_WITHIN_MS, resolveToken(this.options.token));
    } catch (thrown) {
      if (this.#link.state !== attempt) return;
      const { reason } = SluiceError.from(thrown);
      this.#error = SluiceError.local("token_unavailable", `the token function failed: ${reason}`);
      this.#input((now) => this.#link.handleLost(now, 0, "no token"));
      return;
    }
    if (this.#link.state !== attempt) return;
    let socket;
    try {
      socket = this.options.socket(...target(this.options, token));
    } catch (error) {
      this.#input((now) => this.#link.handleLost(now, CLOSE_FINAL, SluiceError.from(error).reason));
      return;
    }
    this.#use(socket);
    this.#input((now) => this.#link.handleOpening(now));
  }
  #use(socket) {
    this.#socket = socket;
    socket.onopen = () => {
      if (this.#socket !== socket) return;
      this.#error = void 0;
      this.#input((now) => this.#link.handleOpened(now));
    };
    socket.onmessage = ({ data }) => {
      if (this.#socket === socket) this.#receive(data);
    };
    socket.onclose = ({ code, reason }) => {
      if (this.#socket !== socket) return;
      this.#socket = void 0;
      const again = code === CLOSE_FINAL && this.#hasFreshToken(reason);
      this.#error = again ? closeError(code, reason) : void 0;
      if (code !== CLOSE_FINAL) this.options.edges.next();
      this.#input((now) => this.#link.handleLost(now, code, reason, again));
      this.#failPending();
    };
    socket.onerror = null;
  }
  /** A token that ran out, as that of a laptop that slept, is no last word where a function gives another. */
  #hasFreshToken(reason) {
    if (typeof this.options.token !== "function" || !/\btoken expired$/.test(reason)) return false;
    this.#expired += 1;
    return this.#expired <= MAX_EXPIRED;
  }
  #receive(data) {
    const frame = decodeFrame(data);
    if (!frame) return;
    this.#expired = 0;
    this.#input(() => this.#link.handleAlive());
    if (frame.kind === "notification") {
      this.emit("notification", frame);
      return;
    }
    const pending = this.#pending.get(frame.id);
    if (!pending) return;
    this.#pending.delete(frame.id);
    this.options.clock.clearTimer(pending.timer);
    if (frame.kind === "response") pending.resolve(frame.data);
    else pending.reject(frame.error);
  }
  #abandon() {
    const socket = this.#socket;
    this.#socket = void 0;
    if (socket) {
      socket.onopen = null;
      socket.onmessage = null;
      socket.onclose = null;
      socket.close(1e3);
    }
    this.#failPending();
  }
  #failPending() {
    const pending = [...this.#pending.values()];
    this.#pending.clear();
    for (const { method, timer, reject } of pending) {
      this.options.clock.clearTimer(timer);
      reject(SluiceError.local("disconnected", `the connection was lost before ${method} was answered`));
    }
  }
  #publishState() {
    const state = this.#describe();
    if (state.name === this.#state.name && state.name !== "reconnecting") return;
    if (JSON.stringify(state) === JSON.stringify(this.#state)) return;
    this.#state = state;
    this.emit("state", state);
  }
  #describe() {
    const state = this.#link.state;
    switch (state.name) {
      case "open":
        return { name: "open" };
      case "closed":
        return { name: "closed", error: closeError(state.code, state.reason) };
      case "waiting":
        return this.#reconnecting(Math.max(0, Math.ceil(state.until - this.options.clock.now())));
      default:
        return this.#link.tries > 0 || this.#state.name !== "connecting" ? this.#reconnecting(0) : { name: "connecting" };
    }
  }
  #reconnecting(retryInMs) {
    return { name: "reconnecting", retryInMs, ...this.#error && { error: this.#error } };
  }
};
function target(options, token) {
  const url = new URL(options.edges.current);
  url.searchParams.set("peer", options.peer);
  const protocols = ["protoo"];
  if (token !== void 0 && /^[\w.~-]+$/.test(token)) protocols.push(`bearer.${token}`);
  else if (token !== void 0) url.searchParams.set("access_token", token);
  return [url.href, protocols];
}
async function resolveToken(source) {
  return typeof source === "function" ? await source() : source;
}
function closeError(code, reason) {
  if (code === CLOSE_FINAL)
    return new SluiceError(code, "refused", reason || "the server closed the connection");
  return SluiceError.local("closed", reason);
}
function encodeRequestOrReject(id, method, data) {
  try {
    return encodeRequest(id, method, data);
  } catch (error) {
    return SluiceError.from(error);
  }
}
function within(clock, ms, promise) {
  return new Promise((resolve, reject) => {
    const timer = clock.setTimer(() => reject(SluiceError.local("timeout", `took longer than ${ms} ms`)), ms);
    promise.then(resolve, reject).finally(() => clock.clearTimer(timer));
  });
}

// src/renewal.ts
var SPREAD_SHARE = 1 / 3;
var MAX_SPREAD_MS = 2e4;
var FINAL = /* @__PURE__ */ new Set(["unknown_method", "disconnected"]);
var Renewal = class {
  constructor(signalling, token, clock) {
    this.signalling = signalling;
    this.token = token;
    this.clock = clock;
    this.#backoff = new Backoff(RECONNECT, clock.random);
  }
  signalling;
  token;
  clock;
  #timer;
  /** Counts what was begun; a stale one ends by itself. */
  #current = 0;
  #backoff;
  /** The server says that the token ends in so many milliseconds. A token that is text has no successor. */
  handleExpiring(inMs) {
    if (typeof this.token !== "function" || !(inMs > 0)) return;
    this.stop();
    this.#backoff.reset();
    const spread = Math.min(inMs * SPREAD_SHARE, MAX_SPREAD_MS);
    this.#after(Math.floor(this.clock.random() * spread), this.clock.now() + inMs);
  }
  /** The connection is gone, or is about to have a fresh token anyway. */
  stop() {
    this.#current += 1;
    if (this.#timer !== void 0) this.clock.clearTimer(this.#timer);
    this.#timer = void 0;
  }
  #after(ms, deadline) {
    const mine = this.#current;
    this.#timer = this.clock.setTimer(() => {
      this.#timer = void 0;
      void this.#renew(mine, deadline);
    }, ms);
  }
  async #renew(mine, deadline) {
    try {
      const token = await within(this.clock, TOKEN_WITHIN_MS, resolveToken(this.token));
      if (mine !== this.#current) return;
      await this.signalling.request("refresh", { access_token: token });
    } catch (thrown) {
      if (mine !== this.#current) return;
      const error = SluiceError.from(thrown);
      const wait = Math.max(error.retryAfterMs ?? 0, this.#backoff.next());
      if (!FINAL.has(error.name) && this.clock.now() + wait < deadline) this.#after(wait, deadline);
    }
  }
};

// src/feed.ts
var MAX_HELD = 1e3;
var Feed = class {
  #position;
  #held = [];
  #holding = true;
  #outdated = false;
  #overflowed = false;
  /** The last position delivered or covered by a snapshot: what to send as `since`. */
  get position() {
    return this.#position;
  }
  /** True when only a new join can tell the state: another epoch began, or too much was held. */
  get outdated() {
    return this.#outdated;
  }
  /** A join is on its way: keeps what arrives until its answer is known. */
  hold() {
    this.#holding = true;
    if (this.#overflowed) this.#held = [];
    this.#overflowed = false;
  }
  /** The join was answered by a snapshot as of `at`. Returns the kept notifications that come after it. */
  startAt(at) {
    this.#position = at;
    return this.#release();
  }
  /** The join was answered by "the missed notifications follow". Returns those kept so far. */
  goOn() {
    return this.#release();
  }
  /** A notification came. Returns what is to be delivered now. */
  push(at, notification) {
    if (this.#holding || this.#outdated) {
      this.#keep(at, notification);
      return [];
    }
    if (at === void 0 || this.#position === void 0) return [notification];
    if (at.epoch !== this.#position.epoch) {
      this.#outdated = true;
      this.#keep(at, notification);
      return [];
    }
    if (at.seq <= this.#position.seq) return [];
    this.#position = at;
    return [notification];
  }
  #keep(at, notification) {
    if (this.#held.length < MAX_HELD) this.#held.push({ at, notification });
    else this.#overflowed = true;
  }
  #release() {
    const held = this.#held;
    this.#held = [];
    this.#holding = false;
    this.#outdated = this.#overflowed;
    if (this.#overflowed) return [];
    const current = held.filter(({ at }) => !at || !this.#position || at.epoch === this.#position.epoch);
    return current.flatMap(({ at, notification }) => this.push(at, notification));
  }
};

// src/messages.ts
function readJoined(data) {
  return {
    users: list(data.users).flatMap((user) => isObject(user) && isId(user.uid) ? [user.uid] : []),
    streams: list(data.pubs).flatMap((pub) => readStream(pub) ?? []),
    own: isObject(data.own) && data.own.more !== true ? {
      mids: ids(data.own.pubs, "mid"),
      sids: ids(data.own.subs, "sid"),
      recordings: new Map(list(data.own.pubs).flatMap(recordingOf))
    } : void 0,
    session: typeof data.session === "string" ? data.session : void 0,
    position: readPosition(data),
    resync: data.resync === true,
    rest: typeof data.rest === "number" && data.rest > 0 ? Math.floor(data.rest) : 0
  };
}
function readNotification(method, data) {
  switch (method) {
    case "peer-join":
    case "peer-leave":
      return isId(data.uid) ? { method, uid: data.uid } : void 0;
    case "stream-add": {
      const stream = readStream(data);
      return stream ? { method, stream } : void 0;
    }
    case "stream-remove":
      return isId(data.mid) ? { method, mid: data.mid, uid: isId(data.uid) ? data.uid : void 0, reason: text(data.reason) } : void 0;
    case "stream-update":
      return isId(data.mid) ? { method, mid: data.mid, info: readInfo(data.minfo) } : void 0;
    case "recording":
      return isId(data.mid) && isId(data.recording) ? { method, mid: data.mid, on: data.on === true, recording: data.recording } : void 0;
    case "stream-migrate":
      return isId(data.mid) ? { method, mid: data.mid } : void 0;
    case "broadcast":
      return isId(data.uid) ? { method, uid: data.uid, data: data.data ?? null } : void 0;
    case "peer-kick":
      return { method, uid: isId(data.uid) ? data.uid : void 0, reason: text(data.reason) };
    default:
      return void 0;
  }
}
function readPosition(data) {
  const { epoch, seq } = data;
  if (typeof epoch !== "string" && typeof epoch !== "number") return void 0;
  return typeof seq === "number" ? { epoch, seq } : void 0;
}
function readInfo(value) {
  const info = isObject(value) ? value : {};
  return {
    ...info,
    // What a publisher does not say may be there.
    audio: info.audio !== false,
    video: info.video !== false,
    audiotype: typeof info.audiotype === "number" ? info.audiotype : 0,
    videotype: typeof info.videotype === "number" ? info.videotype : 0
  };
}
function readStream(value) {
  if (!isObject(value) || !isId(value.mid) || !isId(value.uid)) return void 0;
  return {
    mid: value.mid,
    uid: value.uid,
    info: readInfo(value.minfo),
    ...isId(value.recording) && { recording: value.recording }
  };
}
function recordingOf(value) {
  return isObject(value) && isId(value.mid) && isId(value.recording) ? [[value.mid, value.recording]] : [];
}
function ids(value, key) {
  const found = /* @__PURE__ */ new Set();
  for (const entry of list(value)) {
    const id = isObject(entry) ? entry[key] : entry;
    if (isId(id)) found.add(id);
  }
  return found;
}
function list(value) {
  return Array.isArray(value) ? value : [];
}
function text(value) {
  return typeof value === "string" ? value : "";
}
function isId(value) {
  return typeof value === "string" && value.length > 0 && value.length <= 512;
}

// src/snapshot.ts
var Snapshot = class {
  constructor(answer) {
    this.answer = answer;
    this.#users = [...answer.users];
    this.#streams = [...answer.streams];
    this.#missing = answer.rest;
  }
  answer;
  #users;
  #streams;
  #missing;
  /** All of the room is known. */
  get isWhole() {
    return this.#missing === 0;
  }
  /** The answer as it would be if it had all. */
  get joined() {
    return { ...this.answer, users: this.#users, streams: this.#streams, rest: 0 };
  }
  /** Takes a notification that is part of the rest; false: it is none. */
  take(at, notification) {
    const { position } = this.answer;
    if (this.isWhole || !at || !position || at.epoch !== position.epoch || at.seq !== position.seq) return false;
    if (notification?.method === "peer-join") this.#users.push(notification.uid);
    else if (notification?.method === "stream-add") this.#streams.push(notification.stream);
    this.#missing -= 1;
    return true;
  }
};

// src/membership.ts
var REQUEST_WITHIN_MS2 = 3e4;
var LEAVE_WITHIN_MS = 2e3;
var UNANSWERED = /* @__PURE__ */ new Set(["timeout", "store_unavailable", "internal", "rate_limited"]);
var REST_WITHIN_MS = 1e4;
var FINAL2 = /* @__PURE__ */ new Set(["bad_uid", "forbidden", "unknown_method", "too_large"]);
var FINAL_AT_FIRST = /* @__PURE__ */ new Set([...FINAL2, "not_in_room", "conflict", "unauthenticated"]);
var Membership = class {
  constructor(rid, signalling, clock, events) {
    this.rid = rid;
    this.signalling = signalling;
    this.clock = clock;
    this.events = events;
    this.#backoff = new Backoff(RECONNECT, clock.random);
  }
  rid;
  signalling;
  clock;
  events;
  #state = "joining";
  #session;
  #joinedBefore = false;
  /** A join was sent: the server may have let us in, whatever became of its answer. */
  #asked = false;
  /** Counts joins; an answer to any but the last is of no interest. */
  #attempt = 0;
  #retry;
  /** What the last join was answered with, while a part of it is still to come. */
  #snapshot;
  #waiting = /* @__PURE__ */ new Set();
  #feed = new Feed();
  #backoff;
  #offState = () => void 0;
  get state() {
    return this.#state;
  }
  /** Joins as soon as there is a connection, and again whenever there is another. */
  start() {
    this.#offState = this.signalling.on("state", () => this.#signallingChanged());
    this.#signallingChanged();
  }
  /**
   * Sends a request once the room is joined, again after lost connections, until it is answered or 30 s are over.
   * With `isWanted` it is also sent again when the server says that it cannot for now, while that is so.
   */
  async request(method, data, isWanted) {
    const deadline = this.clock.now() + REQUEST_WITHIN_MS2;
    const backoff = new Backoff(RECONNECT, this.clock.random);
    let op = newOp();
    for (; ; ) {
      if (this.#state !== "joined") await this.#whenJoined(deadline);
      const attempt = this.#attempt;
      let error;
      try {
        return await this.signalling.request(method, { ...data, rid: this.rid, op });
      } catch (thrown) {
        error = SluiceError.from(thrown);
      }
      if (this.clock.now() >= deadline) throw error;
      if (error.name === "disconnected" || error.name === "timeout") continue;
      if (error.name === "not_in_room") this.#joinAgain(attempt);
      else if (!(error.passing && isWanted?.()) && error.name !== "rate_limited") throw error;
      op = newOp();
      await this.#sleep(Math.max(error.retryAfterMs ?? 0, backoff.next()));
      if (isWanted?.() === false) throw error;
    }
  }
  /** Tells the server that the member is there; false if it is not, for now. */
  keepAlive() {
    if (this.#state !== "joined") return false;
    const attempt = this.#attempt;
    this.signalling.request("keepalive", { rid: this.rid }).catch((thrown) => {
      if (SluiceError.from(thrown).name === "not_in_room") this.#joinAgain(attempt);
    });
    return true;
  }
  handleNotification(method, data) {
    if (this.#state === "ended") return;
    const at = readPosition(data);
    const notification = readNotification(method, data);
    if (this.#snapshot?.take(at, notification)) {
      this.#awaitSnapshot(this.#snapshot);
      return;
    }
    this.#deliver(this.#feed.push(at, notification));
    if (this.#feed.outdated && this.#state === "joined") this.#join();
  }
  /** Leaves: tells the server if it can be told, and does not wait for long. */
  async leave() {
    if (this.#state === "ended") return;
    this.#end();
    if (!this.#asked) return;
    const goodbye = this.#sayGoodbye().finally(() => this.#forgetJoin());
    await within(this.clock, LEAVE_WITHIN_MS, goodbye).catch(() => void 0);
  }
  /**
   * Repeats it until it is answered: a connection that stays open keeps the member there. When the connection ends, or the
   * room is joined anew over it, so does this.
   */
  async #sayGoodbye() {
    const backoff = new Backoff(RECONNECT, this.clock.random);
    const op = newOp();
    let wait = 0;
    do {
      try {
        await this.signalling.request("leave", { rid: this.rid, op });
        return;
      } catch (thrown) {
        const error = SluiceError.from(thrown);
        if (!UNANSWERED.has(error.name)) return;
        wait = Math.max(error.retryAfterMs ?? 0, backoff.next());
      }
    } while (await this.#isConnectedFor(wait));
  }
  /** Resolves to true after that time, to false when the connection ends before or another membership asks to join the room. */
  #isConnectedFor(ms) {
    return new Promise((resolve) => {
      const end = (isConnected) => {
        this.clock.clearTimer(timer);
        off();
        resolve(isConnected && lastToJoin(this.signalling).get(this.rid) === this);
      };
      const timer = this.clock.setTimer(() => end(true), ms);
      const off = this.signalling.on("state", () => end(false));
    });
  }
  #forgetJoin() {
    const joined = lastToJoin(this.signalling);
    if (joined.get(this.rid) === this) joined.delete(this.rid);
  }
  /** The page goes away: says so without waiting for anything. */
  post() {
    if (this.#state !== "ended" && this.#asked) this.signalling.post("leave", { rid: this.rid });
  }
  /** Ends without telling the server, which knows. */
  fail(error) {
    if (this.#state === "ended") return;
    this.#end();
    this.#forgetJoin();
    this.events.ended(error);
  }
  #signallingChanged() {
    const { state } = this.signalling;
    if (this.#state === "ended") return;
    if (state.name === "open") this.#join();
    else if (state.name === "closed") this.fail(state.error);
    else this.#lose();
  }
  #lose() {
    this.#attempt += 1;
    this.#clearRetry();
    this.#snapshot = void 0;
    if (this.#state !== "joined") return;
    this.#state = "rejoining";
    this.#feed.hold();
    this.events.lost();
  }
  #join() {
    this.#lose();
    void this.#askToJoin(this.#attempt);
  }
  /** Joins again unless that has happened since `attempt`. */
  #joinAgain(attempt) {
    if (this.#state === "joined" && attempt === this.#attempt) this.#join();
  }
  async #askToJoin(attempt) {
    this.#asked = true;
    lastToJoin(this.signalling).set(this.rid, this);
    const since = this.#session === void 0 ? void 0 : this.#feed.position;
    try {
      const answer = await this.signalling.request("join", {
        rid: this.rid,
        session: this.#session,
        since: since && { epoch: since.epoch, seq: since.seq }
      });
      if (attempt === this.#attempt && this.#state !== "ended") this.#answered(readJoined(answer), since);
    } catch (thrown) {
      if (attempt === this.#attempt && this.#state !== "ended") this.#joinFailed(SluiceError.from(thrown));
    }
  }
  #answered(joined, since) {
    this.#session = joined.session;
    if (since !== void 0 && !joined.resync && joined.position?.epoch === since.epoch) {
      this.#enter(joined, true);
    } else {
      this.#awaitSnapshot(new Snapshot(joined));
    }
  }
  /** Goes in once the snapshot is whole: until then nobody can tell who has left from who is still to be told of. */
  #awaitSnapshot(snapshot) {
    this.#clearRetry();
    if (snapshot.isWhole) {
      this.#snapshot = void 0;
      this.#enter(snapshot.joined, false);
      return;
    }
    this.#snapshot = snapshot;
    this.#retry = this.clock.setTimer(() => this.#join(), REST_WITHIN_MS);
  }
  #enter(joined, resumed) {
    this.#backoff.reset();
    this.#state = "joined";
    this.#joinedBefore = true;
    if (resumed) this.events.resumed(joined);
    else this.events.snapshot(joined);
    this.#deliver(resumed ? this.#feed.goOn() : this.#feed.startAt(joined.position));
    const waiting = [...this.#waiting];
    this.#waiting.clear();
    for (const wake of waiting) wake();
    if (this.#feed.outdated) this.#join();
  }
  #joinFailed(error) {
    const final = this.#joinedBefore ? FINAL2 : FINAL_AT_FIRST;
    if (final.has(error.name)) {
      this.fail(error);
      return;
    }
    if (error.name === "disconnected") return;
    const wait = Math.max(error.retryAfterMs ?? 0, this.#backoff.next());
    this.#retry = this.clock.setTimer(() => {
      this.#retry = void 0;
      if (this.signalling.state.name === "open") this.#join();
    }, wait);
  }
  #deliver(notifications) {
    for (const notification of notifications) {
      if (notification) this.events.notification(notification);
    }
  }
  /** Resolves when the room is joined; rejects when it has ended or the time is up. */
  #whenJoined(deadline) {
    return new Promise((resolve, reject) => {
      if (this.#state === "joined") return resolve();
      if (this.#state === "ended") return reject(SluiceError.local("closed", "the room has been left"));
      const wake = () => {
        this.#waiting.delete(wake);
        this.clock.clearTimer(timer);
        if (this.#state === "joined") resolve();
        else reject(SluiceError.local("closed", "the room has been left"));
      };
      const timer = this.clock.setTimer(
        () => {
          this.#waiting.delete(wake);
          reject(SluiceError.local("disconnected", "there was no connection to the room in time"));
        },
        Math.max(0, deadline - this.clock.now())
      );
      this.#waiting.add(wake);
    });
  }
  #sleep(ms) {
    return new Promise((resolve) => {
      this.clock.setTimer(resolve, ms);
    });
  }
  #clearRetry() {
    if (this.#retry !== void 0) this.clock.clearTimer(this.#retry);
    this.#retry = void 0;
  }
  #end() {
    this.#state = "ended";
    this.#attempt += 1;
    this.#clearRetry();
    this.#snapshot = void 0;
    this.#offState();
    const waiting = [...this.#waiting];
    this.#waiting.clear();
    for (const wake of waiting) wake();
  }
};
var joinedOver = /* @__PURE__ */ new WeakMap();
function lastToJoin(signalling) {
  const known = joinedOver.get(signalling) ?? /* @__PURE__ */ new Map();
  joinedOver.set(signalling, known);
  return known;
}
function newOp() {
  const bytes = crypto.getRandomValues(new Uint8Array(12));
  return Array.from(bytes, (byte) => byte.toString(16).padStart(2, "0")).join("");
}

// src/info.ts
var KINDS = ["audio", "video"];
var SCREEN = 1;
function makeInfo(source, has, muted, extra = {}) {
  return {
    ...extra,
    audio: has.audio,
    video: has.video,
    audiotype: 0,
    videotype: source === "screen" ? SCREEN : 0,
    muted: { audio: muted.audio, video: muted.video }
  };
}
function sourceOf(info) {
  if (info.videotype === SCREEN) return "screen";
  return info.video ? "camera" : "microphone";
}
function mutedOf(info) {
  const muted = isObject(info.muted) ? info.muted : {};
  return { audio: muted.audio === true, video: muted.video === true };
}

// src/stats.ts
var Summary = class {
  /** `stereo`: what is sent has two channels. Reports do not tell: two are always agreed, so that subscribers may get them. */
  constructor(stereo = false) {
    this.stereo = stereo;
  }
  stereo;
  #last = /* @__PURE__ */ new Map();
  of(report) {
    const entries = /* @__PURE__ */ new Map();
    for (const entry of report) {
      if (typeof entry === "object" && entry !== null)
        entries.set(text2(entry, "id") ?? "", entry);
    }
    const all = [...entries.values()];
    const transport = all.find((entry) => entry.type === "transport");
    const pair = selectedPair(entries, all, transport);
    const local = entries.get(text2(pair, "localCandidateId") ?? "");
    const counters = /* @__PURE__ */ new Map();
    const tracks = all.filter((entry) => entry.type === "inbound-rtp" || entry.type === "outbound-rtp").flatMap((entry) => this.#track(entry, entries, counters) ?? []);
    this.#last = counters;
    return {
      rttMs: milliseconds(number(pair, "currentRoundTripTime")),
      srtpCipher: text2(transport, "srtpCipher"),
      dtlsState: text2(transport, "dtlsState"),
      path: local ? `${text2(local, "protocol") ?? "?"} ${text2(local, "candidateType") ?? "?"}` : void 0,
      availableOutgoing: tracks.some(({ direction }) => direction === "send") ? number(pair, "availableOutgoingBitrate") : void 0,
      tracks
    };
  }
  #track(entry, entries, counters) {
    const id = text2(entry, "id");
    const kind = text2(entry, "kind");
    if (id === void 0 || kind !== "audio" && kind !== "video") return void 0;
    const send = entry.type === "outbound-rtp";
    const remote = entries.get(text2(entry, "remoteId") ?? "");
    const judged = send ? remote : entry;
    const now = {
      at: number(entry, "timestamp") ?? 0,
      bytes: number(entry, send ? "bytesSent" : "bytesReceived") ?? 0,
      packets: number(entry, send ? "packetsSent" : "packetsReceived") ?? 0,
      lost: number(judged, "packetsLost") ?? 0
    };
    counters.set(id, now);
    const before = this.#last.get(id);
    return {
      kind,
      direction: send ? "send" : "receive",
      bitrate: before ? rate(before, now) : 0,
      loss: before ? lossBetween(before, now, send) : 0,
      jitterMs: milliseconds(number(judged, "jitter")),
      codec: codecName(entries.get(text2(entry, "codecId") ?? ""), send && kind === "audio" && this.stereo),
      width: number(entry, "frameWidth"),
      height: number(entry, "frameHeight"),
      framesPerSecond: number(entry, "framesPerSecond"),
      keyframeRequests: (number(entry, "pliCount") ?? 0) + (number(entry, "firCount") ?? 0),
      limitedBy: limitation(entry)
    };
  }
};
function selectedPair(entries, all, transport) {
  const named = entries.get(text2(transport, "selectedCandidatePairId") ?? "");
  const pairs = all.filter((entry) => entry.type === "candidate-pair");
  return named ?? pairs.find((pair) => pair.selected === true) ?? pairs.find((pair) => pair.nominated === true);
}
function rate(before, now) {
  const elapsed = now.at - before.at;
  return elapsed > 0 ? Math.max(0, (now.bytes - before.bytes) * 8e3 / elapsed) : 0;
}
function lossBetween(before, now, send) {
  const lost = Math.max(0, now.lost - before.lost);
  const packets = Math.max(0, now.packets - before.packets);
  const expected = send ? packets : packets + lost;
  return expected > 0 ? Math.min(1, lost / expected) : 0;
}
function codecName(codec, stereo) {
  const name = text2(codec, "mimeType")?.split("/")[1];
  return name && stereo ? `${name} stereo` : name;
}
function limitation(entry) {
  const reason = text2(entry, "qualityLimitationReason");
  return reason === "none" ? void 0 : reason;
}
function number(entry, key) {
  const value = entry?.[key];
  return typeof value === "number" && Number.isFinite(value) ? value : void 0;
}
function text2(entry, key) {
  const value = entry?.[key];
  return typeof value === "string" ? value : void 0;
}
function milliseconds(seconds) {
  return seconds === void 0 ? void 0 : seconds * 1e3;
}

// src/recovery.ts
var CONNECT_WITHIN_MS = 12e3;
var INTERRUPTED_FOR_MS = 1500;
var RESTARTED_WITHIN_MS = 6e3;
var MAX_RESTARTS = 3;
var MIGRATION_SPREAD_MS = 1e3;
var FIRST_TRIES = 4;
var RETRY = { baseMs: 500, capMs: 15e3 };
var Recovery = class {
  constructor(random) {
    this.random = random;
    this.#backoff = new Backoff(RETRY, random);
  }
  random;
  #state = { name: "idle" };
  #signalling = false;
  #everNegotiated = false;
  #everConnected = false;
  /** ICE and DTLS as last reported; an answer may come after the change it was waited for. */
  #ice = false;
  #dtls = false;
  /** What carries the media until a new connection does: the present one, or the one before it. */
  #carrier = "none";
  #restarts = 0;
  /** The server wants to hear nothing of it before. */
  #notBefore = 0;
  #actions = [];
  #backoff;
  get mediaState() {
    switch (this.#state.name) {
      case "connected":
        return "connected";
      case "ended":
        return "ended";
      case "interrupted":
        return "reconnecting";
      default:
        if (this.#flows || this.#carrier !== "none") return "connected";
        return this.#everConnected ? "reconnecting" : "connecting";
    }
  }
  get negotiating() {
    return this.#state.name === "negotiating";
  }
  handleStart(now) {
    if (this.#state.name === "idle") this.#wait(now, 0, "negotiate");
  }
  /** Requests can be sent from now on, or no longer. */
  handleSignalling(now, up) {
    if (this.#signalling === up) return;
    this.#signalling = up;
    if (up) this.#advance(now);
  }
  /** The server accepted the stream and its answer is in place. */
  handleNegotiated(now) {
    if (this.#state.name !== "negotiating") return;
    this.#everNegotiated = true;
    this.#await("connecting", now + CONNECT_WITHIN_MS);
  }
  /** The negotiation failed; `passing` says whether another may succeed. */
  handleNegotiationFailed(now, passing, retryAfterMs = 0) {
    if (this.#state.name !== "negotiating") return;
    const lastTry = !this.#everNegotiated && this.#backoff.tries + 1 >= FIRST_TRIES;
    this.#notBefore = now + retryAfterMs;
    if (!passing || lastTry) this.#end(true);
    else this.#wait(now, Math.max(retryAfterMs, this.#backoff.next()), "negotiate");
  }
  handleRestarted(now) {
    if (this.#state.name === "restarting") this.#await("restarted", now + RESTARTED_WITHIN_MS);
  }
  /** The restart failed; `passing`: the stream may live, otherwise the server does not know it any more. */
  handleRestartFailed(now, passing, retryAfterMs = 0) {
    if (this.#state.name !== "restarting") return;
    if (passing) this.#restartOrRenew(now, Math.max(retryAfterMs, this.#backoff.next()));
    else this.#wait(now, 0, "negotiate");
  }
  /** ICE has a way. On a connection that was secured before, media flows. */
  handleIceConnected() {
    this.#ice = true;
    if (!this.#flows) return;
    const { name } = this.#state;
    if (name === "connecting" || name === "interrupted" || name === "restarted" || this.#awaitsRestart()) {
      this.#connected();
    }
  }
  /** ICE and DTLS are up. A handshake that hangs under a way that works would be a black picture. */
  handleSecured() {
    this.#dtls = true;
    this.handleIceConnected();
  }
  /** No answers to checks for a while; may come back by itself. */
  handleIceDisconnected(now) {
    this.#ice = false;
    this.#presentCarriesNoMore();
    if (this.#state.name === "connected") {
      this.#state = { name: "interrupted", restartAt: now + INTERRUPTED_FOR_MS };
    }
  }
  /** Will not come back by itself. */
  handleIceFailed(now) {
    this.#ice = false;
    this.#presentCarriesNoMore();
    const { name } = this.#state;
    if (name === "connected" || name === "interrupted") this.#restartOrRenew(now, 0);
    else if (name === "restarted") this.#restartOrRenew(now, this.#backoff.next());
    else if (name === "connecting") this.#wait(now, this.#backoff.next(), "negotiate");
  }
  /** DTLS failed or was closed: a restart keeps DTLS, so only a new connection helps. */
  handleTransportFailed(now) {
    this.#dtls = false;
    this.#presentCarriesNoMore();
    const { name } = this.#state;
    if (name === "idle" || name === "ended" || name === "negotiating" || name === "waiting") return;
    this.#wait(now, this.#backoff.next(), "negotiate");
  }
  /** The machine's addresses changed: do not wait for checks to fail. */
  handleNetworkChanged(now) {
    const { name } = this.#state;
    if (name === "connected" || name === "interrupted") this.#restartOrRenew(now, 0);
  }
  /** The server no longer has the stream, or wants it elsewhere. */
  handleGone(now) {
    const { name } = this.#state;
    this.#presentCarriesNoMore();
    if (name === "idle" || name === "ended" || name === "negotiating") return;
    if (name === "waiting" && this.#state.then === "negotiate") return;
    this.#wait(now, Math.floor(this.random() * MIGRATION_SPREAD_MS), "negotiate");
  }
  /** The server wants the stream elsewhere, and carries it until it is there. */
  handleMigrate(now) {
    const state = this.#state;
    if (state.name === "waiting" && state.then === "negotiate") return;
    if (state.name !== "connected") return this.handleGone(now);
    this.#carrier = "present";
    this.#wait(now, Math.floor(this.random() * MIGRATION_SPREAD_MS), "negotiate");
  }
  /** The connection before the present one carries nothing any more. */
  handleFormerLost(now) {
    if (this.#carrier !== "former") return;
    this.#carrier = "none";
    const state = this.#state;
    if (state.name !== "waiting") return;
    const soon = Math.min(state.at, now + this.random() * MIGRATION_SPREAD_MS);
    this.#wait(now, Math.floor(Math.max(this.#notBefore, soon) - now), "negotiate");
  }
  /** The application or the stream's publisher is done with it. */
  handleClose() {
    if (this.#state.name !== "ended") this.#end(false);
  }
  handleTimeout(now) {
    const state = this.#state;
    if (state.name === "waiting") this.#advance(now);
    else if (state.name === "connecting" && now >= state.deadline) {
      this.#wait(now, this.#backoff.next(), "negotiate");
    } else if (state.name === "interrupted" && now >= state.restartAt) this.#restartOrRenew(now, 0);
    else if (state.name === "restarted" && now >= state.deadline) this.#restartOrRenew(now, 0);
  }
  pollAction() {
    return this.#actions.shift();
  }
  pollTimeout() {
    const state = this.#state;
    if (state.name === "waiting") return this.#signalling ? state.at : void 0;
    if (state.name === "connecting" || state.name === "restarted") return state.deadline;
    if (state.name === "interrupted") return state.restartAt;
    return void 0;
  }
  /** Media can flow. */
  get #flows() {
    return this.#ice && this.#dtls;
  }
  #stopsFlowing() {
    this.#ice = false;
    this.#dtls = false;
  }
  #awaitsRestart() {
    return this.#state.name === "waiting" && this.#state.then === "restart";
  }
  #presentCarriesNoMore() {
    if (this.#carrier === "present") this.#carrier = "none";
  }
  /** Starts what was waited for, if signalling is there and its time has come. */
  #advance(now) {
    const state = this.#state;
    if (state.name !== "waiting" || !this.#signalling || now < state.at) return;
    if (state.then === "restart") {
      this.#state = { name: "restarting" };
      this.#actions.push({ do: "restart" });
      return;
    }
    this.#stopsFlowing();
    this.#state = { name: "negotiating" };
    if (this.#carrier === "present") this.#carrier = "former";
    this.#actions.push({ do: "negotiate", keep: this.#carrier === "former" });
  }
  #await(name, deadline) {
    this.#state = { name, deadline };
    if (this.#flows) this.#connected();
  }
  #connected() {
    this.#state = { name: "connected" };
    this.#everConnected = true;
    this.#restarts = 0;
    this.#backoff.reset();
    if (this.#carrier === "former") this.#actions.push({ do: "settle" });
    this.#carrier = "none";
  }
  #restartOrRenew(now, after) {
    if (this.#restarts >= MAX_RESTARTS) {
      this.#wait(now, this.#backoff.next(), "negotiate");
      return;
    }
    this.#restarts += 1;
    this.#wait(now, after, "restart");
  }
  #wait(now, after, then) {
    if (then === "negotiate") {
      this.#restarts = 0;
      this.#stopsFlowing();
    }
    this.#state = { name: "waiting", at: now + after, then };
    this.#advance(now);
  }
  #end(failed) {
    this.#carrier = "none";
    this.#state = { name: "ended" };
    this.#actions.push({ do: "end", failed });
  }
};

// src/transport.ts
var RESTART_AGAIN = /* @__PURE__ */ new Set([
  "timeout",
  "disconnected",
  "store_unavailable",
  "sfu_unreachable",
  "rate_limited",
  "internal"
]);
var Transport = class {
  constructor(clock, configuration, owner) {
    this.clock = clock;
    this.configuration = configuration;
    this.owner = owner;
    this.#recovery = new Recovery(clock.random);
    this.#driver = new Driver(
      clock,
      this.#recovery,
      (action) => this.#perform(action),
      () => this.#publishState()
    );
  }
  clock;
  configuration;
  owner;
  #recovery;
  #driver;
  #connection;
  #state = "connecting";
  #error;
  #accepted = false;
  /** The connection before the present one, while it carries the media or others may still want it. */
  #former;
  get state() {
    return this.#state;
  }
  /** The present peer connection, for statistics. It is replaced when the stream is negotiated anew. */
  get connection() {
    return this.#connection;
  }
  /** A new stream is being asked for. */
  get negotiating() {
    return this.#recovery.negotiating;
  }
  /** There is an older stream on the server, too. */
  get hasFormer() {
    return this.#former !== void 0;
  }
  start(signalling) {
    this.#input((now) => {
      this.#recovery.handleSignalling(now, signalling);
      this.#recovery.handleStart(now);
    });
  }
  setSignalling(up) {
    this.#input((now) => this.#recovery.handleSignalling(now, up));
  }
  networkChanged() {
    this.#input((now) => this.#recovery.handleNetworkChanged(now));
  }
  /** The server says that the stream is gone. */
  gone() {
    this.#input((now) => this.#recovery.handleGone(now));
  }
  /** The server says that the stream should move, and carries it until then. */
  migrate() {
    this.#input((now) => this.#recovery.handleMigrate(now));
  }
  /** The older stream is gone. */
  formerGone() {
    this.#discardFormer();
    this.#input((now) => this.#recovery.handleFormerLost(now));
  }
  close() {
    this.#input(() => this.#recovery.handleClose());
  }
  #input(give) {
    give(this.clock.now());
    this.#driver.turn();
  }
  #perform(action) {
    switch (action.do) {
      case "negotiate":
        void this.#negotiate(action.keep);
        break;
      case "restart":
        void this.#restart();
        break;
      case "settle":
        this.owner.adopt();
        this.#endFormerAfter(this.owner.overlapMs);
        break;
      case "end":
        this.#discardFormer();
        this.#discard();
        this.#publishState();
        this.owner.ended(action.failed ? this.#error : void 0);
        break;
    }
  }
  async #negotiate(keep) {
    if (!keep || this.#former?.timer !== void 0) this.#discardFormer();
    if (keep && !this.#former) this.#keepAsFormer();
    else this.#discard();
    const configuration = await this.configuration();
    if (!this.#recovery.negotiating) return;
    let connection;
    try {
      connection = new RTCPeerConnection(configuration);
    } catch (thrown) {
      this.#negotiationFailed(SluiceError.local("unsupported", SluiceError.from(thrown).reason));
      return;
    }
    this.#connection = connection;
    this.#watch(connection);
    const current = () => this.#connection === connection;
    try {
      this.owner.build(connection);
      if (!this.#former) this.owner.adopt();
      const offer = await this.#offer(connection, {});
      if (!current()) return;
      const answer = await this.owner.negotiate(offer);
      if (!current()) return this.owner.detach()();
      await connection.setRemoteDescription(this.#answer(answer.jsep));
      await this.owner.negotiated();
      if (!current()) return;
      this.#accepted = true;
      this.#input((now) => this.#recovery.handleNegotiated(now));
    } catch (thrown) {
      if (current()) this.#negotiationFailed(SluiceError.from(thrown));
    }
  }
  #negotiationFailed(error) {
    this.#error = error;
    const passing = error.passing || this.#accepted && error.name === "conflict";
    this.#input((now) => this.#recovery.handleNegotiationFailed(now, passing, error.retryAfterMs));
  }
  async #restart() {
    const connection = this.#connection;
    if (!connection) return;
    const current = () => this.#connection === connection;
    try {
      const offer = await this.#offer(connection, { iceRestart: true });
      if (!current()) return;
      const answer = await this.owner.restart(offer);
      if (!current()) return;
      await connection.setRemoteDescription(this.#answer(answer.jsep));
      this.#input((now) => this.#recovery.handleRestarted(now));
    } catch (thrown) {
      if (!current()) return;
      const error = SluiceError.from(thrown);
      if (connection.signalingState === "have-local-offer") {
        await connection.setLocalDescription({ type: "rollback" }).catch(() => void 0);
      }
      if (!current()) return;
      const again = RESTART_AGAIN.has(error.name);
      this.#input((now) => this.#recovery.handleRestartFailed(now, again, error.retryAfterMs));
    }
  }
  /** Makes and applies an offer. It names no candidates: the server is ICE-lite and learns ours from our checks. */
  async #offer(connection, options) {
    const plain = await connection.createOffer(options);
    const offer = { type: "offer", sdp: this.owner.rewriteOffer(plain.sdp ?? "") };
    try {
      await connection.setLocalDescription(offer);
    } catch {
      await connection.setLocalDescription(plain);
    }
    return offer;
  }
  #answer(jsep) {
    if (!isObject(jsep) || jsep.type !== "answer" || typeof jsep.sdp !== "string") {
      throw SluiceError.local("protocol", "the server's answer carries no SDP");
    }
    return { type: "answer", sdp: this.owner.rewriteAnswer(jsep.sdp) };
  }
  /** Another peer connection follows; this one goes on for now. */
  #keepAsFormer() {
    const connection = this.#connection;
    if (!connection) return;
    const end = this.owner.detach();
    this.#connection = void 0;
    this.#former = { connection, end };
    connection.oniceconnectionstatechange = null;
    connection.onconnectionstatechange = () => {
      if (this.#former?.connection === connection && connection.connectionState !== "connected") this.formerGone();
    };
  }
  #endFormerAfter(ms) {
    if (!this.#former) return;
    if (ms === 0) this.#discardFormer();
    else this.#former.timer = this.clock.setTimer(() => this.#discardFormer(), ms);
  }
  #discardFormer() {
    const former = this.#former;
    if (!former) return;
    this.#former = void 0;
    if (former.timer !== void 0) this.clock.clearTimer(former.timer);
    former.connection.onconnectionstatechange = null;
    former.connection.close();
    former.end();
  }
  #watch(connection) {
    const current = () => this.#connection === connection;
    connection.oniceconnectionstatechange = () => {
      if (!current()) return;
      const state = connection.iceConnectionState;
      this.#input((now) => {
        if (state === "connected" || state === "completed") this.#recovery.handleIceConnected();
        else if (state === "disconnected") this.#recovery.handleIceDisconnected(now);
        else if (state === "failed") this.#recovery.handleIceFailed(now);
      });
    };
    connection.onconnectionstatechange = () => {
      if (!current()) return;
      const { connectionState: state, iceConnectionState: ice } = connection;
      this.#input((now) => {
        if (state === "connected") this.#recovery.handleSecured();
        else if (state === "failed" && ice !== "failed") this.#recovery.handleTransportFailed(now);
      });
    };
  }
  /** Lets go of the peer connection and the server's stream behind it. */
  #discard() {
    const connection = this.#connection;
    if (!connection) return;
    this.#connection = void 0;
    connection.oniceconnectionstatechange = null;
    connection.onconnectionstatechange = null;
    connection.close();
    this.owner.detach()();
  }
  #publishState() {
    const state = this.#recovery.mediaState;
    if (state === this.#state) return;
    this.#state = state;
    this.owner.stateChanged(state);
  }
};

// src/media.ts
var Media = class extends Emitter {
  #room;
  #transport;
  #summary;
  #accepted;
  #settle;
  #keepOnServer = false;
  /** @internal `stereo`: what is sent has two channels. */
  constructor(room, stereo) {
    super();
    this.#room = room;
    this.#summary = new Summary(stereo);
    this.#accepted = new Promise((resolve, reject) => {
      this.#settle = { resolve, reject };
    });
    this.#accepted.catch(() => void 0);
    this.#transport = new Transport(room.clock, () => room.configuration(), {
      build: (connection) => this.build(connection),
      adopt: () => this.adopt(),
      overlapMs: this.overlapMs,
      rewriteOffer: (sdp) => this.rewriteOffer(sdp),
      rewriteAnswer: (sdp) => this.rewriteAnswer(sdp),
      negotiate: (jsep) => this.negotiate(jsep),
      negotiated: async () => {
        await this.negotiated();
        this.#settle.resolve();
      },
      restart: (jsep) => room.request("restart", { ...this.restartId(), jsep }),
      detach: () => this.#detach(),
      stateChanged: (state) => {
        if (state === "reconnecting") room.interrupted();
        this.emit("state", { state });
      },
      ended: (error) => {
        this.#settle.reject(error ?? SluiceError.local("closed", "the stream ended before the server had answered"));
        this.emit("ended", { error });
      }
    });
  }
  get state() {
    return this.#transport.state;
  }
  /** What its connection does at present; rates are those since the last call. */
  async stats() {
    const report = await this.#transport.connection?.getStats();
    return report ? this.#summary.of(report.values()) : void 0;
  }
  /** @internal Resolves when the server has accepted it. */
  async start() {
    this.#transport.start(this.#room.joined);
    await this.#accepted;
  }
  /** @internal */
  setSignalling(up) {
    this.#transport.setSignalling(up);
  }
  /** @internal */
  networkChanged() {
    this.#transport.networkChanged();
  }
  /** @internal The server does not know it any more. */
  gone() {
    this.#transport.gone();
  }
  /** @internal The server wants it elsewhere, and carries it until then. */
  migrate() {
    this.#transport.migrate();
  }
  /** @internal The server has removed what a newer stream replaces. */
  formerGone() {
    this.#transport.formerGone();
  }
  /** @internal What a newer stream replaces is still there. */
  get hasFormer() {
    return this.#transport.hasFormer;
  }
  /** @internal Its id on the server is about to be given or to change. */
  get negotiating() {
    return this.#transport.negotiating;
  }
  /** @internal The server has removed it or will: there is nothing to take back. */
  abandon() {
    this.#keepOnServer = true;
    this.#transport.close();
  }
  /** @internal Ends it, on the server, too. */
  end() {
    this.#transport.close();
  }
  /** @internal The peer connection built last is the one to show. */
  adopt() {
  }
  /** @internal How long what was replaced is kept for those who have not followed yet. */
  get overlapMs() {
    return 0;
  }
  #detach() {
    const request = this.takeBack();
    return () => {
      if (request && !this.#keepOnServer) this.#room.attempt(request.method, request.data);
    };
  }
};

// src/sdp.ts
var STEREO_PUBLISHER = { stereo: "1", "sprop-stereo": "1" };
var STEREO_SUBSCRIBER = { stereo: "1" };
function withOpusParameters(sdp, parameters) {
  return inSections(sdp, "audio", /^a=rtpmap:(\d+) opus\/48000\b.*$/gim, parameters);
}
function withStartBitrate(sdp, kilobits) {
  return inSections(sdp, "video", /^a=rtpmap:(\d+) VP8\/90000\b.*$/gim, {
    "x-google-start-bitrate": String(Math.round(kilobits))
  });
}
function inSections(sdp, kind, rtpmap, parameters) {
  return sections(sdp).map(
    (section) => section.startsWith(`m=${kind} `) ? setInSection(section, rtpmap, parameters) : section
  ).join("");
}
function setInSection(section, rtpmap, parameters) {
  let changed = section;
  for (const match of section.matchAll(rtpmap)) {
    changed = setForPayloadType(changed, match[1] ?? "", match[0], parameters);
  }
  return changed;
}
function setForPayloadType(section, payloadType, rtpmap, parameters) {
  const line = new RegExp(`^a=fmtp:${payloadType} (.*)$`, "m");
  const present2 = line.exec(section);
  if (!present2) {
    const end = section.includes("\r\n") ? "\r\n" : "\n";
    return section.replace(rtpmap, () => `${rtpmap}${end}a=fmtp:${payloadType} ${write(parameters)}`);
  }
  const merged = { ...read(present2[1] ?? ""), ...parameters };
  return section.replace(line, () => `a=fmtp:${payloadType} ${write(merged)}`);
}
function read(parameters) {
  const found = {};
  for (const part of parameters.split(";")) {
    const [key, ...value] = part.trim().split("=");
    if (key) found[key] = value.join("=");
  }
  return found;
}
function write(parameters) {
  return Object.entries(parameters).map(([key, value]) => value === "" ? key : `${key}=${value}`).join(";");
}
function sections(sdp) {
  return sdp.split(/^(?=m=)/m);
}

// src/publication.ts
var CAMERA_BITRATE = 15e5;
var SCREEN_BITRATE = 25e5;
var STEREO_BITRATE = 128e3;
var START_SHARE = 0.6;
var OVERLAP_MS = 3e3;
var Publication = class extends Media {
  /** Made by `Room.publish`. */
  constructor(room, options, recordings) {
    super(room, options.stereo);
    this.room = room;
    this.options = options;
    this.recordings = recordings;
    for (const kind of KINDS) mustBe(kind, options[kind]);
    this.source = options.source;
    this.#info = options.info === void 0 ? {} : asJson(options.info);
    this.#tracks = { audio: options.audio, video: options.video };
    this.#muted = { audio: options.muted?.audio ?? false, video: options.muted?.video ?? false };
    this.#applyEnabled();
    for (const kind of KINDS) this.#tracks[kind]?.addEventListener("ended", this.#hear);
    this.on("ended", () => this.#letGo());
    if (options.record) recordings.want(this);
  }
  room;
  options;
  recordings;
  source;
  #tracks;
  #muted;
  #info;
  #senders = {};
  #hear = (event) => this.#trackEnded(event.target);
  #mid;
  /** Of the stream that the present one replaces. */
  #formerMid;
  /** The server has the stream, as far as known here. */
  #onServer = false;
  #recording;
  /** Its id in the room; undefined until the server has accepted it. */
  get mid() {
    return this.#mid;
  }
  get muted() {
    return { ...this.#muted };
  }
  /** The track that is sent, null if that part has none now, undefined if the stream has no such part. */
  track(kind) {
    return this.#tracks[kind];
  }
  /** Stops sending sound or picture and tells the others. The device stays open; see `replaceTrack`. */
  async mute(kind) {
    await this.#setMuted(kind, true);
  }
  async unmute(kind) {
    await this.#setMuted(kind, false);
  }
  /**
   * Sends another track from now on, or none: to change the device, or to close it while muted (its light goes out).
   * The old track is stopped if the publication stops tracks.
   */
  async replaceTrack(kind, track) {
    const old = this.#tracks[kind];
    if (old === void 0) throw SluiceError.local("unsupported", `the stream was published without ${kind}`);
    mustBe(kind, track);
    this.#tracks[kind] = track;
    track?.addEventListener("ended", this.#hear);
    this.#applyEnabled();
    this.#applyHint(kind);
    try {
      await this.#senders[kind]?.replaceTrack(track);
    } catch (thrown) {
      if (this.#tracks[kind] === track) this.#tracks[kind] = old;
      throw SluiceError.local("unsupported", SluiceError.from(thrown).reason);
    }
    if (old && old !== track && this.#stopsTracks) old.stop();
  }
  /** Ends it for everybody. */
  unpublish() {
    this.end();
  }
  get #stopsTracks() {
    return this.options.stopTracks ?? true;
  }
  /** @internal */
  rewriteOffer(sdp) {
    return this.options.stereo ? withOpusParameters(sdp, STEREO_PUBLISHER) : sdp;
  }
  /** @internal */
  rewriteAnswer(sdp) {
    return withStartBitrate(sdp, this.#videoBitrate * START_SHARE / 1e3);
  }
  /** @internal */
  build(connection) {
    for (const kind of KINDS) {
      const track = this.#tracks[kind];
      if (track === void 0) continue;
      const maxBitrate = kind === "video" ? this.#videoBitrate : this.#audioBitrate;
      const transceiver = connection.addTransceiver(track ?? kind, {
        direction: "sendonly",
        sendEncodings: maxBitrate === void 0 ? [{}] : [{ maxBitrate }]
      });
      if (kind === "video") preferVp8(transceiver);
      this.#senders[kind] = transceiver.sender;
      this.#applyHint(kind);
    }
  }
  /** @internal */
  async negotiate(jsep) {
    const has = { audio: this.#tracks.audio !== void 0, video: this.#tracks.video !== void 0 };
    const told = { ...this.#muted };
    const again = this.#mid !== void 0;
    const record = this.options.record === true && this.recordings.wants(this);
    const info = { ...this.#info, ...record && { record }, ...again && { replaces: this.#mid } };
    const minfo = makeInfo(this.source, has, told, info);
    const answer = await this.room.request("publish", { jsep, minfo });
    if (typeof answer.mid !== "string")
      throw SluiceError.local("protocol", "the server's answer carries no mid");
    this.#mid = answer.mid;
    this.#onServer = true;
    this.recorded(typeof answer.recording === "string" ? answer.recording : void 0);
    if (again) this.emit("republished", { mid: answer.mid });
    for (const kind of KINDS) {
      if (told[kind] !== this.#muted[kind]) this.#tellMuted(kind);
    }
    if (record && !this.recordings.wants(this)) this.recordings.ask(this, false).catch(() => void 0);
    return answer;
  }
  /** @internal */
  async negotiated() {
    for (const kind of KINDS) {
      const sender = this.#senders[kind];
      if (sender && sender.track !== this.#tracks[kind])
        await sender.replaceTrack(this.#tracks[kind] ?? null);
    }
    await this.#applyDegradation();
  }
  /** @internal */
  restartId() {
    return { mid: this.#mid };
  }
  /** @internal */
  takeBack() {
    if (!this.#onServer) return void 0;
    this.#onServer = false;
    if (!this.hasFormer) this.#formerMid = this.#mid;
    return { method: "unpublish", data: { mid: this.#mid } };
  }
  /** @internal */
  get overlapMs() {
    return OVERLAP_MS;
  }
  /** The recording that is made of it, by its id; undefined: none. See `Room.record`. */
  get recording() {
    return this.#recording;
  }
  /** @internal It is recorded from now on, or no more. */
  recorded(recording) {
    if (this.#recording === recording) return;
    this.#recording = recording;
    this.emit("recording", { recording });
  }
  /** @internal The ids of what the server has of it. */
  get mids() {
    const former = this.hasFormer ? this.#formerMid : void 0;
    return [this.#mid, former].filter((mid) => mid !== void 0);
  }
  /** @internal The server has removed one of its streams. */
  removed(mid) {
    if (this.hasFormer && mid === this.#formerMid) this.formerGone();
    else if (mid === this.#mid) this.gone();
  }
  #trackEnded(track) {
    const kind = KINDS.find((kind2) => this.#tracks[kind2] === track);
    if (!kind) return;
    this.emit("track-ended", { kind });
    if (this.source === "screen" && kind === "video") this.unpublish();
  }
  #letGo() {
    for (const track of Object.values(this.#tracks)) {
      track?.removeEventListener("ended", this.#hear);
      if (this.#stopsTracks) track?.stop();
    }
  }
  async #setMuted(kind, muted) {
    if (this.#tracks[kind] === void 0) {
      throw SluiceError.local("unsupported", `the stream was published without ${kind}`);
    }
    if (this.#muted[kind] === muted) return;
    this.#muted[kind] = muted;
    this.#applyEnabled();
    if (this.#mid !== void 0) this.#tellMuted(kind);
  }
  #tellMuted(kind) {
    this.room.attempt("mute", { mid: this.#mid, [kind]: this.#muted[kind] });
  }
  #applyEnabled() {
    for (const kind of KINDS) {
      const track = this.#tracks[kind];
      if (track) track.enabled = !this.#muted[kind];
    }
  }
  #applyHint(kind) {
    const track = this.#tracks[kind];
    if (track?.contentHint !== "") return;
    if (kind === "video") track.contentHint = this.source === "screen" ? "detail" : "motion";
    else track.contentHint = this.options.stereo || this.source === "screen" ? "music" : "speech";
  }
  async #applyDegradation() {
    const sender = this.#senders.video;
    if (!sender) return;
    const parameters = sender.getParameters();
    const screen = this.source === "screen";
    parameters.degradationPreference = this.options.degradationPreference ?? (screen ? "maintain-resolution" : "balanced");
    await sender.setParameters(parameters).catch(() => void 0);
  }
  get #videoBitrate() {
    return this.options.maxVideoBitrate ?? (this.source === "screen" ? SCREEN_BITRATE : CAMERA_BITRATE);
  }
  get #audioBitrate() {
    return this.options.maxAudioBitrate ?? (this.options.stereo ? STEREO_BITRATE : void 0);
  }
};
function mustBe(kind, track) {
  if (track && track.kind !== kind) throw SluiceError.local("unsupported", `${kind} needs a track of ${kind}`);
}
function preferVp8(transceiver) {
  const codecs = RTCRtpSender.getCapabilities?.("video")?.codecs;
  if (!codecs || !transceiver.setCodecPreferences) return;
  const vp8 = codecs.filter((codec) => codec.mimeType.toLowerCase() === "video/vp8");
  if (vp8.length === 0) return;
  transceiver.setCodecPreferences([...vp8, ...codecs.filter((codec) => !vp8.includes(codec))]);
}

// src/recordings.ts
var Recordings = class {
  constructor(room) {
    this.room = room;
  }
  room;
  /** What was asked for here and has not ended since: it is asked for again where the stream moves. */
  #wanted = /* @__PURE__ */ new WeakSet();
  /** Of a stream, the recording that was last heard to have ended: that it has begun may be heard later. */
  #over = /* @__PURE__ */ new WeakMap();
  wants(stream) {
    return this.#wanted.has(stream);
  }
  want(stream) {
    this.#wanted.add(stream);
  }
  /** Whoever ended it, or what did, it is not to come back by itself. */
  forget(stream) {
    this.#wanted.delete(stream);
  }
  /** See `Room.record`. */
  async ask(stream, on) {
    if (!on) this.forget(stream);
    for (; ; ) {
      const { mid } = stream;
      if (mid === void 0) throw SluiceError.local("bad_mid", "the stream is not published");
      try {
        const recording = await this.#askOf(stream, mid, on);
        if (stream.mid !== mid) continue;
        if (on && this.#over.get(stream) !== recording) this.want(stream);
        return recording;
      } catch (thrown) {
        const error = SluiceError.from(thrown);
        if (stream.mid !== mid) continue;
        if (on || error.name !== "bad_mid") throw error;
        this.room.show(stream, void 0);
        return void 0;
      }
    }
  }
  /** It is another stream to the server from now on: unless that records it anyway, it has to be told. */
  moved(stream) {
    const { mid, recording } = stream;
    if (mid === void 0 || recording !== void 0 || !this.wants(stream)) return;
    const isWanted = () => stream.mid === mid && this.wants(stream);
    this.#askOf(stream, mid, true, isWanted).catch(() => void 0);
  }
  /**
   * A recording has begun or ended: what was asked for here is answered, everything else is notified. Either may come late:
   * what has ended does not begin any more, and does not end another that has begun since.
   */
  heard(stream, recording, on) {
    if (on) {
      if (this.#over.get(stream) !== recording) this.room.show(stream, recording);
      return;
    }
    this.#over.set(stream, recording);
    if (stream.recording !== recording) return;
    this.forget(stream);
    this.room.show(stream, void 0);
  }
  async #askOf(stream, mid, on, isWanted) {
    const answer = await this.room.request("record", { mid, on }, isWanted);
    const recording = typeof answer.recording === "string" ? answer.recording : void 0;
    if (recording !== void 0 && stream.mid === mid) this.heard(stream, recording, on);
    return recording;
  }
};

// src/roster.ts
var Roster = class {
  /** `self` is never listed: neither the user nor the streams. */
  constructor(self) {
    this.self = self;
  }
  self;
  #users = /* @__PURE__ */ new Set();
  #streams = /* @__PURE__ */ new Map();
  get users() {
    return this.#users;
  }
  get streams() {
    return this.#streams;
  }
  /** Takes over a snapshot. Changes come in the order in which they make sense: leaving before coming. */
  reconcile(users, streams) {
    const changes = [];
    const present2 = /* @__PURE__ */ new Set([...users, ...streams.map((stream) => stream.uid)]);
    const published = new Set(streams.map((stream) => stream.mid));
    for (const mid of [...this.#streams.keys()]) {
      if (!published.has(mid)) changes.push(...this.#removeStream(mid));
    }
    for (const uid of [...this.#users]) {
      if (!present2.has(uid)) changes.push(...this.#removeUser(uid));
    }
    for (const uid of users) changes.push(...this.#addUser(uid));
    for (const stream of streams) changes.push(...this.#addStream(stream));
    return changes;
  }
  /** Takes over a notification; one that tells nothing new makes no change. */
  apply(notification) {
    switch (notification.method) {
      case "peer-join":
        return this.#addUser(notification.uid);
      case "peer-leave":
        return this.#removeUser(notification.uid);
      case "stream-add":
        return this.#addStream(notification.stream);
      case "stream-remove":
        return this.#removeStream(notification.mid);
      case "stream-update":
        return this.#updateStream(notification.mid, notification.info);
      case "recording":
        return this.record(notification.mid, notification.on ? notification.recording : void 0);
      default:
        return [];
    }
  }
  /** A stream is recorded from now on, or no more. */
  record(mid, recording) {
    const known = this.#streams.get(mid);
    if (!known || known.recording === recording) return [];
    const stream = { ...known, recording };
    this.#streams.set(mid, stream);
    return [{ kind: "recording-changed", stream }];
  }
  /** Empties the room, as when it is left. */
  clear() {
    this.#users.clear();
    this.#streams.clear();
  }
  #addUser(uid) {
    if (uid === this.self || this.#users.has(uid)) return [];
    this.#users.add(uid);
    return [{ kind: "peer-joined", uid }];
  }
  #removeUser(uid) {
    const mids = [...this.#streams.values()].filter((stream) => stream.uid === uid).map((stream) => stream.mid);
    const removed = mids.flatMap((mid) => this.#removeStream(mid));
    return this.#users.delete(uid) ? [...removed, { kind: "peer-left", uid }] : removed;
  }
  #addStream(stream) {
    if (stream.uid === this.self) return [];
    const known = this.#streams.get(stream.mid);
    if (known) return [...this.#updateStream(stream.mid, stream.info), ...this.record(stream.mid, stream.recording)];
    const joined = this.#addUser(stream.uid);
    this.#streams.set(stream.mid, stream);
    return [...joined, { kind: "stream-added", stream }];
  }
  #removeStream(mid) {
    const stream = this.#streams.get(mid);
    if (!stream) return [];
    this.#streams.delete(mid);
    return [{ kind: "stream-removed", stream }];
  }
  #updateStream(mid, info) {
    const known = this.#streams.get(mid);
    if (!known || JSON.stringify(known.info) === JSON.stringify(info)) return [];
    const stream = { ...known, info };
    this.#streams.set(mid, stream);
    return [{ kind: "stream-updated", stream }];
  }
};

// src/remote-stream.ts
var RemoteStream = class {
  /** Tells it from all others in the room, and stays the same when the stream moves, unlike `mid`. */
  id;
  #record;
  /** Made by `Room`. */
  constructor(record) {
    this.id = record.mid;
    this.#record = record;
  }
  /** Its present id on the server. */
  get mid() {
    return this.#record.mid;
  }
  /** Who publishes it. */
  get uid() {
    return this.#record.uid;
  }
  /** `minfo` as its publisher gave it; `audio` and `video` are true where it said nothing of them. */
  get info() {
    return this.#record.info;
  }
  /** The recording that is made of it, by its id; undefined: none. */
  get recording() {
    return this.#record.recording;
  }
  get source() {
    return sourceOf(this.info);
  }
  /** What its publisher has silenced. */
  get muted() {
    return mutedOf(this.info);
  }
  /** @internal */
  update(record) {
    this.#record = record;
  }
};

// src/streams.ts
var COMES_BACK_WITHIN_MS = 8e3;
var Streams = class {
  constructor(clock, events) {
    this.clock = clock;
    this.events = events;
  }
  clock;
  events;
  #all = /* @__PURE__ */ new Map();
  /** By `mid`: those that the server lost and their publishers are to bring back. */
  #awaited = /* @__PURE__ */ new Map();
  get all() {
    return [...this.#all.values()];
  }
  get(mid) {
    return this.#all.get(mid);
  }
  /** The server has lost it; it may come back. */
  isAwaited(stream) {
    return this.#awaited.has(stream.mid);
  }
  /** `mid`s that streams among these changes were before they moved. */
  static replacedIn(changes) {
    return new Set(changes.flatMap((change) => change.kind === "stream-added" ? replacedBy(change.stream) : []));
  }
  add(record) {
    const moved = replacedBy(record).flatMap((mid) => this.#all.get(mid) ?? [])[0];
    if (moved?.uid === record.uid) {
      this.#move(moved, record);
      return;
    }
    const stream = new RemoteStream(record);
    this.#all.set(stream.mid, stream);
    this.events.added(stream);
  }
  update(record) {
    const stream = this.#all.get(record.mid);
    if (!stream) return;
    stream.update(record);
    this.events.updated(stream);
  }
  record(record) {
    const stream = this.#all.get(record.mid);
    if (!stream) return;
    stream.update(record);
    this.events.recorded(stream);
  }
  /** The server has it no more. `comesBack`: its publisher is expected to publish it again. */
  remove(mid, comesBack) {
    const stream = this.#all.get(mid);
    if (!stream) return;
    if (comesBack) this.#await(stream);
    else this.#end(stream);
  }
  /** Who has left brings nothing back. */
  removeOf(uid) {
    for (const stream of this.all) {
      if (stream.uid === uid) this.#end(stream);
    }
  }
  /** Forgets all of them, silently. */
  clear() {
    for (const timer of this.#awaited.values()) this.clock.clearTimer(timer);
    this.#awaited.clear();
    this.#all.clear();
  }
  #await(stream) {
    this.#awaitNoMore(stream);
    this.#awaited.set(
      stream.mid,
      this.clock.setTimer(() => this.#end(stream), COMES_BACK_WITHIN_MS)
    );
    this.events.lost(stream);
  }
  #awaitNoMore(stream) {
    this.clock.clearTimer(this.#awaited.get(stream.mid));
    this.#awaited.delete(stream.mid);
  }
  #end(stream) {
    this.#awaitNoMore(stream);
    this.#all.delete(stream.mid);
    this.events.removed(stream);
  }
  #move(stream, record) {
    const { mid, recording } = stream;
    this.#awaitNoMore(stream);
    this.#all.delete(mid);
    stream.update(record);
    this.#all.set(stream.mid, stream);
    this.events.moved(stream, mid);
    if (stream.recording !== recording) this.events.recorded(stream);
  }
};
function replacedBy({ info }) {
  return typeof info.replaces === "string" ? [info.replaces] : [];
}

// src/subscription.ts
var Subscription = class extends Media {
  /** Made by `Room.subscribe`. */
  constructor(room, stream) {
    super(room);
    this.room = room;
    this.stream = stream;
    this.on("state", ({ state }) => {
      if (state === "connected" && this.#mid !== this.stream.mid) this.migrate();
    });
  }
  room;
  stream;
  /** The received tracks, for `srcObject`. */
  media = new MediaStream();
  #transceivers = {};
  /** Of the peer connection built last, which may still have to come up. */
  #built = {};
  /** What was subscribed to: the stream may have moved since. */
  #mid;
  #sid;
  /** Its id on the server; undefined until the server has accepted it. */
  get sid() {
    return this.#sid;
  }
  /** How loud it is now, 0 to 1. */
  get audioLevel() {
    const source = this.#transceivers.audio?.receiver.getSynchronizationSources()[0];
    return source && sinceMs(source.timestamp) < 500 ? source.audioLevel ?? 0 : 0;
  }
  unsubscribe() {
    this.end();
  }
  /** @internal */
  rewriteOffer(sdp) {
    return withOpusParameters(sdp, STEREO_SUBSCRIBER);
  }
  /** @internal */
  rewriteAnswer(sdp) {
    return sdp;
  }
  /** @internal */
  build(connection) {
    const { info } = this.stream;
    this.#built = {};
    for (const kind of KINDS) {
      if (info[kind]) this.#built[kind] = connection.addTransceiver(kind, { direction: "recvonly" });
    }
  }
  /** @internal */
  adopt() {
    this.#transceivers = this.#built;
    for (const old of this.media.getTracks()) this.media.removeTrack(old);
    for (const { receiver } of Object.values(this.#transceivers)) this.media.addTrack(receiver.track);
    this.emit("media", void 0);
  }
  /** @internal */
  async negotiate(jsep) {
    for (; ; ) {
      const { mid } = this.stream;
      let answer;
      try {
        answer = await this.room.request("subscribe", { mid, jsep });
      } catch (thrown) {
        if (mid === this.stream.mid) throw thrown;
        continue;
      }
      if (typeof answer.sid !== "string")
        throw SluiceError.local("protocol", "the server's answer carries no sid");
      if (mid === this.stream.mid) {
        this.#mid = mid;
        this.#sid = answer.sid;
        return answer;
      }
      this.room.attempt("unsubscribe", { mid, sid: answer.sid });
    }
  }
  /** @internal Lets go of what was asked for and the stream has not: its publisher need not have said what it has. */
  async negotiated() {
    for (const kind of KINDS) {
      const transceiver = this.#built[kind];
      if (!transceiver || transceiver.currentDirection === "recvonly") continue;
      delete this.#built[kind];
      if (!this.media.getTracks().includes(transceiver.receiver.track)) continue;
      this.media.removeTrack(transceiver.receiver.track);
      this.emit("media", void 0);
    }
  }
  /** @internal The server lost the stream; its publisher may bring it back. */
  lost() {
    this.#sid = void 0;
    this.setSignalling(false);
    this.gone();
  }
  /** @internal */
  restartId() {
    return { sid: this.#sid };
  }
  /** @internal */
  takeBack() {
    const sid = this.#sid;
    this.#sid = void 0;
    return sid === void 0 ? void 0 : { method: "unsubscribe", data: { mid: this.#mid, sid } };
  }
};
function sinceMs(timestamp) {
  const now = performance.now();
  return Math.min(Math.abs(now - timestamp), Math.abs(performance.timeOrigin + now - timestamp));
}

// src/room.ts
var COMES_BACK = /* @__PURE__ */ new Set(["node_lost", "transport_ended"]);
var Room = class extends Emitter {
  /** Made by `Client.room`. */
  constructor(name, context) {
    super();
    this.name = name;
    this.context = context;
    this.#roster = new Roster(context.peer);
    this.#streams = new Streams(context.clock, {
      added: (stream) => this.emit("stream-added", { stream }),
      removed: (stream) => {
        this.#subscriptions.get(stream.mid)?.subscription.abandon();
        this.emit("stream-removed", { stream });
      },
      updated: (stream) => this.emit("stream-updated", { stream }),
      recorded: (stream) => this.emit("recording", { stream }),
      lost: (stream) => this.#subscriptions.get(stream.mid)?.subscription.lost(),
      moved: (stream, mid) => this.#moved(stream, mid)
    });
    this.#recordings = new Recordings({
      request: (method, data, isWanted) => this.#membership.request(method, data, isWanted),
      show: (stream, recording) => this.#showRecording(stream, recording)
    });
    this.#membership = new Membership(name, context.signalling, context.clock, {
      resumed: (joined) => this.#joined(joined),
      snapshot: (joined) => this.#snapshot(joined),
      lost: () => this.#lost(),
      notification: (notification) => this.#notified(notification),
      ended: (error) => this.#close(error)
    });
  }
  name;
  context;
  #membership;
  #roster;
  #streams;
  #publications = /* @__PURE__ */ new Set();
  #subscriptions = /* @__PURE__ */ new Map();
  #recordings;
  #state = "idle";
  #joining;
  #offs = [];
  get state() {
    return this.#state;
  }
  /** Everybody else in the room. */
  get peers() {
    return [...this.#roster.users];
  }
  /** What everybody else publishes. */
  get streams() {
    return this.#streams.all;
  }
  get publications() {
    return [...this.#publications];
  }
  get subscriptions() {
    return [...this.#subscriptions.values()].map(({ subscription }) => subscription);
  }
  /**
   * Goes in. Resolves when in, however long the server takes to come within reach; rejects when it refuses.
   * From then on the room is kept until `leave`.
   */
  join() {
    if (this.#state === "closed")
      return Promise.reject(SluiceError.local("closed", "the room has been left"));
    if (this.#joining) return this.#joining.promise;
    let settle;
    const promise = new Promise((resolve, reject) => {
      settle = { resolve, reject };
    });
    this.#joining = { promise, ...settle };
    this.#offs.push(this.context.signalling.on("state", (state) => this.#signallingChanged(state)));
    this.#setState("connecting");
    this.#membership.start();
    void this.context.configuration();
    return promise;
  }
  /** Goes out: ends all publications and subscriptions. Resolves when the server knows, or cannot be told. */
  async leave() {
    const told = this.#membership.leave();
    this.#close(void 0);
    await told;
  }
  /**
   * Publishes up to one audio and one video track as one stream. Resolves when the server has accepted it. For
   * cameras, microphones and screens see `openCamera` and its siblings.
   */
  async publish(options) {
    this.#mustBeOpen();
    if (options.audio === void 0 && options.video === void 0) {
      throw SluiceError.local("unsupported", "a stream needs audio or video");
    }
    const publication = new Publication(this.#access(), options, this.#recordings);
    this.#publications.add(publication);
    publication.on("ended", () => this.#publications.delete(publication));
    publication.on("recording", () => this.emit("recording", { stream: publication }));
    publication.on("republished", () => this.#recordings.moved(publication));
    await publication.start();
    return publication;
  }
  /** Receives a stream. Resolves when the server has accepted; a stream is received once, however often asked for. */
  async subscribe(stream) {
    this.#mustBeOpen();
    const mid = typeof stream === "string" ? stream : stream.mid;
    const present2 = this.#subscriptions.get(mid);
    if (present2) {
      await present2.started;
      return present2.subscription;
    }
    const remote = this.#streams.get(mid);
    if (!remote) throw SluiceError.local("bad_mid", `there is no stream ${mid} in the room`);
    const subscription = new Subscription(this.#access(remote), remote);
    subscription.on("ended", () => {
      if (this.#subscriptions.get(remote.mid)?.subscription === subscription) this.#subscriptions.delete(remote.mid);
    });
    const started = subscription.start();
    this.#subscriptions.set(mid, { subscription, started });
    await started;
    return subscription;
  }
  /** Sends a value to everybody else in the room, who get what JSON keeps of it. */
  async broadcast(data) {
    this.#mustBeOpen();
    await this.#membership.request("broadcast", { data: asJson(data) });
  }
  /**
   * Has a stream recorded, anybody's, or no longer; needs the grant `record`. Resolves to the recording's id: the one that
   * begins or was under way already, or the one that ends; undefined: there was none to end. One that was asked for here is
   * asked for again when the stream has to move to another server, as another recording, unless somebody has ended it.
   */
  async record(stream, on) {
    this.#mustBeOpen();
    return this.#recordings.ask(stream, on);
  }
  /** @internal */
  handleNotification(method, data) {
    this.#membership.handleNotification(method, data);
  }
  /** @internal False if there is no membership to keep alive now. */
  keepAlive() {
    return this.#membership.keepAlive();
  }
  /** @internal */
  networkChanged() {
    for (const media of this.#media()) media.networkChanged();
  }
  /** @internal The page goes away. */
  pageHidden() {
    this.#membership.post();
  }
  /** `stream`: what is received, which may be away for a while. */
  #access(stream) {
    const membership = this.#membership;
    const streams = this.#streams;
    return {
      clock: this.context.clock,
      configuration: this.context.configuration,
      get joined() {
        return membership.state === "joined" && !(stream && streams.isAwaited(stream));
      },
      interrupted: () => {
        if (this.context.signalling.state.name === "open") this.context.signalling.hint();
      },
      request: (method, data) => membership.request(method, data),
      attempt: (method, data) => {
        membership.request(method, data, () => true).catch(() => void 0);
      }
    };
  }
  #media() {
    return [...this.publications, ...this.subscriptions];
  }
  #snapshot(joined) {
    const again = this.#state !== "connecting";
    this.#show(this.#roster.reconcile(joined.users, joined.streams));
    this.#joined(joined);
    if (again) this.emit("resynced", void 0);
  }
  #joined(joined) {
    if (joined.own) this.#compareOwn(joined.own);
    for (const publication of this.publications) publication.setSignalling(true);
    for (const subscription of this.subscriptions) {
      if (!this.#streams.isAwaited(subscription.stream)) subscription.setSignalling(true);
    }
    this.#setState("connected");
    this.#joining?.resolve();
  }
  /** Finds out what of our own the server has lost, or has and we do not know. */
  #compareOwn(own) {
    for (const publication of this.publications) {
      if (publication.negotiating) continue;
      for (const mid2 of publication.mids) if (!own.mids.has(mid2)) publication.removed(mid2);
      const { mid } = publication;
      if (mid === void 0 || !own.mids.has(mid)) continue;
      const recording = own.recordings?.get(mid);
      if (recording === void 0 && publication.recording !== void 0) this.#recordings.forget(publication);
      publication.recorded(recording);
    }
    for (const subscription of this.subscriptions) {
      const { sid, negotiating } = subscription;
      if (sid !== void 0 && !negotiating && !own.sids.has(sid)) subscription.gone();
    }
    if (this.publications.some((publication) => publication.negotiating)) return;
    const known = new Set(this.publications.flatMap((publication) => publication.mids));
    for (const mid of own.mids) {
      if (!known.has(mid)) this.#access().attempt("unpublish", { mid });
    }
  }
  #lost() {
    for (const media of this.#media()) media.setSignalling(false);
    this.#setState("reconnecting");
  }
  #notified(notification) {
    switch (notification.method) {
      case "broadcast":
        this.emit("broadcast", { uid: notification.uid, data: notification.data });
        break;
      case "peer-kick":
        if (notification.uid === void 0 || notification.uid === this.context.peer) {
          this.emit("kicked", { reason: notification.reason });
          this.#membership.fail(
            new SluiceError(4e3, "refused", notification.reason || "put out of the room")
          );
        }
        break;
      case "recording": {
        const { mid, on, recording } = notification;
        const stream = this.publications.find((publication) => publication.mid === mid) ?? this.#streams.get(mid);
        if (stream) this.#recordings.heard(stream, recording, on);
        break;
      }
      case "stream-migrate":
        this.publications.find(({ mid }) => mid === notification.mid)?.migrate();
        break;
      case "stream-remove":
        for (const publication of this.publications) publication.removed(notification.mid);
        this.#show(this.#roster.apply(notification), COMES_BACK.has(notification.reason));
        break;
      default:
        this.#show(this.#roster.apply(notification));
    }
  }
  /** `comesBack`: what is removed is expected to be published again. */
  #show(changes, comesBack = false) {
    const replaced = Streams.replacedIn(changes);
    for (const change of changes) {
      switch (change.kind) {
        case "peer-joined":
          this.emit("peer-joined", { uid: change.uid });
          break;
        case "peer-left":
          this.#streams.removeOf(change.uid);
          this.emit("peer-left", { uid: change.uid });
          break;
        case "stream-added":
          this.#streams.add(change.stream);
          break;
        case "stream-removed":
          this.#streams.remove(change.stream.mid, comesBack || replaced.has(change.stream.mid));
          break;
        case "stream-updated":
          this.#streams.update(change.stream);
          break;
        case "recording-changed": {
          const stream = this.#streams.get(change.stream.mid);
          if (stream && change.stream.recording === void 0) this.#recordings.forget(stream);
          this.#streams.record(change.stream);
          break;
        }
      }
    }
  }
  /** Published anew elsewhere: on screen it stays what it was. */
  #moved(stream, mid) {
    const subscribed = this.#subscriptions.get(mid);
    this.#subscriptions.delete(mid);
    if (subscribed) {
      this.#subscriptions.set(stream.mid, subscribed);
      subscribed.subscription.migrate();
      subscribed.subscription.setSignalling(this.#membership.state === "joined");
    }
    this.emit("stream-updated", { stream });
    this.#recordings.moved(stream);
  }
  #showRecording(stream, recording) {
    if (stream instanceof Publication) stream.recorded(recording);
    else this.#show(this.#roster.record(stream.mid, recording));
  }
  #signallingChanged(state) {
    if (state.name === "reconnecting" && this.#state !== "closed") {
      const name = this.#state === "connecting" ? "connecting" : "reconnecting";
      this.#setState(name, { retryInMs: state.retryInMs, ...state.error && { error: state.error } });
    }
  }
  #setState(state, more = {}) {
    if (state === this.#state && more.retryInMs === void 0) return;
    this.#state = state;
    this.emit("state", { state, ...more });
  }
  #close(error) {
    if (this.#state === "closed") return;
    for (const off of this.#offs) off();
    for (const media of this.#media()) media.abandon();
    this.#roster.clear();
    this.#streams.clear();
    this.#setState("closed", error ? { error } : {});
    this.#joining?.reject(error ?? SluiceError.local("closed", "the room was left before it was joined"));
    this.#joining?.promise.catch(() => void 0);
  }
  #mustBeOpen() {
    if (this.#state === "idle" || this.#state === "closed") {
      throw SluiceError.local("closed", "the room is not joined");
    }
  }
};

// src/rtc-config.ts
var ANSWER_WITHIN_MS2 = 3e3;
var KEEP_FOR_MS = 10 * 6e4;
var MAX_SERVERS = 8;
var RtcConfig = class {
  constructor(token, clock) {
    this.token = token;
    this.clock = clock;
  }
  token;
  clock;
  #kept;
  /**
   * Asks beside the WebSocket of that address. Never rejects: without an answer it is an empty configuration, and the
   * next call asks again.
   */
  get(socketUrl) {
    const now = this.clock.now();
    if (this.#kept && now - this.#kept.at < KEEP_FOR_MS) return this.#kept.answer;
    const answer = within(this.clock, ANSWER_WITHIN_MS2, this.#ask(socketUrl)).catch(() => {
      this.#kept = void 0;
      return {};
    });
    this.#kept = { at: now, answer };
    return answer;
  }
  async #ask(socketUrl) {
    const token = await resolveToken(this.token);
    const url = new URL("rtc-config", socketUrl.replace(/^ws/, "http"));
    const response = await fetch(url, {
      // A header keeps the token out of access logs.
      headers: token === void 0 ? {} : { authorization: `Bearer ${token}` },
      credentials: "omit",
      signal: AbortSignal.timeout(ANSWER_WITHIN_MS2)
    });
    if (response.status === 404) return {};
    if (!response.ok) throw SluiceError.local("protocol", `/rtc-config was answered with ${response.status}`);
    return { iceServers: readIceServers(await response.json()) };
  }
};
function readIceServers(answer) {
  const servers = isObject(answer) && Array.isArray(answer.iceServers) ? answer.iceServers : [];
  return servers.flatMap((server) => readServer(server) ?? []).slice(0, MAX_SERVERS);
}
function readServer(server) {
  if (!isObject(server)) return void 0;
  const urls = (Array.isArray(server.urls) ? server.urls : [server.urls]).filter(isIceUrl);
  if (urls.length === 0) return void 0;
  return {
    urls,
    ...typeof server.username === "string" ? { username: server.username } : {},
    ...typeof server.credential === "string" ? { credential: server.credential } : {}
  };
}
function isIceUrl(url) {
  return typeof url === "string" && /^(stuns?:[^?]+|turns?:.+)$/.test(url);
}

// src/client.ts
var NAME = /^[^\p{Cc}/#*?[\]{}]{1,128}$/u;
var Client = class extends Emitter {
  /** Made by `connect`. */
  constructor(options, clock, socket, configuration) {
    super();
    this.clock = clock;
    this.configuration = configuration;
    if (!NAME.test(options.peer)) throw SluiceError.local("bad_uid", "peer must be 1–128 allowed characters");
    this.peer = options.peer;
    this.#edges = edgesOf(options.url, clock.random);
    const edges = this.#edges;
    this.#signalling = new Signalling({ edges, peer: options.peer, token: options.token, clock, socket });
    this.#renewal = new Renewal(this.#signalling, options.token, clock);
    this.#signalling.on("state", (state) => {
      if (state.name !== "open") this.#renewal.stop();
      this.emit("state", state);
      if (state.name === "closed") this.#unwatch();
    });
    this.#signalling.on("notification", ({ method, data }) => {
      if (method === "token-expiring" && typeof data.inMs === "number") this.#renewal.handleExpiring(data.inMs);
      if (typeof data.rid === "string") this.#rooms.get(data.rid)?.handleNotification(method, data);
      else for (const room of this.#rooms.values()) room.handleNotification(method, data);
    });
    this.#signalling.on("probe", ({ hinted }) => this.#probe(hinted));
    this.#unwatch = watchNetwork({
      hint: () => this.#signalling.hint(),
      changed: () => {
        for (const room of this.#rooms.values()) room.networkChanged();
      },
      hidden: () => {
        for (const room of this.#rooms.values()) room.pageHidden();
      }
    });
    this.#signalling.start();
  }
  clock;
  configuration;
  /** Who this is in every room. */
  peer;
  #edges;
  #signalling;
  #rooms = /* @__PURE__ */ new Map();
  #unwatch;
  #renewal;
  get state() {
    return this.#signalling.state;
  }
  /** A room; listen to it first, then `join()` it. The same object for the same name, until it is left. */
  room(name) {
    if (!NAME.test(name))
      throw SluiceError.local("not_in_room", "a room's name must be 1–128 allowed characters");
    const present2 = this.#rooms.get(name);
    if (present2 && present2.state !== "closed") return present2;
    const room = new Room(name, {
      peer: this.peer,
      signalling: this.#signalling,
      clock: this.clock,
      configuration: () => this.configuration(this.#edges.current)
    });
    this.#rooms.set(name, room);
    room.on("state", ({ state }) => {
      if (state === "closed" && this.#rooms.get(name) === room) this.#rooms.delete(name);
    });
    return room;
  }
  /** Checks the connection now, or tries again at once if there is none: for a button of that name. */
  retryNow() {
    this.#signalling.hint();
  }
  /** Leaves all rooms and closes the connection for good. */
  async close() {
    await Promise.all([...this.#rooms.values()].map((room) => room.leave()));
    this.#signalling.stop("closed by the application");
  }
  #probe(hinted) {
    const sent = [...this.#rooms.values()].filter((room) => room.keepAlive());
    if (sent.length > 0) return;
    if (hinted) this.#signalling.request("keepalive", {}).catch(() => void 0);
    else this.#signalling.skipProbe();
  }
};
function socketAddress(url) {
  const base = typeof document === "undefined" ? void 0 : document.baseURI;
  let address;
  try {
    address = new URL(url, base);
  } catch {
    throw SluiceError.local("bad_url", `${url} is no address of a WebSocket`);
  }
  if (address.protocol === "http:") address.protocol = "ws:";
  if (address.protocol === "https:") address.protocol = "wss:";
  if (!/^wss?:$/.test(address.protocol)) throw SluiceError.local("bad_url", `${url} is no address of a WebSocket`);
  address.hash = "";
  return address.href;
}
function edgesOf(url, random) {
  const urls = typeof url === "string" || url instanceof URL ? [url] : url;
  if (urls.length === 0) throw SluiceError.local("bad_url", "there is no address of a WebSocket");
  return new Edges([...new Set(urls.map(socketAddress))], random);
}
function connect(options) {
  const { rtc, token } = options;
  const asked = new RtcConfig(token, systemClock);
  return new Client(
    options,
    systemClock,
    (url, protocols) => new WebSocket(url, protocols),
    (edge) => rtc ? Promise.resolve(rtc) : asked.get(edge)
  );
}

// src/meter.ts
var Meter = class {
  #context;
  #analyser;
  #samples;
  /** Throws where the browser lets no page measure sound. */
  constructor(track) {
    this.#context = new AudioContext();
    this.#analyser = this.#context.createAnalyser();
    this.#analyser.fftSize = 1024;
    this.#samples = new Float32Array(this.#analyser.fftSize);
    try {
      this.#context.createMediaStreamSource(new MediaStream([track])).connect(this.#analyser);
    } catch (error) {
      this.close();
      throw error;
    }
  }
  /** 0 to 1 of full scale (root mean square of the last 20 ms). 0 until the page may use sound. */
  get level() {
    if (this.#context.state === "suspended") void this.#context.resume();
    this.#analyser.getFloatTimeDomainData(this.#samples);
    let sum = 0;
    for (const sample of this.#samples) sum += sample * sample;
    return Math.sqrt(sum / this.#samples.length);
  }
  close() {
    void this.#context.close();
  }
};
export {
  Client,
  Meter,
  Publication,
  RemoteStream,
  Room,
  SluiceError,
  Subscription,
  connect,
  listDevices,
  openCamera,
  openDevices,
  openMicrophone,
  openScreen
};
