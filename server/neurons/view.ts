import { percentile, type ChannelStatistics } from '../../models/brivl/statistics.js';
import { unitName } from '../../models/brivl/units.js';
import type { Concept } from '../jobs/job.js';
import {
  examplesOf,
  findUnit,
  firstExamples,
  summariesOf,
  type ExampleRow,
  type IndexRecord,
  type IndexState,
} from '../store/neurons.js';
import type { Store } from '../store/store.js';
import { atlasOf, type AtlasView } from './atlas.js';
import { exampleKinds, type ExampleKind, type Neighbour } from './finish.js';
import type { Histogram } from './histogram.js';
import { bundled, bundledCredits, type Credit } from './pictures.js';
import type { EyeView } from './see.js';
import { unpacked } from './slots.js';

export interface UnitSummary {
  channel: number;
  label: Pick<Concept, 'word' | 'zh' | 'score'> | null;
  words: Pick<Concept, 'word' | 'zh'>[];
  mean: number | null;
  max: number | null;
  density: number | null;
  clarity: number | null;
  polysemanticity: number | null;
  redundancy: number | null;
  x: number | null;
  y: number | null;
  /** Where the picture is that drives it most. */
  example: string | null;
}

/** How far the index is that a layer's units are told from. */
export interface IndexProgressView {
  id: string | null;
  images: number;
  state: 'none' | IndexState;
  done: number;
  unreadable: number;
  error: string | null;
}

export interface LayerView {
  model: string;
  hash: string;
  layer: string;
  layers: { name: string; channels: number }[];
  index: IndexProgressView;
  atlas: AtlasView | null;
  units: UnitSummary[];
}

export interface ExampleView {
  /** A bundled photograph's file name, or the number of a picture of a user's index. */
  image: string;
  url: string;
  name: string;
  credit: Credit | null;
  activation: number;
  /** The share of the bundled photographs, 0 to 100, that drive the unit less. */
  percentile: number;
  /** Where the map is greatest. */
  y: number;
  x: number;
  map: { rows: number; columns: number; values: number[] } | null;
}

/** What an index tells of a unit. */
export interface UnitFindings {
  /** Of its readings over the pictures of the index; `density` is the share of them in which it is above 0 anywhere. */
  statistics: { mean: number; deviation: number; max: number; density: number };
  histogram: Histogram;
  examples: Record<ExampleKind, ExampleView[]>;
}

/** The findings are null, and the lists empty, while there is no index. */
export interface UnitView extends Nullable<UnitFindings> {
  model: string;
  hash: string;
  layer: string;
  channel: number;
  unit: string;
  index: IndexProgressView;
  label: Concept | null;
  words: Concept[];
  similar: Neighbour[];
  opposite: Neighbour[];
  clarity: number | null;
  polysemanticity: number | null;
  redundancy: number | null;
  /** Where its picture from the sheet is. */
  visualization: { url: string; side: number } | null;
}

type Nullable<T> = { [K in keyof T]: T[K] | null };

export interface IndexView {
  id: string;
  model: string;
  hash: string;
  layers: string[];
  /** `bundled`, or a folder on the machine of the server. */
  source: string;
  images: number;
  done: number;
  unreadable: number;
  /** The first of them, with why. */
  firstUnreadable: { name: string; why: string }[];
  state: IndexState;
  error: string | null;
  createdAt: number;
  finishedAt: number | null;
}

export const indexView = (record: IndexRecord): IndexView => {
  const {
    id,
    modelName,
    modelHash,
    layers,
    source,
    images,
    done,
    unreadable,
    firstUnreadable,
    state,
    error,
    createdAt,
    finishedAt,
  } = record;
  return { id, model: modelName, hash: modelHash, layers, source, images, done, unreadable, firstUnreadable, state, error, createdAt, finishedAt }; // prettier-ignore
};

const progressOf = (record: IndexRecord | undefined): IndexProgressView =>
  record
    ? {
        id: record.id,
        images: record.images,
        state: record.state,
        done: record.done,
        unreadable: record.unreadable,
        error: record.error,
      }
    : { id: null, images: 0, state: 'none', done: 0, unreadable: 0, error: null };

