import type { Value } from '../graph.js';
import type { GradientContext, Operator } from '../operator.js';
import {
  broadcastShapes,
  broadcastSteps,
  fromNumbers,
  gatherStrided,
  numbers,
  sizeOf,
  type Shape,
  type Tensor,
} from '../tensor.js';
import { signOf } from './activation.js';

/** Elementwise operators of one input: y = f(x). */

function unary(f: ((x: number) => number) | null, gradient: Operator['gradient']): Operator {
  return {
    attributes: {},
    infer: ({ inputs: [x] }) => [{ dtype: x!.dtype, shape: x!.shape }],
    gradient,
    evaluate: f ? ([x], _, [type]) => [fromNumbers(type.dtype, type.shape, numbers(x!).map(f))] : undefined,
  };
}

/** A rule whose gradient is dy times one factor that is made from x and y. */
const times = (factor: (c: GradientContext, x: Value, y: Value) => Value) => (c: GradientContext) => [
  c.g.mul(c.outputGradients[0]!, factor(c, c.inputs[0]!, c.outputs[0])),
];

export const Identity = unary(
  (x) => x,
  ({ outputGradients }) => [outputGradients[0]],
);
export const Neg = unary(
  (x) => -x,
  ({ g, outputGradients }) => [g.neg(outputGradients[0]!)],
);
export const Abs = unary(
  Math.abs,
  times(({ g, target }, x) => signOf(g, x, target)),
);
export const Sign = unary(Math.sign, 'none');
export const Floor = unary(Math.floor, 'none');
export const Ceil = unary(Math.ceil, 'none');
export const Round = unary((x) => {
  const floor = Math.floor(x);
  return x - floor === 0.5 ? 2 * Math.round(floor / 2) : Math.round(x);
}, 'none');
export const Sqrt = unary(Math.sqrt, ({ g, outputs: [y], outputGradients: [dy] }) => [g.div(g.scale(dy!, 0.5), y)]);
export const Reciprocal = unary(
  (x) => 1 / x,
  times(({ g }, _, y) => g.neg(g.mul(y, y))),
);
export const Exp = unary(
  Math.exp,
  times((_, __, y) => y),
);
export const Log = unary(Math.log, ({ g, inputs: [x], outputGradients: [dy] }) => [g.div(dy!, x!)]);
export const Sin = unary(
  Math.sin,
  times(({ g }, x) => g.op('Cos', [x])),
);
export const Cos = unary(
  Math.cos,
  times(({ g }, x) => g.neg(g.op('Sin', [x]))),
);
export const Tanh = unary(
  Math.tanh,
  times(({ g }, _, y) => g.sub(g.scalar(1), g.mul(y, y))),
);
export const Sigmoid = unary(
  (x) => 1 / (1 + Math.exp(-x)),
  times(({ g }, _, y) => g.sub(y, g.mul(y, y))),
);
/** d erf/dx = 2/sqrt(pi) exp(-x^2). */
export const Erf = unary(
  null,
  times(({ g }, x) => g.scale(g.op('Exp', [g.neg(g.mul(x, x))]), 2 / Math.sqrt(Math.PI))),
);
export const Not = unary((x) => (x ? 0 : 1), 'none');

/** Elementwise operators of two inputs, broadcast by numpy's rule. */

function binary(f: (a: number, b: number) => number, result: 'same' | 'bool', gradient: Operator['gradient']): Operator {
  return {
    attributes: {},
    infer: ({ inputs: [a, b] }) => {
      if (a!.dtype !== b!.dtype) throw new Error(`types differ: ${a!.dtype} and ${b!.dtype}`);
      return [{ dtype: result === 'bool' ? 'bool' : a!.dtype, shape: broadcastShapes(a!.shape, b!.shape) }];
    },
    gradient,
    evaluate: ([a, b], _, [type]) => {
      const [left, right] = [a!, b!].map((t) => spread(t, type.shape));
      return [
        fromNumbers(
          type.dtype,
          type.shape,
          left.map((x, i) => f(x, right[i])),
        ),
      ];
    },
  };
}

const spread = (t: Tensor, shape: Shape): number[] => numbers(gatherStrided(t, shape, broadcastSteps(t.shape, shape)));

/** A rule for the two operands, each gradient summed back over the axes that were broadcast. */
const operands =
  (left: (c: GradientContext, dy: Value) => Value, right: (c: GradientContext, dy: Value) => Value) => (c: GradientContext) =>
    [left, right].map((rule, i) => (c.wanted[i] ? c.g.unbroadcast(rule(c, c.outputGradients[0]!), c.inputs[i]!.shape) : null));

