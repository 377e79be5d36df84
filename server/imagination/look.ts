import { alongAxis } from '../../models/graph/ops/layout.js';
import { bilinearMatrix } from '../../models/graph/ops/resize.js';
import { Graph, simplify } from '../../models/graph/index.js';
import { nearest, type BrivlModel, type ConceptSpace, type Eye, type SecondOpinion } from '../../models/brivl/model.js';
import type { Concept, Notice } from '../jobs/job.js';
import type { Canvas } from './parameters.js';
import type { Sessions } from './sessions.js';

/**
 * `picture` [H, W, 3] bytes -> `embedding` [1, E] and `channels` [1, C], the means of the LLP map; the whole picture, stretched to what the
 * eye sees, antialiased.
 */
export function lookGraph({ width, height }: Canvas, eye: Eye): Graph {
  const g = new Graph();
  const picture = g.input('picture', [height, width, 3], 'uint8');
  const real = g.scale(g.op('Cast', [picture], { to: 1 }), 1 / 255);
  const fit = (from: number) => bilinearMatrix(from, eye.size, true);
  const planes = g.transpose(real, [2, 0, 1]);
  const tall = height === eye.size ? planes : alongAxis(g, planes, 1, fit(height), [eye.size, height]);
  const fitted = width === eye.size ? tall : alongAxis(g, tall, 2, fit(width), [eye.size, width]);
  const seen = eye.look(g, g.reshape(fitted, [1, 3, eye.size, eye.size]));
  g.output('embedding', seen.embedding);
  g.output('channels', g.reduceMean(seen.llp, [2, 3]));
  return simplify(g);
}

/** What an eye makes of a whole picture. */
export interface Look {
  /** L2-normalised, in the eye's joint space. */
  embedding: Float32Array;
  /** Mean activation of each LLP channel. */
  channels: Float32Array;
}

/** @param pixels [H, W, 3] bytes */
export async function lookAt(sessions: Sessions, key: string, eye: Eye, pixels: Uint8Array, canvas: Canvas): Promise<Look> {
  const runner = await sessions.runner(`look:${key}:${canvas.width}x${canvas.height}`, () => lookGraph(canvas, eye));
  const { embedding, channels } = await runner.run({ picture: pixels });
  return { embedding: embedding as Float32Array, channels: channels as Float32Array };
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

/** What the second opinion says of a picture: how near it is to the text, and its own nearest concepts. */
export async function askSecond(
  sessions: Sessions,
  model: BrivlModel,
  second: SecondOpinion,
  text: Float32Array,
  pixels: Uint8Array,
  canvas: Canvas,
): Promise<{ score: number; concepts: Concept[] }> {
  const { embedding } = await lookAt(sessions, `${model.hash}:second`, second.eye, pixels, canvas);
  const space: ConceptSpace = { ...model.concepts, joint: second.joint };
  return { score: cosine(throughBridge(second, text), embedding), concepts: nearest(space, embedding, 10, false) };
}

/** A text of the first joint space as the second opinion would embed it. */
function throughBridge({ bridge }: SecondOpinion, text: Float32Array): Float32Array {
  const size = bridge.length / text.length;
  return Float32Array.from({ length: size }, (_, row) =>
    text.reduce((sum, value, k) => sum + bridge[row * text.length + k] * value, 0),
  );
}

export function cosine(a: Float32Array, b: Float32Array): number {
  let [dot, aa, bb] = [0, 0, 0];
  for (let i = 0; i < a.length; i++) {
    dot += a[i] * b[i];
    aa += a[i] * a[i];
    bb += b[i] * b[i];
  }
  return dot / Math.sqrt(aa * bb || 1);
}
