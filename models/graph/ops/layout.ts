import type { Graph, Value } from '../graph.js';
import { intAttribute, intsAttribute, normalizeAxis, type Operator } from '../operator.js';
import { allocate, fromNumbers, gatherStrided, int64, numbers, sizeOf, strides, type DType, type Tensor } from '../tensor.js';

/** Operators that move elements without changing them. */

const reshaped = (
  to: (context: Parameters<Operator['infer']>[0]) => number[],
  attributes: Operator['attributes'] = {},
): Operator => ({
  attributes,
  infer: (context) => {
    const x = context.inputs[0]!;
    const shape = to(context);
    if (sizeOf(shape) !== sizeOf(x.shape)) throw new Error(`[${x.shape.join(', ')}] cannot take the shape [${shape.join(', ')}]`);
    return [{ dtype: x.dtype, shape }];
  },
  gradient: ({ g, inputs: [x], outputGradients: [dy] }) => [g.reshape(dy!, x!.shape), null],
  evaluate: ([x], _, [type]) => [{ ...x!, shape: type.shape }],
});

export const Reshape = reshaped(
  ({ inputs: [x], attributes, integers }) => {
    const wanted = integers(1).map((n, i) => (n === 0 && !intAttribute(attributes, 'allowzero', 0) ? x!.shape[i] : n));
    const known = wanted.reduce((product, n) => (n < 0 ? product : product * n), 1);
    return wanted.map((n) => (n < 0 ? sizeOf(x!.shape) / known : n));
  },
  { allowzero: 'int' },
);

export const Flatten = reshaped(
  ({ inputs: [x], attributes }) => {
    const axis = intAttribute(attributes, 'axis', 1);
    const at = axis < 0 ? axis + x!.shape.length : axis;
    return [sizeOf(x!.shape.slice(0, at)), sizeOf(x!.shape.slice(at))];
  },
  { axis: 'int' },
);

export const Squeeze = reshaped(({ inputs, integers }) => {
  const shape = inputs[0]!.shape;
  const axes = inputs[1] ? integers(1).map((a) => normalizeAxis(a, shape.length)) : shape.flatMap((n, i) => (n === 1 ? [i] : []));
  return shape.filter((_, i) => !axes.includes(i));
});

export const Unsqueeze = reshaped(({ inputs: [x], integers }) => {
  const rank = x!.shape.length + integers(1).length;
  const axes = integers(1).map((a) => normalizeAxis(a, rank));
  const rest = x!.shape.slice();
  return Array.from({ length: rank }, (_, i) => (axes.includes(i) ? 1 : rest.shift()!));
});

export const Transpose: Operator = {
  attributes: { perm: 'ints' },
  infer: ({ inputs: [x], attributes }) => {
    const perm = intsAttribute(attributes, 'perm', x!.shape.map((_, i) => i).reverse());
    if (perm.length !== x!.shape.length) throw new Error(`perm [${perm.join(', ')}] does not fit rank ${x!.shape.length}`);
    return [{ dtype: x!.dtype, shape: perm.map((p) => x!.shape[p]) }];
  },
  gradient: ({ g, node, inputs: [x], outputGradients: [dy] }) => {
    const perm = intsAttribute(node.attributes, 'perm', x!.shape.map((_, i) => i).reverse());
    return [g.transpose(dy!, inversePermutation(perm))];
  },
  evaluate: ([x], attributes, [type]) => {
    const perm = intsAttribute(attributes, 'perm', x!.shape.map((_, i) => i).reverse());
    const steps = strides(x!.shape);
    return [
      gatherStrided(
        x!,
        type.shape,
        perm.map((p) => steps[p]),
      ),
    ];
  },
};

export function inversePermutation(perm: readonly number[]): number[] {
  const inverse = new Array<number>(perm.length);
  perm.forEach((p, i) => (inverse[p] = i));
  return inverse;
}

interface Range {
  axis: number;
  start: number;
  step: number;
  count: number;
}

