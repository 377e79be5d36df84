import type { Graph, Value } from '../graph.js';
import { intAttribute, normalizeAxis, type Attributes, type Operator } from '../operator.js';
import { sizeOf } from '../tensor.js';

const epsilonOf = (attributes: Attributes): number => (attributes.epsilon as number | undefined) ?? 1e-5;

interface Moments {
  /** x - mean */
  centred: Value;
  /** 1/sqrt(variance + eps), with the axes as 1. */
  inverse: Value;
}

/** Over axes that stay as 1. From centred numbers: exact where the mean is far from 0. */
function moments(g: Graph, x: Value, axes: number[], epsilon: number): Moments {
  const centred = g.sub(x, g.reduceMean(x, axes, true));
  const variance = g.reduceMean(g.mul(centred, centred), axes, true);
  return { centred, inverse: g.op('Reciprocal', [g.op('Sqrt', [g.add(variance, g.scalar(epsilon))])]) };
}

/** For y = centred inverse and u = dy inverse: dX = u - mean(u) - centred inverse^2 mean(u centred). */
function normalizeBackward(g: Graph, { centred, inverse }: Moments, u: Value, axes: number[]): Value {
  const along = g.mul(g.reduceMean(g.mul(u, centred), axes, true), g.mul(inverse, inverse));
  return g.sub(g.sub(u, g.reduceMean(u, axes, true)), g.mul(centred, along));
}

/**
 * GroupNorm (Wu & He 2018): mean 0 and variance 1 over each group of channels of each picture, then per channel times `scale` plus
 * `bias`. In sums and products, because InstanceNormalization runs on one core of a CPU and hides its moments from the gradient.
 *
 * @param x [N, C, ...], C a multiple of `groups`; the one input that gradients flow to.
 * @param scale and `bias`: [C]
 */
export function groupNorm(g: Graph, x: Value, groups: number, scale: Value, bias: Value, epsilon: number): Value {
  const [n, channels, ...spatial] = x.shape;
  const size = channels / groups;
  const inGroups = [n, groups, size * sizeOf(spatial)];
  const axes = [2];
  const m = moments(g, g.reshape(x, inGroups), axes, epsilon);
  const ones = spatial.map(() => 1);
  const factor = g.reshape(g.mul(g.reshape(scale, [1, groups, size]), m.inverse), [n, channels, ...ones]);
  const y = g.add(g.mul(g.reshape(m.centred, x.shape), factor), g.reshape(bias, [1, channels, ...ones]));
  return g.withGradient(y, x, (dy) => g.reshape(normalizeBackward(g, m, g.reshape(g.mul(dy, factor), inGroups), axes), x.shape));
}

/** Outputs Y and, if asked for, Mean and InvStdDev, which the gradient uses instead of computing them again. */
export const LayerNormalization: Operator = {
  attributes: { axis: 'int', epsilon: 'float', stash_type: 'int' },
  infer: ({ inputs: [x], attributes, outputCount }) => {
    const axis = normalizeAxis(intAttribute(attributes, 'axis', -1), x!.shape.length);
    const statistic = { dtype: x!.dtype, shape: x!.shape.map((n, i) => (i < axis ? n : 1)) };
    return [{ dtype: x!.dtype, shape: x!.shape }, statistic, statistic].slice(0, outputCount);
  },
  gradient: ({ g, node, inputs: [x, scale, bias], outputs, outputGradients, wanted }) => {
    if (outputGradients[1] || outputGradients[2])
      throw new Error(`${node.name}: Mean and InvStdDev are not differentiable outputs here`);
    const dy = outputGradients[0]!;
    const axis = normalizeAxis(intAttribute(node.attributes, 'axis', -1), x!.shape.length);
    const axes = x!.shape.map((_, i) => i).slice(axis);
    const m = outputs[2]
      ? { centred: g.sub(x!, outputs[1]), inverse: outputs[2] }
      : moments(g, x!, axes, epsilonOf(node.attributes));
    return [
      wanted[0] ? normalizeBackward(g, m, g.mul(g.mul(dy, scale!), m.inverse), axes) : null,
      wanted[1] ? g.unbroadcast(g.mul(dy, g.mul(m.centred, m.inverse)), scale!.shape) : null,
      bias && wanted[2] ? g.unbroadcast(dy, bias.shape) : null,
    ];
  },
};

/** Over the axes after the channel, per picture and channel. */
export const InstanceNormalization: Operator = {
  attributes: { epsilon: 'float' },
  infer: ({ inputs: [x] }) => [{ dtype: x!.dtype, shape: x!.shape }],
  gradient: ({ g, node, inputs: [x, scale], outputGradients: [dy], wanted }) => {
    const axes = x!.shape.map((_, i) => i).slice(2);
    const perChannel = (v: Value) => g.reshape(v, [1, v.shape[0], ...axes.map(() => 1)]);
    const m = moments(g, x!, axes, epsilonOf(node.attributes));
    return [
      wanted[0] ? normalizeBackward(g, m, g.mul(dy!, g.mul(perChannel(scale!), m.inverse)), axes) : null,
      wanted[1] ? g.reduceSum(g.mul(dy!, g.mul(m.centred, m.inverse)), [0, ...axes]) : null,
      wanted[2] ? g.reduceSum(dy!, [0, ...axes]) : null,
    ];
  },
};

/** Inference form: scale (x - mean) / sqrt(variance + eps) + bias with running statistics. */
export const BatchNormalization: Operator = {
  attributes: { epsilon: 'float', momentum: 'float', training_mode: 'int' },
  infer: ({ inputs: [x], attributes }) => {
    if (intAttribute(attributes, 'training_mode', 0))
      throw new Error('training_mode 1 is not supported: the networks here are frozen');
    return [{ dtype: x!.dtype, shape: x!.shape }];
  },
  gradient: ({ g, node, inputs: [x, scale, , mean, variance], outputGradients: [dy], wanted }) => {
    const axes = x!.shape.map((_, i) => i).filter((i) => i !== 1);
    const perChannel = (v: Value) => g.reshape(v, [1, v.shape[0], ...axes.slice(1).map(() => 1)]);
    const inverse = g.op('Reciprocal', [g.op('Sqrt', [g.add(variance!, g.scalar(epsilonOf(node.attributes)))])]);
    const normal = () => g.mul(g.sub(x!, perChannel(mean!)), perChannel(inverse));
    return [
      wanted[0] ? g.mul(dy!, perChannel(g.mul(scale!, inverse))) : null,
      wanted[1] ? g.reduceSum(g.mul(dy!, normal()), axes) : null,
      wanted[2] ? g.reduceSum(dy!, axes) : null,
      null,
      null,
    ];
  },
};
