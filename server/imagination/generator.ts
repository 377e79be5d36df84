import { bilinearMatrix } from '../../models/graph/ops/resize.js';
import { Graph, simplify, type Shape, type TypedArray, type Value } from '../../models/graph/index.js';
import type { VqganModel } from '../../models/vqgan/model.js';
import { clampToPicture } from '../../models/vqgan/vqgan.js';
import type { Job } from '../jobs/job.js';
import { halfWidth, inverseRealTransform, radii, realTransform } from './fourier.js';
import { inverse, mixed, timesTransposed } from './matrices.js';
import type { Canvas, Drawn, Parametrization } from './parameters.js';
import type { Random } from './random.js';
import type { Sessions } from './sessions.js';

/**
 * A picture as the tokens of a frozen VQGAN (shared reference, vqgan.md, "The method as practised"): what moves is, or stands for, a latent
 * map [embedDim, H/f, W/f], of which the nearest codes are decoded, and whose gradient is theirs.
 */
export interface Latents extends Parametrization {
  /** The parameters of a map [embedDim, h, w]. */
  parametersOf(map: Float32Array, canvas: Canvas): Float32Array;
  /** The same parameters without the quantizer: the map itself is decoded, to see what the codes took from it or gave it. */
  unquantized: Parametrization;
}

/** One that is told by how its maps [N, embedDim, h, w] come from parameters [N, ...shape]. */
function latents(
  { quantize, decode }: VqganModel,
  own: Pick<Latents, 'key' | 'shape' | 'parametersOf' | 'bound'> & { maps(g: Graph, parameters: Value, canvas: Canvas): Value },
): Latents {
  const { key, shape, maps } = own;
  const drawing = (isQuantized: boolean): Pick<Parametrization, 'draw' | 'drawAll'> => {
    const drawAll = (g: Graph, parameters: Value, canvas: Canvas): Drawn[] => {
      const { width, height } = canvas;
      const z = maps(g, parameters, canvas);
      const found = isQuantized ? quantize(g, z) : null;
      const pictures = clampToPicture(g, decode(g, found?.straightThrough ?? z));
      return Array.from({ length: z.shape[0] }, (_, i) => ({
        picture: oneOf(g, pictures, i, [3, height, width]),
        ...(found && { codes: g.op('Cast', [oneOf(g, found.codes, i, z.shape.slice(2))], { to: 6 }) }),
      }));
    };
    return { drawAll, draw: (g, z, canvas) => drawAll(g, g.reshape(z, [1, ...shape(canvas)]), canvas)[0] };
  };
  return { ...own, ...drawing(true), unquantized: { key: `${key}-unquantized`, shape, ...drawing(false) } };
}

/** The map itself, kept in the box of the codebook: [1, embedDim, h, w]. */
export function latentMapOf(generator: VqganModel): Latents {
  const { config, channelRange, hash } = generator;
  const perChannel = (g: Graph, values: Float32Array) => g.floats(values, [config.embedDim, 1, 1]);
  return latents(generator, {
    key: `vqgan-${hash}`,
    shape: (canvas) => [1, config.embedDim, ...gridOf(config, canvas)],
    maps: (g, z, canvas) => g.reshape(z, [z.shape[0], config.embedDim, ...gridOf(config, canvas)]),
    parametersOf: (map) => map,
    bound: (g, z) => g.op('Min', [g.op('Max', [z, perChannel(g, channelRange.low)]), perChannel(g, channelRange.high)]),
  });
}

/**
 * The map as photographs vary (`natural`): the spectra of channels without correlation, each number counted in what is usual at its
 * frequency: [2, embedDim, h, w/2 + 1]. It is to latent maps what lucid's Fourier spectrum of decorrelated colours is to pictures, and for
 * the same reason: at equal steps for all, colours no photograph has grow as fast as shapes.
 */
export function latentSpectrumOf(generator: VqganModel): Latents {
  const { config, hash } = generator;
  const d = config.embedDim;
  const halfOf = (canvas: Canvas): [number, number] => {
    const [h, w] = gridOf(config, canvas);
    return [h, halfWidth(w)];
  };
  return latents(generator, {
    key: `vqgan-spectrum-${hash}`,
    shape: (canvas) => [2, d, ...halfOf(canvas)],
    maps(g, parameters, canvas) {
      const [n] = parameters.shape;
      const [h, w] = gridOf(config, canvas);
      const { mean, axes, decay } = generator.natural();
      const half = halfOf(canvas);
      const scaled = g.mul(parameters, g.floats(usualAmplitudes(decay, h, w), [d, ...half]));
      const [re, im] = [0, 1].map((i) => g.reshape(g.slice(scaled, 1, i, i + 1), [n * d, ...half]));
      const along = g.reshape(inverseRealTransform(g, re, im, w), [n, d, h * w]);
      return g.reshape(g.add(g.matMul(g.floats(axes, [d, d]), along), g.floats(mean, [d, 1])), [n, d, h, w]);
    },
    parametersOf(map, canvas) {
      const [h, w] = gridOf(config, canvas);
      const { mean, axes, decay } = generator.natural();
      const centred = Float64Array.from(map, (v, i) => v - mean[Math.floor(i / (h * w))]);
      const { re, im } = realTransform(mixed(inverse(axes, d), centred, d), d, h, w);
      const usual = usualAmplitudes(decay, h, w);
      return Float32Array.from({ length: 2 * re.length }, (_, i) =>
        i < re.length ? re[i] / usual[i] : im[i - re.length] / usual[i - re.length],
      );
    },
  });
}

/** Rows and columns of the latent map. */
const gridOf = ({ downsampling: f }: VqganModel['config'], { width, height }: Canvas): [number, number] => [height / f, width / f];

