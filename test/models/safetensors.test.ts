import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import fc from 'fast-check';
import { afterAll, describe, expect, it } from 'vitest';
import { Graph, writeOnnx } from '../../models/graph/index.js';
import { float16ToNumber, numbers, numberToFloat16 } from '../../models/graph/tensor.js';
import { openSafetensors } from '../../models/weights/safetensors.js';
import { openWeights, scoped, type Weights } from '../../models/weights/weights.js';
import { randomStream, relativeError, runModel } from '../graph/session.js';

const folder = mkdtempSync(join(tmpdir(), 'reverie-weights-'));
afterAll(() => rmSync(folder, { recursive: true }));

interface Part {
  dtype: string;
  shape: number[];
  bytes: ArrayBufferView;
}

const raw = (bytes: ArrayBufferView): Buffer => Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength);

/** A file of the format from a header of any kind. */
function compose(header: unknown, data: Buffer): Buffer {
  const json = Buffer.from(typeof header === 'string' ? header : JSON.stringify(header));
  const length = Buffer.alloc(8);
  length.writeBigUInt64LE(BigInt(json.length));
  return Buffer.concat([length, json, data]);
}

function layOut(parts: Readonly<Record<string, Part>>, metadata?: Record<string, string>) {
  const header: Record<string, unknown> = metadata ? { __metadata__: metadata } : {};
  let at = 0;
  for (const [name, { dtype, shape, bytes }] of Object.entries(parts)) {
    header[name] = { dtype, shape, data_offsets: [at, at + bytes.byteLength] };
    at += bytes.byteLength;
  }
  return { header, data: Buffer.concat(Object.values(parts).map(({ bytes }) => raw(bytes))) };
}

let files = 0;
function write(bytes: Uint8Array): string {
  const path = join(folder, `${files++ % 8}.safetensors`);
  writeFileSync(path, bytes);
  return path;
}

function writeParts(parts: Readonly<Record<string, Part>>, metadata?: Record<string, string>): string {
  const { header, data } = layOut(parts, metadata);
  return write(compose(header, data));
}

function withWeights<T>(path: string, use: (weights: Weights) => T): T {
  const weights = openWeights(path);
  try {
    return use(weights);
  } finally {
    weights.close();
  }
}

const part = (dtype: string, shape: number[], bytes: ArrayBufferView): Part => ({ dtype, shape, bytes });
const halves = (values: readonly number[]): Uint16Array => Uint16Array.from(values, numberToFloat16);

const everyType: Record<string, Part> = {
  F64: part('F64', [2], Float64Array.of(Math.PI, -1e-3)),
  F32: part('F32', [1, 3], Float32Array.of(1.5, -0, 3e38)),
  F16: part('F16', [3], halves([0.333251953125, -65504, 6e-8])),
  BF16: part('BF16', [2, 1], Uint16Array.of(0x3fc0, 0xc2f7)),
  I64: part('I64', [2], BigInt64Array.of(-5n, 1n << 40n)),
  I32: part('I32', [2], Int32Array.of(-7, 1 << 30)),
  I8: part('I8', [3], Int8Array.of(-128, 0, 127)),
  U8: part('U8', [2], Uint8Array.of(0, 255)),
  BOOL: part('BOOL', [2], Uint8Array.of(0, 1)),
  scalar: part('F32', [], Float32Array.of(42)),
  empty: part('F16', [4_000_000_000, 0], new Uint16Array(0)),
};

/** What weights read of the types above: float32. */
const asFloats: Record<string, number[]> = {
  F64: [Math.fround(Math.PI), Math.fround(-1e-3)],
  F32: [1.5, -0, Math.fround(3e38)],
  F16: [0.333251953125, -65504, 2 ** -24],
  BF16: [1.5, -123.5],
  I64: [-5, 2 ** 40],
  I32: [-7, 2 ** 30],
  I8: [-128, 0, 127],
  U8: [0, 255],
  BOOL: [0, 1],
  scalar: [42],
  empty: [],
};

