import { existsSync, readFileSync } from 'node:fs';
import path from 'node:path';
import { carriedChromium } from '../browser/browser.js';

/**
 * Environment for a process that should find SwiftShader, the Vulkan driver in software that Chromium carries: so the GPU's path runs on
 * machines without a GPU. It must be set before the process starts.
 * @throws Error that says what to install where no driver is to be had.
 */
export async function softwareDriver(): Promise<Record<string, string>> {
  // Metal and Direct3D need no driver of ours.
  if (process.platform !== 'linux') return {};
  const folders = ['/usr/lib/chromium', '/usr/lib/chromium-browser', '/opt/google/chrome', '/opt/microsoft/msedge'];
  const installed = folders.map(driverIn).find((driver) => driver !== null);
  if (installed) return installed;
  try {
    const carried = driverIn(path.dirname(await carriedChromium()));
    if (carried) return carried;
  } catch (cause) {
    throw new Error(missing, { cause });
  }
  throw new Error(missing);
}

const missing =
  'the WebGPU test needs a Vulkan driver and found none: install Chromium, which carries SwiftShader (Debian: apt-get install chromium)';

function driverIn(folder: string): Record<string, string> | null {
  const icd = path.join(folder, 'vk_swiftshader_icd.json');
  if (!existsSync(icd) || !existsSync(path.join(folder, 'libvulkan.so.1'))) return null;
  const { ICD } = JSON.parse(readFileSync(icd, 'utf8')) as { ICD: { library_path: string } };
  if (!existsSync(path.resolve(folder, ICD.library_path))) return null;
  return { VK_ICD_FILENAMES: icd, LD_LIBRARY_PATH: folder };
}
