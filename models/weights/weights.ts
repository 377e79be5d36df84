import { z } from 'zod';
import { float16ToNumber, sizeOf, type Graph, type Shape, type Tensor, type Value } from '../graph/index.js';
import { openSafetensors, type Safetensors } from './safetensors.js';

/**
 * Named float32 weights, whatever way a file holds them. Encodings beside plain F32, F16 and BF16, by suffix of the stored names:
 * `X.q4` + `X.scale`: blocks of 32 along the last axis, two weights a byte (low nibbles 0-15, high nibbles 16-31), value (n - 8) scale;
 * `X.q8` + `X.scale`: int8 times a scale per block; how many columns a block has is told by how many scales a row has.
 */
export interface Weights {
  has(name: string): boolean;
  shape(name: string): Shape;
  /** Decoded; throws when there is no such tensor. Plain F32 is not copied: leave it as it is. */
  tensor(name: string): Tensor;
  /** Rows of a matrix, decoded without the rest: [rows.length, columns]. For vocabularies. Throws when there is no such row. */
  rows(name: string, rows: readonly number[]): Tensor;
  /** How many numbers the file holds, scales of quantised blocks left out. */
  elements(): number;
  /** As a constant of a graph; F32 tensors stay in their file and are referred to. */
  constant(graph: Graph, name: string): Value;
  close(): void;
}

const float16Table = Float32Array.from({ length: 65536 }, (_, bits) => float16ToNumber(bits));

/** Throws an Error that names the file when it is not a weight file. */
export function openWeights(path: string): Weights {
  const file = openSafetensors(path);
  try {
    return weightsOf(file);
  } catch (error) {
    file.close();
    throw error;
  }
}

/** How a tensor is stored; `block` is how many columns of a quantised one share a scale. */
interface Encoded {
  kind: 'plain' | 'q4' | 'q8';
  shape: Shape;
  block: number;
}

const q4Block = 32;

export function weightsOf(file: Safetensors): Weights {
  const catalogue = catalogueOf(file);
  const cache = new Map<string, Tensor>();
  const stored = (name: string): Tensor => {
    const known = cache.get(name) ?? file.read(name);
    cache.set(name, known);
    return known;
  };
  const need = (name: string): Encoded => {
    const encoded = catalogue.get(name);
    if (!encoded) throw new Error(`${file.path} has no weights ${name}`);
    return encoded;
  };
  const decode = (name: string): Tensor => {
    const { kind, shape } = need(name);
    if (kind === 'plain') {
      const tensor = stored(name);
      return tensor.dtype === 'float32' ? tensor : { dtype: 'float32', shape, data: widened(tensor) };
    }
    return decodeRows(
      name,
      Array.from({ length: shape[0] }, (_, i) => i),
    );
  };
  const decodeRows = (name: string, rows: readonly number[]): Tensor => {
    const { kind, shape, block } = need(name);
    const [height, ...rest] = shape;
    const columns = sizeOf(rest);
    const outside = rows.find((row) => !(Number.isInteger(row) && row >= 0 && row < height));
    if (outside !== undefined || shape.length === 0)
      throw new Error(`${file.path}: ${name} of shape [${shape.join(', ')}] has no row ${outside ?? 0}`);
    const out = new Float32Array(rows.length * columns);
    if (kind === 'plain') {
      const tensor = stored(name);
      rows.forEach((row, r) => {
        out.set(widened({ ...tensor, data: tensor.data.subarray(row * columns, (row + 1) * columns) }), r * columns);
      });
    } else {
      const packed = stored(`${name}.${kind}`).data as Uint8Array | Int8Array;
      const scales = stored(`${name}.scale`).data as Uint16Array;
      const blocks = columns / block;
      rows.forEach((row, r) => {
        for (let b = 0; b < blocks; b++) {
          const scale = float16Table[scales[row * blocks + b]];
          const at = r * columns + b * block;
          if (kind === 'q8') for (let i = 0; i < block; i++) out[at + i] = packed[row * columns + b * block + i] * scale;
          else
            for (let i = 0; i < q4Block / 2; i++) {
              const byte = packed[((row * blocks + b) * q4Block) / 2 + i];
              out[at + i] = ((byte & 15) - 8) * scale;
              out[at + q4Block / 2 + i] = ((byte >> 4) - 8) * scale;
            }
        }
      });
    }
    return { dtype: 'float32', shape: [rows.length, ...rest], data: out };
  };
  return {
    has: (name) => catalogue.has(name),
    shape: (name) => need(name).shape,
    tensor: decode,
    rows: decodeRows,
    elements: () => [...catalogue.values()].reduce((sum, { shape }) => sum + sizeOf(shape), 0),
    constant(graph, name) {
      const entry = file.entries.get(name);
      if (entry?.dtype === 'float32' && entry.length > 1 << 20) {
        const { offset, length } = entry;
        return graph.reference(name, 'float32', entry.shape, { file: file.path, offset, length }, () => decode(name));
      }
      return graph.constant(decode(name), name);
    },
    close() {
      cache.clear();
      file.close();
    },
  };
}

