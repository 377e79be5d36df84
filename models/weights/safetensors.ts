import { closeSync, fstatSync, openSync, readSync } from 'node:fs';
import { bytesPerElement, sizeOf, type DType, type Shape, type Tensor, type TypedArray } from '../graph/index.js';

/** How an element is stored: our types, and two that are read as float32. */
type Stored = DType | 'bfloat16' | 'float64';

/** Element types of the format by our names. */
const dtypes: Readonly<Record<string, Stored>> = {
  F64: 'float64',
  F32: 'float32',
  F16: 'float16',
  BF16: 'bfloat16',
  I64: 'int64',
  I32: 'int32',
  I8: 'int8',
  U8: 'uint8',
  BOOL: 'bool',
};

/** The format's own limit on the header. */
const headerLimit = 100_000_000;

interface Entry {
  dtype: Stored;
  shape: Shape;
  /** From the start of the file, in bytes. */
  offset: number;
  length: number;
}

/** An open safetensors file. The header is checked at once; tensors are read when asked for. Close it when done. */
export interface Safetensors {
  readonly path: string;
  readonly entries: ReadonlyMap<string, Entry>;
  readonly metadata: Readonly<Record<string, string>>;
  /** Throws when the file has no tensor of this name. */
  read(name: string): Tensor;
  close(): void;
}

/**
 * Opens a file of the layout: 8 bytes little-endian header length, JSON header, data. Every field is hostile until checked: types, shapes,
 * offsets inside the file, no overlaps. Throws an Error that names the file and what is wrong with it.
 */
export function openSafetensors(path: string): Safetensors {
  const fd = openSync(path, 'r');
  try {
    return parse(path, fd);
  } catch (error) {
    closeSync(fd);
    throw new Error(`${path} is not a safetensors file: ${(error as Error).message}`, { cause: error });
  }
}

function parse(path: string, fd: number): Safetensors {
  const fileSize = fstatSync(fd).size;
  if (fileSize < 8) throw new Error(`it has only ${fileSize} bytes`);
  const headerLength = Number(readBytes(fd, 0, 8).readBigUInt64LE());
  if (headerLength > Math.min(headerLimit, fileSize - 8)) throw new Error(`its header would be ${headerLength} bytes long`);
  const header: unknown = JSON.parse(readBytes(fd, 8, headerLength).toString('utf8'));
  if (typeof header !== 'object' || header === null || Array.isArray(header)) throw new Error('its header is not a JSON object');
  const start = 8 + headerLength;
  const entries = new Map<string, Entry>();
  let metadata: Record<string, string> = {};
  for (const [name, value] of Object.entries(header as Record<string, unknown>)) {
    if (name === '__metadata__') {
      metadata = readMetadata(value);
      continue;
    }
    entries.set(name, readEntry(name, value, start, fileSize));
  }
  // Empty tensors first: they may lie where another begins.
  const ordered = [...entries.values()].sort((a, b) => a.offset - b.offset || a.length - b.length);
  ordered.forEach((entry, i) => {
    if (i > 0 && ordered[i - 1].offset + ordered[i - 1].length > entry.offset) throw new Error('tensors overlap');
  });
  return {
    path,
    entries,
    metadata,
    close: () => closeSync(fd),
    read(name) {
      const entry = entries.get(name);
      if (!entry) throw new Error(`${path} has no tensor ${name}`);
      const bytes = readTensor(path, fd, entry);
      if (entry.dtype === 'bfloat16') return { dtype: 'float32', shape: entry.shape, data: widenBfloat16(bytes) };
      if (entry.dtype === 'float64')
        return { dtype: 'float32', shape: entry.shape, data: Float32Array.from(new Float64Array(bytes.buffer as ArrayBuffer)) };
      return { dtype: entry.dtype, shape: entry.shape, data: view(entry.dtype, bytes) };
    },
  };
}

