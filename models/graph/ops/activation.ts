import type { Graph, Value } from '../graph.js';
import type { Operator, Target } from '../operator.js';

const float = (value: unknown, otherwise: number): number => (typeof value === 'number' ? value : otherwise);

const shapeOfInput: Operator['infer'] = ({ inputs: [x] }) => [{ dtype: x!.dtype, shape: x!.shape }];

/** A slope so steep that a clipped line is an exact step: any float32 of at least 2^-126 times 2^126 is 1 or more. */
const steepest = 126;

/** MLAS keeps maps in blocks of this many channels between convolutions (16 with AVX-512, 8 with AVX2). */
const channelBlock = 16;

/**
 * max(0, min(1, slope x + offset)) with a slope that makes it a step. Between convolutions on a CPU it is written as a 1x1 depthwise convolution
 * with its activation: that stays in MLAS's blocked layout, where HardSigmoid, comparisons and Where would each reorder
 * the map (measured in test/measurements.md).
 */
function step(g: Graph, x: Value, slope: number, offset: number, target: Target): Value {
  const [, channels] = x.shape;
  if (target === 'gpu' || x.shape.length !== 4 || channels % channelBlock !== 0)
    return g.op('HardSigmoid', [x], { alpha: slope, beta: offset });
  const weights = g.floats(new Float32Array(channels).fill(slope), [channels, 1, 1, 1], 'steep');
  const bias = g.floats(new Float32Array(channels).fill(offset), [channels], 'steep');
  const line = g.op('Conv', [x, weights, bias], { group: channels, kernel_shape: [1, 1] });
  return g.op('Clip', [line, g.scalar(0), g.scalar(1)]);
}

/** 1 where x > 0, else 0, as a float. */
export const isPositive = (g: Graph, x: Value, target: Target): Value => step(g, x, 2 ** steepest, 0, target);

/** 1 where x < limit, else 0. The slope is a power of two, so that `limit` times it is exact. */
export function isBelow(g: Graph, x: Value, limit: number, target: Target): Value {
  const exponent = limit === 0 ? 0 : Math.ceil(Math.log2(Math.abs(limit)));
  const slope = 2 ** Math.min(steepest, steepest - exponent);
  return step(g, x, -slope, limit * slope, target);
}

/** 1, 0 or -1. Sign itself has no WebGPU kernel: there it is the difference of two steps. */
export const signOf = (g: Graph, x: Value, target: Target): Value =>
  target === 'cpu' ? g.op('Sign', [x]) : g.sub(isPositive(g, x, target), isBelow(g, x, 0, target));

export const Relu: Operator = {
  attributes: {},
  infer: shapeOfInput,
  gradient: ({ g, outputs: [y], outputGradients: [dy], target }) => [g.mul(dy!, isPositive(g, y, target))],
};

export const LeakyRelu: Operator = {
  attributes: { alpha: 'float' },
  infer: shapeOfInput,
  gradient: ({ g, node, inputs: [x], outputGradients: [dy], target }) => {
    const alpha = float(node.attributes.alpha, 0.01);
    const slope = g.add(g.scale(isPositive(g, x!, target), 1 - alpha), g.scalar(alpha));
    return [g.mul(dy!, slope)];
  },
};

/** max(0, min(1, alpha x + beta)). */
export const HardSigmoid: Operator = {
  attributes: { alpha: 'float', beta: 'float' },
  infer: shapeOfInput,
  gradient: ({ g, node, outputs: [y], outputGradients: [dy], target }) => [
    g.mul(g.scale(dy!, float(node.attributes.alpha, 0.2)), g.mul(isPositive(g, y, target), isBelow(g, y, 1, target))),
  ],
};

/** x HardSigmoid(x) with slope 1/6 and offset 1/2. */
export const HardSwish: Operator = {
  attributes: {},
  infer: shapeOfInput,
  gradient: ({ g, inputs: [x], outputGradients: [dy], target }) => {
    const gate = g.op('HardSigmoid', [x], { alpha: 1 / 6, beta: 0.5 });
    const inside = g.mul(isPositive(g, gate, target), isBelow(g, gate, 1, target));
    return [g.mul(dy!, g.add(gate, g.mul(g.scale(x!, 1 / 6), inside)))];
  },
};

