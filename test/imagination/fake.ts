import { createHash } from 'node:crypto';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { brivlConfig } from '../../models/brivl/config.js';
import type { BrivlModel, Eye } from '../../models/brivl/model.js';
import type { ChannelStatistics } from '../../models/brivl/statistics.js';
import type { ImageTower } from '../../models/brivl/towers.js';
import { normalize } from '../../models/brivl/transformer.js';
import { Graph, sizeOf, type Value } from '../../models/graph/index.js';
import { vqganConfig } from '../../models/vqgan/config.js';
import { parameterShapes } from '../../models/vqgan/layout.js';
import { openVqgan, type VqganModel } from '../../models/vqgan/model.js';
import { createRunner, type SessionRunner } from '../../server/compute/sessions.js';
import { imagine, type Imagined, type ImagineInput, type StepReport, type Watcher } from '../../server/imagination/imagine.js';
import type { Sessions } from '../../server/imagination/sessions.js';
import { job, type Job } from '../../server/jobs/job.js';
import { randomStream, sessionOptions } from '../graph/session.js';

/** A model of a few thousand weights, in which everything that a run does takes milliseconds. */

const [size, channels, embed, hidden, vocabulary, longest] = [32, 16, 12, 8, 64, 16];

function draw(length: number, spread: number, seed: number): Float32Array {
  const random = randomStream(seed);
  return Float32Array.from({ length }, () => spread * (2 * random() - 1));
}

function look(g: Graph, pictures: Value, seed: number): ImageTower {
  const conv = (x: Value, out: number, at: number) => {
    const into = x.shape[1];
    const kernel = g.floats(draw(out * into * 9, Math.sqrt(3 / (into * 9)), seed + at), [out, into, 3, 3]);
    return g.op('Relu', [
      g.op('Conv', [x, kernel, g.floats(draw(out, 0.1, seed + at + 50))], { strides: [2, 2], pads: [1, 1, 1, 1] }),
    ]);
  };
  const features = (x: Value) => conv(conv(x, 8, 1), channels, 2);
  const stem = conv(g.sub(pictures, g.scalar(0.5)), 8, 1);
  const llp = conv(stem, channels, 2);
  // About what grey looks like, so that small differences of pictures are large ones of direction.
  const grey = g.reduceMean(features(g.floats(new Float32Array(3 * size * size), [1, 3, size, size])), [2, 3]);
  const pooled = g.sub(g.reduceMean(llp, [2, 3]), grey);
  const projected = g.scale(g.matMul(pooled, g.floats(draw(channels * embed, 1, seed + 3), [channels, embed])), 10);
  const layers = new Map([
    ['stem', stem],
    ['LLP', llp],
  ]);
  return { llp, layers, projected, embedding: normalize(g, projected) };
}

export const eyeOf = (seed: number): Eye => ({
  hash: `fake-${seed}`,
  size,
  channels,
  embed,
  layers: [
    { name: 'stem', channels: 8 },
    { name: 'LLP', channels },
  ],
  look: (g, pictures) => look(g, pictures, seed),
});

const config = brivlConfig.parse({
  name: 'fake',
  version: 1,
  image: {
    backbone: 'efficientnet-lite0',
    size,
    input: { mean: [0, 0, 0], std: [1, 1, 1] },
    feature: channels,
    pooling: 'mean',
    tokenNorm: false,
    attention: { layers: 0 },
    fc: 'linear',
    embed,
  },
  text: {
    backbone: { type: 'bert', layers: 0, hidden, heads: 1, ffn: 1, vocab: vocabulary, layerNormEps: 1e-12 },
    paddingMask: true,
    maxLength: longest,
    pooledNorm: false,
    tokenNorm: false,
    attention: { layers: 0 },
    fc: 'linear',
  },
});

const table = draw(vocabulary * hidden, 1, 77);
const unitRows = (values: Float32Array): Float32Array =>
  values.map((v, i) => v / Math.hypot(...values.subarray(Math.floor(i / embed) * embed, (Math.floor(i / embed) + 1) * embed)));

/** Of channels whose readings of photographs spread evenly from 0 to twice their mean. */
function statisticsOf(channels: number): ChannelStatistics {
  const means = Float32Array.from({ length: channels }, (_, i) => 0.2 + 0.02 * i);
  const levels = Float32Array.of(0, 0.25, 0.5, 0.75, 1);
  return {
    means,
    deviations: means.map((mean) => mean / Math.sqrt(3)),
    quantiles: { levels, values: Float32Array.from([...levels].flatMap((level) => [...means].map((mean) => 2 * mean * level))) },
  };
}

