import type { Graph, Value } from '../graph.js';
import { intAttribute, intsAttribute, type Attributes, type GradientContext, type Operator } from '../operator.js';
import { sizeOf } from '../tensor.js';
import { padAxis, reverse } from './layout.js';

/** Where a convolution's window goes: one entry per spatial axis. */
export interface Window {
  kernel: number[];
  strides: number[];
  dilations: number[];
  before: number[];
  after: number[];
}

/** Strides, dilations and pads of Conv and the pools, with `auto_pad` resolved. */
export function windowOf(attributes: Attributes, spatial: readonly number[], kernel: readonly number[]): Window {
  const ones = spatial.map(() => 1);
  const strides = intsAttribute(attributes, 'strides', ones).slice();
  const dilations = intsAttribute(attributes, 'dilations', ones).slice();
  const pads = intsAttribute(attributes, 'pads', [...ones, ...ones].fill(0));
  const auto = attributes.auto_pad ?? 'NOTSET';
  let before = pads.slice(0, spatial.length);
  let after = pads.slice(spatial.length);
  if (auto === 'SAME_UPPER' || auto === 'SAME_LOWER') {
    const total = spatial.map((n, i) =>
      Math.max(0, (Math.ceil(n / strides[i]) - 1) * strides[i] + (kernel[i] - 1) * dilations[i] + 1 - n),
    );
    const small = total.map((t) => Math.floor(t / 2));
    const large = total.map((t) => Math.ceil(t / 2));
    [before, after] = auto === 'SAME_UPPER' ? [small, large] : [large, small];
  }
  return { kernel: kernel.slice(), strides, dilations, before, after };
}

export const outputSizes = (w: Window, spatial: readonly number[], ceil = false): number[] =>
  spatial.map((n, i) => {
    const span = (n + w.before[i] + w.after[i] - (w.kernel[i] - 1) * w.dilations[i] - 1) / w.strides[i];
    return (ceil ? Math.ceil(span) : Math.floor(span)) + 1;
  });

const convAttributes = {
  auto_pad: 'string',
  dilations: 'ints',
  group: 'int',
  kernel_shape: 'ints',
  pads: 'ints',
  strides: 'ints',
} as const;

export const Conv: Operator = {
  attributes: convAttributes,
  infer: ({ inputs: [x, w], attributes }) => {
    const group = intAttribute(attributes, 'group', 1);
    if (x!.shape[1] !== w!.shape[1] * group)
      throw new Error(`the input has ${x!.shape[1]} channels, the weights take ${w!.shape[1]} in each of ${group} groups`);
    const spatial = x!.shape.slice(2);
    return [
      {
        dtype: x!.dtype,
        shape: [x!.shape[0], w!.shape[0], ...outputSizes(windowOf(attributes, spatial, w!.shape.slice(2)), spatial)],
      },
    ];
  },
  gradient: (c) => {
    const [x, w, b] = c.inputs;
    const dy = c.outputGradients[0]!;
    const group = intAttribute(c.node.attributes, 'group', 1);
    const window = windowOf(c.node.attributes, x!.shape.slice(2), w!.shape.slice(2));
    return [
      c.wanted[0] ? inputGradient(c, dy, w!, group, window, x!.shape) : null,
      c.wanted[1] ? weightGradient(c.g, x!, dy, group, window) : null,
      b && c.wanted[2] ? sumPerChannel(c.g, dy) : null,
    ];
  },
};

