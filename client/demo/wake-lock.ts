/** Keeps a phone from falling asleep in a call. The system takes the lock when the page is hidden. */

export function stayAwake(signal: AbortSignal): void {
  let lock: WakeLockSentinel | undefined;
  const acquire = async () => {
    if (document.visibilityState !== "visible" || !("wakeLock" in navigator)) return;
    // Refused when the battery is low: the call goes on all the same.
    const got = await navigator.wakeLock.request("screen").catch(() => undefined);
    if (signal.aborted) void got?.release();
    else lock = got;
  };
  document.addEventListener("visibilitychange", () => void acquire(), { signal });
  signal.addEventListener("abort", () => void lock?.release());
  void acquire();
}