/** Pieces are characters; the text tower is their mean through a matrix. */
export const fake: BrivlModel = {
  name: 'fake',
  hash: 'fake',
  bytes: 0,
  parameters: 0,
  description: '',
  config,
  eye: eyeOf(1),
  concepts: {
    classes: 20,
    entries: Array.from({ length: 20 }, (_, i) => ({ wnid: `n${i}`, word: `concept ${i}`, zh: null })),
    joint: unitRows(draw(20 * embed, 1, 88)),
  },
  second: null,
  statistics: new Map([
    ['stem', statisticsOf(8)],
    ['LLP', statisticsOf(channels)],
  ]),
  tokenize(text) {
    const ids = [...text].map((c) => c.codePointAt(0)! % vocabulary);
    return { ids: ids.slice(0, longest), cut: ids.length > longest, unknown: [...text].filter((c) => c.codePointAt(0)! > 0xffff) };
  },
  textLengths: [longest],
  words(ids, length) {
    const words = new Float32Array(length * hidden);
    ids.forEach((id, i) => words.set(table.subarray(id * hidden, (id + 1) * hidden), i * hidden));
    return { words, mask: Float32Array.from({ length }, (_, i) => +(i < ids.length)) };
  },
  textGraph(length) {
    const g = new Graph();
    const words = g.input('words', [1, length, hidden]);
    const mask = g.reshape(g.input('mask', [1, length]), [1, length, 1]);
    const mean = g.div(g.reduceSum(g.mul(words, mask), [1]), g.reduceSum(mask, [1]));
    g.output('embedding', normalize(g, g.matMul(mean, g.floats(draw(hidden * embed, 1, 99), [hidden, embed]))));
    return g;
  },
};

/**
 * Writes a random VQGAN of a few thousand weights into a folder (f4, 24 codes of 4 numbers), and opens it. Its pictures are pale, so that
 * nothing in them is clamped.
 */
export function randomGenerator(folder: string, name = 'vqgan-fake'): VqganModel {
  const settings = {
    name,
    kind: 'vq',
    ch: 8,
    chMult: [1, 1, 2],
    blocks: { encoder: 1, decoder: 1 },
    attention: [],
    groups: 4,
    zChannels: 8,
    embedDim: 4,
    codes: 24,
  };
  const header: Record<string, unknown> = {};
  const parts: Buffer[] = [];
  let at = 0;
  for (const [key, shape] of parameterShapes(vqganConfig.parse(settings))) {
    const isScale = key.includes('norm') && key.endsWith('weight');
    const fan = Math.sqrt(3 / sizeOf(shape.slice(1))) * (key.startsWith('decoder.conv_out') ? 0.15 : 1);
    const spread = key.startsWith('quantize') ? 1 : shape.length > 1 ? fan : 0.1;
    const values = draw(sizeOf(shape), spread, 1000 + parts.length).map((v) => (isScale ? 1 + v : v));
    header[key] = { dtype: 'F32', shape, data_offsets: [at, (at += values.byteLength)] };
    parts.push(Buffer.from(values.buffer));
  }
  const json = Buffer.from(JSON.stringify(header));
  const length = Buffer.alloc(8);
  length.writeBigUInt64LE(BigInt(json.length));
  writeFileSync(join(folder, 'vqgan.safetensors'), Buffer.concat([length, json, ...parts]));
  writeFileSync(join(folder, 'config.json'), JSON.stringify(settings));
  return openVqgan(folder);
}

/** Sessions on one thread, all kept until the end; `built` lists the keys in the order they were asked for. */
export function sessionsInMemory(): Sessions & { built: string[]; release(): Promise<void> } {
  const runners = new Map<string, Promise<SessionRunner>>();
  const built: string[] = [];
  return {
    device: 'cpu',
    target: 'cpu',
    built,
    runner(key, build) {
      const known = runners.get(key);
      if (known) return known;
      built.push(key);
      const made = createRunner(build(), 'cpu', sessionOptions);
      runners.set(key, made);
      return made;
    },
    async release() {
      for (const runner of runners.values()) await (await runner).release();
    },
  };
}

export const jobOf = (fields: Readonly<Record<string, unknown>> = {}): Job =>
  job.parse({ text: 'nature', model: 'fake', width: 64, height: 64, steps: 8, views: 2, ...fields });

/** All that a run told, and a checkpoint after every step. */
export interface Told {
  result: Imagined;
  steps: StepReport[];
  saved: Uint8Array[];
}

export async function recordRun(sessions: Sessions, input: ImagineInput, watcher: Watcher = {}): Promise<Told> {
  const steps: StepReport[] = [];
  const saved: Uint8Array[] = [];
  const result = await imagine(sessions, input, {
    step: (report) => steps.push({ ...report, pixels: report.pixels.slice() }),
    between: (save) => saved.push(save()),
    ...watcher,
  });
  return { result, steps, saved };
}

/** The fake model beside a random VQGAN, in a folder that `release` removes: runs of either method. */
export function drawingByTokens() {
  const folder = mkdtempSync(join(tmpdir(), 'reverie-vqgan-'));
  const generator = randomGenerator(folder);
  const sessions = sessionsInMemory();
  return {
    generator,
    sessions,
    runOf: (job: Job, input: Partial<ImagineInput> = {}, watcher: Watcher = {}): Promise<Told> =>
      recordRun(sessions, { job, model: fake, generator, ...input }, watcher),
    async release() {
      await sessions.release();
      generator.close();
      rmSync(folder, { recursive: true });
    },
  };
}

/** Pictures are compared by digest: a difference between two of them is nothing to print. */
export const digest = (pixels: Uint8Array): string => createHash('sha256').update(pixels).digest('hex');