describe('reading', () => {
  it('every type of the format', () => {
    const path = writeParts(everyType, { format: 'pt' });
    const file = openSafetensors(path);
    expect(file.metadata).toEqual({ format: 'pt' });
    expect([...file.entries.keys()]).toEqual(Object.keys(everyType));
    const types = Object.keys(everyType).map((name) => [name, file.read(name).dtype, file.read(name).shape]);
    expect(types).toEqual(
      Object.entries({
        F64: 'float32',
        F32: 'float32',
        F16: 'float16',
        BF16: 'float32',
        I64: 'int64',
        I32: 'int32',
        I8: 'int8',
        U8: 'uint8',
        BOOL: 'bool',
        scalar: 'float32',
        empty: 'float16',
      }).map(([name, type]) => [name, type, everyType[name].shape]),
    );
    expect(file.read('I64').data).toEqual(BigInt64Array.of(-5n, 1n << 40n));
    expect(() => file.read('F31')).toThrow(`${path} has no tensor F31`);
    file.close();
    withWeights(path, (weights) => {
      for (const [name, values] of Object.entries(asFloats)) {
        const tensor = weights.tensor(name);
        expect([name, tensor.dtype, tensor.shape, numbers(tensor)]).toEqual([name, 'float32', everyType[name].shape, values]);
        expect(weights.shape(name)).toEqual(everyType[name].shape);
      }
      expect(weights.has('F31')).toBe(false);
      expect(() => weights.tensor('F31')).toThrow(`${path} has no weights F31`);
      expect(weights.elements()).toBe(Object.values(asFloats).flat().length);
    });
  });

  it('data in another order than the header, padding, empty tensors between, and an empty file', () => {
    const header = {
      full: { dtype: 'F32', shape: [2], data_offsets: [8, 16] },
      before: { dtype: 'I64', shape: [1], data_offsets: [0, 8] },
      none: { dtype: 'F32', shape: [0, 3], data_offsets: [8, 8] },
    };
    const data = Buffer.concat([raw(BigInt64Array.of(3n)), raw(Float32Array.of(1, 2))]);
    const file = openSafetensors(write(compose(JSON.stringify(header) + ' '.repeat(13), data)));
    expect(file.read('full').data).toEqual(Float32Array.of(1, 2));
    expect(file.read('before').data).toEqual(BigInt64Array.of(3n));
    expect(file.read('none').data).toEqual(new Float32Array(0));
    file.close();
    expect(openSafetensors(write(compose({}, Buffer.alloc(0)))).entries.size).toBe(0);
  });

  it('names that objects have by themselves', () => {
    const names = ['constructor', '__proto__', 'toString', ''];
    const data = Buffer.concat(names.map((_, i) => raw(Float32Array.of(i))));
    const entries = names.map(
      (name, i) => `${JSON.stringify(name)}:{"dtype":"F32","shape":[1],"data_offsets":[${4 * i},${4 * i + 4}]}`,
    );
    withWeights(write(compose(`{${entries.join()}}`, data)), (weights) => {
      names.forEach((name, i) => expect(weights.tensor(name).data[0]).toBe(i));
      expect(weights.has('valueOf')).toBe(false);
    });
  });

  it('under a prefix', () => {
    withWeights(writeParts({ 'a.b.w': everyType.F16 }), (weights) => {
      const inner = scoped(scoped(weights, 'a.'), 'b.');
      expect(inner.has('w')).toBe(true);
      expect(inner.shape('w')).toEqual([3]);
      expect(inner.tensor('w')).toEqual(weights.tensor('a.b.w'));
    });
  });
});

/** A quantised tensor and what it stands for, by the words of training/quantised.py. */
function quantised(kind: 'q4' | 'q8', shape: number[], block: number, seed: number) {
  const random = randomStream(seed);
  const [rows, ...rest] = shape;
  const columns = rest.reduce((a, b) => a * b, 1);
  const integers = Array.from({ length: rows * columns }, () =>
    kind === 'q4' ? Math.floor(random() * 16) : Math.floor(random() * 255) - 127,
  );
  const scales = halves(Array.from({ length: (rows * columns) / block }, () => random() * 0.1 - 0.02));
  const values = integers.map((n, i) => Math.fround((kind === 'q4' ? n - 8 : n) * float16ToNumber(scales[Math.floor(i / block)])));
  const packed =
    kind === 'q8'
      ? Int8Array.from(integers)
      : Uint8Array.from({ length: integers.length / 2 }, (_, i) => {
          const at = Math.floor(i / 16) * 32 + (i % 16);
          return integers[at] | (integers[at + 16] << 4);
        });
  const parts = {
    [`x.${kind}`]: part(kind === 'q4' ? 'U8' : 'I8', [rows, kind === 'q4' ? columns / 2 : columns], packed),
    'x.scale': part('F16', [rows, columns / block], scales),
  };
  return { parts, values, columns };
}

