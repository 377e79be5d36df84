import { alongAxis } from '../../models/graph/ops/layout.js';
import { bilinearMatrix } from '../../models/graph/ops/resize.js';
import type { Graph, Shape, Value } from '../../models/graph/index.js';
import { frequency, halfWidth, inverseRealTransform, radii, realTransform } from './fourier.js';
import { inverse } from './matrices.js';
import type { Random } from './random.js';

export interface Canvas {
  width: number;
  height: number;
}

/** A way to hold a picture in free numbers: their shape, and how to draw them. */
export interface Parametrization {
  /** Names it in the keys of sessions: equal keys draw alike. */
  key: string;
  shape(canvas: Canvas): Shape;
  draw(g: Graph, parameters: Value, canvas: Canvas): Drawn;
  /** Draws several at once, of parameters [N, ...shape], where that is less work than one after another. */
  drawAll?(g: Graph, parameters: Value, canvas: Canvas): Drawn[];
  /** The nearest parameters that are allowed, where not all are: moves end in them. */
  bound?(g: Graph, parameters: Value): Value;
}

export interface Drawn {
  /** [3, H, W] in [0, 1] */
  picture: Value;
  /** [h, w] int32: the tokens that it was drawn from, if it was. */
  codes?: Value;
  /** Of a sheet of copies: the pictures that lie on it, each as `picture`. */
  tiles?: Value[];
}

/** One that needs no network to begin. */
export interface FreeParametrization extends Parametrization {
  /** Starting values. `picture` ([3, H, W] in [0, 1], the canvas's size) is what to start from, if anything. */
  init(canvas: Canvas, random: Random, picture?: Float32Array): Float32Array;
}

/**
 * lucid's colour decorrelation: the square root of ImageNet's colour covariance over its largest column norm. Rows are R, G, B by the
 * decorrelated channels (shared reference, feature-visualization.md).
 */
const colour = [
  [0.562829, 0.194825, 0.043295],
  [0.584476, 0, -0.108236],
  [0.584476, -0.194825, 0.064942],
];

/** Decorrelated channels [3, H, W] -> RGB in (0, 1). */
function toColour(g: Graph, z: Value): Value {
  const [, h, w] = z.shape;
  const matrix = g.floats(colour.flat(), [3, 3], 'colour');
  return g.op('Sigmoid', [g.reshape(g.matMul(matrix, g.reshape(z, [3, h * w])), [3, h, w])]);
}

/** RGB in [0, 1] -> decorrelated channels before the sigmoid; extremes are held 1% inside, where the sigmoid still has a slope. */
function fromColour(picture: Float32Array): Float32Array {
  const back = inverse(colour.flat(), 3);
  const pixels = picture.length / 3;
  const out = new Float32Array(picture.length);
  for (let p = 0; p < pixels; p++) {
    const logits = [0, 1, 2].map((c) => {
      const v = Math.min(Math.max(picture[c * pixels + p], 0.01), 0.99);
      return Math.log(v / (1 - v));
    });
    for (let c = 0; c < 3; c++) out[c * pixels + p] = logits.reduce((sum, logit, i) => sum + back[c * 3 + i] * logit, 0);
  }
  return out;
}

/** lucid's 1/f scale of the spectrum with decay 1. */
function spectrumScale({ width, height }: Canvas): Float32Array {
  const lowest = 1 / Math.max(width, height);
  return Float32Array.from(radii(height, width), (f) => Math.sqrt(width * height) / Math.max(f, lowest) / 4);
}

/** A Fourier spectrum (lucid's `fft_image`): real and imaginary parts with a 1/f scale, [2, 3, H, W/2 + 1]. */
export const fourier: FreeParametrization = {
  key: 'fourier',
  shape: ({ width, height }) => [2, 3, height, halfWidth(width)],
  init(canvas, random, picture) {
    const { width, height } = canvas;
    const size = 3 * height * halfWidth(width);
    if (!picture) return Float32Array.from({ length: 2 * size }, () => random.normal(0, 0.01));
    const { re, im } = realTransform(fromColour(picture), 3, height, width);
    const scale = spectrumScale(canvas);
    return Float32Array.from({ length: 2 * size }, (_, i) => (i < size ? re[i] : im[i - size]) / scale[i % scale.length]);
  },
  draw(g, parameters, canvas) {
    const { width, height } = canvas;
    const half = halfWidth(width);
    const scaled = g.mul(parameters, g.floats(spectrumScale(canvas), [height, half], 'scale'));
    const [re, im] = [0, 1].map((i) => g.reshape(g.slice(scaled, 0, i, i + 1), [3, height, half]));
    return { picture: toColour(g, inverseRealTransform(g, re, im, width)) };
  },
};

/** Sides of the layers of the pixel pyramid: the canvas halved until the short side would fall under 7. */
function pyramid({ width, height }: Canvas): Canvas[] {
  const layers: Canvas[] = [];
  for (let k = 1; Math.min(width, height) / k >= 7; k *= 2)
    layers.push({ width: Math.ceil(width / k), height: Math.ceil(height / k) });
  return layers;
}

