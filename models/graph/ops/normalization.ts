import type { Graph, Value } from '../graph.js';
import { intAttribute, normalizeAxis, type Attributes, type Operator } from '../operator.js';

const epsilonOf = (attributes: Attributes): number => (attributes.epsilon as number | undefined) ?? 1e-5;

/** Mean and 1/sqrt(variance + eps) over axes that stay as 1. */
function moments(g: Graph, x: Value, axes: number[], epsilon: number): { mean: Value; inverse: Value } {
  const mean = g.reduceMean(x, axes, true);
  const centred = g.sub(x, mean);
  const variance = g.reduceMean(g.mul(centred, centred), axes, true);
  return { mean, inverse: g.op('Reciprocal', [g.op('Sqrt', [g.add(variance, g.scalar(epsilon))])]) };
}

/** For y = (x - mean) inverse: dX = inverse (dy - mean(dy) - y mean(dy y)). */
function normalizeBackward(g: Graph, normal: Value, inverse: Value, dy: Value, axes: number[]): Value {
  const mean = g.reduceMean(dy, axes, true);
  const along = g.mul(normal, g.reduceMean(g.mul(dy, normal), axes, true));
  return g.mul(inverse, g.sub(g.sub(dy, mean), along));
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
    const { mean, inverse } = outputs[2]
      ? { mean: outputs[1], inverse: outputs[2] }
      : moments(g, x!, axes, epsilonOf(node.attributes));
    const normal = g.mul(g.sub(x!, mean), inverse);
    return [
      wanted[0] ? normalizeBackward(g, normal, inverse, g.mul(dy, scale!), axes) : null,
      wanted[1] ? g.unbroadcast(g.mul(dy, normal), scale!.shape) : null,
      bias && wanted[2] ? g.unbroadcast(dy, bias.shape) : null,
    ];
  },
};

/** Over the axes after the channel, per picture and channel. GroupNorm is Reshape, this, Reshape. */
export const InstanceNormalization: Operator = {
  attributes: { epsilon: 'float' },
  infer: ({ inputs: [x] }) => [{ dtype: x!.dtype, shape: x!.shape }],
  gradient: ({ g, node, inputs: [x, scale], outputGradients: [dy], wanted }) => {
    const axes = x!.shape.map((_, i) => i).slice(2);
    const perChannel = (v: Value) => g.reshape(v, [1, v.shape[0], ...axes.map(() => 1)]);
    const { mean, inverse } = moments(g, x!, axes, epsilonOf(node.attributes));
    const normal = g.mul(g.sub(x!, mean), inverse);
    return [
      wanted[0] ? normalizeBackward(g, normal, inverse, g.mul(dy!, perChannel(scale!)), axes) : null,
      wanted[1] ? g.reduceSum(g.mul(dy!, normal), [0, ...axes]) : null,
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
