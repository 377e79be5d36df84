/** How a channel answers one picture. */
export interface Sample {
  /** Which picture of the set, from 0. */
  image: number;
  /** The channel's mean over the map. */
  value: number;
  /** Where the map is greatest: row * columns + column. */
  place: number;
  /** [rows * columns], or null where maps are not kept. */
  map: Float32Array | null;
}

/** In place of a picture's number: the slot is free. */
export const nobody = 0xffffffff;

/**
 * Places for the examples of channels, as many for each. What a picture's map looks like is kept in bytes, to 1/255 of its range. All is in
 * arrays of a fixed length: `arrays` is the whole state.
 */
export class Slots {
  readonly images: Uint32Array;
  readonly values: Float32Array;
  readonly places: Uint32Array;
  readonly lows: Float32Array;
  readonly highs: Float32Array;
  readonly maps: Uint8Array;

  /** @param cells of a map that is kept; 0 keeps none */
  constructor(
    channels: number,
    readonly perChannel: number,
    readonly cells: number,
  ) {
    const count = channels * perChannel;
    this.images = new Uint32Array(count).fill(nobody);
    this.values = new Float32Array(count);
    this.places = new Uint32Array(count);
    this.lows = new Float32Array(count);
    this.highs = new Float32Array(count);
    this.maps = new Uint8Array(count * cells);
  }

  imageOf(channel: number, slot: number): number {
    return this.images[channel * this.perChannel + slot];
  }

  valueOf(channel: number, slot: number): number {
    return this.values[channel * this.perChannel + slot];
  }

  clear(channel: number, slot: number): void {
    this.images[channel * this.perChannel + slot] = nobody;
  }

  write(channel: number, slot: number, { image, value, place, map }: Sample): void {
    const at = channel * this.perChannel + slot;
    this.images[at] = image;
    this.values[at] = value;
    this.places[at] = place;
    if (this.cells === 0 || map === null) return;
    let [low, high] = [Infinity, -Infinity];
    for (const v of map) {
      if (v < low) low = v;
      if (v > high) high = v;
    }
    this.lows[at] = low;
    this.highs[at] = high;
    const scale = high > low ? 255 / (high - low) : 0;
    for (let i = 0; i < this.cells; i++) this.maps[at * this.cells + i] = Math.round((map[i] - low) * scale);
  }

  read(channel: number, slot: number): Example {
    const at = channel * this.perChannel + slot;
    return {
      image: this.images[at],
      activation: this.values[at],
      place: this.places[at],
      map:
        this.cells === 0
          ? null
          : { low: this.lows[at], high: this.highs[at], bytes: this.maps.slice(at * this.cells, (at + 1) * this.cells) },
    };
  }

  get arrays() {
    const { images, values, places, lows, highs, maps } = this;
    return { images, values, places, lows, highs, maps };
  }
}

/** A map in bytes: value = low + byte / 255 (high - low). */
export interface PackedMap {
  low: number;
  high: number;
  bytes: Uint8Array;
}

export interface Example {
  image: number;
  activation: number;
  place: number;
  map: PackedMap | null;
}

/** The values of a map, rounded to 3 digits after the point. */
export const unpacked = ({ low, high, bytes }: PackedMap): number[] =>
  Array.from(bytes, (byte) => Math.round(1000 * (low + (byte / 255) * (high - low))) / 1000);

/** The pictures that drive each channel most (or least), best first; of equal ones those that came first. */
export class Ranking {
  /** [channels, length]: slots, best first. */
  readonly order: Uint8Array;
  /** [channels]: how many of them are taken. */
  readonly filled: Uint8Array;

  /**
   * @param base where in a channel's slots those of this ranking begin
   * @param sign 1 for the greatest first, -1 for the smallest
   */
  constructor(
    channels: number,
    private readonly slots: Slots,
    private readonly base: number,
    readonly length: number,
    private readonly sign: 1 | -1,
  ) {
    this.order = new Uint8Array(channels * length);
    this.filled = new Uint8Array(channels);
  }

  /** @returns false when the picture has no place among them */
  add(channel: number, sample: Sample): boolean {
    const { order, slots, sign, length } = this;
    const at = channel * length;
    const filled = this.filled[channel];
    const isBetterThan = (k: number) => sign * sample.value > sign * slots.valueOf(channel, order[at + k]);
    if (filled === length && !isBetterThan(length - 1)) return false;
    const slot = filled === length ? order[at + length - 1] : this.base + filled;
    let k = Math.min(filled, length - 1);
    for (; k > 0 && isBetterThan(k - 1); k--) order[at + k] = order[at + k - 1];
    order[at + k] = slot;
    if (filled < length) this.filled[channel] = filled + 1;
    slots.write(channel, slot, sample);
    return true;
  }

  /** The slots of a channel's ranking, best first. */
  of(channel: number): number[] {
    const at = channel * this.length;
    return [...this.order.subarray(at, at + this.filled[channel])];
  }
}
