import { intAttribute, normalizeAxis, type Operator } from '../operator.js';

const shape: Operator['infer'] = ({ inputs: [x] }) => [{ dtype: x!.dtype, shape: x!.shape }];

/** dX = p (g - sum(g p)). */
export const Softmax: Operator = {
  attributes: { axis: 'int' },
  infer: shape,
  gradient: ({ g, node, outputs: [p], outputGradients: [dy] }) => {
    const axis = normalizeAxis(intAttribute(node.attributes, 'axis', -1), p.shape.length);
    return [g.mul(p, g.sub(dy!, g.reduceSum(g.mul(dy!, p), [axis], true)))];
  },
};

/** dX = g - softmax(x) sum(g), with softmax taken from the output. */
export const LogSoftmax: Operator = {
  attributes: { axis: 'int' },
  infer: shape,
  gradient: ({ g, node, outputs: [y], outputGradients: [dy] }) => {
    const axis = normalizeAxis(intAttribute(node.attributes, 'axis', -1), y.shape.length);
    return [g.sub(dy!, g.mul(g.op('Exp', [y]), g.reduceSum(dy!, [axis], true)))];
  },
};