function readMetadata(value: unknown): Record<string, string> {
  const fits = typeof value === 'object' && value !== null && Object.values(value).every((v) => typeof v === 'string');
  if (!fits) throw new Error('its metadata is not an object of strings');
  return value as Record<string, string>;
}

function readEntry(name: string, value: unknown, start: number, fileSize: number): Entry {
  const { dtype, shape, data_offsets: offsets } = (value ?? {}) as Record<string, unknown>;
  const type = typeof dtype === 'string' && Object.hasOwn(dtypes, dtype) ? dtypes[dtype] : undefined;
  if (!type) throw new Error(`tensor ${name} has the type ${String(dtype)}; ${Object.keys(dtypes).join(', ')} can be read`);
  const whole = (list: unknown): list is number[] =>
    Array.isArray(list) && list.every((n) => Number.isSafeInteger(n) && (n as number) >= 0);
  if (!whole(shape)) throw new Error(`tensor ${name} has no shape`);
  if (!whole(offsets) || offsets.length !== 2) throw new Error(`tensor ${name} has no offsets`);
  const length = offsets[1] - offsets[0];
  const size = sizeOf(shape) * (type === 'bfloat16' ? 2 : type === 'float64' ? 8 : bytesPerElement[type]);
  if (length !== size)
    throw new Error(`tensor ${name} of shape [${shape.join(', ')}] takes ${size} bytes, its offsets give ${length}`);
  if (start + offsets[1] > fileSize) throw new Error(`tensor ${name} ends after the file does`);
  return { dtype: type, shape, offset: start + offsets[0], length };
}

function readTensor(path: string, fd: number, { offset, length }: Entry): Buffer {
  try {
    return readBytes(fd, offset, length);
  } catch (error) {
    throw new Error(`${path} could not be read: ${(error as Error).message}`, { cause: error });
  }
}

function readBytes(fd: number, offset: number, length: number): Buffer {
  const buffer = Buffer.from(new ArrayBuffer(length));
  // One read moves at most 2 GiB.
  for (let done = 0; done < length;) {
    const count = readSync(fd, buffer, done, Math.min(length - done, 1 << 30), offset + done);
    if (count === 0) throw new Error('the file ended while it was read');
    done += count;
  }
  return buffer;
}

function view(dtype: DType, bytes: Buffer): TypedArray {
  const { buffer } = bytes;
  const kinds = {
    float32: Float32Array,
    float16: Uint16Array,
    int64: BigInt64Array,
    int32: Int32Array,
    int8: Int8Array,
    uint8: Uint8Array,
    bool: Uint8Array,
  };
  return new kinds[dtype](buffer as ArrayBuffer);
}

function widenBfloat16(bytes: Buffer): Float32Array {
  const bits = Uint32Array.from(new Uint16Array(bytes.buffer as ArrayBuffer), (b) => b << 16);
  return new Float32Array(bits.buffer);
}

/** A tensor to write: `data` holds the bits of F16, and the numbers of F32. */
export interface Writable {
  dtype: 'F16' | 'F32';
  shape: Shape;
  data: Uint16Array | Float32Array;
}

/** A file of the layout that `openSafetensors` reads, in the order of the tensors; equal tensors give equal bytes. */
export function encodeSafetensors(tensors: Readonly<Record<string, Writable>>): Buffer {
  let end = 0;
  const header = Object.fromEntries(
    Object.entries(tensors).map(([name, { dtype, shape, data }]) => [
      name,
      { dtype, shape, data_offsets: [end, (end += data.byteLength)] },
    ]),
  );
  // Padded, so that the data begins at a multiple of 8.
  const json = JSON.stringify(header);
  const text = Buffer.from(json + ' '.repeat((8 - (Buffer.byteLength(json) % 8)) % 8));
  const length = Buffer.alloc(8);
  length.writeBigUInt64LE(BigInt(text.length));
  const bytes = ({ data }: Writable) => Buffer.from(data.buffer, data.byteOffset, data.byteLength);
  return Buffer.concat([length, text, ...Object.values(tensors).map(bytes)]);
}
