/** Opens cameras, microphones and screens, with errors that say what a person can do about them. */

import { SluiceError } from "./error.ts";

export interface CameraOptions {
  deviceId?: string | undefined;
  /** Which way a phone's camera looks, where no `deviceId` is given. */
  facing?: "user" | "environment" | undefined;
  /** Pixels wished for. Default: 1280 × 720. */
  width?: number | undefined;
  height?: number | undefined;
  /** Default: 30. */
  frameRate?: number | undefined;
}

export interface MicrophoneOptions {
  deviceId?: string | undefined;
  /** Capture two channels, unprocessed: for music. Publish with `stereo` as well. */
  stereo?: boolean | undefined;
}

export interface Captured {
  readonly audio: MediaStreamTrack | undefined;
  readonly video: MediaStreamTrack | undefined;
}

/**
 * Opens camera and microphone with one question to the user. Errors: `permission_denied`, `no_device`, `device_busy`,
 * `insecure_context`, `unsupported`.
 */
export async function openDevices(wanted: {
  audio?: MicrophoneOptions | false | undefined;
  video?: CameraOptions | false | undefined;
}): Promise<Captured> {
  const devices = mediaDevices();
  try {
    const media = await devices.getUserMedia(constraintsOf(wanted, true)).catch((error: unknown) => {
      // A remembered device may be gone: any other is better than none, and of two only the one that is gone gives way.
      if (!isNamed(error, "OverconstrainedError")) throw error;
      return devices.getUserMedia(constraintsOf(wanted, false));
    });
    return { audio: media.getAudioTracks()[0], video: media.getVideoTracks()[0] };
  } catch (error) {
    throw captureError(error);
  }
}

/** As `openDevices`, the camera alone. */
export async function openCamera(options: CameraOptions = {}): Promise<MediaStreamTrack> {
  return present((await openDevices({ video: options })).video);
}

/** As `openDevices`, the microphone alone. */
export async function openMicrophone(options: MicrophoneOptions = {}): Promise<MediaStreamTrack> {
  return present((await openDevices({ audio: options })).audio);
}

/** Asks the user for a screen, window or tab, with its sound where the browser can. Must follow a click or key. */
export async function openScreen(options: { frameRate?: number | undefined } = {}): Promise<Captured> {
  const devices = mediaDevices();
  if (!devices.getDisplayMedia) throw SluiceError.local("unsupported", "this browser cannot share a screen");
  try {
    const media = await devices.getDisplayMedia({
      video: { frameRate: { ideal: options.frameRate ?? 15 } },
      audio: true,
    });
    return { audio: media.getAudioTracks()[0], video: media.getVideoTracks()[0] };
  } catch (error) {
    throw captureError(error);
  }
}

/** The devices there are. Labels are empty until the user has allowed one of the kind. */
export async function listDevices(): Promise<MediaDeviceInfo[]> {
  return await mediaDevices().enumerateDevices();
}

function mediaDevices(): MediaDevices {
  const devices: MediaDevices | undefined = navigator.mediaDevices;
  if (devices) return devices;
  if (!window.isSecureContext) {
    throw SluiceError.local(
      "insecure_context",
      "cameras and microphones are given to HTTPS pages and localhost only",
    );
  }
  throw SluiceError.local("unsupported", "this browser has no cameras or microphones");
}

function constraintsOf(
  wanted: {
    audio?: MicrophoneOptions | false | undefined;
    video?: CameraOptions | false | undefined;
  },
  exact: boolean,
): MediaStreamConstraints {
  return {
    audio: wanted.audio ? microphoneConstraints(wanted.audio, exact) : false,
    video: wanted.video ? cameraConstraints(wanted.video, exact) : false,
  };
}

function microphoneConstraints(
  { deviceId, stereo }: MicrophoneOptions,
  exact: boolean,
): MediaTrackConstraints {
  return {
    ...device(deviceId, exact),
    // Processing for speech mixes the channels into one.
    echoCancellation: !stereo,
    noiseSuppression: !stereo,
    autoGainControl: !stereo,
    ...(stereo ? { channelCount: { ideal: 2 } } : {}),
  };
}

function cameraConstraints(options: CameraOptions, exact: boolean): MediaTrackConstraints {
  const { deviceId, facing, width = 1280, height = 720, frameRate = 30 } = options;
  return {
    ...device(deviceId, exact),
    ...(facing && deviceId === undefined ? { facingMode: { ideal: facing } } : {}),
    width: { ideal: width },
    height: { ideal: height },
    frameRate: { ideal: frameRate },
  };
}

function device(deviceId: string | undefined, exact: boolean): MediaTrackConstraints {
  if (deviceId === undefined) return {};
  return { deviceId: exact ? { exact: deviceId } : { ideal: deviceId } };
}

function present(track: MediaStreamTrack | undefined): MediaStreamTrack {
  if (!track) throw SluiceError.local("no_device", "the browser gave no track");
  return track;
}

/** What a browser throws when it gives no media, as a `SluiceError`. */
export function captureError(thrown: unknown): SluiceError {
  if (thrown instanceof SluiceError) return thrown;
  const { name, message } = thrown as { name?: string; message?: string };
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

function isNamed(error: unknown, name: string): boolean {
  return (error as { name?: string } | null)?.name === name;
}
