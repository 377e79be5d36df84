import { InferenceSession, Tensor as OrtTensor } from 'onnxruntime-node';
import type { Graph } from '../../models/graph/graph.js';
import { writeOnnx, type OnnxModel } from '../../models/graph/onnx.js';
import { sizeOf, type TypedArray } from '../../models/graph/tensor.js';

export interface Result {
  readonly shape: readonly number[];
  readonly data: number[];
}

/** Runs a graph on the CPU with one thread. Feeds are rounded to each input's type; outputs come back as numbers, by name. */
export async function run(graph: Graph, feeds: Readonly<Record<string, ArrayLike<number>>> = {}): Promise<Record<string, Result>> {
  return runModel(writeOnnx(graph), graph.inputs, feeds);
}

export const sessionOptions = {
  intraOpNumThreads: 1,
  interOpNumThreads: 1,
  executionProviders: ['cpu'],
  logSeverityLevel: 3,
} satisfies InferenceSession.SessionOptions;

export async function runModel(
  model: Pick<OnnxModel, 'bytes' | 'externalData'>,
  inputs: Graph['inputs'],
  feeds: Readonly<Record<string, ArrayLike<number>>>,
  extra: InferenceSession.SessionOptions = {},
): Promise<Record<string, Result>> {
  const session = await InferenceSession.create(model.bytes, { ...sessionOptions, externalData: model.externalData, ...extra });
  try {
    return await runSession(session, inputs, feeds);
  } finally {
    await session.release();
  }
}

export async function runSession(
  session: InferenceSession,
  inputs: Graph['inputs'],
  feeds: Readonly<Record<string, ArrayLike<number>>>,
): Promise<Record<string, Result>> {
  const tensors = inputs.map(({ name, dtype, shape }): [string, OrtTensor] => {
    const values = feeds[name];
    if (values.length !== sizeOf(shape))
      throw new Error(`${values.length} values for the input ${name} of shape [${shape.join(', ')}]`);
    if (dtype === 'int64') return [name, new OrtTensor('int64', BigInt64Array.from(Array.from(values, BigInt)), shape)];
    if (dtype === 'bool') return [name, new OrtTensor('bool', Uint8Array.from(values), shape)];
    return [name, new OrtTensor('float32', Float32Array.from(values), shape)];
  });
  const outputs = await session.run(Object.fromEntries(tensors));
  return Object.fromEntries(
    Object.entries(outputs).map(([name, tensor]) => [
      name,
      { shape: tensor.dims, data: Array.from(tensor.data as TypedArray as ArrayLike<number | bigint>, Number) },
    ]),
  );
}

/** Largest difference over the largest expected magnitude: the relative error that float32 rounding keeps small. */
export function relativeError(actual: ArrayLike<number>, expected: ArrayLike<number>): number {
  if (actual.length !== expected.length) return Infinity;
  let difference = 0;
  let size = 1e-3;
  for (let i = 0; i < expected.length; i++) {
    if (Number.isNaN(actual[i]) || Number.isNaN(expected[i])) return NaN;
    if (actual[i] !== expected[i]) difference = Math.max(difference, Math.abs(actual[i] - expected[i]));
    size = Math.max(size, Math.abs(expected[i]));
  }
  return difference / size;
}

/** |a - b| / |b| in the Euclidean norm. */
export function relativeDistance(actual: ArrayLike<number>, expected: ArrayLike<number>): number {
  if (actual.length !== expected.length) return Infinity;
  let difference = 0;
  let size = 0;
  for (let i = 0; i < expected.length; i++) {
    difference += (actual[i] - expected[i]) ** 2;
    size += expected[i] ** 2;
  }
  return Math.sqrt(difference / size);
}

/** A seeded stream of numbers in [0, 1) (mulberry32). */
export function randomStream(seed: number): () => number {
  let state = seed | 0;
  return () => {
    state = (state + 0x6d2b79f5) | 0;
    let t = Math.imul(state ^ (state >>> 15), 1 | state);
    t = (t + Math.imul(t ^ (t >>> 7), 61 | t)) ^ t;
    return ((t ^ (t >>> 14)) >>> 0) / 4294967296;
  };
}
