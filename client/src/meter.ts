/** How loud a local track is: for a level meter, or a ring around whoever speaks. */

export class Meter {
  readonly #context: AudioContext;
  readonly #analyser: AnalyserNode;
  readonly #samples: Float32Array<ArrayBuffer>;

  /** Throws where the browser lets no page measure sound. */
  constructor(track: MediaStreamTrack) {
    this.#context = new AudioContext();
    this.#analyser = this.#context.createAnalyser();
    this.#analyser.fftSize = 1024;
    this.#samples = new Float32Array(this.#analyser.fftSize);
    try {
      this.#context.createMediaStreamSource(new MediaStream([track])).connect(this.#analyser);
    } catch (error) {
      // Browsers allow few contexts at once.
      this.close();
      throw error;
    }
  }

  /** 0 to 1 of full scale (root mean square of the last 20 ms). 0 until the page may use sound. */
  get level(): number {
    // A page nobody has touched yet starts suspended; it may have been touched by now.
    if (this.#context.state === "suspended") void this.#context.resume();
    this.#analyser.getFloatTimeDomainData(this.#samples);
    let sum = 0;
    for (const sample of this.#samples) sum += sample * sample;
    return Math.sqrt(sum / this.#samples.length);
  }

  close(): void {
    void this.#context.close();
  }
}
