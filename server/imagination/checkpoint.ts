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

/** Header length, JSON header, then the parameters and the optimizer's slots as float32. */
export function encodeCheckpoint({ parameters, slots, ...rest }: RunState): Uint8Array {
  const header = Buffer.from(JSON.stringify({ ...rest, length: parameters.length, slots: slots.length }));
  const head = Buffer.alloc(8);
  head.write(magic, 'latin1');
  head.writeUInt32LE(header.length, 4);
  const bytes = (v: Float32Array) => Buffer.from(v.buffer, v.byteOffset, v.byteLength);
  return Buffer.concat([head, header, bytes(parameters), ...slots.map(bytes)]);
}

/** Throws when the bytes are not a checkpoint of a run with parameters of this size. */
export function decodeCheckpoint(checkpoint: Uint8Array, length: number): RunState {
  const buffer = Buffer.from(checkpoint.buffer, checkpoint.byteOffset, checkpoint.byteLength);
  if (buffer.length < 8 || buffer.toString('latin1', 0, 4) !== magic)
    throw new Error('the checkpoint is not one of a run: start the job anew');
  const start = 8 + buffer.readUInt32LE(4);
  const header = JSON.parse(buffer.toString('utf8', 8, start)) as Omit<RunState, 'slots' | 'parameters'> & {
    length: number;
    slots: number;
  };
  const size = 4 * length;
  if (header.length !== length || buffer.length !== start + size * (1 + header.slots))
    throw new Error('the checkpoint belongs to a picture of another size: start the job anew');
  const floats = (at: number) => new Float32Array(buffer.buffer.slice(buffer.byteOffset + at, buffer.byteOffset + at + size));
  const { step, random, curve, seconds } = header;
  return {
    step,
    random,
    curve,
    seconds,
    parameters: floats(start),
    slots: Array.from({ length: header.slots }, (_, i) => floats(start + size * (i + 1))),
  };
}
