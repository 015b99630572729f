// What is in a recording, as programs see it that know nothing of Sluice: opus-tools, ffmpeg, and a validator of JSON schemas.

import { spawnSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import { readFileSync, readdirSync, statSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { privatePath } from './private-dir.mjs';
import { until } from './waiting.mjs';

const SAMPLE_RATE = 48_000;
/** Nothing here takes longer on a machine that is not stuck. */
const DONE_WITHIN_MS = 120_000;
/** Louder than this, of 1, is no silence. */
const HEARD = 0.05;
const LOUDEST_KEPT = 512 * 1024 * 1024;

const root = (relative) => fileURLToPath(new URL(`../../../${relative}`, import.meta.url));

/** Runs a program that must succeed; what it writes to stdout, and all that it says as text. */
function run(program, args) {
  const { status, stdout, stderr, error } = spawnSync(program, args, { timeout: DONE_WITHIN_MS, maxBuffer: LOUDEST_KEPT });
  if (error || status !== 0) throw new Error(`${program} ${args.join(' ')}: ${error ?? `${stdout}${stderr}`}`);
  return { stdout, said: `${stdout}${stderr}` };
}

function* below(directory) {
  for (const entry of readdirSync(directory, { withFileTypes: true })) {
    // The spool, and what is on its way.
    if (entry.name.startsWith('.')) continue;
    const path = join(directory, entry.name);
    if (entry.isDirectory()) yield* below(path);
    else yield path;
  }
}

/** Waits for the manifest of a recording. `files` are those it names, by their ending. */
export async function delivered(directory, recording, within = 20_000) {
  return until(
    () => {
      for (const path of below(directory)) {
        if (!path.endsWith('.json')) continue;
        const manifest = JSON.parse(readFileSync(path, 'utf8'));
        if (manifest.recording !== recording) continue;
        const files = manifest.files.map(({ name }) => [name.split('.').pop(), join(dirname(path), name)]);
        return { path, manifest, files: Object.fromEntries(files) };
      }
      return null;
    },
    { within, every: 100, what: `the manifest of the recording ${recording}` },
  );
}

const JUDGE = `
import json, sys
from jsonschema import Draft202012Validator
judge = Draft202012Validator(json.load(open(sys.argv[1])))
for error in judge.iter_errors(json.load(open(sys.argv[2]))):
    sys.exit(f'{error.json_path}: {error.message}')
`;

/** What is wrong with a manifest, by the schema in docs/ and by the files it names; null: nothing. */
export function fault({ path, manifest, files }) {
  const judged = spawnSync(root('target/s3/bin/python'), ['-c', JUDGE, root('docs/recording.schema.json'), path], { encoding: 'utf8' });
  if (judged.status !== 0) return judged.error ? `${judged.error}` : judged.stderr;
  for (const { name, bytes, sha256 } of manifest.files) {
    const file = files[name.split('.').pop()];
    if (statSync(file).size !== bytes) return `${name} has ${statSync(file).size} bytes, and not ${bytes}`;
    const sum = createHash('sha256').update(readFileSync(file)).digest('hex');
    if (sum !== sha256) return `${name} has the checksum ${sum}, and not ${sha256}`;
  }
  return null;
}

/** What opusinfo has to warn of; it names each stream's trouble so. */
export function warnings(path) {
  return run('opusinfo', [path]).said.split('\n').filter((line) => /warning|error/i.test(line));
}

let count = 0;

/** Sound by opusdec: two channels. */
export function byOpusdec(path) {
  const raw = privatePath(`decoded-${(count += 1)}.raw`);
  run('opusdec', ['--quiet', '--force-stereo', '--rate', String(SAMPLE_RATE), path, raw]);
  return new Sound(readFileSync(raw));
}

/** Sound by ffmpeg: two channels; of a film from its zero on, with silence where there is none. */
export function byFfmpeg(path) {
  const raw = privatePath(`decoded-${(count += 1)}.raw`);
  const from = path.endsWith('.webm') ? ['-af', 'aresample=async=1:first_pts=0'] : [];
  run('ffmpeg', ['-v', 'error', '-y', '-i', path, '-vn', ...from, '-ac', '2', '-ar', String(SAMPLE_RATE), '-f', 's16le', raw]);
  return new Sound(readFileSync(raw));
}

/** Brightness, 0 to 255, of a film's picture every `everyMs` from its zero on. */
export function brightness(path, everyMs) {
  const filters = `fps=${1000 / everyMs}:start_time=0,scale=1:1:flags=area,format=gray`;
  return [...run('ffmpeg', ['-v', 'error', '-i', path, '-an', '-vf', filters, '-f', 'rawvideo', '-']).stdout];
}

/** Samples of two channels. */
class Sound {
  constructor(bytes) {
    this.samples = new Int16Array(bytes.buffer, bytes.byteOffset, Math.floor(bytes.length / 2));
  }

  /** Milliseconds. */
  get length() {
    return (this.samples.length / 2 / SAMPLE_RATE) * 1000;
  }

  /** Loudness in dB of `hz` in each channel over `ms` from `at` on (Goertzel's algorithm). */
  level(hz, at, ms) {
    const count = Math.round((ms / 1000) * SAMPLE_RATE);
    const from = Math.round((at / 1000) * SAMPLE_RATE);
    const turn = 2 * Math.cos((2 * Math.PI * hz) / SAMPLE_RATE);
    return [0, 1].map((channel) => {
      let [one, two] = [0, 0];
      for (let i = 0; i < count; i += 1) {
        [one, two] = [(this.samples[2 * (from + i) + channel] ?? 0) / 32_768 + turn * one - two, one];
      }
      const power = one * one + two * two - turn * one * two;
      return 10 * Math.log10((4 * Math.max(0, power)) / (count * count) + 1e-12);
    });
  }

  /** How it is every `ms`: `apart` dB of each tone between its own channel and the other, and whether there is any sound. */
  windows({ left, right }, ms = 100) {
    const out = [];
    for (let at = 0; at + ms <= this.length; at += ms) {
      const [low, high] = [this.level(left, at, ms), this.level(right, at, ms)];
      out.push({ at, apart: Math.min(low[0] - low[1], high[1] - high[0]), heard: low[0] > -40 && high[1] > -40, silent: low[0] < -55 && high[1] < -55 });
    }
    return out;
  }

  /** Milliseconds at which sound sets in after `quiet` ms without. */
  onsets(quiet = 300) {
    const out = [];
    let last = -Infinity;
    for (let i = 0; i < this.samples.length; i += 2) {
      if (Math.max(Math.abs(this.samples[i]), Math.abs(this.samples[i + 1])) / 32_768 < HEARD) continue;
      const at = (i / 2 / SAMPLE_RATE) * 1000;
      if (at - last > quiet) out.push(at);
      last = at;
    }
    return out;
  }
}