describe('quantised tensors', () => {
  it.each([
    ['q4', [3, 64], 32],
    ['q4', [2, 32], 32],
    ['q4', [4, 8, 4, 2], 32],
    ['q8', [3, 96], 32],
    ['q8', [2, 48, 1, 1], 16],
    ['q8', [5, 24], 8],
    ['q8', [4, 27], 27],
    ['q8', [4, 3, 3, 3], 27],
    ['q8', [6, 1], 1],
  ] as const)('%s of shape %j in blocks of %i', (kind, wanted, block) => {
    const shape = [...wanted];
    const { parts, values, columns } = quantised(kind, shape, block, shape.length * block);
    const other = { y: part('F32', [1], Float32Array.of(1)) };
    withWeights(writeParts({ ...parts, ...other }, { shapes: JSON.stringify({ x: shape }) }), (weights) => {
      expect(weights.has('x')).toBe(true);
      expect(weights.tensor('x')).toEqual({ dtype: 'float32', shape, data: Float32Array.from(values) });
      expect(weights.elements()).toBe(values.length + 1);
      const rows = [shape[0] - 1, 0, shape[0] - 1];
      expect(weights.rows('x', rows)).toEqual({
        dtype: 'float32',
        shape: [3, ...shape.slice(1)],
        data: Float32Array.from(rows.flatMap((row) => values.slice(row * columns, (row + 1) * columns))),
      });
    });
    // Without a declared shape the numbers form a matrix.
    withWeights(writeParts(parts), (weights) => expect(weights.shape('x')).toEqual([shape[0], columns]));
  });

  it('are refused where parts do not fit, with the names of file and tensor', () => {
    const good = quantised('q4', [2, 64], 32, 1).parts;
    const eight = quantised('q8', [2, 24], 8, 1).parts;
    const scale = good['x.scale'];
    const broken: [Record<string, Part>, Record<string, string>?][] = [
      [{ 'x.q4': good['x.q4'] }],
      [{ ...good, 'x.scale': part('F32', [2, 2], new Float32Array(4)) }],
      [{ ...good, 'x.scale': { ...scale, shape: [4] } }],
      [{ ...good, 'x.scale': { ...scale, shape: [4, 1] } }],
      [{ ...good, 'x.scale': part('F16', [2, 3], new Uint16Array(6)) }],
      [{ ...good, 'x.scale': part('F16', [2, 4], new Uint16Array(8)) }],
      [{ ...good, 'x.scale': part('F16', [2, 0], new Uint16Array(0)) }],
      [{ ...good, 'x.q4': { ...good['x.q4'], dtype: 'I8' } }],
      [{ ...good, 'x.q4': { ...good['x.q4'], shape: [64] } }],
      [{ ...eight, 'x.scale': part('F16', [2, 5], new Uint16Array(10)) }],
      [{ ...eight, 'x.q8': { ...eight['x.q8'], dtype: 'U8' } }],
      [good, { shapes: JSON.stringify({ x: [2, 63] }) }],
      [good, { shapes: JSON.stringify({ x: [4, 32] }) }],
      [good, { shapes: JSON.stringify({ x: [2, 2 ** 40] }) }],
      [good, { shapes: JSON.stringify({ x: [] }) }],
      [good, { shapes: JSON.stringify({ x: [2, -64] }) }],
      [good, { shapes: JSON.stringify({ x: '[2, 64]' }) }],
      [good, { shapes: JSON.stringify([2, 64]) }],
      [good, { shapes: 'null' }],
      [good, { shapes: '{"x": [2, 64' }],
    ];
    for (const [parts, metadata] of broken) {
      const path = writeParts(parts, metadata);
      expect(() => openWeights(path), JSON.stringify(metadata ?? Object.values(parts).map((p) => p.shape))).toThrow(path);
    }
  });

  it('give no row that is not there', () => {
    const path = writeParts({ ...quantised('q4', [2, 64], 32, 1).parts, plain: everyType.BF16, scalar: everyType.scalar });
    withWeights(path, (weights) => {
      for (const name of ['x', 'plain'])
        for (const row of [-1, 2, 0.5, NaN, Infinity])
          expect(() => weights.rows(name, [0, row])).toThrow(`${path}: ${name} of shape [${weights.shape(name).join(', ')}]`);
      expect(() => weights.rows('scalar', [])).toThrow('has no row');
      expect(weights.rows('plain', [1, 0]).data).toEqual(Float32Array.of(-123.5, 1.5));
    });
  });
});

