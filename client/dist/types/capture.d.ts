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
export declare function openDevices(wanted: {
    audio?: MicrophoneOptions | false | undefined;
    video?: CameraOptions | false | undefined;
}): Promise<Captured>;
/** As `openDevices`, the camera alone. */
export declare function openCamera(options?: CameraOptions): Promise<MediaStreamTrack>;
/** As `openDevices`, the microphone alone. */
export declare function openMicrophone(options?: MicrophoneOptions): Promise<MediaStreamTrack>;
/** Asks the user for a screen, window or tab, with its sound where the browser can. Must follow a click or key. */
export declare function openScreen(options?: {
    frameRate?: number | undefined;
}): Promise<Captured>;
/** The devices there are. Labels are empty until the user has allowed one of the kind. */
export declare function listDevices(): Promise<MediaDeviceInfo[]>;
/** What a browser throws when it gives no media, as a `SluiceError`. */
export declare function captureError(thrown: unknown): SluiceError;
