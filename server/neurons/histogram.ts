import { nobody, type Sample, type Slots } from './slots.js';

/** How many bins a channel has, and how many of the pictures that fell into a bin it remembers: the first ones. */
export const bins = 64;
export const perBin = 2;

/** The width that bins begin with; a power of two, so that widening is exact. */
const finest = 2 ** -24;

/** `counts[i]` values lie in [low + i w, low + (i + 1) w), w = (high - low) / counts.length; first and last bin are not empty. */
export interface Histogram {
  low: number;
  high: number;
  counts: number[];
}

/**
 * A histogram for each channel, filled one value at a time. A channel's bins have the smallest power of two as their width (from 2^-24 on)
 * at which all that it has said fits into them: a value outside the range doubles the width, and neighbouring bins merge. So the result is a
 * function of the values, whatever their order; and so are the pictures that a bin remembers, as long as pictures come in their order.
 */
export class Histograms {
  readonly widths: Float64Array;
  /** First bin's place, in widths from 0. */
  readonly starts: Float64Array;
  /** [channels, bins] */
  readonly counts: Uint32Array;
  /** [channels, bins, perBin]: slots from `base` on, counted from 1; 0 is none. */
  readonly firsts: Uint8Array;

  /** @param base where in a channel's slots those of its bins begin: bins * perBin of them */
  constructor(
    channels: number,
    private readonly slots: Slots,
    private readonly base: number,
  ) {
    this.widths = new Float64Array(channels).fill(finest);
    this.starts = new Float64Array(channels).fill(NaN);
    this.counts = new Uint32Array(channels * bins);
    this.firsts = new Uint8Array(channels * bins * perBin);
  }

  /** @param sample its value must be finite */
  add(channel: number, sample: Sample): void {
    const bin = this.#binFor(channel, sample.value);
    this.counts[channel * bins + bin] += 1;
    const at = (channel * bins + bin) * perBin;
    for (let k = 0; k < perBin; k++)
      if (this.firsts[at + k] === 0) {
        const slot = this.#freeSlot(channel);
        this.firsts[at + k] = slot + 1;
        this.slots.write(channel, this.base + slot, sample);
        return;
      }
  }

  /** Null while the channel has said nothing. */
  of(channel: number): Histogram | null {
    const counts = this.counts.subarray(channel * bins, (channel + 1) * bins);
    const first = counts.findIndex((n) => n > 0);
    if (first < 0) return null;
    const last = counts.findLastIndex((n) => n > 0);
    const [start, width] = [this.starts[channel], this.widths[channel]];
    return {
      low: (start + first) * width + 0,
      high: (start + last + 1) * width + 0,
      counts: [...counts.subarray(first, last + 1)],
    };
  }

  /** Slots of the pictures that a channel's bins remember. */
  remembered(channel: number): number[] {
    const firsts = this.firsts.subarray(channel * bins * perBin, (channel + 1) * bins * perBin);
    return [...firsts].filter((slot) => slot > 0).map((slot) => this.base + slot - 1);
  }

  #binFor(channel: number, value: number): number {
    let width = this.widths[channel];
    let index = Math.floor(value / width);
    const start = this.starts[channel];
    if (Number.isNaN(start)) {
      this.starts[channel] = index;
      return 0;
    }
    if (index >= start && index < start + bins) return index - start;
    const counts = this.counts.subarray(channel * bins, (channel + 1) * bins);
    let low = Math.min(index, start + counts.findIndex((n) => n > 0));
    let high = Math.max(index, start + counts.findLastIndex((n) => n > 0));
    while (high - low >= bins) {
      width *= 2;
      [index, low, high] = [index, low, high].map((i) => Math.floor(i / 2));
    }
    this.#rebin(channel, width, low);
    return index - low;
  }

  #rebin(channel: number, width: number, start: number): void {
    const factor = width / this.widths[channel];
    const counts = this.counts.slice(channel * bins, (channel + 1) * bins);
    const firsts = this.firsts.slice(channel * bins * perBin, (channel + 1) * bins * perBin);
    const [at, atFirsts] = [channel * bins, channel * bins * perBin];
    this.counts.fill(0, at, at + bins);
    this.firsts.fill(0, atFirsts, atFirsts + bins * perBin);
    const merged = new Map<number, number[]>();
    counts.forEach((count, i) => {
      if (count === 0) return;
      const bin = Math.floor((this.starts[channel] + i) / factor) - start;
      this.counts[at + bin] += count;
      const slots = merged.get(bin) ?? [];
      slots.push(...firsts.subarray(i * perBin, (i + 1) * perBin).filter((slot) => slot > 0));
      merged.set(bin, slots);
    });
    for (const [bin, slots] of merged) {
      slots.sort((a, b) => this.#imageOf(channel, a) - this.#imageOf(channel, b));
      slots.forEach((slot, k) => {
        if (k < perBin) this.firsts[atFirsts + bin * perBin + k] = slot;
        else this.slots.clear(channel, this.base + slot - 1);
      });
    }
    this.widths[channel] = width;
    this.starts[channel] = start;
  }

  #imageOf = (channel: number, slot: number): number => this.slots.imageOf(channel, this.base + slot - 1);

  #freeSlot(channel: number): number {
    for (let slot = 0; slot < bins * perBin; slot++) if (this.slots.imageOf(channel, this.base + slot) === nobody) return slot;
    throw new Error('a channel has more remembered pictures than slots');
  }
}

/** The value that a share of all values stays under, linear inside bins. @param share from 0 to 1 */
export function quantileOf({ low, high, counts }: Histogram, share: number): number {
  const width = (high - low) / counts.length;
  let left = share * counts.reduce((sum, n) => sum + n, 0);
  for (const [i, count] of counts.entries()) {
    if (left <= count && count > 0) return low + (i + left / count) * width;
    left -= count;
  }
  return high;
}

/** The share of values, from 0 to 1, that lie under this one, linear inside bins. */
export function shareBelow({ low, high, counts }: Histogram, value: number): number {
  const place = ((value - low) / (high - low)) * counts.length;
  const bin = Math.floor(place);
  const sum = (n: number) => counts.slice(0, Math.max(0, n)).reduce((total, count) => total + count, 0);
  const inside = bin >= 0 && bin < counts.length ? counts[bin] * (place - bin) : 0;
  return (sum(bin) + inside) / sum(counts.length);
}
