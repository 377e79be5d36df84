import { differentiate, Graph, simplify, type Target } from '../../models/graph/index.js';
import type { Eye, ImageModel } from '../../models/brivl/model.js';
import { percentile, type ChannelStatistics } from '../../models/brivl/statistics.js';
import { UnknownUnitError } from '../../models/brivl/units.js';
import { wholePicture } from './look.js';
import type { Canvas } from './parameters.js';
import type { Sessions } from './sessions.js';

/** Numbers for the cells of a grid that lies over the whole of a picture, row by row. */
export interface Grid {
  rows: number;
  columns: number;
  values: number[];
}

/** The longest side of a map that is told or kept: of wider ones there is more than anybody sees. */
const mapSide = 32;
export const isSmall = (rows: number, columns: number): boolean => rows <= mapSide && columns <= mapSide;

/** Where a unit answers a picture, and how strongly: the mean over the map, and the share of photographs, 0 to 100, that it answers less. */
export interface Heat extends Grid {
  activation: number;
  percentile: number;
}

/** A unit that a picture drives. */
export interface FiringUnit {
  channel: number;
  activation: number;
  percentile: number;
  /** Deviations above its mean over the photographs. */
  z: number;
  /** Row and column of the maximum of its map, and the map; null in a layer of tokens, the map also where it is more than 32 x 32. */
  y: number | null;
  x: number | null;
  map: number[] | null;
}

/** `rows` and `columns` of the maps are null in a layer of tokens. */
export interface Firing {
  rows: number | null;
  columns: number | null;
  units: FiringUnit[];
}

/** A whole picture, as pixels [H, W, 3] of the canvas's size, before an eye. */
export interface Sight {
  model: Pick<ImageModel, 'hash' | 'eye'>;
  pixels: Uint8Array;
  canvas: Canvas;
}

/** What a layer answers: [C, rows * columns], or tokens [T, C], of which `rows` and `columns` are null. */
interface LayerAnswer {
  rows: number | null;
  columns: number | null;
  values: Float32Array;
}

/** `picture` [H, W, 3] bytes -> `map`, what the layer answers, and its `shape`. */
function layerGraph(canvas: Canvas, eye: Eye, layer: string): Graph {
  const g = new Graph();
  const map = eye.look(g, wholePicture(g, canvas, eye)).layers.get(layer)!;
  g.output('map', map);
  g.output('shape', g.ints(map.shape));
  return simplify(g);
}

async function layerAnswer(sessions: Sessions, { model, pixels, canvas }: Sight, layer: string): Promise<LayerAnswer> {
  const key = `layer:${model.hash}:${canvas.width}x${canvas.height}:${layer}`;
  const runner = await sessions.runner(key, () => layerGraph(canvas, model.eye, layer));
  const { map, shape } = await runner.run({ picture: pixels });
  const [rows, columns] = shape.length === 4 ? [Number(shape[2]), Number(shape[3])] : [null, null];
  return { rows, columns, values: map as Float32Array };
}

/**
 * The heat map of one unit; where the layer's maps are larger than 32 x 32, means over blocks of it.
 *
 * @throws UnknownUnitError for a unit of tokens, which have no place in the picture
 */
export async function heatOf(
  sessions: Sessions,
  sight: Sight,
  { layer, channel }: { layer: string; channel: number },
  { quantiles }: ChannelStatistics,
): Promise<Heat> {
  const { rows, columns, values } = await layerAnswer(sessions, sight, layer);
  if (rows === null || columns === null)
    throw new UnknownUnitError(`${layer} has tokens in the place of a map: ask for a layer of maps, such as LLP`);
  const map = values.subarray(channel * rows * columns, (channel + 1) * rows * columns);
  const activation = meanOf(map);
  return { ...shrunk(map, rows, columns), activation, percentile: percentile(quantiles, channel, activation) };
}

/** Means over blocks of equal size, to a cell, so that no side is longer than `mapSide`; a small map stays as it is. */
function shrunk(map: Float32Array, rows: number, columns: number): Grid {
  if (isSmall(rows, columns)) return { rows, columns, values: rounded(map) };
  const [height, width] = [Math.min(rows, mapSide), Math.min(columns, mapSide)];
  const values = Float32Array.from({ length: height * width }, (_, i) => {
    const [r, c] = [Math.floor(i / width), i % width];
    const [top, bottom] = [r, r + 1].map((edge) => Math.floor((edge * rows) / height));
    const [left, right] = [c, c + 1].map((edge) => Math.floor((edge * columns) / width));
    let sum = 0;
    for (let y = top; y < bottom; y++) for (let x = left; x < right; x++) sum += map[y * columns + x];
    return sum / ((bottom - top) * (right - left));
  });
  return { rows: height, columns: width, values: rounded(values) };
}