describe('constants of a graph', () => {
  it('stay in their file when they are large, and onnxruntime reads them there', async () => {
    const random = randomStream(5);
    const [rows, columns] = [600, 500];
    const large = Float32Array.from({ length: rows * columns }, () => random() - 0.5);
    const half = halves(Array.from({ length: columns }, () => random()));
    // An odd number of bytes before it: offsets need not be multiples of anything.
    const path = writeParts({
      first: everyType.I8,
      large: part('F32', [rows, columns], large),
      half: part('F16', [columns], half),
    });
    const weights = openWeights(path);
    const g = new Graph();
    const x = g.input('x', [1, rows]);
    const matrix = weights.constant(g, 'large');
    const source = g.constants.get(matrix)!.source!;
    expect([source.file, source.length]).toEqual([path, 4 * rows * columns]);
    expect(g.constants.get(matrix)!.tensor().data).toEqual(large);
    const bias = weights.constant(g, 'half');
    expect(g.constants.get(bias)!.source).toBeNull();
    g.output('y', g.add(g.matMul(x, matrix), bias));
    const model = writeOnnx(g);
    expect([model.folder, model.externalData, model.bytes.length < 10_000]).toEqual([folder, [], true]);
    weights.close();
    const values = Float32Array.from({ length: rows }, () => random() - 0.5);
    const { y } = await runModel(
      model,
      g.inputs,
      { x: values },
      { extra: { session: { model_external_initializers_file_folder_path: model.folder } } },
    );
    const expected = Array.from(
      half,
      (bits, c) => float16ToNumber(bits) + values.reduce((sum, v, r) => sum + v * large[r * columns + c], 0),
    );
    expect(relativeError(y.data, expected)).toBeLessThan(1e-5);
  });

  it('of a megabyte or less are in memory', () => {
    withWeights(writeParts({ x: part('F32', [1 << 18], new Float32Array(1 << 18)) }), (weights) => {
      const g = new Graph();
      expect(g.constants.get(weights.constant(g, 'x'))!.source).toBeNull();
    });
  });
});

/** Opens and reads everything; the only way out but success is an Error with the file's name. */
function survive(bytes: Uint8Array): 'read' | 'refused' {
  const path = write(bytes);
  try {
    withWeights(path, (weights) => {
      const file = openSafetensors(path);
      const room = bytes.length;
      for (const [name, { length }] of file.entries) {
        expect(length).toBeLessThanOrEqual(room);
        file.read(name);
        if (weights.has(name)) weights.tensor(name);
      }
      if (weights.has('x')) weights.tensor('x');
      file.close();
    });
    return 'read';
  } catch (error) {
    if ((error as Error).name === 'AssertionError') throw error;
    expect(error).toBeInstanceOf(Error);
    expect((error as Error).message).toContain(path);
    return 'refused';
  }
}