/** @param record the index that tells of the layer, if there is one */
export function layerView(store: Store, eye: EyeView, layer: string, record: IndexRecord | undefined): LayerView {
  const { name: model, hash, layers } = eye;
  const { channels } = layers.find(({ name }) => name === layer)!;
  const isDone = record?.state === 'done';
  const firsts = isDone ? firstExamples(store, record.id, layer) : new Map<number, never>();
  const units = isDone
    ? summariesOf(store, record.id, layer).map(({ label, words, ...unit }): UnitSummary => {
        const first = firsts.get(unit.channel);
        return {
          ...unit,
          label: label && { word: label.word, zh: label.zh, score: label.score },
          words: words.slice(0, 3).map(({ word, zh }) => ({ word, zh })),
          example: first ? urlOf(record, first) : null,
        };
      })
    : Array.from({ length: channels }, (_, channel) => ({ channel, label: null, words: [], ...nothing }));
  return {
    model,
    hash,
    layer,
    layers: layers.map(({ name, channels }) => ({ name, channels })),
    index: progressOf(record),
    atlas: atlasOf(eye, layer)?.view ?? null,
    units,
  };
}

const nothing = {
  mean: null,
  max: null,
  density: null,
  clarity: null,
  polysemanticity: null,
  redundancy: null,
  x: null,
  y: null,
  example: null,
} satisfies Partial<UnitSummary>;

/** What of a unit needs no index. */
export function unknownUnitView(eye: EyeView, { layer, channel }: UnitPlace, record: IndexRecord | undefined): UnitView {
  const sheet = atlasOf(eye, layer)?.view;
  return {
    model: eye.name,
    hash: eye.hash,
    layer,
    channel,
    unit: unitName({ layer, channel, spot: 'mean' }),
    index: progressOf(record),
    statistics: null,
    histogram: null,
    label: null,
    words: [],
    similar: [],
    opposite: [],
    examples: null,
    clarity: null,
    polysemanticity: null,
    redundancy: null,
    visualization: sheet ? { url: sheet.tiles.replace('{channel}', String(channel)), side: sheet.tile } : null,
  };
}

export interface UnitPlace {
  layer: string;
  channel: number;
}

/** A unit of an index that is done; undefined where the index has no such channel. */
export function unitView(
  store: Store,
  eye: EyeView,
  at: UnitPlace,
  record: IndexRecord,
  statistics: ChannelStatistics,
): (UnitView & UnitFindings) | undefined {
  const { layer, channel } = at;
  const row = findUnit(store, record.id, layer, channel);
  if (!row) return undefined;
  const examples = examplesOf(store, record.id, layer, channel);
  const grid = record.grids[layer];
  const strip = (kind: ExampleKind) =>
    examples.filter((example) => example.kind === kind).map((example) => exampleView(record, example, grid, statistics));
  const { mean, deviation, max, density, histogram, label, words, similar, opposite } = row;
  const { clarity, polysemanticity, redundancy } = row;
  return {
    ...unknownUnitView(eye, at, record),
    ...{ statistics: { mean, deviation, max, density }, histogram, label, words, similar, opposite },
    ...{ clarity, polysemanticity, redundancy },
    examples: Object.fromEntries(exampleKinds.map((kind) => [kind, strip(kind)])) as UnitFindings['examples'],
  };
}

function exampleView(
  record: IndexRecord,
  { image, activation, y, x, map, low, high, channel }: ExampleRow,
  { rows, columns }: { rows: number; columns: number },
  { quantiles }: ChannelStatistics,
): ExampleView {
  const isBundled = record.source === bundled;
  return {
    image: isBundled ? image.name : String(image.id),
    url: urlOf(record, image),
    name: image.name,
    credit: (isBundled && bundledCredits().get(image.name)) || null,
    activation,
    percentile: percentile(quantiles, channel, activation),
    y,
    x,
    map: map && low !== null && high !== null ? { rows, columns, values: unpacked({ low, high, bytes: map }) } : null,
  };
}

const urlOf = ({ source }: IndexRecord, { id, name }: { id: number; name: string }): string =>
  source === bundled ? `/api/photographs/${encodeURIComponent(name)}` : `/api/neurons/examples/${id}`;