/** ONNX Slice's clamping, as ranges over axes (steps may be negative). */
function sliceRanges(
  shape: readonly number[],
  starts: number[],
  ends: number[],
  axes: number[] | null,
  steps: number[] | null,
): Range[] {
  return starts.map((start, i) => {
    const axis = normalizeAxis(axes ? axes[i] : i, shape.length);
    const n = shape[axis];
    const step = steps ? steps[i] : 1;
    if (step === 0) throw new Error('a step of 0');
    const clamp = (v: number, low: number, high: number) => Math.min(Math.max(v < 0 ? v + n : v, low), high);
    const from = step > 0 ? clamp(start, 0, n) : clamp(start, 0, n - 1);
    // An end below -n means "past the front" when stepping backwards.
    const to = step > 0 ? clamp(ends[i], 0, n) : ends[i] < -n ? -1 : clamp(ends[i], -1, n - 1);
    return { axis, start: from, step, count: Math.max(0, Math.ceil((to - from) / step)) };
  });
}

export const Slice: Operator = {
  attributes: {},
  infer: (context) => {
    const x = context.inputs[0]!;
    const shape = x.shape.slice();
    for (const range of rangesOf(context, x.shape)) shape[range.axis] = range.count;
    return [{ dtype: x.dtype, shape }];
  },
  gradient: ({ g, node, inputs: [x], outputGradients: [dy], integers }) => {
    const ranges = rangesOf({ inputs: node.inputs, integers }, x!.shape);
    let gradient = dy!;
    for (const { axis, start, step, count } of ranges) {
      const n = x!.shape[axis];
      let [first, stride] = [start, step];
      if (count > 0 && step < 0) {
        gradient = reverse(g, gradient, axis);
        first = start + (count - 1) * step;
        stride = -step;
      }
      gradient = spread(g, gradient, axis, stride);
      const width = count > 1 ? (count - 1) * stride + 1 : count;
      gradient = padAxis(g, gradient, axis, first, n - first - width);
    }
    return [gradient, null, null, null, null];
  },
  evaluate: (inputs, _, [type]) => {
    const x = inputs[0]!;
    const steps = strides(x.shape);
    let offset = 0;
    const integers = (i: number) => numbers(inputs[i]!);
    for (const range of rangesOf({ inputs, integers }, x.shape)) {
      offset += range.start * steps[range.axis];
      steps[range.axis] *= range.step;
    }
    return [gatherStrided(x, type.shape, steps, offset)];
  },
};

function rangesOf(context: { inputs: readonly unknown[]; integers: (i: number) => number[] }, shape: readonly number[]): Range[] {
  const optional = (i: number) => (context.inputs[i] ? context.integers(i) : null);
  return sliceRanges(shape, context.integers(1), context.integers(2), optional(3), optional(4));
}

/** The elements of an axis in reverse order. */
export function reverse(g: Graph, x: Value, axis: number): Value {
  return g.op('Slice', [x, g.ints([-1]), g.ints([-(x.shape[axis] + 1)]), g.ints([axis]), g.ints([-1])]);
}

/** Puts stride - 1 zeros between neighbours of an axis: n -> (n - 1) stride + 1. */
export function spread(g: Graph, x: Value, axis: number, stride: number): Value {
  const n = x.shape[axis];
  if (n <= 1 || stride === 1) return x;
  const folded = [...x.shape.slice(0, axis), n, 1, ...x.shape.slice(axis + 1)];
  const padded = padAxis(g, g.reshape(x, folded), axis + 1, 0, stride - 1);
  const flat = g.reshape(padded, [...x.shape.slice(0, axis), n * stride, ...x.shape.slice(axis + 1)]);
  return g.slice(flat, axis, 0, (n - 1) * stride + 1);
}

/** Zeros before and after one axis. */
export function padAxis(g: Graph, x: Value, axis: number, before: number, after: number): Value {
  if (before === 0 && after === 0) return x;
  const pads = new Array<number>(2 * x.shape.length).fill(0);
  pads[axis] = before;
  pads[axis + x.shape.length] = after;
  return g.op('Pad', [x, g.ints(pads)]);
}

