import { readdirSync, statSync } from 'node:fs';
import path from 'node:path';

/** A picture in a folder, or in a folder of it. */
export interface FolderPicture {
  /** Relative to the folder, with slashes. */
  file: string;
  /** The subfolder that it lies in; null for one that lies in the folder itself. */
  folder: string | null;
}

/** What sharp decodes everywhere; UC Merced is TIFF. */
const pictureFile = /\.(png|jpe?g|webp|tiff?|gif|avif)$/i;

/**
 * The pictures of a folder and of its subfolders (one level), by their endings; hidden files are left out. Sorted by name in code unit
 * order, those of the folder itself first, so that the order is the same on every machine.
 * @throws Error of the file system when the folder cannot be listed.
 */
export function listPictures(directory: string): FolderPicture[] {
  const list = (folder: string | null): { pictures: FolderPicture[]; folders: string[] } => {
    const at = path.join(directory, folder ?? '');
    const names = readdirSync(at)
      .filter((name) => !name.startsWith('.'))
      .sort(byCodeUnits);
    // `stat` follows links: a set is often linked together from other disks. A link to nowhere is no picture.
    const is = (kind: 'isFile' | 'isDirectory') => (name: string) =>
      statSync(path.join(at, name), { throwIfNoEntry: false })?.[kind]() ?? false;
    return {
      pictures: names
        .filter((name) => pictureFile.test(name))
        .filter(is('isFile'))
        .map((name) => ({ file: folder === null ? name : `${folder}/${name}`, folder })),
      folders: folder === null ? names.filter(is('isDirectory')) : [],
    };
  };
  const { pictures, folders } = list(null);
  return [...pictures, ...folders.flatMap((folder) => list(folder).pictures)];
}

const byCodeUnits = (a: string, b: string): number => (a < b ? -1 : a > b ? 1 : 0);