function widened({ dtype, data }: Tensor): Float32Array {
  if (dtype === 'float16') return Float32Array.from(data as Uint16Array, (bits) => float16Table[bits]);
  return Float32Array.from(data as ArrayLike<number | bigint>, Number);
}

/** Every tensor by name. Quantised ones are checked as a whole: parts, types, shapes, blocks. */
function catalogueOf(file: Safetensors): Map<string, Encoded> {
  const shapes = declaredShapes(file);
  const catalogue = new Map<string, Encoded>();
  const parts = new Set<string>();
  for (const [part, { dtype, shape: packed }] of file.entries) {
    const [, name, kind] = /^(.*)\.(q4|q8)$/s.exec(part) ?? [];
    if (!name) continue;
    const wrong = (what: string) => new Error(`${file.path}: the quantised tensor ${name} ${what}`);
    const scale = file.entries.get(`${name}.scale`);
    if (scale?.dtype !== 'float16' || scale.shape.length !== 2) throw wrong('has no matrix of F16 scales');
    if (dtype !== (kind === 'q4' ? 'uint8' : 'int8') || packed.length !== 2) throw wrong(`is no matrix of ${kind} numbers`);
    const [rows, columns] = [packed[0], packed[1] * (kind === 'q4' ? 2 : 1)];
    const block = columns / scale.shape[1];
    if (scale.shape[0] !== rows || !Number.isInteger(block) || (kind === 'q4' && block !== q4Block))
      throw wrong(`has [${scale.shape.join(', ')}] scales for [${rows}, ${columns}] numbers`);
    const shape = shapes.get(name) ?? [rows, columns];
    if (shape[0] !== rows || sizeOf(shape) !== rows * columns)
      throw wrong(`has [${rows}, ${columns}] numbers, which do not fill its shape [${shape.join(', ')}]`);
    catalogue.set(name, { kind: kind as 'q4' | 'q8', shape, block });
    parts.add(part).add(`${name}.scale`);
  }
  for (const [name, { shape }] of file.entries) if (!parts.has(name)) catalogue.set(name, { kind: 'plain', shape, block: 1 });
  return catalogue;
}

const shapesMetadata = z.record(z.string(), z.array(z.number().int().min(0)));

/** Shapes of quantised tensors by name; one without is the matrix that its numbers form. */
function declaredShapes({ path, metadata }: Safetensors): Map<string, Shape> {
  if (!metadata.shapes) return new Map();
  try {
    return new Map(Object.entries(shapesMetadata.parse(JSON.parse(metadata.shapes))));
  } catch (error) {
    throw new Error(`${path}: the shapes in its metadata are not a list of whole numbers per tensor`, { cause: error });
  }
}

/** The same weights under a prefix: `scoped(w, 'imgencoder.').tensor('x')` is `w.tensor('imgencoder.x')`. */
export function scoped(weights: Weights, prefix: string): Weights {
  const full = (name: string) => prefix + name;
  return {
    has: (name) => weights.has(full(name)),
    shape: (name) => weights.shape(full(name)),
    tensor: (name) => weights.tensor(full(name)),
    rows: (name, rows) => weights.rows(full(name), rows),
    elements: () => weights.elements(),
    constant: (graph, name) => weights.constant(graph, full(name)),
    close: () => weights.close(),
  };
}