export const Concat: Operator = {
  attributes: { axis: 'int' },
  infer: ({ inputs, attributes }) => {
    const first = inputs[0]!;
    const axis = normalizeAxis(intAttribute(attributes, 'axis', 0), first.shape.length);
    for (const x of inputs)
      if (x!.shape.length !== first.shape.length || x!.shape.some((n, i) => i !== axis && n !== first.shape[i]))
        throw new Error(`shapes differ outside axis ${axis}`);
    const shape = first.shape.slice();
    shape[axis] = inputs.reduce((sum, x) => sum + x!.shape[axis], 0);
    return [{ dtype: first.dtype, shape }];
  },
  gradient: ({ g, node, inputs, outputs: [y], outputGradients: [dy], wanted }) => {
    const axis = normalizeAxis(intAttribute(node.attributes, 'axis', 0), y.shape.length);
    let at = 0;
    return inputs.map((x, i) => {
      const start = at;
      at += x!.shape[axis];
      return wanted[i] ? g.slice(dy!, axis, start, at) : null;
    });
  },
  evaluate: (inputs, attributes, [type]) => {
    const axis = normalizeAxis(intAttribute(attributes, 'axis', 0), type.shape.length);
    const out = allocate(type.dtype, sizeOf(type.shape)) as Float32Array;
    const row = sizeOf(type.shape.slice(axis));
    let at = 0;
    for (const x of inputs) {
      const width = sizeOf(x!.shape.slice(axis));
      const source = x!.data as Float32Array;
      for (let r = 0, p = at; p < out.length; r++, p += row) out.set(source.subarray(r * width, (r + 1) * width), p);
      at += width;
    }
    return [{ ...type, data: out }];
  },
};

export const Split: Operator = {
  attributes: { axis: 'int', num_outputs: 'int' },
  infer: ({ inputs: [x, sizes], attributes, outputCount, integers }) => {
    const axis = normalizeAxis(intAttribute(attributes, 'axis', 0), x!.shape.length);
    const n = x!.shape[axis];
    if (!sizes && attributes.num_outputs !== outputCount) throw new Error(`without sizes, num_outputs must be ${outputCount}`);
    const even = Math.ceil(n / outputCount);
    const parts = sizes ? integers(1) : Array.from({ length: outputCount }, (_, i) => Math.min(even, n - i * even));
    if (parts.reduce((a, b) => a + b, 0) !== n) throw new Error(`parts [${parts.join(', ')}] do not add up to ${n}`);
    return parts.map((size) => ({ dtype: x!.dtype, shape: x!.shape.map((m, i) => (i === axis ? size : m)) }));
  },
  gradient: ({ g, node, inputs: [x], outputs, outputGradients }) => {
    const axis = normalizeAxis(intAttribute(node.attributes, 'axis', 0), x!.shape.length);
    const parts = outputs.map((y, i) => outputGradients[i] ?? g.floats(new Float32Array(sizeOf(y.shape)), y.shape));
    return [g.concat(parts, axis), null];
  },
};

/** Padding modes constant, reflect and edge; the gradient rule covers constant (reflect and edge: as matrices over the axes). */
export const Pad: Operator = {
  attributes: { mode: 'string' },
  infer: ({ inputs, integers }) => {
    const x = inputs[0]!;
    const pads = fullPads(x.shape.length, integers(1), inputs[3] ? integers(3) : null);
    return [{ dtype: x.dtype, shape: x.shape.map((n, i) => n + pads[i] + pads[i + x.shape.length]) }];
  },
  gradient: ({ g, node, inputs, outputGradients: [dy], integers }) => {
    const x = inputs[0]!;
    const rank = x.shape.length;
    const pads = fullPads(rank, integers(1), inputs[3] ? integers(3) : null);
    const mode = node.attributes.mode ?? 'constant';
    let gradient = dy!;
    x.shape.forEach((n, axis) => {
      const [before, after] = [pads[axis], pads[axis + rank]];
      if (before === 0 && after === 0) return;
      if (mode !== 'constant' && (before > 0 || after > 0)) {
        gradient = alongAxis(g, gradient, axis, padMatrix(n, before, after, mode as string), [n, n + before + after]);
        return;
      }
      gradient = padAxis(g, gradient, axis, -before, -after);
    });
    return [gradient, null, null, null];
  },
};

function fullPads(rank: number, pads: number[], axes: number[] | null): number[] {
  if (!axes) return pads;
  const full = new Array<number>(2 * rank).fill(0);
  axes.forEach((a, i) => {
    const axis = normalizeAxis(a, rank);
    full[axis] = pads[i];
    full[axis + rank] = pads[i + axes.length];
  });
  return full;
}

/** The [n, padded] matrix whose product with a padded gradient sums each copy back to its source. */
function padMatrix(n: number, before: number, after: number, mode: string): Float32Array {
  const padded = n + before + after;
  const matrix = new Float32Array(n * padded);
  for (let p = 0; p < padded; p++) {
    let source = p - before;
    if (mode === 'edge') source = Math.min(Math.max(source, 0), n - 1);
    else if (mode === 'reflect') {
      if (source < 0) source = -source;
      if (source >= n) source = 2 * (n - 1) - source;
    } else throw new Error(`the gradient of Pad in mode ${mode} is not known`);
    matrix[source * padded + p] = 1;
  }
  return matrix;
}

