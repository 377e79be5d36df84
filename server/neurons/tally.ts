import { bins, Histograms, perBin } from './histogram.js';
import { CoMoments, Moments, SelfMoments } from './moments.js';
import type { LayerAnswer } from './see.js';
import { nobody, Ranking, Slots, type Sample } from './slots.js';

/** Examples of a channel that are kept exactly. */
export const topExamples = 12;
export const leastExamples = 4;

/** Of layers with more channels no pairs are kept: their number is the square of the channels'. */
const mostPaired = 2048;

export interface TallyShape {
  channels: number;
  rows: number;
  columns: number;
  /** Whether its maps are kept. */
  maps: boolean;
  embed: number;
  /** Whether the model tells where its channels pull: then the embeddings need not be asked. */
  directed: boolean;
}

/**
 * What an index knows of a layer, one picture at a time. Its size is a function of the shape alone, whatever the number of pictures, and all
 * of it lies in `arrays`.
 */
export class Tally {
  readonly moments: Moments;
  readonly histograms: Histograms;
  readonly slots: Slots;
  readonly top: Ranking;
  readonly least: Ranking;
  /** [channels]: pictures in which it is above 0 anywhere in its map. */
  readonly awake: Uint32Array;
  /** Channels with channels. */
  readonly pairs: SelfMoments | null;
  /** Channels with the embedding: where each pulls, on average. */
  readonly pulls: CoMoments | null;
  readonly #scratch: Float64Array[];
  readonly #sample: Sample = { image: 0, value: 0, place: 0, map: null };

  constructor(readonly shape: TallyShape) {
    const { channels, rows, columns, maps, embed, directed } = shape;
    this.moments = new Moments(channels);
    this.slots = new Slots(channels, topExamples + leastExamples + bins * perBin, maps ? rows * columns : 0);
    this.top = new Ranking(channels, this.slots, 0, topExamples, 1);
    this.least = new Ranking(channels, this.slots, topExamples, leastExamples, -1);
    this.histograms = new Histograms(channels, this.slots, topExamples + leastExamples);
    this.awake = new Uint32Array(channels);
    this.pairs = channels <= mostPaired ? new SelfMoments(channels) : null;
    this.pulls = directed ? null : new CoMoments(channels, embed);
    this.#scratch = [new Float64Array(channels), new Float64Array(channels)];
  }

  /**
   * @param image its number in the set
   * @param at which of the answer's pictures it is
   * @param towards how far its embedding is from the mean that includes it: [embed]
   * @returns whether it is among the pictures that drive some channel most
   */
  add(image: number, answer: LayerAnswer, at: number, towards: Float64Array): boolean {
    const { channels, rows, columns } = this.shape;
    const [before, after] = this.#scratch;
    const cells = rows * columns;
    const means = answer.means.subarray(at * channels, (at + 1) * channels);
    this.moments.add(means, before, after);
    this.pairs?.add(before, after);
    this.pulls?.add(before, towards);
    const sample = this.#sample;
    sample.image = image;
    let isTop = false;
    for (let c = 0; c < channels; c++) {
      const from = at * channels + c;
      if (answer.maxima[from] > 0) this.awake[c] += 1;
      sample.value = means[c];
      sample.place = answer.places[from];
      sample.map = this.slots.cells > 0 ? answer.maps!.subarray(from * cells, (from + 1) * cells) : null;
      if (this.top.add(c, sample)) isTop = true;
      this.least.add(c, sample);
      this.histograms.add(c, sample);
    }
    return isTop;
  }

  /** The pictures that some channel's ranking of the strongest holds. */
  topImages(): Set<number> {
    const { channels } = this.shape;
    const images = new Set<number>();
    for (let c = 0; c < channels; c++) for (const slot of this.top.of(c)) images.add(this.slots.imageOf(c, slot));
    return images;
  }

  /** All pictures that are an example of some channel. */
  images(): Set<number> {
    const images = new Set(this.slots.images);
    images.delete(nobody);
    return images;
  }

  get arrays(): Readonly<Record<string, Float64Array | Float32Array | Uint32Array | Uint8Array>> {
    const { widths, starts, counts, firsts } = this.histograms;
    const named = (prefix: string, arrays: object) =>
      Object.fromEntries(Object.entries(arrays).map(([name, array]) => [`${prefix}.${name}`, array as Float64Array]));
    return {
      ...named('moments', this.moments.arrays),
      ...named('histograms', { widths, starts, counts, firsts }),
      ...named('slots', this.slots.arrays),
      ...named('top', { order: this.top.order, filled: this.top.filled }),
      ...named('least', { order: this.least.order, filled: this.least.filled }),
      awake: this.awake,
      ...(this.pairs && { pairs: this.pairs.products }),
      ...(this.pulls && { pulls: this.pulls.products }),
    };
  }
}
