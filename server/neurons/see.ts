import { Graph, simplify, type Value } from '../../models/graph/index.js';
import type { ConceptSpace, Eye, ImageModel } from '../../models/brivl/model.js';
import type { ChannelStatistics } from '../../models/brivl/statistics.js';
import type { Layer } from '../../models/brivl/units.js';
import type { Compute } from '../compute/protocol.js';
import { isSmall } from '../imagination/heat.js';
import type { Sessions } from '../imagination/sessions.js';
import type { Products, Rows } from './vectors.js';

/** An eye as it is told to those who do not own its weights. */
export interface EyeView {
  name: string;
  hash: string;
  /** Of what sees alone (Eye). */
  eyeHash: string;
  /** Side of the square pictures that it looks at. */
  size: number;
  embed: number;
  /** Where it is computed. */
  device: string;
  layers: readonly Layer[];
}

/** `pixels` [N, size, size, 3] bytes. */
export interface SeeAsk {
  model: string;
  layers: string[];
  pixels: Uint8Array;
}

/** How the channels of a layer answer N pictures. */
export interface LayerAnswer {
  rows: number;
  columns: number;
  /** [N, C], over the map. */
  means: Float32Array;
  /** [N, C] */
  maxima: Float32Array;
  /** [N, C]: row * columns + column of the maximum, the first of equal ones. */
  places: Int32Array;
  /** [N, C, rows * columns], or null where it is too large to be kept. */
  maps: Float32Array | null;
}

export interface Seen {
  /** [N, E], L2-normalised. */
  embeddings: Float32Array;
  /** As the layers were asked for. */
  layers: LayerAnswer[];
}

/** What a layer can mean: the concepts of the joint space, and where each of its channels pulls (see `Eye.directions`). */
export interface Meaning {
  concepts: ConceptSpace | null;
  directions: Float32Array | null;
}

/** What an index asks of the networks, wherever they run. */
export interface Looker {
  eye(model: string): Promise<EyeView>;
  see(ask: SeeAsk): Promise<Seen>;
  meaning(model: string, layer: string): Promise<Meaning>;
  products: Products;
  /** Over the bundled photographs. */
  statistics(model: string, layer: string): Promise<ChannelStatistics>;
}

/** The layer that is explored first: the LLP, or the last one of a network that has none. */
export const firstLayerOf = ({ layers }: Pick<EyeView, 'layers'>): string =>
  layers.some(({ name }) => name === 'LLP') ? 'LLP' : layers[layers.length - 1].name;

/**
 * `pictures` [N, size, size, 3] bytes -> `embedding` [N, E], and for layer i `mean{i}`, `max{i}`, `place{i}` [N, C] and, where it is
 * small, `map{i}` [N, C, cells].
 */
export function seeGraph(eye: Eye, layers: readonly string[], pictures: number): Graph {
  const g = new Graph();
  const bytes = g.input('pictures', [pictures, eye.size, eye.size, 3], 'uint8');
  const real = g.scale(g.op('Cast', [bytes], { to: 1 }), 1 / 255);
  const seen = eye.look(g, g.transpose(real, [0, 3, 1, 2]));
  g.output('embedding', seen.embedding);
  layers.forEach((layer, i) => {
    const map = seen.layers.get(layer)!;
    const { rows, columns } = gridOf(map);
    const flat = channelsFirst(g, map);
    g.output(`mean${i}`, g.reduceMean(flat, [2]));
    g.output(`max${i}`, g.op('ReduceMax', [flat, g.ints([2])], { keepdims: 0 }));
    g.output(`place${i}`, g.op('Cast', [g.op('ArgMax', [flat], { axis: 2, keepdims: 0 })], { to: 6 }));
    if (isSmall(rows, columns)) g.output(`map${i}`, flat);
  });
  return simplify(g);
}

/** [N, C, h, w] or tokens [N, T, C] -> [N, C, cells] */
function channelsFirst(g: Graph, map: Value): Value {
  if (map.shape.length === 3) return g.transpose(map, [0, 2, 1]);
  const [n, c, h, w] = map.shape;
  return g.reshape(map, [n, c, h * w]);
}

