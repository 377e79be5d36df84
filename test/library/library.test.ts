import { execFile } from 'node:child_process';
import { existsSync } from 'node:fs';
import path from 'node:path';
import { promisify } from 'node:util';
import { create, fromBinary, toBinary } from '@bufbuild/protobuf';
import { ModelProtoSchema, TensorShapeProto_DimensionSchema } from 'onnx-buf';
import * as ort from 'onnxruntime-node';
import { build } from 'vite';
import { describe, expect, it } from 'vitest';
import { differentiate, Graph, imagine, writeOnnx, type OnnxModel } from '../../server/library.js';
import { repositoryRoot } from '../../server/root.js';

/** y [n, 2] = exp(x W) for a batch of n. */
function forward(n = 2): Uint8Array {
  const g = new Graph();
  const x = g.input('x', [n, 3]);
  g.output('y', g.op('Exp', [g.matMul(x, g.floats([1, 0, 0, 1, 0.5, -0.5], [3, 2]))]));
  return writeOnnx(g).bytes;
}

/** The same model as exporters write it, with the batch left open. */
function withOpenBatch(): Uint8Array {
  const model = fromBinary(ModelProtoSchema, forward());
  for (const value of [...model.graph!.input, ...model.graph!.output]) {
    if (value.type?.value.case !== 'tensorType') throw new Error('not a tensor');
    value.type.value.value.shape!.dim[0] = create(TensorShapeProto_DimensionSchema, {
      value: { case: 'dimParam', value: 'batch' },
    });
  }
  return toBinary(ModelProtoSchema, model);
}

async function run({ bytes, externalData }: OnnxModel, x: number[]) {
  const session = await ort.InferenceSession.create(bytes, { externalData });
  const results = await session.run({ x: new ort.Tensor('float32', Float32Array.from(x), [x.length / 3, 3]) });
  return Object.fromEntries(
    Object.entries(results).map(([name, { data, dims }]) => [name, { data: [...(data as Float32Array)], dims }]),
  );
}

/** d(sum of y)/dx, worked out by hand. */
const gradient = (rows: number[][]) =>
  rows.flatMap(([a, b, c]) => {
    const [p, q] = [Math.exp(a + 0.5 * c), Math.exp(b - 0.5 * c)];
    return [p, q, 0.5 * (p - q)];
  });

function expectClose(actual: number[], expected: number[]) {
  expect(actual).toHaveLength(expected.length);
  actual.forEach((v, i) => expect(v).toBeCloseTo(expected[i], 5));
}

describe('differentiate', () => {
  const rows = [
    [0.1, 0.2, 0.3],
    [-1, 1, 0.5],
    [0, 0, 0],
  ];

  it('adds the gradient to a model and keeps its outputs', async () => {
    const results = await run(differentiate(forward()), rows.slice(0, 2).flat());
    expect(Object.keys(results).sort()).toEqual(['d/x', 'y']);
    expect(results['d/x'].dims).toEqual([2, 3]);
    expectClose(results['d/x'].data, gradient(rows.slice(0, 2)));
    expectClose(results.y.data.slice(0, 1), [Math.exp(0.25)]);
  });

  it('takes a model with an open batch when it is told the size', async () => {
    expect(() => differentiate(withOpenBatch())).toThrow('input x has an open size (batch): give its shape');
    const results = await run(differentiate(withOpenBatch(), { shapes: { x: [3, 3] }, of: 'y', wrt: ['x'] }), rows.flat());
    expectClose(results['d/x'].data, gradient(rows));
  });

  it('says what it cannot do', () => {
    expect(() => differentiate(forward(), { of: 'z' })).toThrow('the model has no output z: it has y');
    expect(() => differentiate(forward(), { wrt: ['w'] })).toThrow('the model has no input w: it has x');
    expect(() => differentiate(Buffer.from('no model'))).toThrow(/not an ONNX model|no ONNX graph/);
  });
});

describe('imagine', () => {
  const small = { size: 64, steps: 2, views: 1 } as const;

  it('gives a picture, the same one for the same request', async () => {
    const seen: number[] = [];
    const one = await imagine({ text: 'volcano', ...small }, { device: 'cpu', step: ({ step }) => seen.push(step) });
    expect(one).toMatchObject({ canceled: false, width: 64, height: 64, neurons: [] });
    expect(one.pixels).toHaveLength(64 * 64 * 3);
    expect(seen).toEqual([0, 1]);
    const two = await imagine({ text: 'volcano', ...small }, { device: 'cpu' });
    expect(Buffer.from(two.pixels).equals(Buffer.from(one.pixels))).toBe(true);
  });

  it('refuses what does not fit', async () => {
    await expect(imagine('')).rejects.toThrow(/the text is empty/);
    await expect(imagine({ text: 'a', steps: 0 })).rejects.toThrow(/at least 1/);
    await expect(imagine({ text: 'a', ...small, model: 'nobody' }, { device: 'cpu' })).rejects.toThrow('there is no model nobody');
    await expect(imagine('a', { device: 'abacus' })).rejects.toThrow('there is no device abacus');
    await expect(imagine('a', { device: 'cpu', init: Buffer.from('none') })).rejects.toThrow('the image cannot be read');
  });
});

it('is what `import ... from "reverie"` gives: the example of the README runs', async () => {
  // `npm test` has built it; a run of vitest alone may not have.
  if (!existsSync(path.join(repositoryRoot, 'dist/server/library.js')))
    await build({ configFile: path.join(repositoryRoot, 'server/vite.config.ts'), logLevel: 'warn' });
  const args = ['--import', 'tsx', path.join(repositoryRoot, 'test/library/example.ts')];
  const { stdout, stderr } = await promisify(execFile)(process.execPath, args, { cwd: repositoryRoot });
  expect(stdout).toMatch(/^cos -?0\.\d{3}, \d+ bytes of PNG, \d+ bytes of ONNX\n$/);
  expect(stderr).toBe('');
});
