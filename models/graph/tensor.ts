/** Element types of ONNX that the studio uses. */
export type DType = 'float32' | 'float16' | 'int64' | 'int32' | 'bool' | 'uint8' | 'int8';

/** Static shapes only: every dimension is a known whole number. */
export type Shape = readonly number[];

export type TypedArray = Float32Array | Uint16Array | BigInt64Array | Int32Array | Uint8Array | Int8Array;

/** A dense tensor in row-major order; `float16` is held as its bits, `bool` as 0 or 1. */
export interface Tensor {
  readonly dtype: DType;
  readonly shape: Shape;
  readonly data: TypedArray;
}

export const bytesPerElement: Record<DType, number> = { float32: 4, float16: 2, int64: 8, int32: 4, bool: 1, uint8: 1, int8: 1 };

export const sizeOf = (shape: Shape): number => shape.reduce((product, n) => product * n, 1);

export const sameShape = (a: Shape, b: Shape): boolean => a.length === b.length && a.every((n, i) => n === b[i]);

export function allocate(dtype: DType, length: number): TypedArray {
  switch (dtype) {
    case 'float32':
      return new Float32Array(length);
    case 'float16':
      return new Uint16Array(length);
    case 'int64':
      return new BigInt64Array(length);
    case 'int32':
      return new Int32Array(length);
    case 'int8':
      return new Int8Array(length);
    case 'bool':
    case 'uint8':
      return new Uint8Array(length);
  }
}

export function float32(values: ArrayLike<number>, shape: Shape = [values.length]): Tensor {
  if (values.length !== sizeOf(shape)) throw new Error(`${values.length} values do not fill the shape [${shape.join(', ')}]`);
  return { dtype: 'float32', shape, data: values instanceof Float32Array ? values : Float32Array.from(values) };
}

export function int64(values: readonly number[], shape: Shape = [values.length]): Tensor {
  return { dtype: 'int64', shape, data: BigInt64Array.from(values, toInt64) };
}

/** Truncates toward zero and clamps: 2^63 - 1, by which files say "to the end", is 2^63 as a number and must not wrap. */
const toInt64 = (value: number): bigint => (value >= 2 ** 63 ? 2n ** 63n - 1n : BigInt(Math.trunc(value)));

/** The elements as JavaScript numbers (int64 beyond 2^53 loses precision; float16 is decoded). */
export function numbers(tensor: Tensor): number[] {
  if (tensor.dtype === 'float16') return Array.from(tensor.data as Uint16Array, float16ToNumber);
  return Array.from(tensor.data as ArrayLike<number | bigint>, Number);
}

/** Puts numbers into an array of the type, with ONNX Cast's truncation toward zero for integers. */
export function fromNumbers(dtype: DType, shape: Shape, values: ArrayLike<number>): Tensor {
  const data = allocate(dtype, values.length);
  for (let i = 0; i < values.length; i++) {
    const value = values[i];
    if (dtype === 'int64') (data as BigInt64Array)[i] = toInt64(value);
    else if (dtype === 'bool') data[i] = value !== 0 ? 1 : 0;
    else if (dtype === 'float16') data[i] = numberToFloat16(value);
    else if (dtype === 'float32') data[i] = value;
    else data[i] = Math.trunc(value);
  }
  return { dtype, shape, data };
}

/** IEEE 754 binary16 to a number. */
export function float16ToNumber(bits: number): number {
  const sign = bits & 0x8000 ? -1 : 1;
  const exponent = (bits >> 10) & 31;
  const fraction = bits & 1023;
  if (exponent === 0) return sign * fraction * 2 ** -24;
  if (exponent === 31) return fraction ? NaN : sign * Infinity;
  return sign * (1024 + fraction) * 2 ** (exponent - 25);
}

const bitsView = new DataView(new ArrayBuffer(4));

/** A number to IEEE 754 binary16, rounded to nearest even. */
export function numberToFloat16(value: number): number {
  bitsView.setFloat32(0, value);
  const bits = bitsView.getUint32(0);
  const sign = (bits >>> 16) & 0x8000;
  const magnitude = bits & 0x7fffffff;
  if (magnitude > 0x7f800000) return sign | 0x7e00;
  if (magnitude >= 0x477ff000) return sign | 0x7c00;
  if (magnitude < 0x38800000) {
    // Subnormal: the spacing is 2^-24, and scaling by a power of two is exact.
    const scaled = Math.abs(value) * 2 ** 24;
    const floor = Math.floor(scaled);
    const rest = scaled - floor;
    return sign | (rest > 0.5 || (rest === 0.5 && floor & 1) ? floor + 1 : floor);
  }
  const rounded = magnitude + 0xfff + ((magnitude >>> 13) & 1);
  return sign | ((rounded - 0x38000000) >>> 13);
}

export function strides(shape: Shape): number[] {
  const result = new Array<number>(shape.length);
  let step = 1;
  for (let i = shape.length - 1; i >= 0; i--) {
    result[i] = step;
    step *= shape[i];
  }
  return result;
}

/**
 * Copies a strided view into a dense tensor: element [i0, i1, ...] of the result is `data[offset + sum(i * steps)]`.
 * Transpose, Slice (negative steps too) and Expand (step 0) are all this.
 */
export function gatherStrided(tensor: Tensor, shape: Shape, steps: readonly number[], offset = 0): Tensor {
  const out = allocate(tensor.dtype, sizeOf(shape));
  const source = tensor.data;
  const rank = shape.length;
  if (rank === 0) {
    out[0] = source[offset];
    return { dtype: tensor.dtype, shape, data: out };
  }
  const inner = shape[rank - 1];
  const innerStep = steps[rank - 1];
  const index = new Array<number>(rank).fill(0);
  let position = offset;
  for (let at = 0; at < out.length; at += inner) {
    for (let i = 0, p = position; i < inner; i++, p += innerStep) out[at + i] = source[p];
    for (let axis = rank - 2; axis >= 0; axis--) {
      position += steps[axis];
      if (++index[axis] < shape[axis]) break;
      position -= steps[axis] * shape[axis];
      index[axis] = 0;
    }
  }
  return { dtype: tensor.dtype, shape, data: out };
}

/** The shape that two or more shapes broadcast to by numpy's rule; throws when they do not. */
export function broadcastShapes(...shapes: Shape[]): number[] {
  const rank = Math.max(...shapes.map((s) => s.length));
  const result = new Array<number>(rank).fill(1);
  for (const shape of shapes)
    shape.forEach((n, i) => {
      const at = rank - shape.length + i;
      if (n === 1 || n === result[at]) return;
      if (result[at] !== 1) throw new Error(`shapes ${shapes.map((s) => `[${s.join(', ')}]`).join(' and ')} do not broadcast`);
      result[at] = n;
    });
  return result;
}

/** The steps by which a tensor of `shape` is read when it is broadcast to `target`. */
export function broadcastSteps(shape: Shape, target: Shape): number[] {
  const own = strides(shape);
  return target.map((_, i) => {
    const at = i - (target.length - shape.length);
    return at < 0 || shape[at] === 1 ? 0 : own[at];
  });
}
