import { crc32 } from 'node:zlib';
import type { CurvePoint } from '../jobs/job.js';

/** Everything a run needs to go on to the same bytes. */
export interface RunState {
  /** Steps that have been made. */
  step: number;
  random: number[];
  curve: CurvePoint[];
  /** Seconds of computing so far. */
  seconds: number;
  parameters: Float32Array;
  slots: Float32Array[];
}

const magic = 'RVR1';
const headLength = 12;

/** Magic, CRC-32 of all that follows, header length; JSON header; the parameters and the optimizer's slots as float32. */
export function encodeCheckpoint({ parameters, slots, ...rest }: RunState): Uint8Array {
  const header = Buffer.from(JSON.stringify({ ...rest, length: parameters.length, slots: slots.length }));
  const bytes = (v: Float32Array) => Buffer.from(v.buffer, v.byteOffset, v.byteLength);
  const all = Buffer.concat([Buffer.alloc(headLength), header, bytes(parameters), ...slots.map(bytes)]);
  all.write(magic, 'latin1');
  all.writeUInt32LE(header.length, 8);
  all.writeUInt32LE(crc32(all.subarray(8)), 4);
  return all;
}

/** Throws when the bytes are not a checkpoint of a run with so many parameters and optimizer slots. */
export function decodeCheckpoint(checkpoint: Uint8Array, length: number, slots: number): RunState {
  const buffer = Buffer.from(checkpoint.buffer, checkpoint.byteOffset, checkpoint.byteLength);
  if (buffer.length < headLength || buffer.toString('latin1', 0, 4) !== magic)
    throw new Error('the checkpoint is not one of a run: start the job anew');
  if (crc32(buffer.subarray(8)) !== buffer.readUInt32LE(4)) throw new Error('the checkpoint is damaged: start the job anew');
  const start = headLength + buffer.readUInt32LE(8);
  const header = JSON.parse(buffer.toString('utf8', headLength, start)) as Omit<RunState, 'slots' | 'parameters'> & {
    length: number;
    slots: number;
  };
  const size = 4 * length;
  if (header.length !== length || header.slots !== slots || buffer.length !== start + size * (1 + slots))
    throw new Error('the checkpoint belongs to a picture of another size or another optimizer: start the job anew');
  const floats = (at: number) => new Float32Array(buffer.buffer.slice(buffer.byteOffset + at, buffer.byteOffset + at + size));
  const { step, random, curve, seconds } = header;
  return {
    step,
    random,
    curve,
    seconds,
    parameters: floats(start),
    slots: Array.from({ length: slots }, (_, i) => floats(start + size * (i + 1))),
  };
}
