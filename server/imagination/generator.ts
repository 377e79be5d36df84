import { bilinearMatrix } from '../../models/graph/ops/resize.js';
import { Graph, simplify, type Shape, type TypedArray, type Value } from '../../models/graph/index.js';
import type { VqganModel } from '../../models/vqgan/model.js';
import { clampToPicture } from '../../models/vqgan/vqgan.js';
import type { Job } from '../jobs/job.js';
import type { Canvas, Drawn, Parametrization } from './parameters.js';
import type { Random } from './random.js';
import type { Sessions } from './sessions.js';

/**
 * A picture as the tokens of a frozen VQGAN (shared reference, vqgan.md, "The method as practised"): what moves is a latent map
 * [1, embedDim, H/f, W/f], of which the nearest codes are decoded, and whose gradient is theirs. It is kept in the box of the codebook.
 */
export function latentMapOf(generator: VqganModel): Parametrization {
  const { config, channelRange, hash } = generator;
  const f = config.downsampling;
  const perChannel = (g: Graph, values: Float32Array) => g.floats(values, [config.embedDim, 1, 1]);
  /** z: [N, embedDim, h, w], or [N, 1, embedDim, h, w] */
  const drawAll = (g: Graph, z: Value, { width, height }: Canvas): Drawn[] => {
    const [h, w] = z.shape.slice(-2);
    const { codes, straightThrough } = generator.quantize(g, g.reshape(z, [z.shape[0], config.embedDim, h, w]));
    const pictures = clampToPicture(g, generator.decode(g, straightThrough));
    return Array.from({ length: z.shape[0] }, (_, i) => ({
      picture: oneOf(g, pictures, i, [3, height, width]),
      codes: g.op('Cast', [oneOf(g, codes, i, [h, w])], { to: 6 }),
    }));
  };
  return {
    key: `vqgan-${hash}`,
    shape: ({ width, height }) => [1, config.embedDim, height / f, width / f],
    draw: (g, z, canvas) => drawAll(g, z, canvas)[0],
    drawAll,
    bound: (g, z) => g.op('Min', [g.op('Max', [z, perChannel(g, channelRange.low)]), perChannel(g, channelRange.high)]),
  };
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

/** What a picture is drawn from without its quantizer: the latent map itself, to see what the codes took from it or gave it. */
export function unquantized(generator: VqganModel): Parametrization {
  const { key, shape } = latentMapOf(generator);
  const drawAll = (g: Graph, z: Value, { width, height }: Canvas): Drawn[] => {
    const pictures = clampToPicture(g, generator.decode(g, g.reshape(z, [z.shape[0], ...z.shape.slice(-3)])));
    return Array.from({ length: z.shape[0] }, (_, i) => ({
      picture: oneOf(g, pictures, i, [3, height, width]),
    }));
  };
  return {
    key: `${key}-unquantized`,
    shape,
    draw: (g, z, canvas) => drawAll(g, z, canvas)[0],
    drawAll,
  };
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
 * Where a run begins: a latent map of codes, those that the encoder gives `picture` ([3, H, W] in [0, 1]) or one of smooth random colours,
 * or codes drawn alike (start 'codes').
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

/** Pixels from one random colour to the next. */
const colourStep = 32;

/** Random colours on a coarse grid, bilinear between: [3, H, W] in [0, 1]. */
function smoothColours({ width, height }: Canvas, random: Random): Float32Array {
  const [across, down] = [width, height].map((side) => Math.max(2, Math.round(side / colourStep)));
  const grid = Float32Array.from({ length: 3 * down * across }, () => random.uniform());
  const [columns, rows] = [bilinearMatrix(across, width), bilinearMatrix(down, height)];
  const wide = product(grid, 3 * down, columns, width, across);
  return Float32Array.from({ length: 3 * height * width }, (_, i) => {
    const [channel, y, x] = [Math.floor(i / (height * width)), Math.floor(i / width) % height, i % width];
    let sum = 0;
    for (let k = 0; k < down; k++) sum += rows[y * down + k] * wide[(channel * down + k) * width + x];
    return sum;
  });
}

/** A B^T, of a [rows, inner] and b [columns, inner]. */
function product(a: Float32Array, rows: number, b: Float32Array, columns: number, inner: number): Float32Array {
  return Float32Array.from({ length: rows * columns }, (_, i) => {
    const [row, column] = [Math.floor(i / columns), i % columns];
    let sum = 0;
    for (let k = 0; k < inner; k++) sum += a[row * inner + k] * b[column * inner + k];
    return sum;
  });
}
