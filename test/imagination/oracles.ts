/** Naive float64 forms of what server/imagination computes in graphs: plain loops, nothing of its code. */

/** numpy's irfft2: [C, H, W] from the half spectrum [C, H, W/2 + 1]. */
export function inverseTransform(
  re: ArrayLike<number>,
  im: ArrayLike<number>,
  channels: number,
  h: number,
  w: number,
): Float64Array {
  const half = Math.floor(w / 2) + 1;
  const picture = new Float64Array(channels * h * w);
  for (let c = 0; c < channels; c++)
    for (let y = 0; y < h; y++)
      for (let x = 0; x < w; x++) {
        let sum = 0;
        for (let l = 0; l < h; l++)
          for (let k = 0; k < half; k++) {
            const at = (c * h + l) * half + k;
            const angle = 2 * Math.PI * ((l * y) / h + (k * x) / w);
            // The mirrored half adds the conjugate; the first column, and the middle one of an even width, are their own mirrors.
            const times = k === 0 || 2 * k === w ? 1 : 2;
            sum += times * (re[at] * Math.cos(angle) - im[at] * Math.sin(angle));
          }
        picture[(c * h + y) * w + x] = sum / (h * w);
      }
  return picture;
}

/** numpy's rfft2 of one channel, as [re, im] by (row, column). */
export function transform(picture: ArrayLike<number>, h: number, w: number): [number, number][] {
  const half = Math.floor(w / 2) + 1;
  return Array.from({ length: h * half }, (_, at) => {
    const [l, k] = [Math.floor(at / half), at % half];
    let [re, im] = [0, 0];
    for (let y = 0; y < h; y++)
      for (let x = 0; x < w; x++) {
        const angle = 2 * Math.PI * ((l * y) / h + (k * x) / w);
        re += picture[y * w + x] * Math.cos(angle);
        im -= picture[y * w + x] * Math.sin(angle);
      }
    return [re, im];
  });
}

/** lucid's `color_correlation_svd_sqrt` over its largest column norm (shared reference, feature-visualization.md). */
const svd = [
  [0.26, 0.09, 0.02],
  [0.27, 0.0, -0.05],
  [0.27, -0.09, 0.03],
];
const largest = Math.max(...[0, 1, 2].map((c) => Math.hypot(...svd.map((row) => row[c]))));

/** Decorrelated channels [3, n] to RGB in (0, 1). */
export function toColour(z: ArrayLike<number>): Float64Array {
  const n = z.length / 3;
  return Float64Array.from({ length: 3 * n }, (_, i) => {
    const [c, p] = [Math.floor(i / n), i % n];
    return 1 / (1 + Math.exp(-[0, 1, 2].reduce((sum, k) => sum + (svd[c][k] / largest) * z[k * n + p], 0)));
  });
}

/** RGB in (0, 1) to decorrelated channels, by Cramer's rule. */
export function fromColour(picture: ArrayLike<number>): Float64Array {
  const n = picture.length / 3;
  const det = (m: number[][]) =>
    m[0][0] * (m[1][1] * m[2][2] - m[1][2] * m[2][1]) -
    m[0][1] * (m[1][0] * m[2][2] - m[1][2] * m[2][0]) +
    m[0][2] * (m[1][0] * m[2][1] - m[1][1] * m[2][0]);
  const matrix = svd.map((row) => row.map((v) => v / largest));
  const whole = det(matrix);
  const out = new Float64Array(3 * n);
  for (let p = 0; p < n; p++) {
    const logits = [0, 1, 2].map((c) => Math.log(picture[c * n + p] / (1 - picture[c * n + p])));
    for (let k = 0; k < 3; k++) out[k * n + p] = det(matrix.map((row, r) => row.map((v, c) => (c === k ? logits[r] : v)))) / whole;
  }
  return out;
}

/** Samples `side` points of the stretch [start, start + size) of n pixels: a triangle as wide as a step, and at least a pixel, to each side. */
export function resampled(line: ArrayLike<number>, side: number, start: number, size: number): number[] {
  const reach = Math.max(1, size / side);
  return Array.from({ length: side }, (_, o) => {
    const middle = start + ((o + 0.5) * size) / side;
    let [sum, total] = [0, 0];
    for (let i = 0; i < line.length; i++) {
      const weight = Math.max(0, 1 - Math.abs(i + 0.5 - middle) / reach);
      sum += weight * line[i];
      total += weight;
    }
    return sum / total;
  });
}

/** A crop [C, side, side] of a picture [C, H, W]: rows first, then columns. */
export function crop(
  picture: ArrayLike<number>,
  [channels, h, w]: readonly [number, number, number],
  { top, left, size, side }: { top: number; left: number; size: number; side: number },
): number[] {
  const at = (c: number, y: number, x: number) => picture[(c * h + y) * w + x];
  return Array.from({ length: channels }, (_, c) => {
    const columns = Array.from({ length: w }, (_, x) =>
      resampled(
        Array.from({ length: h }, (_, y) => at(c, y, x)),
        side,
        top,
        size,
      ),
    );
    return Array.from({ length: side }, (_, y) =>
      resampled(
        columns.map((column) => column[y]),
        side,
        left,
        size,
      ),
    ).flat();
  }).flat();
}

/** Bilinear enlargement of [C, h, w] with half-pixel centres, edges held. */
export function enlarged(
  layer: ArrayLike<number>,
  [channels, h, w]: readonly [number, number, number],
  height: number,
  width: number,
): number[] {
  const place = (o: number, from: number, to: number) => {
    const at = Math.min(Math.max(((o + 0.5) * from) / to - 0.5, 0), from - 1);
    const low = Math.min(Math.floor(at), from - 1);
    return { low, high: Math.min(low + 1, from - 1), share: at - low };
  };
  const out: number[] = [];
  for (let c = 0; c < channels; c++)
    for (let y = 0; y < height; y++)
      for (let x = 0; x < width; x++) {
        const [v, u] = [place(y, h, height), place(x, w, width)];
        const get = (row: number, column: number) => layer[(c * h + row) * w + column];
        const upper = get(v.low, u.low) * (1 - u.share) + get(v.low, u.high) * u.share;
        const lower = get(v.high, u.low) * (1 - u.share) + get(v.high, u.high) * u.share;
        out.push(upper * (1 - v.share) + lower * v.share);
      }
  return out;
}
