import { existsSync, readdirSync } from 'node:fs';
import { join } from 'node:path';
import { openBrivl, type BrivlModel } from './brivl/model.js';

export const defaultModel = 'brivl-nano';

/** Models by name: the bundled one, and every folder with a config.json in the folder of imported models. */
export interface Registry {
  names(): string[];
  /** Opened at the first call and kept. Throws a sentence with the known names when there is no such model. */
  open(name: string): BrivlModel;
}

/**
 * @param root the repository's root, where models/brivl/nano lies.
 * @param imported folder of imported models, which need not exist.
 */
export function createRegistry(root: string, imported?: string): Registry {
  const opened = new Map<string, BrivlModel>();
  const folders = (): Map<string, string> => {
    const found = new Map([[defaultModel, join(root, 'models/brivl/nano')]]);
    if (imported && existsSync(imported))
      for (const entry of readdirSync(imported, { withFileTypes: true }))
        if (entry.isDirectory() && existsSync(join(imported, entry.name, 'config.json')))
          found.set(entry.name, join(imported, entry.name));
    return found;
  };
  return {
    names: () => [...folders().keys()],
    open(name) {
      const known = opened.get(name);
      if (known) return known;
      const all = folders();
      const folder = all.get(name);
      if (!folder) throw new UnknownModelError(`there is no model ${name}: there is ${[...all.keys()].join(', ')}`);
      const model = openBrivl(folder);
      opened.set(name, model);
      return model;
    },
  };
}

export class UnknownModelError extends Error {}
