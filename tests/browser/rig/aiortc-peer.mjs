// Starts the aiortc peer (Python) and speaks its JSON lines.

import { spawn } from 'node:child_process';
import { accessSync, constants } from 'node:fs';
import { createInterface } from 'node:readline';
import { fileURLToPath } from 'node:url';
import { deadline, until } from './waiting.mjs';

const path = (relative) => fileURLToPath(new URL(relative, import.meta.url));

/** An aiortc peer of `kind` `publish` or `subscribe`, negotiated by `negotiate(offer) -> answer`. */
export async function startAiortc(kind, negotiate) {
  const python = process.env.TEST_PYTHON ?? path('../../../target/python-peer/bin/python');
  accessSync(python, constants.X_OK);
  const child = spawn(python, [path('./aiortc_peer.py')], { stdio: ['pipe', 'pipe', 'pipe'] });
  const said = [];
  child.stderr.on('data', (data) => said.push(data.toString()));
  const answers = [];
  createInterface({ input: child.stdout }).on('line', (line) => answers.shift()?.(JSON.parse(line)));
  const ask = (wish) =>
    deadline(
      new Promise((resolve, reject) => {
        answers.push(resolve);
        child.once('exit', () => reject(new Error(`the aiortc peer ended:\n${said.join('')}`)));
        child.stdin.write(`${JSON.stringify(wish)}\n`);
      }),
      20_000,
      `the aiortc peer's ${wish.do}`,
    );
  const stop = () => child.kill('SIGKILL');
  process.on('exit', stop);
  try {
    const { sdp } = await ask({ do: 'offer', kind });
    const answer = await negotiate({ type: 'offer', sdp });
    await ask({ do: 'answer', sdp: answer.sdp });
  } catch (error) {
    stop();
    throw error;
  }
  return {
    report: () => ask({ do: 'report' }),
    /** The first report that `good` accepts. */
    reports: (good, what, within = 20_000) =>
      until(async () => {
        const report = await ask({ do: 'report' });
        return good(report) && report;
      }, { within, what, every: 250 }),
    stop,
  };
}
