import { intAttribute, intsAttribute, normalizeAxis, type Attributes, type InferContext, type Operator } from '../operator.js';
import { alongAxis } from './layout.js';

interface Axis {
  axis: number;
  from: number;
  to: number;
  scale: number;
}

/** Resize in modes nearest, linear and cubic: separable, so each axis is a matrix and the gradient is its transpose. */
export const Resize: Operator = {
  attributes: {
    antialias: 'int',
    axes: 'ints',
    coordinate_transformation_mode: 'string',
    cubic_coeff_a: 'float',
    exclude_outside: 'int',
    extrapolation_value: 'float',
    keep_aspect_ratio_policy: 'string',
    mode: 'string',
    nearest_mode: 'string',
  },
  infer: (context) => {
    const x = context.inputs[0]!;
    const shape = x.shape.slice();
    for (const { axis, to } of resizedAxes(context)) shape[axis] = to;
    return [{ dtype: x.dtype, shape }];
  },
  gradient: ({ g, node, inputs, outputGradients: [dy], integers }) => {
    const axes = resizedAxes({ inputs, attributes: node.attributes, integers });
    const method = methodOf(node.attributes);
    const grow = axes.map(({ from, to }) => to / from);
    // Nearest by a whole factor copies each element into a block: its gradient is the block's sum.
    const copies =
      method.mode === 'nearest' &&
      axes.every(({ axis }) => axis >= 2) &&
      inputs[0]!.shape.length === 4 &&
      grow.every((k) => Number.isInteger(k));
    if (copies && isBlockCopy(method, axes)) {
      const kernel = [2, 3].map((axis) => grow[axes.findIndex((a) => a.axis === axis)] ?? 1);
      const pooled = g.op('AveragePool', [dy], { kernel_shape: kernel, strides: kernel });
      return [g.scale(pooled, kernel[0] * kernel[1]), null, null, null];
    }
    let gradient = dy!;
    for (const { axis, from, to, scale } of axes) {
      const matrix = resizeMatrix(from, to, { ...method, scale });
      const transposed = new Float32Array(matrix.length);
      for (let o = 0; o < to; o++) for (let i = 0; i < from; i++) transposed[i * to + o] = matrix[o * from + i];
      gradient = alongAxis(g, gradient, axis, transposed, [from, to]);
    }
    return [gradient, null, null, null];
  },
};

/**
 * Samples maps [N, C, H, W] at a grid [N, h, w, 2] of places (x, y), -1 to 1 from edge to edge. No gradient rule: the exact one scatters, which is slow
 * everywhere; who warps by a map whose inverse is known samples the gradient through that (`withGradient`).
 */
export const GridSample: Operator = {
  attributes: { mode: 'string', padding_mode: 'string', align_corners: 'int' },
  infer: ({ inputs: [x, grid] }) => {
    const [n, h, w, places] = grid!.shape;
    if (x!.shape.length !== 4 || n !== x!.shape[0] || places !== 2)
      throw new Error(
        `GridSample takes maps [N, C, H, W] and a grid [N, h, w, 2], not [${x!.shape.join(', ')}] and [${grid!.shape.join(', ')}]`,
      );
    return [{ dtype: x!.dtype, shape: [n, x!.shape[1], h, w] }];
  },
};

type AxesContext = Pick<InferContext, 'inputs' | 'attributes'> & { integers(i: number): number[] };

function resizedAxes({ inputs, attributes, integers }: AxesContext): Axis[] {
  const shape = inputs[0]!.shape;
  const axes = intsAttribute(
    attributes,
    'axes',
    shape.map((_, i) => i),
  ).map((a) => normalizeAxis(a, shape.length));
  const hasSizes = inputs[3] !== undefined && inputs[3] !== null && inputs[3].shape[0] > 0;
  const values = hasSizes ? integers(3) : integers(2);
  if (values.length !== axes.length) throw new Error(`${values.length} sizes or scales for ${axes.length} axes`);
  return axes
    .map((axis, i) => {
      const from = shape[axis];
      const to = hasSizes ? values[i] : Math.floor(from * values[i]);
      return { axis, from, to, scale: hasSizes ? to / from : values[i] };
    })
    .filter(({ from, to, scale }) => from !== to || scale !== 1);
}

export interface ResizeMethod {
  mode: 'nearest' | 'linear' | 'cubic';
  coordinates: string;
  nearest: string;
  cubicA: number;
  excludeOutside: boolean;
  antialias: boolean;
}