/** The `top` units that a picture drives most for what they are used to, strongest z first; of equal ones the first channel. */
export async function firingOf(
  sessions: Sessions,
  sight: Sight,
  layer: string,
  { means, deviations, quantiles }: ChannelStatistics,
  top: number,
): Promise<Firing> {
  const { rows, columns, values } = await layerAnswer(sessions, sight, layer);
  const channels = means.length;
  const places = values.length / channels;
  const mapOf = (channel: number) =>
    rows === null
      ? Float32Array.from({ length: places }, (_, token) => values[token * channels + channel])
      : values.subarray(channel * places, (channel + 1) * places);
  const units = Array.from({ length: channels }, (_, channel) => {
    const activation = meanOf(mapOf(channel));
    // A channel that no photograph ever moved has no unit to be measured in: it stands where it always does.
    const z = deviations[channel] > 0 ? (activation - means[channel]) / deviations[channel] : 0;
    return { channel, activation, z };
  });
  const strongest = units.sort((a, b) => b.z - a.z || a.channel - b.channel).slice(0, top);
  return {
    rows,
    columns,
    units: strongest.map(({ channel, activation, z }) => {
      const map = mapOf(channel);
      const at = map.indexOf(map.reduce((most, value) => Math.max(most, value), -Infinity));
      const place =
        rows === null || columns === null
          ? { y: null, x: null, map: null }
          : { y: Math.floor(at / columns), x: at % columns, map: isSmall(rows, columns) ? rounded(map) : null };
      return { channel, activation, percentile: percentile(quantiles, channel, activation), z, ...place };
    }),
  };
}

/**
 * `picture` [H, W, 3] bytes and `text` [1, E] -> `relevance` [h, w]: the gradient of the cosine by the LLP map times the map, summed over channels
 * (the "gradient x activation" of Grad-CAM without its pooling and its ReLU), and its `shape`. The graph is cut at the map: nothing before it is
 * differentiated.
 */
function relevanceGraph(canvas: Canvas, eye: Eye, target: Target): Graph {
  const g = new Graph();
  const { llp, embedding } = eye.look(g, wholePicture(g, canvas, eye));
  const cos = g.matMul(embedding, g.transpose(g.input('text', [1, eye.embed]), [1, 0]));
  const [gradient] = differentiate(g, cos, [llp], { target });
  const relevance = g.reduceSum(g.mul(gradient, llp), [0, 1]);
  g.output('relevance', relevance);
  g.output('shape', g.ints(relevance.shape));
  g.output('cos', cos);
  return simplify(g);
}

/** Which places of a picture speak for a text (positive) and which against it (negative), and the cosine of the whole. */
export interface Relevance extends Grid {
  cos: number;
}

/**
 * The text-to-image relevance map. A cosine does not change with the length of what it is taken of; so where the way from the map to the joint
 * space is linear, the values sum to what its bias adds to the cosine at first order, with the sign turned: to 0 without a bias. They tell places
 * apart, not pictures.
 *
 * @param text [E], L2-normalised
 */
export async function relevanceOf(sessions: Sessions, { model, pixels, canvas }: Sight, text: Float32Array): Promise<Relevance> {
  const key = `relevance:${model.hash}:${canvas.width}x${canvas.height}`;
  const runner = await sessions.runner(key, () => relevanceGraph(canvas, model.eye, sessions.target));
  const { relevance, shape, cos } = await runner.run({ picture: pixels, text });
  return {
    rows: Number(shape[0]),
    columns: Number(shape[1]),
    values: Array.from(relevance as Float32Array),
    cos: cos[0] as number,
  };
}

const meanOf = (values: Float32Array): number => values.reduce((sum, value) => sum + value, 0) / values.length;

/** To three digits: what a heat map shows, at a third of the bytes. */
const rounded = (values: Float32Array): number[] => Array.from(values, (value) => Number(value.toPrecision(3)));
