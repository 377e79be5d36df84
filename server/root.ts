import { existsSync, readFileSync } from 'node:fs';
import path from 'node:path';

function findRepositoryRoot(from: string): string {
  for (let folder = from; ; folder = path.dirname(folder)) {
    const manifest = path.join(folder, 'package.json');
    if (existsSync(manifest) && (JSON.parse(readFileSync(manifest, 'utf8')) as { name?: string }).name === 'reverie') return folder;
    if (folder === path.dirname(folder))
      throw new Error(`no package.json named reverie above ${from}: run Reverie from its own repository`);
  }
}

/** The repository's folder, the same from sources (tsx, vitest) and from the build: models, migrations and the page are found under it. */
export const repositoryRoot = findRepositoryRoot(import.meta.dirname);

/** True when this code was built by Vite into `dist/server`. */
export const runsFromBuild = import.meta.dirname.startsWith(path.join(repositoryRoot, 'dist'));

export const version = (JSON.parse(readFileSync(path.join(repositoryRoot, 'package.json'), 'utf8')) as { version: string }).version;
