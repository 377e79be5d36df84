import { alongAxis } from '../../models/graph/ops/layout.js';
import type { Graph, Value } from '../../models/graph/index.js';

/** Frequencies of a real picture's spectrum along its width: the other half is their mirror. */
export const halfWidth = (width: number): number => Math.floor(width / 2) + 1;

/** Signed frequency of bin k of n, in cycles per pixel (numpy's fftfreq). */
export const frequency = (k: number, n: number): number => (2 * k < n ? k : k - n) / n;

/** |f| of every bin of a half spectrum, [height, halfWidth] in cycles per pixel. */
export function radii(height: number, width: number): Float64Array {
  const half = halfWidth(width);
  return Float64Array.from({ length: height * half }, (_, i) =>
    Math.hypot(frequency(Math.floor(i / half), height), frequency(i % half, width)),
  );
}

/**
 * numpy's irfft2 as four products with constant matrices: on CPUs ten times as fast as the DFT operator, and every kernel has a
 * gradient and a GPU form.
 *
 * @param re,im real and imaginary parts of the half spectrum, [C, H, halfWidth(W)].
 * @returns [C, H, W]
 */
export function inverseRealTransform(g: Graph, re: Value, im: Value, width: number): Value {
  const [, height, half] = re.shape;
  const square = (f: (angle: number) => number) =>
    Float32Array.from({ length: height * height }, (_, i) =>
      f((2 * Math.PI * ((Math.floor(i / height) * (i % height)) % height)) / height),
    );
  // Along the height the transform is complex: (re + i im)(cos + i sin).
  const [cos, sin] = [square(Math.cos), square(Math.sin)];
  const rows = (m: Float32Array, v: Value) => alongAxis(g, v, 1, m, [height, height]);
  const midRe = g.sub(rows(cos, re), rows(sin, im));
  const midIm = g.add(rows(sin, re), rows(cos, im));
  // Along the width the mirrored half is its conjugate: twice the real part, but for the bins that are their own mirror.
  const columns = (f: (angle: number) => number) =>
    Float32Array.from({ length: width * half }, (_, i) => {
      const [x, k] = [Math.floor(i / half), i % half];
      const own = k === 0 || 2 * k === width;
      return ((own ? 1 : 2) * f((2 * Math.PI * ((x * k) % width)) / width)) / (width * height);
    });
  return g.sub(alongAxis(g, midRe, 2, columns(Math.cos), [width, half]), alongAxis(g, midIm, 2, columns(Math.sin), [width, half]));
}

/** The half spectrum of a real picture (numpy's rfft2), for starting from one. picture: [C, H, W] row-major. */
export function realTransform(
  picture: Float32Array,
  channels: number,
  height: number,
  width: number,
): { re: Float32Array; im: Float32Array } {
  const half = halfWidth(width);
  const [across, down] = [planOf(width), planOf(height)];
  const re = new Float32Array(channels * height * half);
  const im = new Float32Array(channels * height * half);
  const still = new Float64Array(width);
  for (let c = 0; c < channels; c++) {
    const rows = Array.from({ length: height }, (_, y) => {
      const start = (c * height + y) * width;
      return transform(across, { re: Float64Array.from(picture.subarray(start, start + width)), im: still });
    });
    for (let k = 0; k < half; k++) {
      const column = transform(down, {
        re: Float64Array.from(rows, (row) => row.re[k]),
        im: Float64Array.from(rows, (row) => row.im[k]),
      });
      for (let l = 0; l < height; l++) {
        re[(c * height + l) * half + k] = column.re[l];
        im[(c * height + l) * half + k] = column.im[l];
      }
    }
  }
  return { re, im };
}

interface Line {
  re: Float64Array;
  im: Float64Array;
}

/** How lines of n are transformed: in `factor` parts of n / factor, which `inner` transforms; cos and sin of whole turns over n. */
interface Plan {
  factor: number;
  cos: Float64Array;
  sin: Float64Array;
  inner: Plan | null;
}

/** Factors of 16 or a little more: with less, setting out the parts costs more than summing them. */
function planOf(n: number): Plan {
  let factor = Math.min(16, n);
  while (n % factor) factor++;
  const turns = (f: (angle: number) => number) => Float64Array.from({ length: n }, (_, k) => f((2 * Math.PI * k) / n));
  return { factor, cos: turns(Math.cos), sin: turns(Math.sin), inner: factor < n ? planOf(n / factor) : null };
}

/** The discrete Fourier transform of a line of any length, factor by factor (Cooley and Tukey 1965). */
function transform({ factor, cos, sin, inner }: Plan, line: Line): Line {
  const n = cos.length;
  const size = n / factor;
  const sum: Line = { re: new Float64Array(n), im: new Float64Array(n) };
  for (let part = 0; part < factor; part++) {
    const own: Line = { re: new Float64Array(size), im: new Float64Array(size) };
    for (let i = 0; i < size; i++) {
      own.re[i] = line.re[i * factor + part];
      own.im[i] = line.im[i * factor + part];
    }
    const { re, im } = inner ? transform(inner, own) : own;
    for (let k = 0, from = 0, turn = 0; k < n; k++) {
      sum.re[k] += re[from] * cos[turn] + im[from] * sin[turn];
      sum.im[k] += im[from] * cos[turn] - re[from] * sin[turn];
      if (++from === size) from = 0;
      turn += part;
      if (turn >= n) turn -= n;
    }
  }
  return sum;
}
