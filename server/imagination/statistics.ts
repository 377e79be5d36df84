import { mkdirSync, readdirSync, renameSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { readStatistics, statisticsFile, summarize, type ChannelStatistics } from '../../models/brivl/statistics.js';
import { siteName, type Site } from '../../models/brivl/units.js';
import type { ImageModel } from '../../models/brivl/model.js';
import { digestOf } from '../../models/weights/digest.js';
import { openWeights } from '../../models/weights/weights.js';
import { repositoryRoot } from '../root.js';
import { lookAt } from './look.js';
import type { Sessions } from './sessions.js';

const photographFolder = path.join(repositoryRoot, 'models/photographs');

/** The files of the bundled photographs, in order of their names. */
export const bundledPhotographs = (): string[] =>
  readdirSync(photographFolder)
    .filter((name) => name.endsWith('.jpg'))
    .sort()
    .map((name) => path.join(photographFolder, name));

/** A picture's file as RGB bytes [side, side, 3]. */
type Decode = (file: string, side: number) => Promise<Uint8Array>;

/** How the sites of an eye answer the bundled photographs, each stretched to what the eye sees. Takes seconds. */
export async function measureStatistics(
  sessions: Sessions,
  { hash, eye }: Pick<ImageModel, 'hash' | 'eye'>,
  sites: readonly Site[],
  decode: Decode,
  files = bundledPhotographs(),
): Promise<ChannelStatistics[]> {
  const canvas = { width: eye.size, height: eye.size };
  const readings: Float32Array[][] = sites.map(() => []);
  for (const file of files) {
    const { answers } = await lookAt(sessions, hash, eye, await decode(file, eye.size), canvas, sites);
    answers.forEach((row, i) => readings[i].push(row.slice()));
  }
  return readings.map(summarize);
}

/** The statistics of a site: those of the model's own files, else measured once. */
export type StatisticsOf = (model: ImageModel, site: Site) => Promise<ChannelStatistics>;

/** @param folder where what was measured is kept, as `{model hash}-{site}-{photographs}.safetensors`; null to measure anew in each process */
export function createStatistics(sessions: Sessions, decode: Decode, folder: string | null): StatisticsOf {
  const known = new Map<string, Promise<ChannelStatistics>>();
  // Other photographs, other figures: those of the last release are not taken for these.
  let photographs: string | undefined;

  const measure = async (model: ImageModel, site: Site, file: string | null): Promise<ChannelStatistics> => {
    const kept = file ? readKept(file, site.layer, channelsOf(model, site)) : undefined;
    if (kept) return kept;
    const [measured] = await measureStatistics(sessions, model, [site], decode);
    if (file) {
      mkdirSync(path.dirname(file), { recursive: true });
      // Whole or not at all: another process may be reading it, or writing it too.
      const draft = `${file}.${process.pid}.part`;
      // F32, as they were measured: the process that measured must not draw other pictures than those after it.
      writeFileSync(draft, statisticsFile(new Map([[site.layer, measured]]), 'F32'));
      renameSync(draft, file);
    }
    return measured;
  };

  return (model, site) => {
    const own = site.spot === 'mean' ? model.statistics.get(site.layer) : undefined;
    if (own) return Promise.resolve(own);
    photographs ??= digestOf(bundledPhotographs()).hash;
    const name = `${model.hash}-${fileNameOf(siteName(site))}-${photographs}.safetensors`;
    const before = known.get(name);
    if (before) return before;
    const measuring = measure(model, site, folder && path.join(folder, name));
    known.set(name, measuring);
    measuring.catch(() => known.delete(name));
    return measuring;
  };
}

const channelsOf = ({ eye }: ImageModel, { layer }: Site) => eye.layers.find(({ name }) => name === layer)!.channels;

/** Layers of an ONNX file have any names: what a file's name may not hold is written as its code in hexadecimal, so that no two are alike. */
export const fileNameOf = (name: string): string =>
  name.replace(/[^A-Za-z0-9.@,-]/gu, (character) => `_${character.codePointAt(0)!.toString(16)}_`);

/** Undefined for a file that is not there, or is not what it should be: then it is measured again. */
function readKept(file: string, layer: string, channels: number): ChannelStatistics | undefined {
  try {
    const weights = openWeights(file);
    try {
      const kept = readStatistics(weights, [layer]).get(layer);
      return kept?.means.length === channels ? kept : undefined;
    } finally {
      weights.close();
    }
  } catch {
    return undefined;
  }
}
