/**
 * A naive float64 twin of every operator in the graph language: plain loops over indices, with its own shape logic and nothing
 * of models/graph. The oracle for forward values, and by finite differences for gradients.
 */

/** A tensor in float64. Integers are exact up to 2^53; booleans are 0 and 1. */
export interface Dense {
  readonly shape: readonly number[];
  readonly data: Float64Array;
}

export type TwinAttributes = Readonly<Record<string, unknown>>;
export type Twin = (inputs: readonly (Dense | null | undefined)[], attributes: TwinAttributes, outputs: number) => Dense[];

type Widened<T> = T extends number ? number : T extends string ? string : T;
const attribute = <T>(attributes: TwinAttributes, name: string, otherwise: T): Widened<T> =>
  (attributes[name] ?? otherwise) as Widened<T>;
const product = (values: readonly number[]): number => values.reduce((a, b) => a * b, 1);
const range = (n: number): number[] => Array.from({ length: n }, (_, i) => i);
const positive = (axis: number, rank: number): number => (axis < 0 ? axis + rank : axis);

/** Calls `f` with every index of a shape, in row-major order. The array is reused. */
function each(shape: readonly number[], f: (index: number[], at: number) => void): void {
  const total = product(shape);
  const index = shape.map(() => 0);
  for (let at = 0; at < total; at++) {
    f(index, at);
    for (let axis = shape.length - 1; axis >= 0 && ++index[axis] === shape[axis]; axis--) index[axis] = 0;
  }
}

export function fill(shape: readonly number[], f: (index: number[], at: number) => number): Dense {
  const data = new Float64Array(product(shape));
  each(shape, (index, at) => (data[at] = f(index, at)));
  return { shape: [...shape], data };
}

const zeros = (shape: readonly number[]): Dense => ({ shape: [...shape], data: new Float64Array(product(shape)) });
const position = (shape: readonly number[], index: readonly number[]): number =>
  index.reduce((at, i, axis) => at * shape[axis] + i, 0);
const get = (x: Dense, index: readonly number[]): number => x.data[position(x.shape, index)];

/** Reads x as if it were broadcast to an index of equal or higher rank. */
const stretched = (x: Dense, index: readonly number[]): number =>
  get(
    x,
    index.slice(index.length - x.shape.length).map((i, axis) => (x.shape[axis] === 1 ? 0 : i)),
  );

function broadcast(...shapes: (readonly number[])[]): number[] {
  const rank = Math.max(...shapes.map((s) => s.length));
  return range(rank).map((axis) =>
    shapes.map((s) => s[axis - rank + s.length] ?? 1).reduce((a, b) => (a === 1 ? b : b === 1 || a === b ? a : NaN)),
  );
}

const unary =
  (f: (x: number, attributes: TwinAttributes) => number): Twin =>
  ([x], attributes) => [fill(x!.shape, (_, at) => f(x!.data[at], attributes))];

const nary =
  (f: (values: number[], attributes: TwinAttributes) => number): Twin =>
  (inputs, attributes) => {
    const shape = broadcast(...inputs.map((x) => x!.shape));
    return [
      fill(shape, (index) =>
        f(
          inputs.map((x) => stretched(x!, index)),
          attributes,
        ),
      ),
    ];
  };

/** By the Maclaurin series near 0 and the continued fraction of erfc beyond, to 1e-15. */
export function erf(x: number): number {
  const z = Math.abs(x);
  if (z < 3) {
    let term = z;
    let sum = z;
    for (let n = 1; n < 120; n++) {
      term *= (-z * z) / n;
      sum += term / (2 * n + 1);
    }
    return (Math.sign(x) * 2 * sum) / Math.sqrt(Math.PI);
  }
  let fraction = 0;
  for (let n = 60; n > 0; n--) fraction = n / 2 / (z + fraction);
  return Math.sign(x) * (1 - Math.exp(-z * z) / Math.sqrt(Math.PI) / (z + fraction));
}

function roundHalfEven(x: number): number {
  const low = Math.floor(x);
  if (x - low !== 0.5) return Math.round(x);
  return low % 2 === 0 ? low : low + 1;
}

