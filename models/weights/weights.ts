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
  /** Decoded; throws when there is no such tensor. */
  tensor(name: string): Tensor;
  /** Rows of a matrix, decoded without the rest: [rows.length, columns]. For vocabularies. */
  rows(name: string, rows: readonly number[]): Tensor;
  /** How many numbers the file holds, scales of quantised blocks left out. */
  elements(): number;
  /** As a constant of a graph; F32 tensors stay in their file and are referred to. */
  constant(graph: Graph, name: string): Value;
  close(): void;
}

const float16Table = Float32Array.from({ length: 65536 }, (_, bits) => float16ToNumber(bits));

export function openWeights(path: string): Weights {
  return weightsOf(openSafetensors(path));
}

export function weightsOf(file: Safetensors): Weights {
  const shapes = file.metadata.shapes ? (JSON.parse(file.metadata.shapes) as Record<string, number[]>) : {};
  const cache = new Map<string, Tensor>();
  const stored = (name: string): Tensor => {
    const known = cache.get(name) ?? file.read(name);
    cache.set(name, known);
    return known;
  };
  const encoding = (name: string): 'plain' | 'q4' | 'q8' | null => {
    if (file.entries.has(name)) return 'plain';
    if (file.entries.has(`${name}.q4`)) return 'q4';
    return file.entries.has(`${name}.q8`) ? 'q8' : null;
  };
  const need = (name: string) => {
    const kind = encoding(name);
    if (!kind) throw new Error(`${file.path} has no weights ${name}`);
    return kind;
  };
  const shape = (name: string): Shape => {
    const kind = need(name);
    if (kind === 'plain') return file.entries.get(name)!.shape;
    if (shapes[name]) return shapes[name];
    const packed = file.entries.get(`${name}.${kind}`)!.shape;
    return kind === 'q4' ? [packed[0], packed[1] * 2] : packed;
  };
  const decode = (name: string, rows?: readonly number[]): Tensor => {
    const kind = need(name);
    const full = shape(name);
    const columns = sizeOf(full.slice(1));
    const picked = rows ?? Array.from({ length: full[0] ?? 1 }, (_, i) => i);
    if (kind === 'plain') {
      const tensor = stored(name);
      const source = tensor.dtype === 'float16' ? (bits: number) => float16Table[bits] : (v: number) => v;
      if (!rows && tensor.dtype === 'float32') return tensor;
      const values = tensor.data as Uint16Array | Float32Array;
      const width = full.length ? columns : 1;
      const out = new Float32Array(picked.length * width);
      picked.forEach((row, r) => {
        for (let c = 0; c < width; c++) out[r * width + c] = source(values[row * width + c]);
      });
      return { dtype: 'float32', shape: rows ? [rows.length, ...full.slice(1)] : full, data: out };
    }
    const packed = stored(`${name}.${kind}`).data as Uint8Array | Int8Array;
    const scales = stored(`${name}.scale`);
    const blocks = scales.shape[1];
    const block = columns / blocks;
    const out = new Float32Array(picked.length * columns);
    picked.forEach((row, r) => {
      for (let b = 0; b < blocks; b++) {
        const scale = float16Table[(scales.data as Uint16Array)[row * blocks + b]];
        const at = r * columns + b * block;
        if (kind === 'q8') for (let i = 0; i < block; i++) out[at + i] = packed[row * columns + b * block + i] * scale;
        else
          for (let i = 0; i < 16; i++) {
            const byte = packed[(row * blocks + b) * 16 + i];
            out[at + i] = ((byte & 15) - 8) * scale;
            out[at + 16 + i] = ((byte >> 4) - 8) * scale;
          }
      }
    });
    return { dtype: 'float32', shape: rows ? [rows.length, ...full.slice(1)] : full, data: out };
  };
  return {
    has: (name) => encoding(name) !== null,
    shape,
    tensor: (name) => decode(name),
    rows: (name, rows) => decode(name, rows),
    elements: () =>
      [...file.entries].reduce((sum, [name, { shape: stored }]) => {
        if (name.endsWith('.scale')) return sum;
        return sum + sizeOf(stored) * (name.endsWith('.q4') ? 2 : 1);
      }, 0),
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