/** Tokens are a map of one row. */
function gridOf({ shape }: Value): { rows: number; columns: number } {
  return shape.length === 3 ? { rows: 1, columns: shape[1] } : { rows: shape[2], columns: shape[3] };
}

/** A looker over sessions in this process. */
export function createLooker(
  sessions: Sessions,
  open: (model: string) => ImageModel,
  statistics: (model: ImageModel, layer: string) => Promise<ChannelStatistics>,
): Looker {
  const grids = new Map<string, { rows: number; columns: number }[]>();
  return {
    eye: (name) => {
      const { hash, eye } = open(name);
      const { size, embed, layers } = eye;
      return Promise.resolve({ name, hash, eyeHash: eye.hash, size, embed, device: sessions.device, layers });
    },
    async see({ model: name, layers, pixels }) {
      const { hash, eye } = open(name);
      const pictures = pixels.length / (eye.size * eye.size * 3);
      const key = `see:${hash}:${pictures}:${JSON.stringify(layers)}`;
      const runner = await sessions.runner(key, () => seeGraph(eye, layers, pictures));
      const sizes = grids.get(key) ?? layers.map((layer) => sizeOf(eye, layer));
      grids.set(key, sizes);
      const out = await runner.run({ pictures: pixels });
      return {
        embeddings: out.embedding as Float32Array,
        layers: sizes.map(({ rows, columns }, i) => ({
          rows,
          columns,
          means: out[`mean${i}`] as Float32Array,
          maxima: out[`max${i}`] as Float32Array,
          places: out[`place${i}`] as Int32Array,
          maps: (out[`map${i}`] as Float32Array | undefined) ?? null,
        })),
      };
    },
    meaning: (name, layer) => {
      const { concepts, eye } = open(name);
      return Promise.resolve({ concepts, directions: eye.directions?.(layer) ?? null });
    },
    products: (a, b) => multiply(sessions, a, b),
    statistics: (name, layer) => statistics(open(name), layer),
  };
}

/** A graph knows its shapes: nothing is computed. */
function sizeOf(eye: Eye, layer: string): { rows: number; columns: number } {
  const g = new Graph();
  return gridOf(eye.look(g, g.input('x', [1, 3, eye.size, eye.size])).layers.get(layer)!);
}

/** Rows that one run multiplies: the graph is the same for all sets of one length, so that it takes one place among the sessions. */
const productBlock = { a: 256, b: 1024 };

async function multiply(sessions: Sessions, a: Rows, b: Rows): Promise<Float32Array> {
  const { length } = a;
  const runner = await sessions.runner(`products:${length}`, () => {
    const g = new Graph();
    const [left, right] = [g.input('a', [productBlock.a, length]), g.input('b', [productBlock.b, length])];
    g.output('products', g.matMul(left, g.transpose(right, [1, 0])));
    return g;
  });
  const out = new Float32Array(a.count * b.count);
  for (let i = 0; i < a.count; i += productBlock.a)
    for (let j = 0; j < b.count; j += productBlock.b) {
      const { products } = await runner.run({ a: padded(a, i, productBlock.a), b: padded(b, j, productBlock.b) });
      const columns = Math.min(productBlock.b, b.count - j);
      for (let row = 0; row < Math.min(productBlock.a, a.count - i); row++) {
        const from = row * productBlock.b;
        out.set((products as Float32Array).subarray(from, from + columns), (i + row) * b.count + j);
      }
    }
  return out;
}

/** `count` rows from `start` on, zeros where there are no more. */
function padded({ length, values }: Rows, start: number, count: number): Float32Array {
  const some = values.subarray(start * length, (start + count) * length);
  if (some.length === count * length) return some;
  const out = new Float32Array(count * length);
  out.set(some);
  return out;
}

/** A looker over the compute process. */
export const lookerOver = (compute: Compute): Looker => ({
  eye: (model) => compute.request('eye', { model }),
  see: (ask) => compute.request('see', ask),
  meaning: (model, layer) => compute.request('meaning', { model, layer }),
  products: (a, b) => compute.request('products', { a, b }),
  statistics: (model, layer) => compute.request('statistics', { model, layer }),
});
