/** What to tell a person when something does not work, and what they can do about it. Pure. */

import type { SluiceError } from "../src/error.ts";

export interface Advice {
  readonly title: string;
  readonly text: string;
}

export type Wanted = "camera" | "microphone" | "screen" | "camera and microphone";

/** Whether of oneself or of a screen. */
export type Sent = "person" | "screen";

const OTHER_WORKS: Readonly<Record<Wanted, string>> = {
  camera: "Your microphone works without it.",
  microphone: "Your camera works without it.",
  screen: "",
  "camera and microphone": "",
};

/**
 * Why a device could not be had. `agent` is `navigator.userAgent`: where the switch is depends on the browser.
 * `otherWorks`: of camera and microphone, the other one is there.
 */
export function deviceAdvice(error: SluiceError, wanted: Wanted, agent: string, otherWorks = false): Advice {
  // Said before a call as well as in it.
  const still = otherWorks ? OTHER_WORKS[wanted] : "You can watch and listen all the same.";
  switch (error.name) {
    case "permission_denied":
      if (wanted === "screen") {
        return {
          title: "Nothing is shared",
          text: "You can choose a screen, a window or a tab whenever you like.",
        };
      }
      return { title: `This page may not use your ${wanted}`, text: `${unblock(wanted, agent)} ${still}` };
    case "no_device":
      return {
        title: `No ${wanted} found`,
        text: `Plug one in, or check that the system sees it. ${still}`,
      };
    case "device_busy":
      return {
        title: `Your ${wanted} did not start`,
        text: `Another program may be using it. Close it there, then try again. ${still}`,
      };
    case "insecure_context":
      return {
        title: "This address is not secure",
        text: `Browsers give camera and microphone only to pages opened by https:// or on localhost. Ask whoever runs this server for its secure address. ${still}`,
      };
    default:
      return {
        title: `This browser gives no ${wanted}`,
        text: `Try a current Chrome, Edge, Firefox or Safari. ${still}`,
      };
  }
}

function unblock(wanted: string, agent: string): string {
  const again = "then try again.";
  if (/iPhone|iPad/.test(agent)) {
    return `Tap the page menu (aA) in the address bar, Website Settings, and allow ${wanted}; ${again}`;
  }
  if (/Android/.test(agent)) {
    return `Tap the icon left of the address, Permissions, and allow ${wanted}; ${again}`;
  }
  if (/Firefox\//.test(agent)) {
    return `Click the crossed-out icon left of the address, clear the block on ${wanted}; ${again}`;
  }
  if (/Safari\//.test(agent) && !/Chrom(e|ium)\//.test(agent)) {
    return `Open Safari, Settings for this Website, and allow ${wanted}; ${again}`;
  }
  return `Click the icon left of the address, and allow ${wanted}; ${again} If it stays blocked, look into the system's privacy settings.`;
}

/** Why a room was not joined or is over. */
export function roomAdvice(error: SluiceError): Advice {
  switch (error.name) {
    case "refused":
      return { title: "The server ended the connection", text: refusal(error.reason) };
    case "unauthenticated":
      return { title: "This link is not valid any more", text: "Ask for a new one." };
    case "forbidden":
      return { title: "You may not enter this room", text: "Ask whoever invited you for a link to it." };
    case "conflict":
      return { title: "The room is full", text: "Try again when someone has left." };
    case "bad_uid":
    case "not_in_room":
      return {
        title: "That name will not do",
        text: "Use letters, digits and spaces for your name and the room.",
      };
    default:
      return { title: "That did not work", text: error.reason };
  }
}

function refusal(reason: string): string {
  if (/token|auth|expired|jwt/i.test(reason))
    return `Your access is not valid (${reason}). Ask for a new link.`;
  if (/newer|another|replaced|superseded|kick/i.test(reason)) {
    return "You joined from another window or were put out of the room.";
  }
  return reason;
}

/** Why a stream of one's own did not get through. */
export function publishAdvice(error: SluiceError, what: Sent): Advice {
  const title = what === "screen" ? "Others cannot see your screen" : "Others cannot see you";
  switch (error.name) {
    case "no_sfu":
      return { title, text: "The server has no room for another stream just now." };
    case "conflict":
      return { title, text: "The room carries as many streams as it may." };
    case "forbidden":
      return {
        title: "You may only watch here",
        text: "Your link does not allow camera, microphone or screen.",
      };
    default:
      return { title, text: `The server did not take your stream: ${error.reason}` };
  }
}

/** Why a stream of somebody else cannot be had, now or later. */
export function subscribeAdvice(error: SluiceError): Advice {
  if (error.name === "forbidden") {
    return {
      title: "You cannot see or hear the others",
      text: "Your link does not allow watching. Ask whoever invited you for another.",
    };
  }
  return { title: "Someone cannot be seen or heard here", text: `Their stream did not come through: ${error.reason}` };
}

/** Why a stream of one's own is not recorded, or still is. */
export function recordAdvice(error: SluiceError, on: boolean): Advice {
  const title = on ? "You are not being recorded" : "The recording goes on";
  switch (error.name) {
    case "forbidden":
      return {
        title,
        text: on
          ? "Your link does not allow recording. Ask whoever invited you for another."
          : "In this room, or with your link, recordings are not yours to end.",
      };
    case "conflict":
      return { title, text: `The server does not record now: ${error.reason}` };
    default:
      return { title, text: `The server did not do it: ${error.reason}` };
  }
}
