// Sound and pictures the fake devices play: a stereo WAV with one tone per ear, and a Y4M film that carries its own
// frame number in black and white bars, so that a viewer can tell a live picture from a frozen one.

import { writeFileSync } from 'node:fs';

export const SAMPLE_RATE = 48_000;
/** The film's size, rate and length: 64 numbered frames. */
export const FILM = { width: 320, height: 180, fps: 15, frames: 64 };
/** Across the upper half: white, six bits of the frame number (highest first), black. */
export const CELLS = 8;

/** Writes a 16-bit stereo WAV of `seconds` (whole seconds: it loops without a click) with one sine per channel. */
export function writeTones(path, { left, right, seconds = 4, level = 0.5 }) {
  const count = SAMPLE_RATE * seconds;
  const data = Buffer.alloc(count * 4);
  for (let i = 0; i < count; i += 1) {
    const sample = (hz) => Math.round(level * 32_767 * Math.sin((2 * Math.PI * hz * i) / SAMPLE_RATE));
    data.writeInt16LE(sample(left), i * 4);
    data.writeInt16LE(sample(right), i * 4 + 2);
  }
  const header = Buffer.alloc(44);
  header.write('RIFF', 0);
  header.writeUInt32LE(36 + data.length, 4);
  header.write('WAVEfmt ', 8);
  header.writeUInt32LE(16, 16);
  header.writeUInt16LE(1, 20);
  header.writeUInt16LE(2, 22);
  header.writeUInt32LE(SAMPLE_RATE, 24);
  header.writeUInt32LE(SAMPLE_RATE * 4, 28);
  header.writeUInt16LE(4, 32);
  header.writeUInt16LE(16, 34);
  header.write('data', 36);
  header.writeUInt32LE(data.length, 40);
  writeFileSync(path, Buffer.concat([header, data]));
}

/** Writes the numbered film; its lower half has the colour (u, v), 0–255 each, by which its publisher is known. */
export function writeFilm(path, { u = 90, v = 200 } = {}) {
  const { width, height, fps, frames } = FILM;
  const parts = [Buffer.from(`YUV4MPEG2 W${width} H${height} F${fps}:1 Ip A1:1 C420jpeg\n`)];
  const chromaWidth = width / 2;
  const chromaHeight = height / 2;
  for (let frame = 0; frame < frames; frame += 1) {
    const luma = Buffer.alloc(width * height, 128);
    for (let cell = 0; cell < CELLS; cell += 1) {
      const bright = cell === 0 || (cell < CELLS - 1 && (frame >> (CELLS - 2 - cell)) & 1);
      const from = Math.round((cell * width) / CELLS);
      const to = Math.round(((cell + 1) * width) / CELLS);
      for (let y = 0; y < height / 2; y += 1) luma.fill(bright ? 235 : 16, y * width + from, y * width + to);
    }
    const chroma = (value) => {
      const plane = Buffer.alloc(chromaWidth * chromaHeight, 128);
      plane.fill(value, chromaWidth * Math.ceil(chromaHeight / 2));
      return plane;
    };
    parts.push(Buffer.from('FRAME\n'), luma, chroma(u), chroma(v));
  }
  writeFileSync(path, Buffer.concat(parts));
}
