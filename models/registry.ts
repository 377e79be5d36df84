import { existsSync, readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { openBrivl, type BrivlModel, type ImageModel } from './brivl/model.js';
import { openOnnxEye } from './clip/onnx-eye.js';
import { openVqgan, type VqganModel } from './vqgan/model.js';

export const defaultModel = 'brivl-nano';
export const defaultGenerator = 'vqgan-nano';

/** Models by name: the bundled ones, and every folder with a config.json in the folder of imported models. */
export interface Registry {
  /** Encoders: what sees pictures and reads texts. */
  names(): string[];
  /** Opened at the first call and kept. Throws a sentence with the known names when there is no such encoder. */
  open(name: string): BrivlModel;
  /** All that can be explored: the encoders, and networks that only see pictures. */
  eyes(): string[];
  /** As `open`. */
  openEye(name: string): ImageModel;
  /** VQGANs: what draws pictures from tokens. There may be none. */
  generators(): string[];
  /** As `open`. */
  openGenerator(name: string): VqganModel;
}

/**
 * @param root the repository's root, where models/brivl/nano lies.
 * @param imported folder of imported models, which need not exist.
 */
export function createRegistry(root: string, imported?: string): Registry {
  const nano = join(root, 'models/vqgan/nano');
  const foldersOf = (kind: Kind): Map<string, string> => {
    const found = new Map<string, string>();
    if (kind === 'encoder') found.set(defaultModel, join(root, 'models/brivl/nano'));
    else if (kind === 'generator' && existsSync(join(nano, 'config.json'))) found.set(defaultGenerator, nano);
    if (imported && existsSync(imported))
      for (const entry of readdirSync(imported, { withFileTypes: true })) {
        const folder = join(imported, entry.name);
        if (entry.isDirectory() && existsSync(join(folder, 'config.json')) && kindOf(folder) === kind)
          found.set(entry.name, folder);
      }
    return found;
  };
  const encoders = keeping((name) => {
    const all = foldersOf('encoder');
    const folder = all.get(name);
    if (!folder) throw new UnknownModelError(`there is no model ${name}: there is ${[...all.keys()].join(', ')}`);
    return openBrivl(folder);
  });
  const eyes = keeping((name) => {
    const folder = foldersOf('eye').get(name);
    if (folder) return { ...openOnnxEye(folder), name };
    if (foldersOf('encoder').has(name)) return encoders(name);
    throw new UnknownModelError(`there is no model ${name}: there is ${eyeNames().join(', ')}`);
  });
  const eyeNames = () => [...foldersOf('encoder').keys(), ...foldersOf('eye').keys()];
  const generators = keeping((name) => {
    const all = foldersOf('generator');
    const folder = all.get(name);
    if (!folder) {
      const known =
        all.size > 0 ? `there is ${[...all.keys()].join(', ')}` : `put a VQGAN's folder into ${imported ?? 'DATA_DIR/models'}`;
      throw new UnknownModelError(`there is no generator ${name}: ${known}`);
    }
    return openVqgan(folder);
  });
  return {
    names: () => [...foldersOf('encoder').keys()],
    open: encoders,
    eyes: eyeNames,
    openEye: eyes,
    generators: () => [...foldersOf('generator').keys()],
    openGenerator: generators,
  };
}

type Kind = 'encoder' | 'eye' | 'generator';

/**
 * A VQGAN's configuration has the multipliers of its levels, a plain network's says that it is ONNX. One that cannot be read counts as an
 * encoder's: opening it says what is wrong.
 */
function kindOf(folder: string): Kind {
  try {
    const config: unknown = JSON.parse(readFileSync(join(folder, 'config.json'), 'utf8'));
    if (typeof config !== 'object' || config === null) return 'encoder';
    return 'chMult' in config ? 'generator' : 'type' in config && config.type === 'onnx' ? 'eye' : 'encoder';
  } catch {
    return 'encoder';
  }
}

/** `open` once a name; what it threw is tried again. */
function keeping<Model>(open: (name: string) => Model): (name: string) => Model {
  const opened = new Map<string, Model>();
  return (name) => {
    const model = opened.get(name) ?? open(name);
    opened.set(name, model);
    return model;
  };
}

export class UnknownModelError extends Error {}
