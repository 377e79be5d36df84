import { createHash } from 'node:crypto';
import { z } from 'zod';

type Numbers = Float64Array | Float32Array | Uint32Array | Uint8Array;
export type Arrays = Readonly<Record<string, Numbers>>;

const magic = 'reverie index 1\n';
const digestBytes = 32;

const saved = z.object({
  told: z.unknown(),
  arrays: z.array(z.object({ name: z.string(), bytes: z.int().min(0) })),
});

/**
 * What a walk knows, as bytes from which it goes on: a line that names the format, the length of a JSON header, the header, the arrays one after
 * another in the machine's byte order, and the SHA-256 of all before it. Equal content gives equal bytes.
 * @param told anything that JSON holds
 */
export function encodeState(told: unknown, arrays: Arrays): Buffer {
  const listed = Object.entries(arrays).map(([name, array]) => ({ name, bytes: array.byteLength }));
  const header = Buffer.from(JSON.stringify({ told, arrays: listed }));
  const length = Buffer.alloc(4);
  length.writeUInt32LE(header.length);
  const parts = [Buffer.from(magic), length, header, ...Object.values(arrays).map(bytesOf)];
  const sha = createHash('sha256');
  for (const part of parts) sha.update(part);
  return Buffer.concat([...parts, sha.digest()]);
}

const bytesOf = (array: Numbers): Buffer => Buffer.from(array.buffer, array.byteOffset, array.byteLength);

/**
 * Reads a state back. `arraysFor` is given what was told and says which arrays to fill, of the lengths that they had.
 * @throws Error when the bytes are damaged, or the arrays are others than those that were saved.
 */
export function decodeState<Told>(bytes: Uint8Array, schema: z.ZodType<Told>, arraysFor: (told: Told) => Arrays): Told {
  const buffer = Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  const body = buffer.subarray(0, buffer.length - digestBytes);
  const start = magic.length + 4;
  if (buffer.length < start + digestBytes || buffer.toString('latin1', 0, magic.length) !== magic)
    throw new Error('it is not the state of an index');
  if (!createHash('sha256').update(body).digest().equals(buffer.subarray(body.length)))
    throw new Error('its checksum is wrong: it is damaged');
  const end = start + buffer.readUInt32LE(magic.length);
  const header = saved.parse(JSON.parse(body.toString('utf8', start, end)));
  const told = schema.parse(header.told);
  const arrays = arraysFor(told);
  const wanted = Object.entries(arrays);
  if (wanted.length !== header.arrays.length) throw new Error(`it holds ${header.arrays.length} arrays, not ${wanted.length}`);
  let at = end;
  wanted.forEach(([name, array], i) => {
    const stored = header.arrays[i];
    if (stored.name !== name || stored.bytes !== array.byteLength)
      throw new Error(`it holds ${stored.bytes} bytes of ${stored.name} where ${array.byteLength} of ${name} are wanted`);
    bytesOf(array).set(body.subarray(at, at + stored.bytes));
    at += stored.bytes;
  });
  return told;
}
