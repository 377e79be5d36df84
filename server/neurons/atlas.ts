import { existsSync, readFileSync } from 'node:fs';
import path from 'node:path';
import sharp, { type OutputInfo } from 'sharp';
import { z } from 'zod';
import { defaultModel } from '../../models/registry.js';
import { fileNameOf } from '../imagination/statistics.js';
import { repositoryRoot } from '../root.js';
import type { EyeView } from './see.js';

/** A sheet of pictures of all channels of a layer, made beforehand: `tile` pixels a side, row by row. */
export interface AtlasView {
  url: string;
  /** Of one channel's picture, with `{channel}` where its number goes: a page of one unit need not decode the sheet of all. */
  tiles: string;
  tile: number;
  columns: number;
}

export interface Atlas {
  view: AtlasView;
  file: string;
}

const atlasFile = z.object({ hash: z.string(), layer: z.string(), tile: z.int().min(1), columns: z.int().min(1) });

/** The sheet of a layer that lies beside a model's files: `atlas/LAYER.webp` and `LAYER.json`. One of another eye, or damaged, is none. */
export function atlasOf({ name, eyeHash }: Pick<EyeView, 'name' | 'eyeHash'>, layer: string): Atlas | null {
  const data = process.env.DATA_DIR ?? path.join(repositoryRoot, 'data');
  const folder = name === defaultModel ? path.join(repositoryRoot, 'models/brivl') : path.join(data, 'models', name);
  const file = path.join(folder, 'atlas', `${fileNameOf(layer)}.webp`);
  if (!existsSync(file)) return null;
  let told: unknown;
  try {
    told = JSON.parse(readFileSync(file.replace(/webp$/, 'json'), 'utf8'));
  } catch {
    return null;
  }
  const parsed = atlasFile.safeParse(told);
  if (!parsed.success || parsed.data.hash !== eyeHash || parsed.data.layer !== layer) return null;
  const { tile, columns } = parsed.data;
  const url = `/api/neurons/atlas/${encodeURIComponent(name)}/${encodeURIComponent(layer)}`;
  return { view: { url: `${url}.webp`, tiles: `${url}/{channel}.webp`, tile, columns }, file };
}

export interface Tiles {
  /** Decodes the sheet, a third of a second for 1280 tiles, so that the next tile need not wait for it. */
  prepare(atlas: Atlas): Promise<void>;
  /** A channel's picture as WebP; undefined where the sheet has none. */
  tile(atlas: Atlas, channel: number): Promise<Buffer | undefined>;
}

/** Cuts tiles from sheets; the sheet that was used last stays decoded (36 MB for 1280 tiles of 96 pixels). */
export function createTiles(): Tiles {
  let last: { file: string; sheet: Promise<{ data: Buffer; info: OutputInfo }> } | undefined;

  function decoded(file: string) {
    if (last?.file === file) return last.sheet;
    const sheet = sharp(file).raw().toBuffer({ resolveWithObject: true });
    const used = { file, sheet };
    last = used;
    sheet.catch(() => last === used && (last = undefined));
    return sheet;
  }

  return {
    async prepare({ file }) {
      await decoded(file);
    },
    async tile({ file, view: { tile, columns } }, channel) {
      const { data, info } = await decoded(file);
      const [left, top] = [(channel % columns) * tile, Math.floor(channel / columns) * tile];
      if (left + tile > info.width || top + tile > info.height) return undefined;
      const raw = { width: info.width, height: info.height, channels: info.channels };
      return sharp(data, { raw }).extract({ left, top, width: tile, height: tile }).webp({ lossless: true, effort: 0 }).toBuffer();
    },
  };
}
