// The server under test: the real `sluice` program, as a user would start it, on ports of the system's choice.

import { programPath, socketUrl, startProgram } from './program.mjs';

/** Marks that are never reached: browsers share the machine. */
const neverTooMuch = {
  SLUICE_OVERLOAD__CPU: '1',
  SLUICE_OVERLOAD__LAG: '10s',
  SLUICE_OVERLOAD__REFUSE: '1.5',
  SLUICE_OVERLOAD__SHED: '2',
  SLUICE_OVERLOAD__DELAY: '1h',
};

/** The program: `TEST_SLUICE`, or the release build. */
export const sluicePath = () => programPath('sluice');

/**
 * Starts sluice and waits until calls work.
 * `inside`: a command prefix (another network namespace); `args` are added; `listen` and `mediaPort` default to free ports.
 */
export async function startSluice({ listen = '127.0.0.1:0', mediaPort = 0, args = [], env, inside } = {}) {
  const all = ['--listen', listen, '--media-port', String(mediaPort), ...args];
  const program = await startProgram('sluice', all, { env: { ...neverTooMuch, ...env }, inside });
  const url = new URL(program.ready);
  return {
    ...program,
    url: url.href,
    port: Number(url.port),
    /** The address of the signalling WebSocket for `uid`. */
    socketUrl: (uid, query) => socketUrl(url, uid, query),
  };
}