/** A reduction: `f` of the values that share an index outside the axes. */
const reduction =
  (f: (values: number[]) => number): Twin =>
  ([x, axesInput], attributes) => {
    const rank = x!.shape.length;
    let axes = (axesInput ? [...axesInput.data] : attribute<number[]>(attributes, 'axes', [])).map((a) => positive(a, rank));
    if (axes.length === 0 && !attribute(attributes, 'noop_with_empty_axes', 0)) axes = range(rank);
    const shape = x!.shape.map((n, i) => (axes.includes(i) ? 1 : n));
    const groups: number[][] = range(product(shape)).map(() => []);
    each(x!.shape, (index, at) =>
      groups[
        position(
          shape,
          index.map((i, axis) => (axes.includes(axis) ? 0 : i)),
        )
      ].push(x!.data[at]),
    );
    const data = Float64Array.from(groups, f);
    return [{ shape: attribute(attributes, 'keepdims', 1) ? shape : shape.filter((_, i) => !axes.includes(i)), data }];
  };

/** Replaces each line along an axis by `f` of it. */
function alongAxis(x: Dense, axis: number, length: number, f: (line: number[]) => number[]): Dense {
  const shape = x.shape.map((n, i) => (i === axis ? length : n));
  const out = zeros(shape);
  each(
    shape.map((n, i) => (i === axis ? 1 : n)),
    (index) => {
      const line = range(x.shape[axis]).map((i) =>
        get(
          x,
          index.map((j, a) => (a === axis ? i : j)),
        ),
      );
      f(line).forEach(
        (v, i) =>
          (out.data[
            position(
              shape,
              index.map((j, a) => (a === axis ? i : j)),
            )
          ] = v),
      );
    },
  );
  return out;
}

const sum = (values: readonly number[]): number => values.reduce((a, b) => a + b, 0);
const mean = (values: readonly number[]): number => sum(values) / values.length;

function softmax(line: number[]): number[] {
  const top = Math.max(...line);
  const powers = line.map((v) => Math.exp(v - top));
  return powers.map((v) => v / sum(powers));
}

interface Sliding {
  strides: number[];
  dilations: number[];
  before: number[];
  after: number[];
}

function sliding(attributes: TwinAttributes, spatial: readonly number[], kernel: readonly number[]): Sliding {
  const d = spatial.length;
  const strides = attribute(attributes, 'strides', Array<number>(d).fill(1));
  const dilations = attribute(attributes, 'dilations', Array<number>(d).fill(1));
  const pads = attribute(attributes, 'pads', Array<number>(2 * d).fill(0));
  const auto = attribute(attributes, 'auto_pad', 'NOTSET');
  const total = spatial.map((n, i) =>
    Math.max(0, (Math.ceil(n / strides[i]) - 1) * strides[i] + (kernel[i] - 1) * dilations[i] + 1 - n),
  );
  if (auto === 'SAME_UPPER')
    return { strides, dilations, before: total.map((t) => Math.floor(t / 2)), after: total.map((t) => Math.ceil(t / 2)) };
  if (auto === 'SAME_LOWER')
    return { strides, dilations, before: total.map((t) => Math.ceil(t / 2)), after: total.map((t) => Math.floor(t / 2)) };
  return { strides, dilations, before: pads.slice(0, d), after: pads.slice(d) };
}

const conv: Twin = ([x, w, b], attributes) => {
  const [n, , ...spatial] = x!.shape;
  const [out, inPerGroup, ...kernel] = w!.shape;
  const group = attribute(attributes, 'group', 1);
  const s = sliding(attributes, spatial, kernel);
  const sizes = spatial.map(
    (m, i) => Math.floor((m + s.before[i] + s.after[i] - (kernel[i] - 1) * s.dilations[i] - 1) / s.strides[i]) + 1,
  );
  return [
    fill([n, out, ...sizes], ([picture, o, ...at]) => {
      let total = b ? b.data[o] : 0;
      const firstChannel = Math.floor(o / (out / group)) * inPerGroup;
      each(kernel, (tap) => {
        const from = at.map((p, i) => p * s.strides[i] - s.before[i] + tap[i] * s.dilations[i]);
        if (from.some((p, i) => p < 0 || p >= spatial[i])) return;
        for (let c = 0; c < inPerGroup; c++) total += get(x!, [picture, firstChannel + c, ...from]) * get(w!, [o, c, ...tap]);
      });
      return total;
    }),
  ];
};

