import { spawn } from 'node:child_process';
import { existsSync } from 'node:fs';
import { createRequire } from 'node:module';
import path from 'node:path';
import { listSupportedBackends } from 'onnxruntime-node';
import { Graph, writeOnnx } from '../../models/graph/index.js';
import type { DeviceState } from '../live/events.js';
import { repositoryRoot } from '../root.js';
import type { Device } from './sessions.js';

/** Fastest first, as they are usually met; the CPU is always there. */
const preference: readonly Device[] = ['cuda', 'dml', 'coreml', 'webgpu', 'cpu'];

/** How long a device may take to start and to run the probe, in milliseconds. Drivers compile shaders the first time. */
const probeLimit = 20_000;

/** A name that no provider has. */
export class UnknownDeviceError extends Error {}

/** Devices whose provider is part of this installation; whether the machine has the hardware and the driver shows only in a probe. */
function installed(): Device[] {
  const bundled = new Set(listSupportedBackends().flatMap(({ name, bundled }) => (bundled ? [name] : [])));
  return preference.filter((device) => bundled.has(device) || (device === 'cuda' && hasCuda()));
}

/** onnxruntime-node's own script puts the CUDA provider beside the binding, on machines where it is asked to. */
function hasCuda(): boolean {
  const entry = createRequire(path.join(repositoryRoot, 'package.json')).resolve('onnxruntime-node');
  const binding = path.resolve(path.dirname(entry), '../bin/napi-v6', process.platform, process.arch);
  return ['libonnxruntime_providers_cuda.so', 'onnxruntime_providers_cuda.dll'].some((file) =>
    existsSync(path.join(binding, file)),
  );
}

/** Eight products of side x side matrices in a row. */
function products(side: number): { side: number; model: string } {
  const g = new Graph();
  const x = g.input('x', [side, side]);
  let y = x;
  for (let i = 0; i < 8; i++) y = g.matMul(y, x);
  g.output('y', y);
  return { side, model: Buffer.from(writeOnnx(g).bytes).toString('base64') };
}

/** Milliseconds of eight products of 512 x 512 matrices on a device, or null where it cannot be used. */
function probe(device: Device): Promise<number | null> {
  return new Promise((resolve) => {
    const child = spawn(process.execPath, [path.join(repositoryRoot, 'server/compute/probe.mjs'), device], {
      stdio: ['pipe', 'pipe', 'ignore'],
      timeout: probeLimit,
      killSignal: 'SIGKILL',
    });
    let said = '';
    child.stdout.setEncoding('utf8').on('data', (text: string) => (said += text));
    child.on('error', () => resolve(null));
    child.on('close', (code) => {
      if (code !== 0) return resolve(null);
      const { side, time } = JSON.parse(said) as { side: number; time: number };
      resolve(time * (512 / side) ** 3);
    });
    // A child that ends before it has read says so by its exit code.
    child.stdin.on('error', () => undefined).end(JSON.stringify([products(128), products(512)]));
  });
}

/**
 * Chooses where to compute. `auto` takes the fastest device that answers a small product (a software GPU driver answers too, but slower than
 * the CPU); a named device that does not answer falls back to the CPU with a notice.
 * @throws UnknownDeviceError for a name that no provider has.
 */
export async function chooseDevice(asked: string): Promise<DeviceState & { device: Device }> {
  if (asked !== 'auto' && !preference.includes(asked as Device))
    throw new UnknownDeviceError(`there is no device ${asked}: choose auto, ${preference.join(', ')}`);
  // A machine that asked for the CPU should not start a GPU driver.
  if (asked === 'cpu') return { device: 'cpu', available: ['cpu'], notice: null };
  const here = installed();
  const times = new Map<Device, number>();
  for (const device of here.filter((d) => d !== 'cpu')) {
    const time = await probe(device);
    if (time !== null) times.set(device, time);
  }
  // The CPU needs no proof, only a time where there is something to compare it with.
  times.set('cpu', times.size > 0 ? ((await probe('cpu')) ?? Infinity) : 0);
  const available = [...times.keys()].sort((a, b) => times.get(a)! - times.get(b)!);
  if (asked === 'auto') return { device: available[0], available, notice: null };
  const device = asked as Device;
  if (times.has(device)) return { device, available, notice: null };
  const why = here.includes(device) ? 'its provider did not start' : 'its provider is not installed';
  return { device: 'cpu', available, notice: `${device} cannot be used on this machine (${why}): computing on the CPU` };
}
