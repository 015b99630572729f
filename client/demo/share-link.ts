/** Gives the room's link to whoever should come: shared on phones, copied elsewhere, shown where neither is allowed. */

import type { Notices } from "./notices.ts";

export async function shareLink(link: string, notices: Notices): Promise<void> {
  try {
    // Phones share better than they paste.
    if (matchMedia("(pointer: coarse)").matches && navigator.share) {
      await navigator.share({ url: link });
      return;
    }
    await navigator.clipboard.writeText(link);
    notices.show({
      key: "link",
      title: "Link copied",
      text: "Send it to whomever you want to see.",
      forMs: 3_500,
    });
  } catch (error) {
    // Sharing was called off.
    if ((error as DOMException).name === "AbortError") return;
    notices.show({ key: "link", title: "Copy this link", text: link });
  }
}
