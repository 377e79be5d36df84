import { alongAxis } from '../../models/graph/ops/layout.js';
import { bilinearMatrix } from '../../models/graph/ops/resize.js';
import { Graph, simplify, type Value } from '../../models/graph/index.js';
import { nearest, type BrivlModel, type ConceptSpace, type Eye, type SecondOpinion } from '../../models/brivl/model.js';
import { channelsAt } from '../../models/brivl/towers.js';
import { siteName, type Site } from '../../models/brivl/units.js';
import type { Concept, Notice } from '../jobs/job.js';
import type { Canvas } from './parameters.js';
import type { Sessions } from './sessions.js';

/**
 * `picture` [H, W, 3] bytes -> `embedding` [1, E], and `answers0`, `answers1`... [1, C], what the channels of each site answer
 * (towers.ts); the whole picture, stretched to what the eye sees, antialiased.
 */
export function lookGraph(canvas: Canvas, eye: Eye, sites: readonly Site[] = []): Graph {
  const g = new Graph();
  const seen = eye.look(g, wholePicture(g, canvas, eye));
  g.output('embedding', seen.embedding);
  sites.forEach((site, i) => g.output(`answers${i}`, channelsAt(g, seen, site)));
  return simplify(g);
}

/** The input `picture` [H, W, 3] bytes, whole, as an eye sees it: stretched to its size, antialiased. [1, 3, size, size] in [0, 1]. */
export function wholePicture(g: Graph, { width, height }: Canvas, eye: Eye): Value {
  const picture = g.input('picture', [height, width, 3], 'uint8');
  const real = g.scale(g.op('Cast', [picture], { to: 1 }), 1 / 255);
  const fit = (from: number) => bilinearMatrix(from, eye.size, true);
  const planes = g.transpose(real, [2, 0, 1]);
  const tall = height === eye.size ? planes : alongAxis(g, planes, 1, fit(height), [eye.size, height]);
  const fitted = width === eye.size ? tall : alongAxis(g, tall, 2, fit(width), [eye.size, width]);
  return g.reshape(fitted, [1, 3, eye.size, eye.size]);
}

/** What an eye makes of a whole picture. */
export interface Look {
  /** L2-normalised, in the eye's joint space. */
  embedding: Float32Array;
  /** What the channels of each site that was asked for answer. */
  answers: Float32Array[];
}

/** @param pixels [H, W, 3] bytes */
export async function lookAt(
  sessions: Sessions,
  key: string,
  eye: Eye,
  pixels: Uint8Array,
  canvas: Canvas,
  sites: readonly Site[] = [],
): Promise<Look> {
  const asked = sites.map((site) => `:${siteName(site)}`).join('');
  const runner = await sessions.runner(`look:${key}:${canvas.width}x${canvas.height}${asked}`, () => lookGraph(canvas, eye, sites));
  const out = await runner.run({ picture: pixels });
  return { embedding: out.embedding as Float32Array, answers: sites.map((_, i) => out[`answers${i}`] as Float32Array) };
}

export interface EmbeddedText {
  embedding: Float32Array;
  notices: Notice[];
}

/** L2-normalised embedding of a text; what was cut off or not understood is said in notices, never thrown. */
export async function embedText(sessions: Sessions, model: BrivlModel, text: string): Promise<EmbeddedText> {
  const { ids, cut, unknown } = model.tokenize(text);
  const length = model.textLengths.find((n) => n >= ids.length)!;
  const runner = await sessions.runner(`text:${model.hash}:${length}`, () => model.textGraph(length));
  const { embedding } = await runner.run(model.words(ids, length));
  const notices: Notice[] = [];
  if (cut)
    notices.push({
      code: 'text-cut',
      message: `the text is longer than the ${model.config.text.maxLength} pieces that ${model.name} reads: the rest was left out`,
    });
  if (unknown.length)
    notices.push({
      code: 'text-unknown',
      message: `${model.name} does not know ${[...new Set(unknown)].slice(0, 8).join(' ')}: it reads Chinese and English`,
    });
  return { embedding: embedding as Float32Array, notices };
}

/** @param more also concepts beyond the network's classes */
export const conceptsOf = (model: BrivlModel, embedding: Float32Array, top: number, more = true): Concept[] =>
  nearest(model.concepts, embedding, top, more);

/**
 * What the second opinion says of pictures of one size: how near they are to the text, on average (null without a text), and which of its
 * own concepts are nearest to all of them.
 */
export async function askSecond(
  sessions: Sessions,
  model: BrivlModel,
  second: SecondOpinion,
  text: Float32Array | null,
  pictures: readonly Uint8Array[],
  canvas: Canvas,
): Promise<{ score: number | null; concepts: Concept[] }> {
  const embeddings = [];
  for (const pixels of pictures)
    embeddings.push((await lookAt(sessions, `${model.hash}:second`, second.eye, pixels, canvas)).embedding);
  const space: ConceptSpace = { ...model.concepts, joint: second.joint };
  const wanted = text && throughBridge(second, text);
  return {
    score: wanted && mean(embeddings.map((embedding) => cosine(wanted, embedding))),
    concepts: nearest(space, meanOfRows(embeddings), 10, false),
  };
}

export const mean = (values: readonly number[]): number => values.reduce((sum, value) => sum + value, 0) / values.length;

/** The mean of rows of one length, number by number. */
export const meanOfRows = (rows: readonly Float32Array[]): Float32Array => rows[0].map((_, i) => mean(rows.map((row) => row[i])));

/** A text of the first joint space as the second opinion would embed it. */
function throughBridge({ bridge }: SecondOpinion, text: Float32Array): Float32Array {
  const size = bridge.length / text.length;
  return Float32Array.from({ length: size }, (_, row) =>
    text.reduce((sum, value, k) => sum + bridge[row * text.length + k] * value, 0),
  );
}

export const inner = (a: Float32Array, b: Float32Array): number => a.reduce((sum, value, i) => sum + value * b[i], 0);

export function cosine(a: Float32Array, b: Float32Array): number {
  let [dot, aa, bb] = [0, 0, 0];
  for (let i = 0; i < a.length; i++) {
    dot += a[i] * b[i];
    aa += a[i] * a[i];
    bb += b[i] * b[i];
  }
  return dot / Math.sqrt(aa * bb || 1);
}