/** Multiplies one axis by a constant matrix [to, from], leaving the others: y[..., t, ...] = sum_f m[t, f] x[..., f, ...]. */
export function alongAxis(g: Graph, x: Value, axis: number, matrix: Float32Array, [to, from]: readonly [number, number]): Value {
  const last = x.shape.length - 1;
  if (axis === last) {
    const transposed = gatherStrided({ dtype: 'float32', shape: [to, from], data: matrix }, [from, to], [1, from]);
    return g.matMul(x, g.constant(transposed, 'matrix'));
  }
  const m = g.constant({ dtype: 'float32', shape: [to, from], data: matrix }, 'matrix');
  if (axis === last - 1) return g.matMul(m, x);
  const folded = g.reshape(x, [sizeOf(x.shape.slice(0, axis)), from, sizeOf(x.shape.slice(axis + 1))]);
  return g.reshape(
    g.matMul(m, folded),
    x.shape.map((n, i) => (i === axis ? to : n)),
  );
}

export const Expand: Operator = {
  attributes: {},
  infer: ({ inputs: [x], integers }) => {
    const wanted = integers(1);
    const rank = Math.max(wanted.length, x!.shape.length);
    const full = (s: readonly number[]) => [...new Array<number>(rank - s.length).fill(1), ...s];
    const [a, b] = [full(x!.shape), full(wanted)];
    return [
      {
        dtype: x!.dtype,
        shape: a.map((n, i) => {
          if (n !== 1 && b[i] !== 1 && n !== b[i])
            throw new Error(`[${x!.shape.join(', ')}] does not expand to [${wanted.join(', ')}]`);
          return n === 1 ? b[i] : n;
        }),
      },
    ];
  },
  gradient: ({ g, inputs: [x], outputGradients: [dy] }) => [g.unbroadcast(dy!, x!.shape), null],
  evaluate: ([x], _, [type]) => {
    const own = strides(x!.shape);
    const lead = type.shape.length - x!.shape.length;
    return [
      gatherStrided(
        x!,
        type.shape,
        type.shape.map((_, i) => (i < lead || x!.shape[i - lead] === 1 ? 0 : own[i - lead])),
      ),
    ];
  },
};

export const Tile: Operator = {
  attributes: {},
  infer: ({ inputs: [x], integers }) => {
    const repeats = integers(1);
    return [{ dtype: x!.dtype, shape: x!.shape.map((n, i) => n * repeats[i]) }];
  },
  gradient: ({ g, inputs: [x], outputGradients: [dy], integers }) => {
    const repeats = integers(1);
    const folded = g.reshape(
      dy!,
      x!.shape.flatMap((n, i) => [repeats[i], n]),
    );
    return [
      g.reshape(
        g.reduceSum(
          folded,
          x!.shape.map((_, i) => 2 * i),
        ),
        x!.shape,
      ),
      null,
    ];
  },
};

/** Depth to space and back, both modes; each is a Reshape, Transpose, Reshape, and so is its gradient. */
export const DepthToSpace: Operator = {
  attributes: { blocksize: 'int', mode: 'string' },
  infer: ({ inputs: [x], attributes }) => {
    const b = intAttribute(attributes, 'blocksize', 1);
    const [n, c, h, w] = x!.shape;
    return [{ dtype: x!.dtype, shape: [n, c / b / b, h * b, w * b] }];
  },
  gradient: ({ g, node, inputs: [x], outputGradients: [dy] }) => {
    const b = intAttribute(node.attributes, 'blocksize', 1);
    const [n, c, h, w] = x!.shape;
    const parts = g.reshape(dy!, [n, c / b / b, h, b, w, b]);
    const columnFirst = node.attributes.mode === 'CRD';
    return [g.reshape(g.transpose(parts, columnFirst ? [0, 1, 3, 5, 2, 4] : [0, 3, 5, 1, 2, 4]), [n, c, h, w])];
  },
};

