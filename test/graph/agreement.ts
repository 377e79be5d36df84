import { expect } from 'vitest';
import { differentiate } from '../../models/graph/differentiate.js';
import { Graph, type Value } from '../../models/graph/graph.js';
import type { Attributes, Target } from '../../models/graph/operator.js';
import { operators } from '../../models/graph/ops/index.js';
import { simplify } from '../../models/graph/simplify.js';
import { fromNumbers, numbers, sizeOf, type DType, type Shape } from '../../models/graph/tensor.js';
import { randomStream, relativeError, run } from './session.js';
import { twins, type Dense } from './twins.js';

/** An input of a case: `values` where they matter, else drawn by `draw` from a stream that the case's description seeds. */
export interface Input {
  readonly shape: Shape;
  readonly dtype: DType;
  readonly values?: readonly number[];
  readonly draw?: Draw;
  /** Drawn inputs are graph inputs and get gradients; `fixed` ones are constants. */
  readonly fixed?: boolean;
}

export interface Case {
  readonly op: string;
  readonly inputs: readonly (Input | null)[];
  readonly attributes?: Attributes;
  readonly outputs?: number;
  /** How many of the outputs (the first) the objective uses. */
  readonly differentiated?: number;
}

type Draw = 'any' | 'positive' | 'distinct' | 'unit';

const draws: Record<Draw, (random: () => number, at: number, order: readonly number[]) => number> = {
  any: (random) => 4 * random() - 2,
  positive: (random) => 0.4 + 2 * random(),
  unit: (random) => 1.8 * random() - 0.9,
  // A shuffled grid: no two closer than 0.037, none within 0.01 of 0.
  distinct: (_, at, order) => 0.037 * (order[at] - Math.floor(order.length / 2)) + 0.013,
};

export const floats = (shape: Shape, draw: Draw = 'any', fixed = false): Input => ({ shape, dtype: 'float32', draw, fixed });
export const exactly = (values: readonly number[], shape: Shape = [values.length], dtype: DType = 'float32'): Input => ({
  shape,
  dtype,
  values,
});
export const ints = (values: readonly number[], shape: Shape = [values.length]): Input => ({ shape, dtype: 'int64', values });
export const bools = (shape: Shape): Input => ({
  shape,
  dtype: 'bool',
  values: Array.from({ length: sizeOf(shape) }, (_, i) => ((i * 7) % 3) % 2),
});

export const titleOf = ({ op, inputs, attributes = {} }: Case): string => {
  const told = inputs.map((x) =>
    x ? `${x.dtype === 'float32' ? '' : x.dtype}[${x.shape.join(',')}]${x.dtype === 'int64' ? `{${x.values!.join()}}` : ''}` : '-',
  );
  return `${op} ${told.join(' ')} ${describe(attributes)}`;
};

const describe = (attributes: Attributes): string =>
  JSON.stringify(attributes, (_, value: unknown) => (typeof value === 'bigint' ? Number(value) : value));

/** The greatest relative errors met so far, by kind. */
export const worst: Record<string, { error: number; title: string }> = {};

const hash = (text: string): number => [...text].reduce((h, c) => (Math.imul(h, 31) + c.charCodeAt(0)) | 0, 7);

function drawInputs(inputs: Case['inputs'], seed: number): (Dense | null)[] {
  const random = randomStream(seed);
  return inputs.map((input) => {
    if (!input) return null;
    const length = sizeOf(input.shape);
    if (input.values) return { shape: input.shape, data: Float64Array.from(input.values) };
    const order = Array.from({ length }, (_, i) => i);
    for (let i = length - 1; i > 0; i--) {
      const j = Math.floor(random() * (i + 1));
      [order[i], order[j]] = [order[j], order[i]];
    }
    return { shape: input.shape, data: Float64Array.from(order, (_, at) => Math.fround(draws[input.draw!](random, at, order))) };
  });
}

/**
 * Holds one operator to its twin: static shapes, ONNX Runtime's values, the folded values, and the gradient of a random weighted sum of its
 * outputs by every drawn input, against central differences of the twin, for both targets.
 */