const convTranspose: Twin = ([x, w, b], attributes) => {
  const [n, channels, ...spatial] = x!.shape;
  const [, outPerGroup, ...kernel] = w!.shape;
  const group = attribute(attributes, 'group', 1);
  const s = sliding(attributes, spatial, kernel);
  const extra = attribute(
    attributes,
    'output_padding',
    spatial.map(() => 0),
  );
  const sizes = spatial.map(
    (m, i) => (m - 1) * s.strides[i] + (kernel[i] - 1) * s.dilations[i] + 1 - s.before[i] - s.after[i] + extra[i],
  );
  const y = fill([n, outPerGroup * group, ...sizes], ([, o]) => (b ? b.data[o] : 0));
  each(x!.shape, ([picture, c, ...from], source) =>
    each(kernel, (tap) => {
      const to = from.map((p, i) => p * s.strides[i] - s.before[i] + tap[i] * s.dilations[i]);
      if (to.some((p, i) => p < 0 || p >= sizes[i])) return;
      const firstOutput = Math.floor(c / (channels / group)) * outPerGroup;
      for (let o = 0; o < outPerGroup; o++)
        y.data[position(y.shape, [picture, firstOutput + o, ...to])] += x!.data[source] * get(w!, [c, o, ...tap]);
    }),
  );
  return [y];
};

/** `combine` gets the values inside the input and how many taps fell into the padding that counts. */
const pool =
  (combine: (values: number[], padded: number, attributes: TwinAttributes) => number): Twin =>
  ([x], attributes) => {
    const [n, c, ...spatial] = x!.shape;
    const kernel = attributes.kernel_shape as number[];
    const s = sliding(attributes, spatial, kernel);
    const ceil = attribute(attributes, 'ceil_mode', 0) === 1;
    const sizes = spatial.map((m, i) => {
      const room = m + s.before[i] + s.after[i] - (kernel[i] - 1) * s.dilations[i] - 1;
      const count = (ceil ? Math.ceil(room / s.strides[i]) : Math.floor(room / s.strides[i])) + 1;
      return ceil && (count - 1) * s.strides[i] >= m + s.before[i] ? count - 1 : count;
    });
    return [
      fill([n, c, ...sizes], ([picture, channel, ...at]) => {
        const values: number[] = [];
        let padded = 0;
        each(kernel, (tap) => {
          const from = at.map((p, i) => p * s.strides[i] - s.before[i] + tap[i] * s.dilations[i]);
          if (from.every((p, i) => p >= 0 && p < spatial[i])) values.push(get(x!, [picture, channel, ...from]));
          else if (from.every((p, i) => p < spatial[i] + s.after[i])) padded++;
        });
        return combine(values, padded, attributes);
      }),
    ];
  };

const globalPool =
  (f: (values: number[]) => number): Twin =>
  ([x]) => {
    const [n, c, ...spatial] = x!.shape;
    const area = product(spatial);
    return [fill([n, c, ...spatial.map(() => 1)], (_, at) => f([...x!.data.slice(at * area, (at + 1) * area)]))];
  };

const matMul: Twin = ([a, b]) => {
  const left: Dense = a!.shape.length === 1 ? { shape: [1, ...a!.shape], data: a!.data } : a!;
  const right: Dense = b!.shape.length === 1 ? { shape: [...b!.shape, 1], data: b!.data } : b!;
  const [m, k] = left.shape.slice(-2);
  const n = right.shape[right.shape.length - 1];
  const lead = broadcast(left.shape.slice(0, -2), right.shape.slice(0, -2));
  const y = fill([...lead, m, n], (index) => {
    const [row, column] = index.slice(-2);
    const outer = index.slice(0, -2);
    return sum(range(k).map((i) => stretched(left, [...outer, row, i]) * stretched(right, [...outer, i, column])));
  });
  return [{ shape: [...lead, ...(a!.shape.length > 1 ? [m] : []), ...(b!.shape.length > 1 ? [n] : [])], data: y.data }];
};

const gemm: Twin = ([a, b, c], attributes) => {
  const transA = attribute(attributes, 'transA', 0);
  const transB = attribute(attributes, 'transB', 0);
  const alpha = attribute(attributes, 'alpha', 1);
  const beta = attribute(attributes, 'beta', 1);
  const inner = a!.shape[transA ? 0 : 1];
  return [
    fill([a!.shape[transA ? 1 : 0], b!.shape[transB ? 0 : 1]], ([i, j]) => {
      const dot = sum(range(inner).map((k) => get(a!, transA ? [k, i] : [i, k]) * get(b!, transB ? [j, k] : [k, j])));
      return alpha * dot + (c ? beta * stretched(c, [i, j]) : 0);
    }),
  ];
};