/**
 * Pixels as a sum of layers from coarse to fine, each enlarged bilinearly (after Direct Ascent Synthesis, Fort & Whitaker 2025): raw
 * pixels alone give noise. One flat vector, the finest layer first.
 */
export const pixels: FreeParametrization = {
  key: 'pixels',
  shape: (canvas) => [pyramid(canvas).reduce((sum, { width, height }) => sum + 3 * width * height, 0)],
  init(canvas, random, picture) {
    const total = pixels.shape(canvas)[0];
    const values = Float32Array.from({ length: total }, () => random.normal(0, 0.01));
    if (picture) fromColour(picture).forEach((z, i) => (values[i] += z));
    return values;
  },
  draw(g, parameters, canvas) {
    let at = 0;
    const layers = pyramid(canvas).map(({ width, height }) => {
      const end = at + 3 * width * height;
      const layer = g.reshape(g.slice(parameters, 0, at, end), [3, height, width]);
      at = end;
      return enlarge(g, layer, canvas);
    });
    const sum = layers.reduce((a, b) => g.add(a, b));
    return { picture: toColour(g, sum) };
  },
};

function enlarge(g: Graph, layer: Value, { width, height }: Canvas): Value {
  const [, h, w] = layer.shape;
  const tall = h === height ? layer : alongAxis(g, layer, 1, bilinearMatrix(h, height), [height, h]);
  return w === width ? tall : alongAxis(g, tall, 2, bilinearMatrix(w, width), [width, w]);
}

/**
 * Mean magnitude of natural pictures by cycles per 512 pixels, first decorrelated channel (shared reference,
 * feature-visualization.md, "MACO"); the other two are 1.06 and .89 times it, and the vertical axis holds about 1.5 times the horizontal's.
 */
const naturalSpectrum: readonly (readonly [number, number])[] = [
  [1, 80143],
  [2.5, 34270],
  [5, 13747],
  [10, 5731],
  [20, 2264],
  [40, 825],
  [80, 270],
  [112, 141],
  [154, 63],
  [205, 20],
  [243, 5.5],
  [362, 0.5],
];

function naturalMagnitude(cycles: number): number {
  const at = Math.max(cycles, 1);
  const next = naturalSpectrum.findIndex(([c]) => c >= at);
  if (next < 0) return naturalSpectrum[naturalSpectrum.length - 1][1];
  if (next === 0) return naturalSpectrum[0][1];
  const [[c0, m0], [c1, m1]] = [naturalSpectrum[next - 1], naturalSpectrum[next]];
  const t = Math.log(at / c0) / Math.log(c1 / c0);
  return m0 * (m1 / m0) ** t;
}

/** [3, H, half]: the constant magnitude of MACO; no mean, since the picture is standardised after. */
function magnitude({ width, height }: Canvas): Float32Array {
  const half = halfWidth(width);
  const channel = Float64Array.from({ length: height * half }, (_, i) => {
    const [v, u] = [frequency(Math.floor(i / half), height), frequency(i % half, width)];
    const f = Math.hypot(u, v);
    if (f === 0) return 0;
    // 1.5 times on the vertical axis, 1 on the horizontal, smoothly between.
    return naturalMagnitude(f * 512) * (1 + 0.5 * (v / f) ** 2);
  });
  return Float32Array.from(
    { length: 3 * channel.length },
    (_, i) => [1, 1.06, 0.89][Math.floor(i / channel.length)] * channel[i % channel.length],
  );
}

/** MACO (Fel et al. 2023): only the phase is free, the magnitude is that of natural pictures. [3, H, W/2 + 1] in radians. */
export const maco: FreeParametrization = {
  key: 'maco',
  shape: ({ width, height }) => [3, height, halfWidth(width)],
  init({ width, height }, random, picture) {
    const size = 3 * height * halfWidth(width);
    if (!picture) return Float32Array.from({ length: size }, () => random.uniform(-Math.PI, Math.PI));
    const { re, im } = realTransform(fromColour(picture), 3, height, width);
    return Float32Array.from({ length: size }, (_, i) => Math.atan2(im[i], re[i]));
  },
  draw(g, parameters, canvas) {
    const shape = maco.shape(canvas);
    const size = g.floats(magnitude(canvas), shape, 'magnitude');
    const [re, im] = ['Cos', 'Sin'].map((f) => g.mul(size, g.op(f, [parameters])));
    const raw = inverseRealTransform(g, re, im, canvas.width);
    const centred = g.sub(raw, g.reduceMean(raw, [0, 1, 2], true));
    const variance = g.reduceMean(g.mul(centred, centred), [0, 1, 2], true);
    return { picture: toColour(g, g.div(centred, g.op('Sqrt', [g.add(variance, g.scalar(1e-12))]))) };
  },
};

export const parametrizations = { fourier, pixels, maco } as const;
export type ParametrizationName = keyof typeof parametrizations;