export async function checkOperator(testCase: Case): Promise<void> {
  const { op, inputs, attributes = {}, outputs = 1, differentiated = outputs } = testCase;
  const title = titleOf(testCase);
  const seed = hash(title);
  const dense = drawInputs(inputs, seed);
  const twin = (values: readonly (Dense | null)[]) => twins[op](values, attributes, outputs);
  const expected = twin(dense);
  const record = (kind: string, error: number, limit: number) => {
    if (!(error <= (worst[kind]?.error ?? -1))) worst[kind] = { error, title };
    expect(error, `${kind} of ${title}`).toBeLessThan(limit);
  };

  const random = randomStream(seed ^ 0x5eed);
  const weights = expected.map(({ data }) => Float64Array.from(data, () => Math.fround(2 * random() - 1)));
  const varied = inputs.flatMap((input, i) => (input?.draw && !input.fixed ? [i] : []));
  const operator = operators[op];
  const differentiable = typeof operator.gradient === 'function' && varied.length > 0;

  const build = (target: Target) => {
    const g = new Graph();
    const values = inputs.map((input, i) => {
      if (!input) return null;
      if (varied.includes(i)) return g.input(`x${i}`, input.shape);
      return g.constant(fromNumbers(input.dtype, input.shape, dense[i]!.data));
    });
    const results = g.apply(op, values, attributes, outputs);
    results.forEach((y, i) => g.output(`y${i}`, y));
    if (differentiable) {
      const terms = results.slice(0, differentiated).map((y, i) =>
        g.reduceSum(
          g.mul(y, g.floats(weights[i], y.shape)),
          y.shape.map((_, axis) => axis),
        ),
      );
      const objective = terms.reduce((a, b) => g.add(a, b));
      const gradients = differentiate(
        g,
        objective,
        varied.map((i) => values[i]!),
        { target },
      );
      gradients.forEach((gradient, k) => g.output(`d${varied[k]}`, gradient));
    }
    return { g, results };
  };

  const { g, results } = build('cpu');
  results.forEach((y, i) => {
    if (y.dtype === 'int64') expected[i].data.forEach((v, at) => (expected[i].data[at] = Math.trunc(v)));
  });
  expect(results.map((y) => y.shape)).toEqual(expected.map((y) => y.shape));
  const feeds = Object.fromEntries(varied.map((i) => [`x${i}`, dense[i]!.data]));
  const onCpu = await run(simplify(g), feeds);
  expected.forEach((y, i) => {
    expect(onCpu[`y${i}`].shape).toEqual(y.shape);
    record('forward', relativeError(onCpu[`y${i}`].data, y.data), 2e-5);
  });

  if (operator.evaluate) {
    const tensors = inputs.map((input, i) => (input ? fromNumbers(input.dtype, input.shape, dense[i]!.data) : null));
    operator.evaluate(tensors, attributes, results).forEach((tensor, i) => {
      expect(tensor.shape).toEqual(expected[i].shape);
      expect(tensor.dtype).toBe(results[i].dtype);
      record('folding', relativeError(numbers(tensor), expected[i].data), 1e-6);
    });
  }

  if (!differentiable) return;
  const gpu = build('gpu');
  const runs: [Target, typeof onCpu][] = [['cpu', onCpu]];
  if (outline(gpu.g) !== outline(g)) runs.push(['gpu', await run(gpu.g, feeds)]);
  const objective = (values: (Dense | null)[]) =>
    twin(values)
      .slice(0, differentiated)
      .reduce((total, y, i) => total + y.data.reduce((sum, v, at) => sum + v * weights[i][at], 0), 0);
  for (const i of varied) {
    const along = (move: (x: Float64Array, step: number) => void) => {
      const at = (step: number) => {
        const data = dense[i]!.data.slice();
        move(data, step);
        return objective(dense.map((x, j) => (j === i ? { shape: x!.shape, data } : x)));
      };
      return (at(1e-4) - at(-1e-4)) / 2e-4;
    };
    // A few coordinates one by one, and all at once along two random directions.
    const length = dense[i]!.data.length;
    const picks =
      length <= 40 ? dense[i]!.data.map((_, p) => p) : Float64Array.from({ length: 24 }, () => Math.floor(random() * length));
    const directions = [0, 1].map(() => Float64Array.from({ length }, () => (random() < 0.5 ? -1 : 1)));
    const slopes = [
      ...Array.from(picks, (p) => along((x, step) => (x[p] += step))),
      ...directions.map((direction) => along((x, step) => direction.forEach((d, p) => (x[p] += d * step)))),
    ];
    for (const [target, { [`d${i}`]: gradient }] of runs) {
      expect(gradient.shape).toEqual(inputs[i]!.shape);
      const found = [
        ...Array.from(picks, (p) => gradient.data[p]),
        ...directions.map((direction) => direction.reduce((sum, d, p) => sum + d * gradient.data[p], 0)),
      ];
      record(`gradient (${target})`, relativeError(found, slopes), 1e-4);
    }
  }
}

const outline = (g: Graph): string =>
  g.nodes
    .map(({ op, inputs, attributes }) => `${op}${inputs.map((v: Value | null) => v?.name).join()}${describe(attributes)}`)
    .join('\n');