const einsum: Twin = (inputs, attributes) => {
  const [left, right] = String(attributes.equation).replaceAll(' ', '').split('->');
  const terms = left.split(',');
  const letters = [...new Set(left.replaceAll(',', ''))];
  const implicit = letters.filter((l) => left.split(l).length === 2).sort();
  const output = right === undefined ? implicit : [...right];
  const size = (letter: string) => {
    const term = terms.findIndex((t) => t.includes(letter));
    return inputs[term]!.shape[terms[term].indexOf(letter)];
  };
  const y = zeros(output.map(size));
  each(letters.map(size), (index) => {
    const of = (letter: string) => index[letters.indexOf(letter)];
    y.data[position(y.shape, output.map(of))] += product(terms.map((term, i) => get(inputs[i]!, [...term].map(of))));
  });
  return [y];
};

const layerNormalization: Twin = ([x, scale, bias], attributes, outputs) => {
  const rank = x!.shape.length;
  const axis = positive(attribute(attributes, 'axis', -1), rank);
  const epsilon = attribute(attributes, 'epsilon', 1e-5);
  const inner = product(x!.shape.slice(axis));
  const statistics = x!.shape.map((n, i) => (i < axis ? n : 1));
  const rows = range(product(statistics)).map((r) => [...x!.data.slice(r * inner, (r + 1) * inner)]);
  const means = rows.map(mean);
  const inverses = rows.map((row, r) => 1 / Math.sqrt(mean(row.map((v) => (v - means[r]) ** 2)) + epsilon));
  const y = fill(x!.shape, (index, at) => {
    const r = Math.floor(at / inner);
    return (x!.data[at] - means[r]) * inverses[r] * stretched(scale!, index) + (bias ? stretched(bias, index) : 0);
  });
  return [y, { shape: statistics, data: Float64Array.from(means) }, { shape: statistics, data: Float64Array.from(inverses) }].slice(
    0,
    outputs,
  );
};

const instanceNormalization: Twin = ([x, scale, bias], attributes) => {
  const epsilon = attribute(attributes, 'epsilon', 1e-5);
  const area = product(x!.shape.slice(2));
  return [
    fill(x!.shape, ([, c], at) => {
      const first = Math.floor(at / area) * area;
      const plane = [...x!.data.slice(first, first + area)];
      const m = mean(plane);
      return ((x!.data[at] - m) / Math.sqrt(mean(plane.map((v) => (v - m) ** 2)) + epsilon)) * scale!.data[c] + bias!.data[c];
    }),
  ];
};

const batchNormalization: Twin = ([x, scale, bias, means, variances], attributes) => {
  const epsilon = attribute(attributes, 'epsilon', 1e-5);
  return [
    fill(
      x!.shape,
      ([, c], at) => ((x!.data[at] - means!.data[c]) / Math.sqrt(variances!.data[c] + epsilon)) * scale!.data[c] + bias!.data[c],
    ),
  ];
};

const gather: Twin = ([x, indices], attributes) => {
  const axis = positive(attribute(attributes, 'axis', 0), x!.shape.length);
  const depth = indices!.shape.length;
  return [
    fill([...x!.shape.slice(0, axis), ...indices!.shape, ...x!.shape.slice(axis + 1)], (index) => {
      const pick = get(indices!, index.slice(axis, axis + depth));
      return get(x!, [...index.slice(0, axis), positive(pick, x!.shape[axis]), ...index.slice(axis + depth)]);
    }),
  ];
};

const gatherND: Twin = ([x, indices]) => {
  const rows = indices!.shape.slice(0, -1);
  const depth = indices!.shape[rows.length];
  return [
    fill([...rows, ...x!.shape.slice(depth)], (index) => {
      const row = index.slice(0, rows.length);
      const at = range(depth).map((i) => positive(get(indices!, [...row, i]), x!.shape[i]));
      return get(x!, [...at, ...index.slice(rows.length)]);
    }),
  ];
};

const scatterND: Twin = ([x, indices, updates]) => {
  const y: Dense = { shape: [...x!.shape], data: x!.data.slice() };
  const rows = indices!.shape.slice(0, -1);
  const depth = indices!.shape[rows.length];
  each(updates!.shape, (index, from) => {
    const row = index.slice(0, rows.length);
    const at = range(depth).map((i) => positive(get(indices!, [...row, i]), x!.shape[i]));
    y.data[position(y.shape, [...at, ...index.slice(rows.length)])] += updates!.data[from];
  });
  return [y];
};