/** Amplitudes f^-decay of axes [D, h, w/2 + 1], such that spectra of normal numbers times them are maps of variance 1. */
function usualAmplitudes(decay: Float32Array, height: number, width: number): Float32Array {
  const half = halfWidth(width);
  const lowest = 1 / Math.max(width, height);
  const frequencies = Float64Array.from(radii(height, width), (f) => Math.max(f, lowest));
  return Float32Array.from(
    [...decay].flatMap((power) => {
      const raw = Array.from(frequencies, (f) => f ** -power);
      // A bin that is its own mirror counts once, the others for two; each holds a real and an imaginary number.
      const variance = raw.reduce((sum, v, i) => sum + (i % half === 0 || 2 * (i % half) === width ? 2 : 4) * v * v, 0);
      const gain = (width * height) / Math.sqrt(variance);
      return raw.map((v) => v * gain);
    }),
  );
}

/** The i-th along the first axis. */
const oneOf = (g: Graph, all: Value, i: number, shape: Shape): Value =>
  g.reshape(all.shape[0] === 1 ? all : g.slice(all, 0, i, i + 1), shape);

/** A canvas that the generator's grid of tokens does not fill. */
export class UnfitCanvasError extends Error {}

/** Throws an UnfitCanvasError with the nearest size that fits. */
export function requireFit({ width, height }: Canvas, { name, config }: VqganModel): void {
  const f = config.downsampling;
  const [w, h] = [width, height].map((side) => Math.max(1, Math.round(side / f)) * f);
  if (w !== width || h !== height)
    throw new UnfitCanvasError(
      `${name} draws pictures whose sides are multiples of ${f}, and ${width} x ${height} is none: take ${w} x ${h}`,
    );
}

/** The tokens of a picture: a grid, each one of the `codebook` codes that there are. */
export interface Tokens {
  rows: number;
  columns: number;
  codebook: number;
  /** Which code of the codebook each is, row by row. */
  codes: number[];
}

export function tokensOf({ config }: VqganModel, { width, height }: Canvas, codes: TypedArray): Tokens {
  const f = config.downsampling;
  return { rows: height / f, columns: width / f, codebook: config.codes, codes: Array.from(codes, Number) };
}

/**
 * Where a run begins: a latent map [embedDim, h, w] of codes, those that the encoder gives `picture` ([3, H, W] in [0, 1]) or one of smooth
 * random colours (start 'smooth'), or codes drawn alike ('codes'); or nearly what photographs are on average ('grey'), of no codes.
 */
export async function startOf(
  sessions: Sessions,
  generator: VqganModel,
  canvas: Canvas,
  start: NonNullable<Job['start']>,
  random: Random,
  picture?: Float32Array,
): Promise<Float32Array> {
  if (!picture && start === 'codes') return randomCodes(generator, canvas, random);
  if (!picture && start === 'grey') return nearlyMean(generator, canvas, random);
  const encoder = await sessions.runner(`encode:${generator.hash}:${canvas.width}x${canvas.height}`, () =>
    encodeGraph(canvas, generator),
  );
  return (await encoder.run({ picture: picture ?? smoothColours(canvas, random) })).latent as Float32Array;
}

/** `picture` [3, H, W] in [0, 1] -> `latent` [1, embedDim, H/f, W/f]: the codes of its tokens. */
function encodeGraph({ width, height }: Canvas, generator: VqganModel): Graph {
  const g = new Graph();
  const picture = g.reshape(g.input('picture', [3, height, width]), [1, 3, height, width]);
  g.output('latent', generator.tokens(g, generator.encode(g, picture)).quantized);
  return simplify(g);
}

/** The codes of tokens drawn alike, as a latent map. */
export function randomCodes({ config, codebook }: VqganModel, { width, height }: Canvas, random: Random): Float32Array {
  const { downsampling, embedDim, codes } = config;
  const positions = (width / downsampling) * (height / downsampling);
  const z = new Float32Array(embedDim * positions);
  for (let p = 0; p < positions; p++) {
    const code = random.below(codes);
    for (let c = 0; c < embedDim; c++) z[c * positions + p] = codebook[code * embedDim + c];
  }
  return z;
}

/** Standard deviation of the start 'grey', of what is usual. */
const greyNoise = 0.01;

function nearlyMean({ config, natural }: VqganModel, canvas: Canvas, random: Random): Float32Array {
  const d = config.embedDim;
  const { mean, axes } = natural();
  const [h, w] = gridOf(config, canvas);
  const noise = Float32Array.from({ length: d * h * w }, () => random.normal(0, greyNoise));
  return mixed(axes, noise, d, mean);
}

/** Pixels from one random colour to the next. */
const colourStep = 32;

/** Random colours on a coarse grid, bilinear between: [3, H, W] in [0, 1]. */
function smoothColours({ width, height }: Canvas, random: Random): Float32Array {
  const [across, down] = [width, height].map((side) => Math.max(2, Math.round(side / colourStep)));
  const grid = Float32Array.from({ length: 3 * down * across }, () => random.uniform());
  const [columns, rows] = [bilinearMatrix(across, width), bilinearMatrix(down, height)];
  const wide = timesTransposed(grid, 3 * down, columns, width, across);
  return Float32Array.from({ length: 3 * height * width }, (_, i) => {
    const [channel, y, x] = [Math.floor(i / (height * width)), Math.floor(i / width) % height, i % width];
    let sum = 0;
    for (let k = 0; k < down; k++) sum += rows[y * down + k] * wide[(channel * down + k) * width + x];
    return sum;
  });
}
