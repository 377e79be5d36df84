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
  /** The moving sum of parameters (optimizers.ts), where their mean is what is shown. */
  sum?: Float32Array;
  /** The parameters at the start, where they are held near it. */
  start?: Float32Array;
}

/** What only some runs keep, of the parameters' size. */
const extras = ['sum', 'start'] as const;
export type Extra = (typeof extras)[number];

const magic = 'RVR1';
const headLength = 12;

/** Magic, CRC-32 of all that follows, header length; JSON header; the parameters, the optimizer's slots and the extras as float32. */
export function encodeCheckpoint({ parameters, slots, sum, start, ...rest }: RunState): Uint8Array {
  const kept = { sum, start };
  const names = extras.filter((name) => kept[name]);
  const told = { ...rest, length: parameters.length, slots: slots.length, ...(names.length > 0 && { extras: names }) };
  const header = Buffer.from(JSON.stringify(told));
  const bytes = (v: Float32Array) => Buffer.from(v.buffer, v.byteOffset, v.byteLength);
  const tensors = [parameters, ...slots, ...names.map((name) => kept[name]!)];
  const all = Buffer.concat([Buffer.alloc(headLength), header, ...tensors.map(bytes)]);
  all.write(magic, 'latin1');
  all.writeUInt32LE(header.length, 8);
  all.writeUInt32LE(crc32(all.subarray(8)), 4);
  return all;
}

/** Throws when the bytes are not a checkpoint of a run with so many parameters and optimizer slots, and these extras. */
export function decodeCheckpoint(checkpoint: Uint8Array, length: number, slots: number, wanted: readonly Extra[] = []): RunState {
  const buffer = Buffer.from(checkpoint.buffer, checkpoint.byteOffset, checkpoint.byteLength);
  if (buffer.length < headLength || buffer.toString('latin1', 0, 4) !== magic)
    throw new Error('the checkpoint is not one of a run: start the job anew');
  if (crc32(buffer.subarray(8)) !== buffer.readUInt32LE(4)) throw new Error('the checkpoint is damaged: start the job anew');
  const begin = headLength + buffer.readUInt32LE(8);
  const header = JSON.parse(buffer.toString('utf8', headLength, begin)) as Omit<RunState, 'slots' | 'parameters' | Extra> & {
    length: number;
    slots: number;
    extras?: Extra[];
  };
  const size = 4 * length;
  const names = extras.filter((name) => wanted.includes(name));
  const fits =
    header.length === length &&
    header.slots === slots &&
    (header.extras ?? []).join() === names.join() &&
    buffer.length === begin + size * (1 + slots + names.length);
  if (!fits) throw new Error('the checkpoint belongs to a picture of another size or another optimizer: start the job anew');
  const floats = (i: number) => {
    const at = buffer.byteOffset + begin + size * i;
    return new Float32Array(buffer.buffer.slice(at, at + size));
  };
  const { step, random, curve, seconds } = header;
  return {
    step,
    random,
    curve,
    seconds,
    parameters: floats(0),
    slots: Array.from({ length: slots }, (_, i) => floats(1 + i)),
    ...Object.fromEntries(names.map((name, i) => [name, floats(1 + slots + i)])),
  };
}
