import fc from 'fast-check';
import { Graph, numbers, sameShape, sizeOf, type Value } from '../../models/graph/index.js';
import { broadcastShapes } from '../../models/graph/tensor.js';
import { randomStream } from './session.js';
import { twins, type Dense } from './twins.js';

/** Computes every value of a graph in float64, node by node through the twins. */
export function interpret(graph: Graph, feeds: Readonly<Record<string, Float64Array>>): (value: Value) => Dense {
  const known = new Map<Value, Dense>();
  for (const input of graph.inputs) known.set(input, { shape: input.shape, data: feeds[input.name] });
  for (const { value, tensor } of graph.constants.values())
    known.set(value, { shape: value.shape, data: Float64Array.from(numbers(tensor())) });
  for (const { op, inputs, outputs, attributes } of graph.nodes) {
    const results = twins[op](
      inputs.map((v) => v && known.get(v)!),
      attributes,
      outputs.length,
    );
    outputs.forEach((v, i) => known.set(v, results[i]));
  }
  return (value) => known.get(value)!;
}

/** One step of a random graph: an operator by its place in the list below, and which earlier values it takes. */
export interface Step {
  kind: number;
  a: number;
  b: number;
}

/** Grows a value from one or two others; null where they do not fit. */
type Growth = (g: Graph, a: Value, b: Value) => Value | null;

const unary =
  (op: string): Growth =>
  (g, a) =>
    g.op(op, [a]);

const binary =
  (op: string): Growth =>
  (g, a, b) => {
    try {
      broadcastShapes(a.shape, b.shape);
    } catch {
      return null;
    }
    return g.op(op, [a, b]);
  };

const smooth: Growth[] = [
  ...['Tanh', 'Sigmoid', 'Sin', 'Neg', 'Identity'].map(unary),
  ...['Add', 'Sub', 'Mul', 'Add', 'Mul'].map(binary),
  (g, a, b) => binary('Div')(g, a, g.add(g.scalar(1.5), g.mul(b, b))),
  (g, a) => g.mul(a, g.scalar(1)),
  (g, a) => g.add(g.scalar(0), a),
  (g, a) => g.sub(a, g.scalar(0)),
  (g, a) => g.op('Pow', [a, g.scalar(2)]),
  (g, a) => g.op('Reshape', [a, g.ints([-1])]),
  (g, a) => g.op('Reshape', [a, g.ints([1, sizeOf(a.shape), 1])]),
  (g, a) => (a.shape.length > 3 ? null : g.op('Unsqueeze', [a, g.ints([0])])),
  (g, a) => g.op('Squeeze', [a]),
  (g, a) => g.op('Flatten', [a], { axis: 0 }),
  (g, a) => g.op('Transpose', [a]),
  (g, a) => (a.shape.length < 2 ? null : g.op('Transpose', [a], { perm: [...a.shape.slice(1).map((_, i) => i + 1), 0] })),
  (g, a) => (a.shape.length === 0 ? null : g.op('ReduceMean', [a, g.ints([-1])], { keepdims: 1 })),
  (g, a) => (a.shape.length === 0 ? null : g.op('ReduceSum', [a, g.ints([0])], { keepdims: 0 })),
  (g, a) => (a.shape.length === 0 ? null : g.op('Softmax', [a])),
  (g, a, b) =>
    a.shape.length === 0 || a.shape.length !== b.shape.length || !sameShape(a.shape.slice(1), b.shape.slice(1))
      ? null
      : g.concat([a, b], 0),
  (g, a) => (a.shape.length === 0 || a.shape[0] < 2 ? null : g.slice(a, 0, 1, a.shape[0])),
  (g, a) => (a.shape.length === 0 ? null : g.slice(a, 0, 0, 1000)),
  (g, a) => (a.shape.length === 0 ? null : g.op('Pad', [a, g.ints(new Array<number>(2 * a.shape.length).fill(0).with(0, 1))])),
  (g, a) => (a.shape.length < 2 ? null : g.matMul(a, g.op('Transpose', [a], { perm: swapped(a.shape.length) }))),
  (g, a) => {
    const n = a.shape.at(-1);
    return n === undefined
      ? null
      : g.matMul(
          a,
          g.floats(
            Float32Array.from({ length: 3 * n }, (_, i) => ((i * 5) % 7) / 7 - 0.4),
            [n, 3],
          ),
        );
  },
  // Work on constants alone.
  (g, a) => g.add(a, g.op('Tanh', [g.mul(g.scalar(0.7), g.add(g.scalar(0.3), g.scalar(0.4)))])),
  (g, a) => g.mul(a, g.op('Expand', [g.floats([0.5], [1]), g.ints(a.shape.length ? a.shape : [1])])),
  (g, a) => g.add(a, g.op('ReduceMean', [g.op('Transpose', [g.floats([1, 2, 3, 4], [2, 2])])], { keepdims: 0 })),
];

const swapped = (rank: number) => [...Array.from({ length: rank - 2 }, (_, i) => i), rank - 1, rank - 2];

export const steps = fc.array(
  fc.record({ kind: fc.nat({ max: smooth.length - 1 }), a: fc.nat({ max: 30 }), b: fc.nat({ max: 30 }) }),
  {
    minLength: 2,
    maxLength: 12,
  },
);

/** A graph of smooth operators from inputs x [2, 3] and y [3], with fan-out. Its last values are outputs. */
export function grow(recipe: readonly Step[]): { g: Graph; feeds: Record<string, Float64Array>; last: Value } {
  const g = new Graph();
  const values = [g.input('x', [2, 3]), g.input('y', [3])];
  for (const { kind, a, b } of recipe) {
    // Counted from the end, so that graphs are deep rather than wide.
    const [left, right] = [a, b].map((back) => values[Math.max(0, values.length - 1 - (back % 4))]);
    const grown = smooth[kind](g, left, right);
    if (grown && sizeOf(grown.shape) <= 64) values.push(grown);
  }
  values.slice(-3).forEach((v, i) => g.output(`out${i}`, v));
  const random = randomStream(recipe.length);
  const feeds = Object.fromEntries(
    g.inputs.map((v) => [v.name, Float64Array.from({ length: sizeOf(v.shape) }, () => Math.fround(2 * random() - 1))]),
  );
  return { g, feeds, last: values[values.length - 1] };
}
