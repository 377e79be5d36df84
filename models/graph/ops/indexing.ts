import { intAttribute, normalizeAxis, type Operator } from '../operator.js';
import { allocate, fromNumbers, numbers, sizeOf } from '../tensor.js';

/** Picks slices along an axis; the gradient adds each back where it came from. */
export const Gather: Operator = {
  attributes: { axis: 'int' },
  infer: ({ inputs: [x, indices], attributes }) => {
    const axis = normalizeAxis(intAttribute(attributes, 'axis', 0), x!.shape.length);
    return [{ dtype: x!.dtype, shape: [...x!.shape.slice(0, axis), ...indices!.shape, ...x!.shape.slice(axis + 1)] }];
  },
  gradient: ({ g, node, inputs: [x, indices], outputGradients: [dy] }) => {
    const axis = normalizeAxis(intAttribute(node.attributes, 'axis', 0), x!.shape.length);
    const rank = indices!.shape.length;
    const rows = x!.shape[axis];
    const rest = x!.shape.filter((_, i) => i !== axis);
    // The indexed axes first: [indices..., rest...].
    const order = [
      ...Array.from({ length: rank }, (_, i) => axis + i),
      ...dy!.shape.map((_, i) => i).filter((i) => i < axis || i >= axis + rank),
    ];
    const updates = g.reshape(g.transpose(dy!, order), [sizeOf(indices!.shape), ...rest]);
    const whole = (value: number) => g.constant(fromNumbers(indices!.dtype, [], [value]));
    const positive = g.op('Where', [g.op('Less', [indices, whole(0)]), g.op('Add', [indices, whole(rows)]), indices]);
    const zeros = g.floats(new Float32Array(rows * sizeOf(rest)), [rows, ...rest], 'zeros');
    const at = g.op('Cast', [g.reshape(positive, [sizeOf(indices!.shape), 1])], { to: 7 });
    const scattered = g.op('ScatterND', [zeros, at, updates], { reduction: 'add' });
    // [rows, rest...] back to x's order.
    const back = x!.shape.map((_, i) => (i === axis ? 0 : i < axis ? i + 1 : i));
    return [g.transpose(scattered, back), null];
  },
  evaluate: ([x, indices], attributes, [type]) => {
    const axis = normalizeAxis(intAttribute(attributes, 'axis', 0), x!.shape.length);
    const inner = sizeOf(x!.shape.slice(axis + 1));
    const rows = x!.shape[axis];
    const picks = numbers(indices!).map((i) => (i < 0 ? i + rows : i));
    if (picks.some((i) => i < 0 || i >= rows))
      throw new Error(`Gather of [${numbers(indices!).join(', ')}] from an axis of ${rows}`);
    const source = x!.data as Float32Array;
    const out = allocate(type.dtype, sizeOf(type.shape)) as Float32Array;
    let at = 0;
    for (let outer = 0; outer < sizeOf(x!.shape.slice(0, axis)); outer++)
      for (const row of picks) {
        const from = (outer * rows + row) * inner;
        out.set(source.subarray(from, from + inner), at);
        at += inner;
      }
    return [{ ...type, data: out }];
  },
};

/** With reduction 'add' only: what Gather's gradient needs. Its own gradient is a GatherND, for updates and data alike. */
export const ScatterND: Operator = {
  attributes: { reduction: 'string' },
  infer: ({ inputs: [x], attributes }) => {
    if (attributes.reduction !== 'add') throw new Error('only the reduction add is supported');
    return [{ dtype: x!.dtype, shape: x!.shape }];
  },
  gradient: ({ g, inputs: [, indices], outputGradients: [dy], wanted }) => [
    wanted[0] ? dy : null,
    null,
    wanted[2] ? g.op('GatherND', [dy, indices]) : null,
  ],
};

export const GatherND: Operator = {
  attributes: { batch_dims: 'int' },
  infer: ({ inputs: [x, indices], attributes }) => {
    if (intAttribute(attributes, 'batch_dims', 0)) throw new Error('batch_dims other than 0 are not supported');
    const depth = indices!.shape[indices!.shape.length - 1];
    return [{ dtype: x!.dtype, shape: [...indices!.shape.slice(0, -1), ...x!.shape.slice(depth)] }];
  },
  gradient: ({ g, inputs: [x, indices], outputGradients: [dy] }) => [
    g.op('ScatterND', [g.floats(new Float32Array(sizeOf(x!.shape)), x!.shape, 'zeros'), indices, dy], { reduction: 'add' }),
    null,
  ],
};

/** The index of the largest element (the first of equals). */
export const ArgMax: Operator = {
  attributes: { axis: 'int', keepdims: 'int', select_last_index: 'int' },
  infer: ({ inputs: [x], attributes }) => {
    const axis = normalizeAxis(intAttribute(attributes, 'axis', 0), x!.shape.length);
    const keep = intAttribute(attributes, 'keepdims', 1);
    return [{ dtype: 'int64', shape: x!.shape.flatMap((n, i) => (i === axis ? (keep ? [1] : []) : [n])) }];
  },
  gradient: 'none',
};
export const ArgMin = ArgMax;