const argument =
  (better: (a: number, b: number) => boolean): Twin =>
  ([x], attributes) => {
    const axis = positive(attribute(attributes, 'axis', 0), x!.shape.length);
    const last = attribute(attributes, 'select_last_index', 0) === 1;
    const y = alongAxis(x!, axis, 1, (line) => [
      line.reduce((best, v, i) => (better(v, line[best]) || (last && v === line[best]) ? i : best), 0),
    ]);
    return [attribute(attributes, 'keepdims', 1) ? y : { shape: y.shape.filter((_, i) => i !== axis), data: y.data }];
  };

const reshape = (to: (x: Dense, second: Dense | null | undefined, attributes: TwinAttributes) => number[]): Twin =>
  function ([x, second], attributes) {
    return [{ shape: to(x!, second, attributes), data: x!.data.slice() }];
  };

const transpose: Twin = ([x], attributes) => {
  const perm = attribute(attributes, 'perm', range(x!.shape.length).reverse());
  return [
    fill(
      perm.map((p) => x!.shape[p]),
      (index) =>
        get(
          x!,
          perm.map((_, axis) => index[perm.indexOf(axis)]),
        ),
    ),
  ];
};

const slice: Twin = ([x, starts, ends, axesInput, stepsInput]) => {
  const axes = axesInput ? [...axesInput.data].map((a) => positive(a, x!.shape.length)) : range(starts!.data.length);
  const picks = x!.shape.map((n, axis) => {
    const i = axes.indexOf(axis);
    if (i < 0) return range(n);
    const step = stepsInput ? stepsInput.data[i] : 1;
    const start = positive(starts!.data[i], n);
    const end = positive(ends!.data[i], n);
    // Python's range over what exists.
    const found: number[] = [];
    if (step > 0) for (let p = Math.max(start, 0); p < Math.min(end, n); p += step) found.push(p);
    else for (let p = Math.min(start, n - 1); p > Math.max(end, -1); p += step) found.push(p);
    return found;
  });
  return [
    fill(
      picks.map((p) => p.length),
      (index) =>
        get(
          x!,
          index.map((i, axis) => picks[axis][i]),
        ),
    ),
  ];
};

const concat: Twin = (inputs, attributes) => {
  const parts = inputs.map((x) => x!);
  const axis = positive(attribute(attributes, 'axis', 0), parts[0].shape.length);
  const owners = parts.flatMap((x, part) => range(x.shape[axis]).map((i) => [part, i]));
  return [
    fill(
      parts[0].shape.map((n, i) => (i === axis ? owners.length : n)),
      (index) => {
        const [part, i] = owners[index[axis]];
        return get(
          parts[part],
          index.map((j, a) => (a === axis ? i : j)),
        );
      },
    ),
  ];
};

const split: Twin = ([x, sizes], attributes, outputs) => {
  const axis = positive(attribute(attributes, 'axis', 0), x!.shape.length);
  const n = x!.shape[axis];
  const each = Math.ceil(n / outputs);
  const parts = sizes ? [...sizes.data] : range(outputs).map((i) => Math.min(each, n - i * each));
  return parts.map((size, part) => {
    const first = sum(parts.slice(0, part));
    return fill(
      x!.shape.map((m, i) => (i === axis ? size : m)),
      (index) =>
        get(
          x!,
          index.map((j, a) => (a === axis ? j + first : j)),
        ),
    );
  });
};

const pad: Twin = ([x, padsInput, value, axesInput], attributes) => {
  const rank = x!.shape.length;
  const axes = axesInput ? [...axesInput.data].map((a) => positive(a, rank)) : range(rank);
  const amount = (axis: number, end: number) => (axes.includes(axis) ? padsInput!.data[axes.indexOf(axis) + end * axes.length] : 0);
  const mode = attribute(attributes, 'mode', 'constant');
  const source = (i: number, n: number) => {
    if (i >= 0 && i < n) return i;
    if (mode === 'edge') return i < 0 ? 0 : n - 1;
    if (mode === 'reflect') return i < 0 ? -i : 2 * (n - 1) - i;
    return null;
  };
  return [
    fill(
      x!.shape.map((n, axis) => n + amount(axis, 0) + amount(axis, 1)),
      (index) => {
        const from = index.map((i, axis) => source(i - amount(axis, 0), x!.shape[axis]));
        return from.includes(null) ? (value?.data[0] ?? 0) : get(x!, from as number[]);
      },
    ),
  ];
};