function methodOf(a: Attributes): ResizeMethod {
  const mode = (a.mode as string | undefined) ?? 'nearest';
  const coordinates = (a.coordinate_transformation_mode as string | undefined) ?? 'half_pixel';
  if (coordinates === 'tf_crop_and_resize') throw new Error('coordinate mode tf_crop_and_resize is not supported');
  return {
    mode: mode as ResizeMethod['mode'],
    coordinates,
    nearest: (a.nearest_mode as string | undefined) ?? 'round_prefer_floor',
    cubicA: (a.cubic_coeff_a as number | undefined) ?? -0.75,
    excludeOutside: intAttribute(a, 'exclude_outside', 0) === 1,
    antialias: intAttribute(a, 'antialias', 0) === 1,
  };
}

function isBlockCopy(method: ResizeMethod, axes: readonly Axis[]): boolean {
  return axes.every(({ from, to, scale }) => {
    const matrix = resizeMatrix(from, to, { ...method, scale });
    const k = to / from;
    return Array.from({ length: to }, (_, o) => matrix[o * from + Math.floor(o / k)]).every((v) => v === 1);
  });
}

/**
 * The [to, from] matrix of a one-dimensional resize, as the ONNX specification of Resize-18 defines it. `scale` is to/from unless a file
 * gives another. Antialiasing stretches the kernel by 1/scale when shrinking.
 */
export function resizeMatrix(from: number, to: number, method: ResizeMethod & { scale: number }): Float32Array {
  const { mode, scale, coordinates, cubicA: a } = method;
  const matrix = new Float32Array(to * from);
  const source = (o: number): number => {
    switch (coordinates) {
      case 'asymmetric':
        return o / scale;
      case 'align_corners':
        return to === 1 ? 0 : (o * (from - 1)) / (to - 1);
      case 'pytorch_half_pixel':
        return to > 1 ? (o + 0.5) / scale - 0.5 : 0;
      case 'half_pixel_symmetric': {
        const adjusted = to / (scale * from);
        return (from / 2) * (1 - adjusted) + (o + 0.5) / scale - 0.5;
      }
      default:
        return (o + 0.5) / scale - 0.5;
    }
  };
  const nearest = (x: number): number => {
    switch (method.nearest) {
      case 'floor':
        return Math.floor(x);
      case 'ceil':
        return Math.ceil(x);
      case 'round_prefer_ceil':
        return Math.floor(x + 0.5);
      default:
        return Math.ceil(x - 0.5);
    }
  };
  const cubic = (x: number): number => {
    const d = Math.abs(x);
    if (d <= 1) return ((a + 2) * d - (a + 3)) * d * d + 1;
    return d < 2 ? ((a * d - 5 * a) * d + 8 * a) * d - 4 * a : 0;
  };
  const clamp = (i: number) => Math.min(Math.max(i, 0), from - 1);
  const stretch = method.antialias && scale < 1 ? 1 / scale : 1;
  for (let o = 0; o < to; o++) {
    const x = source(o);
    if (mode === 'nearest') {
      matrix[o * from + clamp(nearest(x))] = 1;
      continue;
    }
    const radius = (mode === 'linear' ? 1 : 2) * stretch;
    const kernel = mode === 'linear' ? (d: number) => Math.max(0, 1 - Math.abs(d)) : cubic;
    const taps: [number, number][] = [];
    for (let i = Math.floor(x - radius) + 1; i <= Math.ceil(x + radius) - 1; i++) taps.push([i, kernel((i - x) / stretch)]);
    // Taps outside take the border's element, unless they are excluded (which is what PIL and PyTorch do when they antialias).
    const used = method.excludeOutside ? taps.filter(([i]) => i >= 0 && i < from) : taps;
    const total = used.reduce((sum, [, weight]) => sum + weight, 0);
    for (const [i, weight] of used) matrix[o * from + clamp(i)] += weight / total;
  }
  return matrix;
}

/** The [to, from] matrix of a bilinear resize with half-pixel centres, taps outside falling on the border. */
export const bilinearMatrix = (from: number, to: number, antialias = false): Float32Array =>
  resizeMatrix(from, to, {
    mode: 'linear',
    coordinates: 'half_pixel',
    nearest: 'floor',
    cubicA: -0.75,
    excludeOutside: false,
    antialias,
    scale: to / from,
  });
