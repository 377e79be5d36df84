import { spawn } from 'node:child_process';
import path from 'node:path';
import { beforeAll, describe, expect, it } from 'vitest';
import { repositoryRoot } from '../../server/root.js';
import { softwareDriver } from './driver.js';
import type { Compared } from './webgpu-child.js';

/** Runs a TypeScript file in a process that has the software driver; its stdout as JSON. A process may take the driver only from its start. */
async function withDriver<T>(file: string, args: readonly (string | number)[]): Promise<T> {
  const env = { ...process.env, ...(await softwareDriver()) };
  const child = spawn(process.execPath, ['--import', 'tsx', path.join(repositoryRoot, file), ...args.map(String)], {
    cwd: repositoryRoot,
    env,
  });
  let [said, complained] = ['', ''];
  child.stdout.setEncoding('utf8').on('data', (text: string) => (said += text));
  child.stderr.setEncoding('utf8').on('data', (text: string) => (complained += text));
  const code = await new Promise((resolve, reject) => child.on('error', reject).on('close', resolve));
  if (code !== 0) throw new Error(`${file} ended with ${String(code)}: ${complained}`);
  return JSON.parse(said) as T;
}

describe('imagination on WebGPU, through a software driver, beside the CPU', () => {
  let compared: Compared;
  beforeAll(async () => {
    compared = await withDriver('test/compute/webgpu-child.ts', [64, 1, 64, 2]);
    const { errors, nodes, elsewhere, seconds, job } = compared;
    console.info('WebGPU against the CPU', JSON.stringify({ errors, nodes, elsewhere, seconds, job }));
  }, 240_000);

  it('has a step with the same loss, gradient and moved parameters', () => {
    for (const [output, error] of Object.entries(compared.errors)) expect(error, output).toBeLessThan(1e-2);
    expect(Object.keys(compared.errors).sort()).toEqual(["parameters'", "slot0'", "slot1'", 'cos', 'loss'].sort());
  });

  it('runs all of a step on WebGPU but the packing of a few strided convolutions', () => {
    const { WebGpuExecutionProvider: there, CPUExecutionProvider: here = 0 } = compared.nodes;
    expect(compared.elsewhere.filter((op) => op !== 'SpaceToDepth')).toEqual([]);
    expect(there).toBeGreaterThan(400);
    expect(here / there).toBeLessThan(0.02);
  });

  it('has a whole job with the same curve, picture and cosine', () => {
    const { text, pixels, webgpu, cpu } = compared.job;
    expect(text).toBeCloseTo(1, 4);
    // In levels of 255: roundings at the edge of a level.
    expect(pixels).toBeLessThan(0.5);
    webgpu.curve.forEach((cos, i) => expect(Math.abs(cos - cpu.curve[i])).toBeLessThan(1e-2));
    expect(Math.abs(webgpu.cos - cpu.cos)).toBeLessThan(1e-2);
  });
});

describe('the choice of a device, with a software driver', () => {
  it('takes WebGPU when it is asked for, and knows that the CPU is faster', async () => {
    const chosen = await withDriver<{ device: string; available: string[]; notice: string | null }[]>(
      'test/compute/device-child.ts',
      ['webgpu', 'auto'],
    );
    expect(chosen).toEqual([
      { device: 'webgpu', available: ['cpu', 'webgpu'], notice: null },
      { device: 'cpu', available: ['cpu', 'webgpu'], notice: null },
    ]);
  });
});
