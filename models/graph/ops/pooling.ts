import type { Value } from '../graph.js';
import { intAttribute, intsAttribute, type Attributes, type Operator } from '../operator.js';
import { sizeOf } from '../tensor.js';
import { outputSizes, windowOf, type Window } from './convolution.js';
import { alongAxis, padAxis, spread } from './layout.js';

const poolAttributes = {
  auto_pad: 'string',
  ceil_mode: 'int',
  dilations: 'ints',
  kernel_shape: 'ints',
  pads: 'ints',
  strides: 'ints',
} as const;

const poolWindow = (attributes: Attributes, spatial: readonly number[]) =>
  windowOf(attributes, spatial, intsAttribute(attributes, 'kernel_shape', []));

const inferPool: Operator['infer'] = ({ inputs: [x], attributes }) => {
  const spatial = x!.shape.slice(2);
  const window = poolWindow(attributes, spatial);
  const ceil = intAttribute(attributes, 'ceil_mode', 0) === 1;
  // In ceil mode a window must still begin inside the input or its left padding.
  const sizes = outputSizes(window, spatial, ceil).map((n, i) =>
    ceil && (n - 1) * window.strides[i] >= spatial[i] + window.before[i] ? n - 1 : n,
  );
  return [{ dtype: x!.dtype, shape: [...x!.shape.slice(0, 2), ...sizes] }];
};

/** Averages are separable, counts of border windows included: the gradient is a constant matrix along each axis. */
export const AveragePool: Operator = {
  attributes: { ...poolAttributes, count_include_pad: 'int' },
  infer: inferPool,
  gradient: ({ g, node, inputs: [x], outputs: [y], outputGradients: [dy] }) => {
    const spatial = x!.shape.slice(2);
    const window = poolWindow(node.attributes, spatial);
    const includePad = intAttribute(node.attributes, 'count_include_pad', 0) === 1;
    const tiles = window.kernel.every(
      (k, i) => k === window.strides[i] && window.before[i] + window.after[i] === 0 && y.shape[i + 2] * k === spatial[i],
    );
    if (tiles && window.kernel.length === 2) {
      const grown = g.op('Resize', [dy, null, g.floats([1, 1, ...window.kernel])], {
        mode: 'nearest',
        coordinate_transformation_mode: 'asymmetric',
        nearest_mode: 'floor',
      });
      return [g.scale(grown, 1 / sizeOf(window.kernel))];
    }
    return [
      spatial.reduce(
        (v: Value, n, i) => alongAxis(g, v, i + 2, averageMatrix(n, y.shape[i + 2], window, i, includePad), [n, y.shape[i + 2]]),
        dy!,
      ),
    ];
  },
};

/** [n, outputs]: the share of output o that comes from input i. */
function averageMatrix(n: number, outputs: number, w: Window, axis: number, includePad: boolean): Float32Array {
  const matrix = new Float32Array(n * outputs);
  for (let o = 0; o < outputs; o++) {
    const taps = Array.from({ length: w.kernel[axis] }, (_, k) => o * w.strides[axis] + k * w.dilations[axis] - w.before[axis]);
    const inside = taps.filter((i) => i >= 0 && i < n);
    // Positions past the padded end (ceil mode) never count.
    const counted = includePad ? taps.filter((i) => i < n + w.after[axis]).length : inside.length;
    for (const i of inside) matrix[i * outputs + o] += 1 / counted;
  }
  return matrix;
}

/** The gradient goes to the first maximum of a window in row-major order, as PyTorch's does. */
export const MaxPool: Operator = {
  attributes: { ...poolAttributes, storage_order: 'int' },
  infer: inferPool,
  gradient: ({ g, node, inputs: [x], outputs: [y], outputGradients: [dy] }) => {
    const spatial = x!.shape.slice(2);
    const window = poolWindow(node.attributes, spatial);
    const sizes = y.shape.slice(2);
    const span = (i: number) => (sizes[i] - 1) * window.strides[i] + (window.kernel[i] - 1) * window.dilations[i] + 1;
    // Grow by what the windows touch, with a value that no maximum takes.
    const grown = spatial.map((n, i) => Math.max(n + window.before[i], span(i)));
    const lowest = g.scalar(-3.4e38);
    const pads = [0, 0, ...window.before, 0, 0, ...grown.map((n, i) => n - spatial[i] - window.before[i])];
    const padded = pads.some(Boolean) ? g.op('Pad', [x, g.ints(pads), lowest]) : x!;
    const axes = spatial.map((_, i) => i + 2);
    let total: Value | null = null;
    let free: Value | null = null;
    for (let tap = 0; tap < sizeOf(window.kernel); tap++) {
      let rest = tap;
      const offset = window.kernel
        .slice()
        .reverse()
        .map((k) => {
          const at = rest % k;
          rest = Math.floor(rest / k);
          return at;
        })
        .reverse()
        .map((k, i) => k * window.dilations[i]);
      const ends = offset.map((o, i) => o + (sizes[i] - 1) * window.strides[i] + 1);
      const seen = g.op('Slice', [padded, g.ints(offset), g.ints(ends), g.ints(axes), g.ints(window.strides)]);
      const hit: Value = g.op('Cast', [g.op('Equal', [seen, y])], { to: 1 });
      const first: Value = free ? g.mul(hit, free) : hit;
      free = free ? g.sub(free, first) : g.sub(g.scalar(1), hit);
      let part = g.mul(dy!, first);
      spatial.forEach((_, i) => {
        part = spread(g, part, i + 2, window.strides[i]);
        part = padAxis(g, part, i + 2, offset[i], grown[i] - offset[i] - part.shape[i + 2]);
      });
      total = total ? g.add(total, part) : part;
    }
    return [spatial.reduce((v: Value, n, i) => g.slice(v, i + 2, window.before[i], window.before[i] + n), total!)];
  },
};

export const GlobalAveragePool: Operator = {
  attributes: {},
  infer: ({ inputs: [x] }) => [{ dtype: x!.dtype, shape: x!.shape.map((n, i) => (i < 2 ? n : 1)) }],
  gradient: ({ g, inputs: [x], outputGradients: [dy] }) => [
    g.op('Expand', [g.scale(dy!, 1 / sizeOf(x!.shape.slice(2))), g.ints(x!.shape)]),
  ],
};

export const GlobalMaxPool: Operator = {
  attributes: {},
  infer: GlobalAveragePool.infer,
  gradient: ({ g, inputs: [x], outputs: [y], outputGradients: [dy] }) => {
    const hits = g.op('Cast', [g.op('Equal', [x, y])], { to: 1 });
    const axes = x!.shape.map((_, i) => i).slice(2);
    return [g.mul(hits, g.div(dy!, g.reduceSum(hits, axes, true)))];
  },
};