/** gamma x above 0, gamma alpha (e^x - 1) below, where the slope is y + gamma alpha. */
const exponentialUnit = (attributes: Operator['attributes'], alphaDefault: number, gammaDefault: number): Operator => ({
  attributes,
  infer: shapeOfInput,
  gradient: ({ g, node, inputs: [x], outputs: [y], outputGradients: [dy] }) => {
    const alpha = float(node.attributes.alpha, alphaDefault);
    const gamma = float(node.attributes.gamma, gammaDefault);
    const above = g.op('Greater', [x!, g.scalar(0)]);
    return [g.mul(dy!, g.op('Where', [above, g.scalar(gamma), g.add(y, g.scalar(gamma * alpha))]))];
  },
});
export const Elu = exponentialUnit({ alpha: 'float' }, 1, 1);
export const Selu = exponentialUnit({ alpha: 'float', gamma: 'float' }, 1.6732632423543772, 1.0507009873554805);

/** log(1 + e^x). */
export const Softplus: Operator = {
  attributes: {},
  infer: shapeOfInput,
  gradient: ({ g, inputs: [x], outputGradients: [dy] }) => [g.mul(dy!, g.op('Sigmoid', [x]))],
};

/** Gelu, an operator only from opset 20, as its parts: x/2 (1 + erf(x/sqrt 2)), or with tanh(sqrt(2/pi) (x + 0.044715 x^3)) for erf. */
export function gelu(g: Graph, x: Value, byTanh = false): Value {
  const cubic = () => g.scale(g.add(x, g.scale(g.mul(x, g.mul(x, x)), 0.044715)), Math.sqrt(2 / Math.PI));
  const gate = byTanh ? g.op('Tanh', [cubic()]) : g.op('Erf', [g.scale(x, Math.SQRT1_2)]);
  return g.mul(g.scale(x, 0.5), g.add(gate, g.scalar(1)));
}

/** Swish or SiLU, x s(x) with the sigmoid s. Its slope s + x s (1 - s) is s (1 + x - y): fewer passes over the map than the parts' own. */
export function swish(g: Graph, x: Value): Value {
  const gate = g.op('Sigmoid', [x]);
  const y = g.mul(x, gate);
  return g.withGradient(y, x, (dy) => g.mul(dy, g.mul(gate, g.add(g.sub(x, y), g.scalar(1)))));
}

/**
 * Bounds are constants. At a bound itself the gradient is 0. The masks are made from the output, which is what a convolution fused with its
 * activation leaves behind; bounds of opposite sign need one mask, y^2 < bound^2, where others need two. (Shifting others to their
 * centre would round small outputs onto the bound.)
 */
export const Clip: Operator = {
  attributes: {},
  infer: shapeOfInput,
  gradient: ({ g, inputs: [, low, high], outputs: [y], outputGradients: [dy], target }) => {
    const bound = (v: Value | null | undefined) => (v ? Number(g.constants.get(v)?.tensor().data[0] ?? NaN) : NaN);
    const [bottom, top] = [bound(low), bound(high)];
    if (bottom === -top && isShort(top * top)) return [g.mul(dy!, isBelow(g, g.mul(y, y), top * top, target)), null, null];
    let gradient = dy!;
    if (low) gradient = g.mul(gradient, bottom === 0 ? isPositive(g, y, target) : cast(g, g.op('Greater', [y, low])));
    if (high) gradient = g.mul(gradient, isShort(top) ? isBelow(g, y, top, target) : cast(g, g.op('Less', [y, high])));
    return [gradient, null, null];
  },
};

/** Whether a number has few enough digits that its product with a power of two, and sums of such, are exact. */
const isShort = (value: number): boolean => Math.abs(value) <= 1024 && Number.isInteger(value * 64);

const cast = (g: Graph, v: Value) => g.op('Cast', [v], { to: 1 });
