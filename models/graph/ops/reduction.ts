import type { Graph, Value } from '../graph.js';
import { intAttribute, normalizeAxis, type InferContext, type Operator, type Target } from '../operator.js';
import { fromNumbers, numbers, sizeOf, strides } from '../tensor.js';
import { signOf } from './activation.js';

/** Reductions. From opset 18 all take their axes as an input; the attribute of older files becomes one when they are read. */

type AxesContext = Pick<InferContext, 'inputs' | 'attributes'> & { integers(i: number): number[] };

function reducedAxes({ inputs, attributes, integers }: AxesContext): number[] {
  const rank = inputs[0]!.shape.length;
  const axes = inputs[1] ? integers(1) : [];
  if (axes.length) return axes.map((a) => normalizeAxis(a, rank));
  return intAttribute(attributes, 'noop_with_empty_axes', 0) ? [] : inputs[0]!.shape.map((_, i) => i);
}

const kept = (shape: readonly number[], axes: readonly number[]): number[] => shape.map((n, i) => (axes.includes(i) ? 1 : n));

interface Rule {
  g: Graph;
  x: Value;
  /** Output and its gradient with the reduced axes kept as 1. */
  y: Value;
  dy: Value;
  axes: number[];
  count: number;
  target: Target;
}

function reduction(gradient: (rule: Rule) => Value, fold?: (values: number[]) => number): Operator {
  return {
    attributes: { keepdims: 'int', noop_with_empty_axes: 'int' },
    infer: (context) => {
      const x = context.inputs[0]!;
      const axes = reducedAxes(context);
      const keep = intAttribute(context.attributes, 'keepdims', 1);
      return [{ dtype: x.dtype, shape: keep ? kept(x.shape, axes) : x.shape.filter((_, i) => !axes.includes(i)) }];
    },
    gradient: ({ g, node, inputs, outputs: [y], outputGradients: [dy], integers, target }) => {
      const x = inputs[0]!;
      const axes = reducedAxes({ inputs, attributes: node.attributes, integers });
      const shape = kept(x.shape, axes);
      const count = sizeOf(x.shape) / sizeOf(shape);
      const dx = gradient({ g, x, y: g.reshape(y, shape), dy: g.reshape(dy!, shape), axes, count, target });
      return [dx.shape.join() === x.shape.join() ? dx : g.op('Expand', [dx, g.ints(x.shape)]), null];
    },
    evaluate: fold
      ? (inputs, attributes, [type]) => {
          const x = inputs[0]!;
          const axes = reducedAxes({ inputs: inputs as never, attributes, integers: (i) => numbers(inputs[i]!) });
          const shape = kept(x.shape, axes);
          const steps = strides(shape).map((s, i) => (axes.includes(i) ? 0 : s));
          const own = strides(x.shape);
          const groups: number[][] = Array.from({ length: sizeOf(shape) }, () => []);
          numbers(x).forEach((v, at) =>
            groups[own.reduce((sum, s, i) => sum + (Math.floor(at / s) % x.shape[i]) * steps[i], 0)].push(v),
          );
          return [fromNumbers(type.dtype, type.shape, groups.map(fold))];
        }
      : undefined,
  };
}

const sum = (values: number[]) => values.reduce((a, b) => a + b, 0);

export const ReduceSum = reduction(({ dy }) => dy, sum);
export const ReduceMean = reduction(
  ({ g, dy, count }) => g.scale(dy, 1 / count),
  (values) => sum(values) / values.length,
);
export const ReduceSumSquare = reduction(({ g, x, dy }) => g.mul(dy, g.scale(x, 2)));
/** 0 at the origin, as in PyTorch. */
export const ReduceL2 = reduction(({ g, x, y, dy }) => g.div(g.mul(dy, x), g.op('Max', [y, g.scalar(1e-30)])));
export const ReduceL1 = reduction(({ g, x, dy, target }) => g.mul(dy, signOf(g, x, target)));
export const ReduceLogSumExp = reduction(({ g, x, y, dy }) => g.mul(dy, g.op('Exp', [g.sub(x, y)])));
/** Each factor's gradient is the product of the others: the product of all that are not 0, if no other one is. */
export const ReduceProd = reduction(
  ({ g, x, dy, axes }) => {
    const isZero = g.op('Equal', [x, g.scalar(0)]);
    const zeros = g.op('Cast', [isZero], { to: 1 });
    const safe = g.op('Where', [isZero, g.scalar(1), x]);
    const others = g.div(g.op('ReduceProd', [safe, g.ints(axes)]), safe);
    const only = g.op('Cast', [g.op('Equal', [g.reduceSum(zeros, axes, true), zeros])], { to: 1 });
    return g.mul(dy, g.mul(others, only));
  },
  (values) => values.reduce((a, b) => a * b, 1),
);

/** Equal extremes share the gradient evenly, as PyTorch's amax and amin do. */
const extreme = ({ g, x, y, dy, axes }: Rule): Value => {
  const hits = g.op('Cast', [g.op('Equal', [x, y])], { to: 1 });
  return g.mul(hits, g.div(dy, g.reduceSum(hits, axes, true)));
};
export const ReduceMax = reduction(extreme, (values) => Math.max(...values));
export const ReduceMin = reduction(extreme, (values) => Math.min(...values));