describe('hostile files', () => {
  const good = layOut({ ...quantised('q4', [2, 64], 32, 3).parts, ...everyType }, { shapes: '{"x": [2, 64]}' });
  const goodBytes = compose(good.header, good.data);
  const entry = (dtype: unknown, shape: unknown, offsets: unknown) => ({ t: { dtype, shape, data_offsets: offsets } });
  const eight = Buffer.alloc(8);

  it('the file that the mutations start from is good', () => expect(survive(goodBytes)).toBe('read'));

  it.each([
    ['a negative shape', entry('F32', [-2], [0, 8])],
    ['a shape that overflows', entry('F32', [2 ** 52, 2 ** 52, 2 ** 52], [0, 8])],
    ['infinity times zero', entry('F32', [...new Array<number>(30).fill(2 ** 53 - 1), 0], [0, 0])],
    ['a fraction in the shape', entry('F32', [1.5], [0, 6])],
    ['a string as the shape', entry('F32', '2', [0, 8])],
    ['no shape', { t: { dtype: 'F32', data_offsets: [0, 8] } }],
    ['offsets in reverse', entry('F32', [2], [8, 0])],
    ['negative offsets', entry('F32', [2], [-8, 0])],
    ['offsets outside', entry('F32', [2], [8, 16])],
    ['huge offsets', entry('F32', [2], [2 ** 53 - 9, 2 ** 53 - 1])],
    ['three offsets', entry('F32', [2], [0, 4, 8])],
    ['offsets that do not fit the shape', entry('F32', [1], [0, 8])],
    ['an unknown type', entry('F8_E4M3', [8], [0, 8])],
    ['a type of every object', entry('constructor', [8], [0, 8])],
    ['a tensor that is null', { t: null }],
    ['a tensor that is a number', { t: 7 }],
    ['overlap', { ...entry('F32', [2], [0, 8]), u: { dtype: 'F32', shape: [1], data_offsets: [4, 8] } }],
    ['the same place twice', { ...entry('F32', [2], [0, 8]), u: { dtype: 'F32', shape: [2], data_offsets: [0, 8] } }],
    ['metadata that is null', { __metadata__: null }],
    ['metadata with numbers', { __metadata__: { a: 1 } }],
    ['metadata that is a string', { __metadata__: 'abc' }],
    ['a list as header', [1]],
    ['null as header', null],
    ['no JSON', '{"t": '],
    ['nothing', ''],
    ['deep nesting', '['.repeat(200_000)],
  ])('%s', (_, header) => expect(survive(compose(header, eight))).toBe('refused'));

  it.each([0n, 7n, 1n << 20n, 100_000_001n, 1n << 31n, 1n << 53n, (1n << 64n) - 1n])('a header length of %s', (length) => {
    const bytes = Buffer.from(goodBytes);
    bytes.writeBigUInt64LE(length);
    expect(survive(bytes)).toBe('refused');
  });

  it('no file, a folder, and a file that shrinks after it was opened', () => {
    expect(() => openWeights(join(folder, 'none'))).toThrow(join(folder, 'none'));
    expect(() => openWeights(folder)).toThrow(folder);
    const path = write(goodBytes);
    const file = openSafetensors(path);
    writeFileSync(path, goodBytes.subarray(0, 200));
    expect(() => file.read('F32')).toThrow(path);
    file.close();
  });

  it('cut off anywhere', () => {
    fc.assert(
      fc.property(fc.nat(goodBytes.length - 1), (length) => survive(goodBytes.subarray(0, length)) === 'refused'),
      { numRuns: 150 },
    );
  });

  it('random bytes', () => {
    fc.assert(
      fc.property(fc.uint8Array({ maxLength: 300 }), fc.boolean(), (bytes, framed) => {
        survive(framed ? compose(Buffer.from(bytes).toString('latin1'), eight) : bytes);
      }),
      { numRuns: 200 },
    );
  });

  it('bytes changed anywhere in length and header', () => {
    const change = fc.tuple(fc.nat(goodBytes.length - good.data.length - 1), fc.nat(255));
    fc.assert(
      fc.property(fc.array(change, { minLength: 1, maxLength: 4 }), (changes) => {
        const bytes = Buffer.from(goodBytes);
        for (const [at, value] of changes) bytes[at] = value;
        survive(bytes);
      }),
      { numRuns: 400 },
    );
  });

  it('a field of the header replaced by anything', () => {
    const number = fc.oneof(
      fc.integer({ min: -8, max: 300 }),
      fc.constantFrom(2 ** 31, 2 ** 32, 2 ** 53 - 1, 1e300, -1, 0.5),
      fc.double(),
    );
    const anything = fc.oneof(number, fc.array(number, { maxLength: 4 }), fc.array(fc.nat(64), { maxLength: 3 }), fc.jsonValue());
    const names = Object.keys(good.header).filter((name) => name !== '__metadata__');
    fc.assert(
      fc.property(fc.constantFrom(...names), fc.constantFrom('dtype', 'shape', 'data_offsets'), anything, (name, field, value) => {
        survive(compose({ ...good.header, [name]: { ...(good.header[name] as object), [field]: value } }, good.data));
      }),
      { numRuns: 400 },
    );
  });

  it('shapes in the metadata replaced by anything', () => {
    const shapes = fc.oneof(
      fc.jsonValue(),
      fc.record({ x: fc.array(fc.oneof(fc.nat(70), fc.constantFrom(2 ** 30, 2 ** 52, -1)), { maxLength: 4 }) }),
    );
    fc.assert(
      fc.property(
        fc.oneof(
          shapes.map((v) => JSON.stringify(v)),
          fc.string(),
        ),
        (text) => {
          survive(compose({ ...good.header, __metadata__: { shapes: text } }, good.data));
        },
      ),
      { numRuns: 200 },
    );
  });
});
