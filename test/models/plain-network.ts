import { mkdirSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { Graph, writeOnnx, type Value } from '../../models/graph/index.js';
import { randomStream } from '../graph/session.js';

/** A classifier of a few hundred weights as an ONNX file, such as anyone may bring along. */

export const [side, classes, width] = [16, 5, 6];
export const input = { size: side, mean: [0.5, 0.4, 0.3], std: [0.2, 0.25, 0.3] };

export function draw(length: number, seed: number, spread = 0.4): Float32Array {
  const random = randomStream(seed);
  return Float32Array.from({ length }, () => spread * (2 * random() - 1));
}

export const [kernel, first, second, gate, matrix, bias] = [
  draw(width * 27, 1),
  draw(width, 2),
  draw(width * width, 3, 1),
  draw(width * width, 4),
  draw(width * classes, 5, 1),
  draw(classes, 6),
];

/** Two convolutions with a squeeze-excite between them, global mean, a matrix: what exporters write of a small classifier. */
export function network({ n = 1, fixedBatch = false, softmax = false } = {}): Graph {
  const g = new Graph();
  const x = g.input('pixels', [n, 3, side, side]);
  const named = (op: string, inputs: Value[], name: string, attributes = {}) => g.apply(op, inputs, attributes, 1, name)[0];
  const conv = named('Conv', [x, g.floats(kernel, [width, 3, 3, 3]), g.floats(first)], 'conv1', {
    strides: [2, 2],
    pads: [1, 1, 1, 1],
  });
  const relu = named('Relu', [conv], 'relu1');
  const squeezed = named('GlobalAveragePool', [relu], 'squeeze');
  const gated = named('Sigmoid', [named('Conv', [squeezed, g.floats(gate, [width, width, 1, 1])], 'excite')], 'gate');
  const scaled = named('Mul', [relu, gated], 'scaled');
  const last = named('Relu', [named('Conv', [scaled, g.floats(second, [width, width, 1, 1])], 'conv2')], 'relu2');
  const pooled = named('GlobalAveragePool', [last], 'pool');
  const flat = fixedBatch
    ? named('Reshape', [pooled, g.ints([1, width])], 'flat')
    : named('Flatten', [pooled], 'flat', { axis: 1 });
  const logits = named('Gemm', [flat, g.floats(matrix, [classes, width]), g.floats(bias)], 'fc', { transB: 1 });
  g.output('logits', softmax ? named('Softmax', [logits], 'softmax', { axis: 1 }) : logits);
  return g;
}

/** Makes a folder with the network and a config; `files` are written beside them. */
export function folderIn(
  home: string,
  name: string,
  config: Record<string, unknown> = {},
  graph = network(),
  files: Record<string, string> = {},
): string {
  const folder = path.join(home, name);
  mkdirSync(folder, { recursive: true });
  const { bytes, externalData } = writeOnnx(graph);
  writeFileSync(path.join(folder, 'model.onnx'), bytes);
  for (const { path: location, data } of externalData) writeFileSync(path.join(folder, location), data);
  for (const [file, text] of Object.entries(files)) writeFileSync(path.join(folder, file), text);
  writeFileSync(path.join(folder, 'config.json'), JSON.stringify({ type: 'onnx', name, file: 'model.onnx', input, ...config }));
  return folder;
}