const expand: Twin = ([x, shape]) => [fill(broadcast(x!.shape, [...shape!.data]), (index) => stretched(x!, index))];

const tile: Twin = ([x, repeats]) => [
  fill(
    x!.shape.map((n, i) => n * repeats!.data[i]),
    (index) =>
      get(
        x!,
        index.map((i, axis) => i % x!.shape[axis]),
      ),
  ),
];

const depthToSpace: Twin = ([x], attributes) => {
  const b = attributes.blocksize as number;
  const [n, c, h, w] = x!.shape;
  const depth = c / b / b;
  const columnFirst = attribute(attributes, 'mode', 'DCR') === 'CRD';
  return [
    fill([n, depth, h * b, w * b], ([picture, d, row, column]) => {
      const block = (row % b) * b + (column % b);
      const channel = columnFirst ? d * b * b + block : block * depth + d;
      return get(x!, [picture, channel, Math.floor(row / b), Math.floor(column / b)]);
    }),
  ];
};

const spaceToDepth: Twin = ([x], attributes) => {
  const b = attributes.blocksize as number;
  const [n, c, h, w] = x!.shape;
  return [
    fill([n, c * b * b, h / b, w / b], ([picture, channel, row, column]) => {
      const block = Math.floor(channel / c);
      return get(x!, [picture, channel % c, row * b + Math.floor(block / b), column * b + (block % b)]);
    }),
  ];
};

/** Resize-18, one axis after another, each output from its neighbours as the specification's reference does. */
const resize: Twin = ([x, , scalesInput, sizesInput], attributes) => {
  const rank = x!.shape.length;
  const axes = attribute(attributes, 'axes', range(rank)).map((a) => positive(a, rank));
  const useSizes = !!sizesInput && sizesInput.data.length > 0;
  const mode = attribute(attributes, 'mode', 'nearest');
  const antialias = attribute(attributes, 'antialias', 0) === 1;
  const excludeOutside = attribute(attributes, 'exclude_outside', 0) === 1;
  const a = attribute(attributes, 'cubic_coeff_a', -0.75);
  const coordinates = attribute(attributes, 'coordinate_transformation_mode', 'half_pixel');
  const rounding = attribute(attributes, 'nearest_mode', 'round_prefer_floor');

  const original = (o: number, from: number, to: number, scale: number): number => {
    if (coordinates === 'asymmetric') return o / scale;
    if (coordinates === 'align_corners') return to === 1 ? 0 : (o * (from - 1)) / (to - 1);
    if (coordinates === 'pytorch_half_pixel') return to > 1 ? (o + 0.5) / scale - 0.5 : 0;
    if (coordinates === 'half_pixel_symmetric') return (from / 2) * (1 - to / (from * scale)) + (o + 0.5) / scale - 0.5;
    return (o + 0.5) / scale - 0.5;
  };
  const near = (p: number): number => {
    if (rounding === 'floor') return Math.floor(p);
    if (rounding === 'ceil') return Math.ceil(p);
    const half = p - Math.floor(p) === 0.5;
    if (half) return rounding === 'round_prefer_floor' ? Math.floor(p) : Math.ceil(p);
    return Math.round(p);
  };
  const weight = (distance: number): number => {
    const d = Math.abs(distance);
    if (mode === 'linear') return Math.max(0, 1 - d);
    if (d <= 1) return (a + 2) * d ** 3 - (a + 3) * d ** 2 + 1;
    return d < 2 ? a * d ** 3 - 5 * a * d ** 2 + 8 * a * d - 4 * a : 0;
  };
  return [
    axes.reduce((value: Dense, axis, i) => {
      const from = x!.shape[axis];
      const to = useSizes ? sizesInput.data[i] : Math.floor(from * scalesInput!.data[i]);
      const scale = useSizes ? to / from : scalesInput!.data[i];
      if (to === from && scale === 1) return value;
      const shrink = antialias ? Math.min(1, scale) : 1;
      const reach = Math.ceil((mode === 'linear' ? 1 : 2) / shrink) + 1;
      return alongAxis(value, axis, to, (line) =>
        range(to).map((o) => {
          const p = original(o, from, to, scale);
          const inside = (j: number) => Math.min(Math.max(j, 0), from - 1);
          if (mode === 'nearest') return line[inside(near(p))];
          const near0 = Math.floor(p);
          let taps = range(2 * reach + 1).map((j) => near0 - reach + j);
          if (excludeOutside) taps = taps.filter((j) => j >= 0 && j < from);
          const weights = taps.map((j) => weight((j - p) * shrink));
          const total = sum(weights);
          return sum(taps.map((j, k) => (line[inside(j)] * weights[k]) / total));
        }),
      );
    }, x!),
  ];
};