export const SpaceToDepth: Operator = {
  attributes: { blocksize: 'int' },
  infer: ({ inputs: [x], attributes }) => {
    const b = intAttribute(attributes, 'blocksize', 1);
    const [n, c, h, w] = x!.shape;
    return [{ dtype: x!.dtype, shape: [n, c * b * b, h / b, w / b] }];
  },
  gradient: ({ g, node, outputGradients: [dy], target }) => {
    const blocksize = intAttribute(node.attributes, 'blocksize', 1);
    if (target === 'gpu') return [g.op('DepthToSpace', [dy!], { blocksize, mode: 'DCR' })];
    const phases = blocksize ** 2;
    return [interleave(g, g.apply('Split', [dy!], { axis: 1, num_outputs: phases }, phases), blocksize)];
  },
};

/**
 * DepthToSpace of maps that stand apart: `stride`^2 of [N, C, H, W], rows before columns, to [N, C, stride H, stride W]. Concat first of
 * columns, then of rows: on CPUs a quarter of the time of DepthToSpace, which goes there element by element.
 */
export function interleave(g: Graph, phases: readonly Value[], stride: number): Value {
  const [n, channels, height, width] = phases[0].shape;
  const rows = Array.from({ length: stride }, (_, row) => {
    const columns = phases.slice(row * stride, (row + 1) * stride).map((v) => g.reshape(v, [n * channels * height * width, 1]));
    return g.reshape(g.concat(columns, 1), [n * channels * height, 1, stride * width]);
  });
  return g.reshape(g.concat(rows, 1), [n, channels, stride * height, stride * width]);
}

/** ONNX TensorProto data types by our names. */
export const onnxTypes: Record<DType, number> = { float32: 1, uint8: 2, int8: 3, int32: 6, int64: 7, bool: 9, float16: 10 };

export function dtypeOf(onnxType: number): DType {
  const found = Object.entries(onnxTypes).find(([, number]) => number === onnxType);
  if (!found)
    throw new Error(`ONNX data type ${onnxType} is not supported: float32, float16, int64, int32, bool, uint8 and int8 are`);
  return found[0] as DType;
}

export const Cast: Operator = {
  attributes: { to: 'int', saturate: 'int' },
  infer: ({ inputs: [x], attributes }) => [{ dtype: dtypeOf(intAttribute(attributes, 'to', 0)), shape: x!.shape }],
  gradient: ({ g, inputs: [x], outputGradients: [dy] }) => [g.op('Cast', [dy!], { to: onnxTypes[x!.dtype] })],
  evaluate: ([x], _, [type]) => [fromNumbers(type.dtype, type.shape, numbers(x!))],
};

export const Shape: Operator = {
  attributes: { start: 'int', end: 'int' },
  infer: ({ inputs: [x], attributes }) => [{ dtype: 'int64', shape: [partOfShape(x!.shape, attributes).length] }],
  gradient: 'none',
};

const partOfShape = (shape: readonly number[], attributes: Parameters<typeof intAttribute>[0]): number[] =>
  shape.slice(intAttribute(attributes, 'start', 0), attributes.end === undefined ? undefined : intAttribute(attributes, 'end', 0));

/** The value of Shape without its tensor: known from the static shape alone. */
export const shapeTensor = (value: Value, attributes: Parameters<typeof intAttribute>[0]): Tensor =>
  int64(partOfShape(value.shape, attributes));

export const ConstantOfShape: Operator = {
  attributes: { value: 'tensor' },
  infer: ({ attributes, integers }) => [
    { dtype: (attributes.value as Tensor | undefined)?.dtype ?? 'float32', shape: integers(0) },
  ],
  gradient: 'none',
  evaluate: (_, attributes, [type]) => {
    const value = attributes.value ? numbers(attributes.value as Tensor)[0] : 0;
    return [fromNumbers(type.dtype, type.shape, new Float64Array(sizeOf(type.shape)).fill(value))];
  },
};

export const Range: Operator = {
  attributes: {},
  infer: ({ inputs: [x], integers }) => {
    const [start, limit, step] = [integers(0)[0], integers(1)[0], integers(2)[0]];
    return [{ dtype: x!.dtype, shape: [Math.max(0, Math.ceil((limit - start) / step))] }];
  },
  gradient: 'none',
  evaluate: ([start, , step], _, [type]) => [
    fromNumbers(
      type.dtype,
      type.shape,
      Array.from({ length: type.shape[0] }, (_, i) => numbers(start!)[0] + i * numbers(step!)[0]),
    ),
  ],
};