export const ConvTranspose: Operator = {
  attributes: { ...convAttributes, output_padding: 'ints', output_shape: 'ints' },
  infer: ({ inputs: [x, w], attributes }) => {
    const group = intAttribute(attributes, 'group', 1);
    if ((attributes.auto_pad ?? 'NOTSET') !== 'NOTSET' || attributes.output_shape)
      throw new Error('auto_pad and output_shape are not supported here: give pads and output_padding');
    const window = windowOf(attributes, x!.shape.slice(2), w!.shape.slice(2));
    if (x!.shape[1] !== w!.shape[0]) throw new Error(`the input has ${x!.shape[1]} channels, the weights take ${w!.shape[0]}`);
    const extra = intsAttribute(
      attributes,
      'output_padding',
      window.kernel.map(() => 0),
    );
    const spatial = x!.shape.slice(2).map((n, i) => {
      const full = (n - 1) * window.strides[i] + (window.kernel[i] - 1) * window.dilations[i] + 1;
      return full - window.before[i] - window.after[i] + extra[i];
    });
    return [{ dtype: x!.dtype, shape: [x!.shape[0], w!.shape[1] * group, ...spatial] }];
  },
  gradient: ({ g, node, inputs: [x, w, b], outputGradients: [dy], wanted }) => {
    const group = intAttribute(node.attributes, 'group', 1);
    const window = windowOf(node.attributes, x!.shape.slice(2), w!.shape.slice(2));
    const attributes = { strides: window.strides, dilations: window.dilations, pads: [...window.before, ...window.after], group };
    return [
      wanted[0] ? cropTo(g, g.op('Conv', [dy, w], attributes), x!.shape.slice(2)) : null,
      // A transposed convolution is the convolution from its output to its input, so its weights' gradient is that one's.
      wanted[1] ? weightGradient(g, dy!, x!, group, window) : null,
      b && wanted[2] ? sumPerChannel(g, dy!) : null,
    ];
  },
};

const sumPerChannel = (g: Graph, dy: Value): Value =>
  g.reduceSum(
    dy,
    dy.shape.map((_, i) => i).filter((i) => i !== 1),
  );

/** The first `sizes` elements of each spatial axis. */
function cropTo(g: Graph, x: Value, sizes: readonly number[]): Value {
  return sizes.reduce((v, n, i) => (v.shape[i + 2] === n ? v : g.slice(v, i + 2, 0, n)), x);
}

/**
 * Three emissions, by measurement (test/measurements.md, "gradient of a convolution"): stride 1 is a convolution with flipped
 * weights; a strided depthwise kernel on CPUs is one convolution per phase; any other stride is a ConvTranspose, which
 * is also what GPUs have kernels for.
 */
function inputGradient(c: GradientContext, dy: Value, w: Value, group: number, window: Window, shape: readonly number[]): Value {
  const { g } = c;
  if (window.strides.every((s) => s === 1)) return flippedConvolution(g, dy, w, group, window);
  const depthwise = w.shape[1] === 1 && group === w.shape[0];
  const undilated = window.dilations.every((d) => d === 1);
  const square = window.strides.length === 2 && window.strides[0] === window.strides[1];
  if (c.target === 'cpu' && depthwise && undilated && square) return phaseConvolution(g, dy, w, window, shape);
  return transposedConvolution(g, dy, w, group, window, shape);
}

function flippedConvolution(g: Graph, dy: Value, w: Value, group: number, { kernel, dilations, before, after }: Window): Value {
  // [O, I/g, ...k] -> [I, O/g, ...k] with the taps reversed.
  const [out, inPerGroup] = w.shape;
  let flipped = w;
  for (let axis = 0; axis < kernel.length; axis++) if (kernel[axis] > 1) flipped = reverse(g, flipped, axis + 2);
  const split = g.reshape(flipped, [group, out / group, inPerGroup, ...kernel]);
  const swapped = g.transpose(split, [0, 2, 1, ...kernel.map((_, i) => i + 3)]);
  const weights = g.reshape(swapped, [group * inPerGroup, out / group, ...kernel]);
  const reach = kernel.map((k, i) => (k - 1) * dilations[i]);
  // Padding wider than the kernel's reach means outputs that saw only padding: they are cut off.
  let gradient = dy;
  const pads = [before, after].map((side, end) =>
    side.map((p, i) => {
      const need = reach[i] - p;
      if (need >= 0) return need;
      const n = gradient.shape[i + 2];
      gradient = end ? g.slice(gradient, i + 2, 0, n + need) : g.slice(gradient, i + 2, -need, n);
      return 0;
    }),
  );
  return g.op('Conv', [gradient, weights], { dilations, group, pads: pads.flat(), kernel_shape: kernel });
}