/** GridSample-16, bilinear, corners not aligned: pixel i of n lies at (2 i + 1) / n - 1. */
const gridSample: Twin = ([x, grid], attributes) => {
  const [n, c, h, w] = x!.shape;
  const isBorder = attribute(attributes, 'padding_mode', 'zeros') === 'border';
  const at = (place: number, size: number) => {
    const pixel = ((place + 1) * size - 1) / 2;
    return isBorder ? Math.min(Math.max(pixel, 0), size - 1) : pixel;
  };
  return [
    fill([n, c, grid!.shape[1], grid!.shape[2]], ([picture, channel, row, column]) => {
      const g = position(grid!.shape, [picture, row, column, 0]);
      const [px, py] = [at(grid!.data[g], w), at(grid!.data[g + 1], h)];
      let total = 0;
      for (let i = 0; i < h; i++)
        for (let j = 0; j < w; j++)
          total +=
            Math.max(0, 1 - Math.abs(i - py)) *
            Math.max(0, 1 - Math.abs(j - px)) *
            x!.data[position(x!.shape, [picture, channel, i, j])];
      return total;
    }),
  ];
};

const hardSigmoid = (x: number, alpha: number, beta: number): number => Math.max(0, Math.min(1, alpha * x + beta));
const isTrue = (f: (a: number, b: number) => boolean): Twin => nary(([a, b]) => (f(a, b) ? 1 : 0));

