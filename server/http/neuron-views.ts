import { z } from 'zod';
import type { Concept } from '../jobs/job.js';
import { exampleKinds, type ExampleKind, type Neighbour } from '../neurons/finish.js';
import type { ExampleView, IndexView, LayerView, UnitSummary, UnitView } from '../neurons/view.js';
import { indexStates } from '../store/schema.js';

// The answers about neurons as schemas, for the API's description. `satisfies` holds each to the type that the code uses.

const names = { word: z.string(), zh: z.string().nullable() };
const named = z.object({ wnid: z.string(), ...names, score: z.number() }) satisfies z.ZodType<Concept>;
const label = named
  .nullable()
  .describe('The concept that its strongest pictures show, by soft-WPMI (CLIP-Dissect); the score is in nats');
const measures = {
  clarity: z.number().nullable().describe('How alike its strongest pictures are: their mean cosine (SemanticLens)'),
  polysemanticity: z.number().nullable().describe('How far apart the two halves of its strongest pictures are (SemanticLens)'),
  redundancy: z.number().nullable().describe('Greatest cosine of its mean picture to that of another unit (SemanticLens)'),
};
const density = z.number().describe('The share of pictures in which it is above 0 anywhere in its map, from 0 to 1');
const atlas = z.object({
  url: z.string(),
  tiles: z.string().describe("Of one channel's picture, with {channel} where its number goes"),
  tile: z.int(),
  columns: z.int(),
});

const unitSummary = z.object({
  channel: z.int(),
  label: z.object({ ...names, score: z.number() }).nullable(),
  words: z.array(z.object(names)),
  mean: z.number().nullable(),
  max: z.number().nullable(),
  density: density.nullable(),
  ...measures,
  x: z.number().nullable().describe('On the map of all units, from 0 to 1'),
  y: z.number().nullable(),
  example: z.string().nullable().describe('Address of the picture that drives it most'),
}) satisfies z.ZodType<UnitSummary>;

const indexProgress = z.object({
  id: z.string().nullable(),
  images: z.int(),
  state: z.enum(['none', ...indexStates]),
  done: z.int().describe('Pictures that were looked at'),
  unreadable: z.int(),
  error: z.string().nullable(),
});

export const layerView = z.object({
  model: z.string(),
  hash: z.string(),
  layer: z.string(),
  layers: z.array(z.object({ name: z.string(), channels: z.int() })),
  index: indexProgress,
  atlas: atlas.nullable(),
  units: z.array(unitSummary),
}) satisfies z.ZodType<LayerView>;

const neighbour = z.object({
  channel: z.int(),
  cosine: z
    .number()
    .describe('Of the two directions, or, in layers without a linear way to the joint space, of the activation profiles'),
  correlation: z.number().nullable().describe('Of the two activations over the pictures'),
}) satisfies z.ZodType<Neighbour>;

const example = z.object({
  image: z.string(),
  url: z.string(),
  name: z.string(),
  credit: z
    .object({
      title: z.object({ en: z.string(), zh: z.string() }),
      author: z.string(),
      licence: z.string(),
      url: z.string().nullable(),
    })
    .nullable(),
  activation: z.number().describe('Mean of its channel over the map'),
  percentile: z.number().describe('The share of the bundled photographs, 0 to 100, that drive it less'),
  y: z.int().describe('Row of the map where it is greatest'),
  x: z.int(),
  map: z
    .object({ rows: z.int(), columns: z.int(), values: z.array(z.number()) })
    .nullable()
    .describe('Null for maps over 32 x 32'),
}) satisfies z.ZodType<ExampleView>;

const strips = Object.fromEntries(exampleKinds.map((kind) => [kind, z.array(example)])) as Record<
  ExampleKind,
  z.ZodArray<typeof example>
>;

export const unitView = z.object({
  model: z.string(),
  hash: z.string(),
  layer: z.string(),
  channel: z.int(),
  unit: z.string().describe('As jobs name it'),
  index: indexProgress,
  statistics: z.object({ mean: z.number(), deviation: z.number(), max: z.number(), density }).nullable(),
  histogram: z.object({ low: z.number(), high: z.number(), counts: z.array(z.int()) }).nullable(),
  label,
  words: z.array(named).describe('Concepts that the channel pulls pictures towards, with the cosine to its direction'),
  similar: z.array(neighbour),
  opposite: z.array(neighbour),
  examples: z.object(strips).nullable().describe('The strongest pictures, some near each quartile, and the weakest'),
  ...measures,
  visualization: z
    .object({ url: z.string(), side: z.int().describe('In pixels') })
    .nullable()
    .describe('Its picture from the sheet'),
}) satisfies z.ZodType<UnitView>;

const time = z.int().describe('Milliseconds since 1970');

export const indexView = z.object({
  id: z.string(),
  model: z.string(),
  hash: z.string(),
  layers: z.array(z.string()),
  source: z.string().describe('"bundled", or a folder of this machine'),
  images: z.int(),
  done: z.int(),
  unreadable: z.int(),
  firstUnreadable: z.array(z.object({ name: z.string(), why: z.string() })),
  state: z.enum(indexStates),
  error: z.string().nullable(),
  createdAt: time,
  finishedAt: time.nullable(),
}) satisfies z.ZodType<IndexView>;

export const indexList = z.object({ indexes: z.array(indexView) });
