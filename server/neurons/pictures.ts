import { createHash } from 'node:crypto';
import { readdirSync, readFileSync, statSync, type Dirent } from 'node:fs';
import { readdir, stat } from 'node:fs/promises';
import path from 'node:path';
import sharp from 'sharp';
import { z } from 'zod';
import { decodeTo } from '../compute/pictures.js';
import { BadRequest } from '../compute/protocol.js';
import { bundledPhotographs } from '../imagination/statistics.js';
import { repositoryRoot } from '../root.js';

/** The pictures that an index walks through, always in the same order. */
export interface PictureSet {
  /** `bundled`, or the absolute path of a folder. */
  source: string;
  walk(): AsyncGenerator<PictureFile> | Generator<PictureFile>;
  /** Where a picture lies that `walk` has named. */
  fileOf(name: string): string;
}

export interface PictureFile {
  /** Relative to the set's folder, with slashes. */
  name: string;
  path: string;
}

export const bundled = 'bundled';
const photographFolder = path.join(repositoryRoot, 'models/photographs');

const photographs = z.array(
  z.object({
    file: z.string(),
    title: z.object({ en: z.string(), zh: z.string() }),
    author: z.string(),
    licence: z.string(),
    url: z.string().optional(),
  }),
);

/** Who made a photograph, and under which licence it may be used. */
export interface Credit {
  title: { en: string; zh: string };
  author: string;
  licence: string;
  url: string | null;
}

let credits: ReadonlyMap<string, Credit> | undefined;

/** By the file's name. */
export function bundledCredits(): ReadonlyMap<string, Credit> {
  credits ??= new Map(
    photographs
      .parse(JSON.parse(readFileSync(path.join(photographFolder, 'photographs.json'), 'utf8')))
      .map(({ file, title, author, licence, url = null }) => [file, { title, author, licence, url }]),
  );
  return credits;
}

/** The file of a bundled photograph; undefined for any other name. */
export const photographFile = (name: string): string | undefined =>
  bundledCredits().has(name) ? path.join(photographFolder, name) : undefined;

export const bundledSet: PictureSet = {
  source: bundled,
  *walk() {
    for (const file of bundledPhotographs()) yield { name: path.basename(file), path: file };
  },
  fileOf: (name) => path.join(photographFolder, name),
};

const pictureFile = /\.(png|jpe?g|webp)$/i;

/**
 * The PNG, JPEG and WebP files of a folder and of all its subfolders, by their endings, in code unit order folder by folder; hidden ones are
 * left out, links are followed, but no folder is walked through twice. Only one folder's names are in memory for each level.
 * @throws BadRequest when the folder itself cannot be listed; one below it that cannot is passed over.
 */
export function folderSet(directory: string): PictureSet {
  const root = path.resolve(directory);
  try {
    if (!statSync(root).isDirectory()) throw new Error('it is not a folder');
    readdirSync(root);
  } catch (error) {
    throw new BadRequest(`${directory} cannot be listed: ${(error as Error).message}`, { cause: error });
  }
  return { source: root, walk: () => walkFolder(root, '', new Set()), fileOf: (name) => path.join(root, name) };
}

async function* walkFolder(root: string, folder: string, met: Set<string>): AsyncGenerator<PictureFile> {
  const at = path.join(root, folder);
  let entries: Dirent[];
  try {
    // As bigint: some file systems number their files beyond what a double holds.
    const { dev, ino } = await stat(at, { bigint: true });
    const self = `${dev}:${ino}`;
    if (met.has(self)) return;
    met.add(self);
    entries = await readdir(at, { withFileTypes: true });
  } catch {
    return;
  }
  entries.sort((a, b) => byCodeUnits(a.name, b.name));
  for (const entry of entries) {
    if (entry.name.startsWith('.')) continue;
    const name = folder === '' ? entry.name : `${folder}/${entry.name}`;
    const full = path.join(at, entry.name);
    const kind = entry.isSymbolicLink() ? await stat(full).catch(() => null) : entry;
    if (kind?.isDirectory()) yield* walkFolder(root, name, met);
    else if (kind?.isFile() && pictureFile.test(entry.name)) yield { name, path: full };
  }
}

const byCodeUnits = (a: string, b: string): number => (a < b ? -1 : a > b ? 1 : 0);

/** Files between two looks at whether counting is to end. */
const countedTogether = 256;

/**
 * How many pictures a set has, and what tells it from another: names, sizes and times of change of all of its files.
 * @returns null when `isStopped` said so before the end
 */
export async function identify(set: PictureSet, isStopped?: () => boolean): Promise<{ images: number; hash: string } | null> {
  const sha = createHash('sha256');
  let images = 0;
  for await (const file of set.walk()) {
    const { size, mtimeMs } = await stat(file.path).catch(() => ({ size: -1, mtimeMs: 0 }));
    sha.update(`${file.name}\0${size}\0${Math.floor(mtimeMs)}\n`);
    images += 1;
    if (images % countedTogether === 0 && isStopped?.()) return null;
  }
  return { images, hash: sha.digest('hex').slice(0, 32) };
}

const formats = ['png', 'jpeg', 'webp'];

/** People's own pictures may be larger than a stranger's: 268 megapixels, libvips' own bound. */
const mostPixels = 0x3fff ** 2;

/** A picture as an eye of that size looks at it: [size, size, 3] bytes, stretched. @throws Error with a sentence when it cannot be read. */
export async function decodeFor(size: number, file: string): Promise<Uint8Array> {
  const { format } = await sharp(file).metadata();
  if (!formats.includes(format)) throw new Error(`it is ${format}, not PNG, JPEG or WebP`);
  return decodeTo(file, { width: size, height: size }, 'fill', mostPixels);
}

/** A JPEG of at most 192 pixels a side. */
export const thumbnailOf = async (file: string): Promise<Buffer> =>
  sharp(file)
    .rotate()
    .resize({ width: 192, height: 192, fit: 'inside', withoutEnlargement: true })
    .flatten({ background: '#fff' })
    .toColourspace('srgb')
    .jpeg({ quality: 80 })
    .toBuffer();