export const twins: Readonly<Record<string, Twin>> = {
  Relu: unary((x) => Math.max(0, x)),
  LeakyRelu: unary((x, a) => (x < 0 ? attribute(a, 'alpha', 0.01) * x : x)),
  HardSigmoid: unary((x, a) => hardSigmoid(x, attribute(a, 'alpha', 0.2), attribute(a, 'beta', 0.5))),
  HardSwish: unary((x) => x * hardSigmoid(x, 1 / 6, 0.5)),
  Elu: unary((x, a) => (x < 0 ? attribute(a, 'alpha', 1) * Math.expm1(x) : x)),
  Selu: unary((x, a) => {
    const [alpha, gamma] = [attribute(a, 'alpha', 1.6732632423543772), attribute(a, 'gamma', 1.0507009873554805)];
    return x > 0 ? gamma * x : gamma * alpha * Math.expm1(x);
  }),
  Softplus: unary((x) => Math.max(x, 0) + Math.log1p(Math.exp(-Math.abs(x)))),
  Clip: ([x, low, high]) => [
    fill(x!.shape, (_, at) => Math.min(Math.max(x!.data[at], low ? low.data[0] : -Infinity), high ? high.data[0] : Infinity)),
  ],
  Identity: unary((x) => x),
  Neg: unary((x) => -x),
  Abs: unary(Math.abs),
  Sign: unary(Math.sign),
  Floor: unary(Math.floor),
  Ceil: unary(Math.ceil),
  Round: unary(roundHalfEven),
  Sqrt: unary(Math.sqrt),
  Reciprocal: unary((x) => 1 / x),
  Exp: unary(Math.exp),
  Log: unary(Math.log),
  Sin: unary(Math.sin),
  Cos: unary(Math.cos),
  Tanh: unary(Math.tanh),
  Sigmoid: unary((x) => 1 / (1 + Math.exp(-x))),
  Erf: unary(erf),
  Not: unary((x) => (x ? 0 : 1)),
  Add: nary(([a, b]) => a + b),
  Sub: nary(([a, b]) => a - b),
  Mul: nary(([a, b]) => a * b),
  Div: nary(([a, b]) => a / b),
  Pow: nary(([a, b]) => a ** b),
  Mod: nary(([a, b], attributes) => (attribute(attributes, 'fmod', 0) ? a % b : ((a % b) + b) % b)),
  Greater: isTrue((a, b) => a > b),
  Less: isTrue((a, b) => a < b),
  GreaterOrEqual: isTrue((a, b) => a >= b),
  LessOrEqual: isTrue((a, b) => a <= b),
  Equal: isTrue((a, b) => a === b),
  And: isTrue((a, b) => !!a && !!b),
  Or: isTrue((a, b) => !!a || !!b),
  Where: nary(([c, a, b]) => (c ? a : b)),
  Min: nary((values) => Math.min(...values)),
  Max: nary((values) => Math.max(...values)),
  Gather: gather,
  GatherND: gatherND,
  ScatterND: scatterND,
  ArgMax: argument((a, b) => a > b),
  ArgMin: argument((a, b) => a < b),
  Reshape: reshape((x, shape, a) => {
    const wanted = [...shape!.data].map((n, i) => (n === 0 && !attribute(a, 'allowzero', 0) ? x.shape[i] : n));
    const known = product(wanted.filter((n) => n !== -1));
    return wanted.map((n) => (n === -1 ? product(x.shape) / known : n));
  }),
  Flatten: reshape((x, _, a) => {
    const axis = positive(attribute(a, 'axis', 1), x.shape.length);
    return [product(x.shape.slice(0, axis)), product(x.shape.slice(axis))];
  }),
  Squeeze: reshape((x, axes) => {
    const dropped = axes ? [...axes.data].map((a) => positive(a, x.shape.length)) : null;
    return x.shape.filter((n, i) => (dropped ? !dropped.includes(i) : n !== 1));
  }),
  Unsqueeze: reshape((x, axes) => {
    const rank = x.shape.length + axes!.data.length;
    const added = [...axes!.data].map((a) => positive(a, rank)).sort((a, b) => a - b);
    return added.reduce((shape: number[], a) => [...shape.slice(0, a), 1, ...shape.slice(a)], [...x.shape]);
  }),
  Transpose: transpose,
  Slice: slice,
  Concat: concat,
  Split: split,
  Pad: pad,
  Expand: expand,
  Tile: tile,
  DepthToSpace: depthToSpace,
  SpaceToDepth: spaceToDepth,
  Cast: unary((x, a) => (a.to === 9 ? +(x !== 0) : a.to === 1 ? x : Math.trunc(x))),
  Shape: ([x], a) => {
    const part = x!.shape.slice(attribute(a, 'start', 0), a.end as number | undefined);
    return [{ shape: [part.length], data: Float64Array.from(part) }];
  },
  ConstantOfShape: ([shape], a) => {
    const value = a.value as { data: ArrayLike<number | bigint> } | undefined;
    return [fill([...shape!.data], () => (value ? Number(value.data[0]) : 0))];
  },
  Range: ([start, limit, step]) => {
    const values: number[] = [];
    const [first, end, by] = [start!.data[0], limit!.data[0], step!.data[0]];
    for (let v = first; by > 0 ? v < end : v > end; v += by) values.push(v);
    return [{ shape: [values.length], data: Float64Array.from(values) }];
  },
  MatMul: matMul,
  Gemm: gemm,
  Einsum: einsum,
  LayerNormalization: layerNormalization,
  InstanceNormalization: instanceNormalization,
  BatchNormalization: batchNormalization,
  AveragePool: pool((values, padded, a) => sum(values) / (values.length + (attribute(a, 'count_include_pad', 0) ? padded : 0))),
  MaxPool: pool((values) => Math.max(...values)),
  GlobalAveragePool: globalPool(mean),
  GlobalMaxPool: globalPool((values) => Math.max(...values)),
  ReduceSum: reduction(sum),
  ReduceMean: reduction(mean),
  ReduceSumSquare: reduction((values) => sum(values.map((v) => v * v))),
  ReduceL1: reduction((values) => sum(values.map(Math.abs))),
  ReduceL2: reduction((values) => Math.hypot(...values)),
  ReduceLogSumExp: reduction((values) => Math.log(sum(values.map(Math.exp)))),
  ReduceProd: reduction(product),
  ReduceMax: reduction((values) => Math.max(...values)),
  ReduceMin: reduction((values) => Math.min(...values)),
  Resize: resize,
  GridSample: gridSample,
  Softmax: ([x], a) => {
    const axis = positive(attribute(a, 'axis', -1), x!.shape.length);
    return [alongAxis(x!, axis, x!.shape[axis], softmax)];
  },
  LogSoftmax: ([x], a) => {
    const axis = positive(attribute(a, 'axis', -1), x!.shape.length);
    return [alongAxis(x!, axis, x!.shape[axis], (line) => softmax(line).map(Math.log))];
  },
  Conv: conv,
  ConvTranspose: convTranspose,
};