function transposedConvolution(g: Graph, dy: Value, w: Value, group: number, window: Window, shape: readonly number[]): Value {
  const { kernel, strides, dilations, before } = window;
  // Symmetric (zero) padding, then a crop: asymmetric pads would leave the GPU's own kernel.
  const full = g.op('ConvTranspose', [dy, w], { strides, dilations, group, kernel_shape: kernel });
  return shape.slice(2).reduce((v: Value, n, i) => {
    const missing = before[i] + n - v.shape[i + 2];
    const long = missing > 0 ? padAxis(g, v, i + 2, 0, missing) : v;
    return g.slice(long, i + 2, before[i], before[i] + n);
  }, full);
}

/**
 * dX[s q + r - p] = sum_t w[r + s t] dy[q - t]: each residue r of the stride is an ordinary depthwise convolution with every s-th
 * tap, and DepthToSpace interleaves them.
 */
function phaseConvolution(g: Graph, dy: Value, w: Value, window: Window, shape: readonly number[]): Value {
  const stride = window.strides[0];
  const [channels] = w.shape;
  const taps = window.kernel.map((k) => Math.ceil(k / stride));
  const padded = window.kernel.reduce((v: Value, k, i) => padAxis(g, v, i + 2, 0, taps[i] * stride - k), w);
  const split = g.reshape(padded, [channels, taps[0], stride, taps[1], stride]);
  const phases = reverse(g, reverse(g, g.transpose(split, [0, 2, 4, 1, 3]), 3), 4);
  const weights = g.reshape(phases, [channels * stride * stride, 1, ...taps]);
  const first = window.before.map((p) => Math.floor(p / stride));
  const last = shape.slice(2).map((n, i) => Math.ceil((n + window.before[i]) / stride));
  let gradient = dy;
  const pads = [0, 0, 0, 0];
  for (const i of [0, 1]) {
    const start = taps[i] - 1 - first[i];
    const end = last[i] - dy.shape[i + 2];
    pads[i] = Math.max(0, start);
    pads[i + 2] = Math.max(0, end);
    if (start < 0) gradient = g.slice(gradient, i + 2, -start, gradient.shape[i + 2]);
    if (end < 0) gradient = g.slice(gradient, i + 2, 0, gradient.shape[i + 2] + end);
  }
  const interleaved = g.op('DepthToSpace', [g.op('Conv', [gradient, weights], { group: channels, pads, kernel_shape: taps })], {
    blocksize: stride,
    mode: 'CRD',
  });
  return shape.slice(2).reduce((v: Value, n, i) => {
    const start = window.before[i] - first[i] * stride;
    return start === 0 && v.shape[i + 2] === n ? v : g.slice(v, i + 2, start, start + n);
  }, interleaved);
}

/**
 * dW as a convolution over the batch: pictures become channels, channels become pictures, and strides and dilations change
 * places. x: [N, C, ...], dy: [N, O, ...] -> [O, C/group, ...kernel].
 */
function weightGradient(g: Graph, x: Value, dy: Value, group: number, window: Window): Value {
  const [n, channels, ...spatial] = x.shape;
  const [, out] = dy.shape;
  const axes = spatial.map((_, i) => i);
  const grouped = g.reshape(x, [n, group, channels / group, ...spatial]);
  const pictures = g.reshape(g.transpose(grouped, [2, 1, 0, ...axes.map((i) => i + 3)]), [channels / group, group * n, ...spatial]);
  const kernels = g.transpose(dy, [1, 0, ...axes.map((i) => i + 2)]);
  const full = g.op('Conv', [pictures, kernels], {
    group,
    strides: window.dilations,
    dilations: window.strides,
    pads: [...window.before, ...window.after],
  });
  const cropped = cropTo(g, full, window.kernel);
  if (sizeOf(cropped.shape) !== out * (channels / group) * sizeOf(window.kernel))
    throw new Error('the gradient of these weights needs padding beyond the input, which is not supported');
  return g.transpose(cropped, [1, 0, ...axes.map((i) => i + 2)]);
}
