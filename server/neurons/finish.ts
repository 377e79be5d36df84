import type { ConceptSpace } from '../../models/brivl/model.js';
import type { Concept } from '../jobs/job.js';
import { labels } from './dissect.js';
import { quantileOf, type Histogram } from './histogram.js';
import { layout } from './layout.js';
import { clarity, polysemanticity, redundancies } from './measures.js';
import type { Meaning } from './see.js';
import type { Example } from './slots.js';
import type { Tally } from './tally.js';
import type { Kept } from './walk.js';
import { best, normalized, productsByRow, type Breathe, type Products, type Rows } from './vectors.js';
import { conceptRows, wordsOf } from './words.js';

export const exampleKinds = ['top', 'upper', 'middle', 'lower', 'least'] as const;
export type ExampleKind = (typeof exampleKinds)[number];

/** Examples of a quantile. */
const perQuantile = 4;
const wordCount = 10;
const similarCount = 10;
const oppositeCount = 5;

/** Another channel of the layer. */
export interface Neighbour {
  channel: number;
  /** Of the two directions where the model tells them, else of the two centred activation profiles over the pictures. */
  cosine: number;
  /** Of the two activations over the pictures; null in a layer with too many channels for it. */
  correlation: number | null;
}

/** All that an index tells of a unit. */
export interface UnitRecord {
  channel: number;
  /** Of its readings: the means over its map. */
  mean: number;
  deviation: number;
  max: number;
  /** The share of pictures in which it is above 0 anywhere in its map. */
  density: number;
  histogram: Histogram;
  label: Concept | null;
  words: Concept[];
  similar: Neighbour[];
  opposite: Neighbour[];
  clarity: number | null;
  polysemanticity: number | null;
  redundancy: number | null;
  x: number;
  y: number;
  examples: Record<ExampleKind, Example[]>;
}

/** What can be said of a layer's channels when the walk is over, channel by channel. */
export async function* finishLayer(
  tally: Tally,
  kept: ReadonlyMap<number, Kept>,
  { concepts, directions }: Meaning,
  products: Products,
  breathe: Breathe,
): AsyncGenerator<UnitRecord> {
  const { channels, embed } = tally.shape;
  const pull: Rows = { count: channels, length: embed, values: directions ?? Float32Array.from(tally.pulls!.products) };
  const words = concepts ? await wordsOf(pull, concepts, wordCount, products) : null;
  const places = await layout(pull, products, breathe);
  const strongest = Array.from({ length: channels }, (_, c) => tally.top.of(c).map((slot) => tally.slots.imageOf(c, slot)));
  const { pictures, rows } = picturesOf(kept, embed);
  const ranked = strongest.map((images) => images.map((image) => rows.get(image)!));
  const labelled = concepts && (await labels(ranked, pictures, conceptRows(concepts), products, breathe));
  const redundant = await redundancies(meansOf(ranked, pictures), products);
  const unitPull = normalized(pull);
  for await (const { row: channel, scores } of productsByRow(unitPull, unitPull, products)) {
    await breathe();
    const histogram = tally.histograms.of(channel)!;
    const { pairs } = tally;
    const cosines = directions === null && pairs ? scores.map((_, other) => pairs.correlation(channel, other)) : scores;
    const neighbours = (by: Float32Array, count: number): Neighbour[] =>
      best(by, count, channel).map(({ index }) => ({
        channel: index,
        cosine: cosines[index],
        correlation: pairs?.correlation(channel, index) ?? null,
      }));
    const own: Rows = gathered(ranked[channel], pictures);
    yield {
      channel,
      mean: tally.moments.means[channel],
      deviation: tally.moments.deviation(channel),
      max: tally.moments.most[channel],
      density: tally.awake[channel] / tally.moments.count[0],
      histogram,
      label: conceptOf(labelled?.[channel], concepts),
      words: words?.[channel] ?? [],
      similar: neighbours(cosines, similarCount),
      opposite: neighbours(
        cosines.map((cosine) => -cosine),
        oppositeCount,
      ),
      clarity: clarity(own),
      polysemanticity: polysemanticity(own),
      redundancy: redundant[channel],
      ...places[channel],
      examples: examplesOf(tally, channel, histogram),
    };
  }
}

const conceptOf = (found: { index: number; score: number } | null | undefined, concepts: ConceptSpace | null): Concept | null =>
  found && concepts ? { ...concepts.entries[found.index], score: found.score } : null;

/** Embeddings of the pictures that have one, and the row of each. */
function picturesOf(kept: ReadonlyMap<number, Kept>, embed: number): { pictures: Rows; rows: Map<number, number> } {
  const embedded = [...kept].filter(([, { embedding }]) => embedding !== null).sort(([a], [b]) => a - b);
  const values = new Float32Array(embedded.length * embed);
  embedded.forEach(([, { embedding }], i) => values.set(embedding!, i * embed));
  return {
    pictures: { count: embedded.length, length: embed, values },
    rows: new Map(embedded.map(([image], i) => [image, i])),
  };
}

function gathered(rows: readonly number[], { length, values }: Rows): Rows {
  const out = new Float32Array(rows.length * length);
  rows.forEach((row, i) => out.set(values.subarray(row * length, (row + 1) * length), i * length));
  return { count: rows.length, length, values: out };
}

function meansOf(ranked: readonly (readonly number[])[], pictures: Rows): Rows {
  const { length } = pictures;
  const values = new Float32Array(ranked.length * length);
  ranked.forEach((rows, unit) => {
    for (const row of rows)
      for (let k = 0; k < length; k++) values[unit * length + k] += pictures.values[row * length + k] / rows.length;
  });
  return { count: ranked.length, length, values };
}

/** The pictures that are examples of some channel: of those that a walk keeps, the fewest. */
export async function* shownOf(tally: Tally, breathe: Breathe): AsyncGenerator<number> {
  for (let channel = 0; channel < tally.shape.channels; channel++) {
    await breathe();
    for (const strip of Object.values(examplesOf(tally, channel, tally.histograms.of(channel)!)))
      for (const { image } of strip) yield image;
  }
}

/** The strongest, those nearest to the quartiles among the pictures that the bins remember, and the weakest. */
function examplesOf(tally: Tally, channel: number, histogram: Histogram): Record<ExampleKind, Example[]> {
  const read = (slots: readonly number[]) => slots.map((slot) => tally.slots.read(channel, slot));
  const remembered = tally.histograms.remembered(channel);
  const near = (share: number) => {
    const value = quantileOf(histogram, share);
    const distance = (slot: number) => Math.abs(tally.slots.valueOf(channel, slot) - value);
    const image = (slot: number) => tally.slots.imageOf(channel, slot);
    return read([...remembered].sort((a, b) => distance(a) - distance(b) || image(a) - image(b)).slice(0, perQuantile));
  };
  return {
    top: read(tally.top.of(channel)),
    upper: near(0.75),
    middle: near(0.5),
    lower: near(0.25),
    least: read(tally.least.of(channel)),
  };
}
