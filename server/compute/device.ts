import { float32, Graph } from '../../models/graph/index.js';
import type { DeviceState } from '../live/events.js';
import { createRunner, type Device } from './sessions.js';

/** Fastest first, as they are usually met; the CPU is always there. */
const preference: readonly Device[] = ['cuda', 'dml', 'coreml', 'webgpu', 'cpu'];

const side = 512;

/** Milliseconds of a product of 512 x 512 matrices on a device, or null where it cannot be used. */
async function probe(device: Device): Promise<number | null> {
  const g = new Graph();
  const x = g.input('x', [side, side]);
  const identity = Float32Array.from({ length: side * side }, (_, i) => (i % (side + 1) === 0 ? 1 : 0));
  let y = x;
  for (let i = 0; i < 8; i++)
    y = g.matMul(
      y,
      g.constant(
        float32(
          identity.map((v) => v * (1 + i / 1024)),
          [side, side],
        ),
      ),
    );
  g.output('y', y);
  try {
    const runner = await createRunner(g, device, { logSeverityLevel: 4 });
    const feeds = { x: new Float32Array(side * side).fill(1) };
    await runner.run(feeds);
    const start = performance.now();
    await runner.run(feeds);
    const time = performance.now() - start;
    await runner.release();
    return time;
  } catch {
    return null;
  }
}

/**
 * Chooses where to compute. `auto` takes the fastest device that answers a small product (a software GPU driver answers too, but slower than
 * the CPU); a named device that does not answer falls back to the CPU with a notice. Throws for a name that no provider has.
 */
export async function chooseDevice(asked: string): Promise<DeviceState & { device: Device }> {
  if (asked !== 'auto' && !preference.includes(asked as Device))
    throw new Error(`there is no device ${asked}: choose auto, ${preference.join(', ')}`);
  // The CPU needs no proof, and a machine that asked for it should not start a GPU driver.
  if (asked === 'cpu') return { device: 'cpu', available: ['cpu'], notice: null };
  const times = new Map<Device, number>();
  for (const device of preference) {
    const time = await probe(device);
    if (time !== null) times.set(device, time);
  }
  const available = [...times.keys()].sort((a, b) => times.get(a)! - times.get(b)!);
  if (asked === 'auto') return { device: available[0], available, notice: null };
  const device = asked as Device;
  if (times.has(device)) return { device, available, notice: null };
  return {
    device: 'cpu',
    available,
    notice: `${device} cannot be used on this machine (its provider did not start): computing on the CPU`,
  };
}
