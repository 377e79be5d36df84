/**
 * The one seeded generator: xoshiro128** (Blackman & Vigna 2018), seeded through splitmix32. Its state is four numbers, so that a run can be
 * stopped and taken up again to the same bytes.
 */
export class Random {
  #state: Uint32Array;
  #spare: number | null = null;

  constructor(seed: number) {
    this.#state = new Uint32Array(4);
    let s = seed >>> 0;
    for (let i = 0; i < 4; i++) {
      s = (s + 0x9e3779b9) >>> 0;
      let z = s;
      z = Math.imul(z ^ (z >>> 16), 0x21f0aaad);
      z = Math.imul(z ^ (z >>> 15), 0x735a2d97);
      this.#state[i] = (z ^ (z >>> 15)) >>> 0;
    }
  }

  /** A whole number from 0 to 2^32 - 1. */
  next(): number {
    const s = this.#state;
    const rotated = Math.imul(s[1], 5);
    const result = Math.imul((rotated << 7) | (rotated >>> 25), 9) >>> 0;
    const t = s[1] << 9;
    s[2] ^= s[0];
    s[3] ^= s[1];
    s[1] ^= s[2];
    s[0] ^= s[3];
    s[2] ^= t;
    s[3] = (s[3] << 11) | (s[3] >>> 21);
    return result;
  }

  /** Uniform in [low, high). */
  uniform(low = 0, high = 1): number {
    return low + (high - low) * (this.next() * 2 ** -32);
  }

  /** A whole number in [0, n). */
  below(n: number): number {
    return Math.floor(this.uniform(0, n));
  }

  /** Normal, by Box and Muller's method. */
  normal(mean = 0, deviation = 1): number {
    if (this.#spare !== null) {
      const value = this.#spare;
      this.#spare = null;
      return mean + deviation * value;
    }
    const radius = Math.sqrt(-2 * Math.log((this.next() + 1) * 2 ** -32));
    const angle = 2 * Math.PI * this.next() * 2 ** -32;
    this.#spare = radius * Math.sin(angle);
    return mean + deviation * radius * Math.cos(angle);
  }

  save(): number[] {
    return [...this.#state, ...(this.#spare === null ? [] : [this.#spare])];
  }

  load(saved: readonly number[]): void {
    this.#state = Uint32Array.from(saved.slice(0, 4));
    this.#spare = saved[4] ?? null;
  }
}
