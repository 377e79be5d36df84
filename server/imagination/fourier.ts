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
  const re = new Float32Array(channels * height * half);
  const im = new Float32Array(channels * height * half);
  const table = (n: number) =>
    Array.from({ length: n }, (_, k) => [Math.cos((2 * Math.PI * k) / n), Math.sin((2 * Math.PI * k) / n)]);
  const [across, down] = [table(width), table(height)];
  const midRe = new Float64Array(height * half);
  const midIm = new Float64Array(height * half);
  for (let c = 0; c < channels; c++) {
    for (let y = 0; y < height; y++)
      for (let k = 0; k < half; k++) {
        let [a, b] = [0, 0];
        for (let x = 0; x < width; x++) {
          const [cos, sin] = across[(x * k) % width];
          const value = picture[(c * height + y) * width + x];
          a += value * cos;
          b -= value * sin;
        }
        midRe[y * half + k] = a;
        midIm[y * half + k] = b;
      }
    for (let l = 0; l < height; l++)
      for (let k = 0; k < half; k++) {
        let [a, b] = [0, 0];
        for (let y = 0; y < height; y++) {
          const [cos, sin] = down[(y * l) % height];
          a += midRe[y * half + k] * cos + midIm[y * half + k] * sin;
          b += midIm[y * half + k] * cos - midRe[y * half + k] * sin;
        }
        re[(c * height + l) * half + k] = a;
        im[(c * height + l) * half + k] = b;
      }
  }
  return { re, im };
}
