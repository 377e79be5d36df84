import { spawn } from 'node:child_process';
import path from 'node:path';
import { describe, expect, it } from 'vitest';
import { chooseDevice, UnknownDeviceError } from '../../server/compute/device.js';
import { repositoryRoot } from '../../server/root.js';

/** As on a machine without any Vulkan driver, whatever this one has. */
const noDriver = { VK_ICD_FILENAMES: '/nowhere.json', VK_DRIVER_FILES: '/nowhere.json' };

async function choose(...asked: string[]) {
  const child = spawn(process.execPath, ['--import', 'tsx', path.join(repositoryRoot, 'test/compute/device-child.ts'), ...asked], {
    cwd: repositoryRoot,
    env: { ...process.env, ...noDriver },
  });
  const said = { stdout: '', stderr: '' };
  child.stdout.setEncoding('utf8').on('data', (text: string) => (said.stdout += text));
  child.stderr.setEncoding('utf8').on('data', (text: string) => (said.stderr += text));
  await new Promise((resolve) => child.on('close', resolve));
  return { ...said, chosen: JSON.parse(said.stdout) as Awaited<ReturnType<typeof chooseDevice>>[] };
}

describe('the choice of a device', () => {
  it('is the CPU, without a probe, when the CPU is asked for', async () => {
    expect(await chooseDevice('cpu')).toEqual({ device: 'cpu', available: ['cpu'], notice: null });
  });

  it('refuses a name that no provider has', async () => {
    await expect(chooseDevice('abacus')).rejects.toThrow(UnknownDeviceError);
    await expect(chooseDevice('abacus')).rejects.toThrow('there is no device abacus: choose auto, cuda, dml, coreml, webgpu, cpu');
  });

  it.runIf(process.platform === 'linux')('falls back to the CPU with a notice, and drivers stay silent', async () => {
    const { chosen, stderr } = await choose('auto', 'webgpu', 'coreml');
    expect(stderr).toBe('');
    const cpu = { device: 'cpu', available: ['cpu'] };
    expect(chosen).toEqual([
      { ...cpu, notice: null },
      { ...cpu, notice: 'webgpu cannot be used on this machine (its provider did not start): computing on the CPU' },
      { ...cpu, notice: 'coreml cannot be used on this machine (its provider is not installed): computing on the CPU' },
    ]);
  });
});