export const Add = binary(
  (a, b) => a + b,
  'same',
  operands(
    (_, dy) => dy,
    (_, dy) => dy,
  ),
);
export const Sub = binary(
  (a, b) => a - b,
  'same',
  operands(
    (_, dy) => dy,
    ({ g }, dy) => g.neg(dy),
  ),
);
export const Mul = binary(
  (a, b) => a * b,
  'same',
  operands(
    ({ g, inputs }, dy) => g.mul(dy, inputs[1]!),
    ({ g, inputs }, dy) => g.mul(dy, inputs[0]!),
  ),
);
export const Div = binary(
  (a, b) => a / b,
  'same',
  operands(
    ({ g, inputs }, dy) => g.div(dy, inputs[1]!),
    ({ g, inputs, outputs }, dy) => g.neg(g.div(g.mul(dy, outputs[0]), inputs[1]!)),
  ),
);
export const Pow = binary(
  Math.pow,
  'same',
  operands(
    ({ g, inputs: [a, b] }, dy) => g.mul(dy, g.mul(b!, g.op('Pow', [a, g.sub(b!, g.scalar(1))]))),
    ({ g, inputs: [a], outputs: [y] }, dy) => {
      // 0^b has no slope in b, and log 0 would make it NaN.
      const safe = g.op('Where', [g.op('Greater', [a, g.scalar(0)]), a!, g.scalar(1)]);
      return g.mul(dy, g.mul(y, g.op('Log', [safe])));
    },
  ),
);
/** The remainder has the divisor's sign, as in Python; with fmod 1, the dividend's, as in C. */
const mod = binary((a, b) => a - b * Math.floor(a / b), 'same', undefined);
const fmod = binary((a, b) => a % b, 'same', undefined);
export const Mod: Operator = {
  ...mod,
  attributes: { fmod: 'int' },
  evaluate: (inputs, attributes, outputs) => (attributes.fmod ? fmod : mod).evaluate!(inputs, attributes, outputs),
};
export const Greater = binary((a, b) => +(a > b), 'bool', 'none');
export const Less = binary((a, b) => +(a < b), 'bool', 'none');
export const GreaterOrEqual = binary((a, b) => +(a >= b), 'bool', 'none');
export const LessOrEqual = binary((a, b) => +(a <= b), 'bool', 'none');
export const Equal = binary((a, b) => +(a === b), 'bool', 'none');
export const And = binary((a, b) => (a && b ? 1 : 0), 'bool', 'none');
export const Or = binary((a, b) => (a || b ? 1 : 0), 'bool', 'none');

/** Where(condition, a, b): the gradient goes where the value came from. */
export const Where: Operator = {
  attributes: {},
  infer: ({ inputs: [c, a, b] }) => {
    if (c!.dtype !== 'bool') throw new Error(`the condition is ${c!.dtype}, not bool`);
    if (a!.dtype !== b!.dtype) throw new Error(`types differ: ${a!.dtype} and ${b!.dtype}`);
    return [{ dtype: a!.dtype, shape: broadcastShapes(c!.shape, a!.shape, b!.shape) }];
  },
  gradient: ({ g, inputs: [c, a, b], outputGradients: [dy], wanted }) => {
    const zero = g.scalar(0);
    return [
      null,
      wanted[1] ? g.unbroadcast(g.op('Where', [c, dy, zero]), a!.shape) : null,
      wanted[2] ? g.unbroadcast(g.op('Where', [c, zero, dy]), b!.shape) : null,
    ];
  },
  evaluate: ([c, a, b], _, [type]) => {
    const [condition, left, right] = [c!, a!, b!].map((t) => spread(t, type.shape));
    return [
      fromNumbers(
        type.dtype,
        type.shape,
        condition.map((yes, i) => (yes ? left[i] : right[i])),
      ),
    ];
  },
};

/** Min and Max of any number of inputs; equal inputs share the gradient, as PyTorch's amin and amax do. */
function extremum(pick: 'Min' | 'Max'): Operator {
  const f = pick === 'Min' ? Math.min : Math.max;
  return {
    attributes: {},
    infer: ({ inputs }) => [{ dtype: inputs[0]!.dtype, shape: broadcastShapes(...inputs.map((v) => v!.shape)) }],
    gradient: ({ g, inputs, outputs: [y], outputGradients: [dy], wanted }) => {
      const hits = inputs.map((x) => g.op('Cast', [g.op('Equal', [x, y])], { to: 1 }));
      const share = g.div(
        dy!,
        hits.reduce((a, b) => g.add(a, b)),
      );
      return inputs.map((x, i) => (wanted[i] ? g.unbroadcast(g.mul(share, hits[i]), x!.shape) : null));
    },
    evaluate: (inputs, _, [type]) => {
      const columns = inputs.map((t) => spread(t!, type.shape));
      return [
        fromNumbers(
          type.dtype,
          type.shape,
          Array.from({ length: sizeOf(type.shape) }, (_, i) => f(...columns.map((c) => c[i]))),
        ),
      ];
    },
  };
}
export const Min = extremum('Min');
export const Max = extremum('Max');
