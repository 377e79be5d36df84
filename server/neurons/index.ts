import { BadRequest } from '../compute/protocol.js';
import {
  claimIndex,
  closeIndex,
  dropFindings,
  findIndex,
  keepImages,
  keepUnits,
  keepWalk,
  openIndex,
  updateIndex,
  type IndexRecord,
} from '../store/neurons.js';
import type { Store } from '../store/store.js';
import { finishLayer, shownOf, type UnitRecord } from './finish.js';
import { bundled, identify, thumbnailOf, type PictureSet } from './pictures.js';
import type { EyeView, Looker } from './see.js';
import { createBreath, type Breathe } from './vectors.js';
import { walk, type Walked } from './walk.js';

/** How often the state of a walk is saved, in milliseconds. */
const saveEvery = 4000;
/** A state that takes longer to save than this share of the time between two saves is saved more seldom. */
const savingShare = 1 / 20;
/** How often a process says that it is still there while it finishes, in milliseconds; a third of what makes it pass for gone. */
const sayEvery = 10_000;
/** Units that are stored in one transaction, and pictures whose thumbnails are made together. */
const unitsAtATime = 32;
const imagesAtATime = 16;

export interface IndexProgress {
  id: string;
  images: number;
  done: number;
  unreadable: number;
  stage: 'looking' | 'finishing';
}

export interface IndexOptions {
  store: Store;
  looker: Looker;
  model: string;
  layers: readonly string[];
  set: PictureSet;
  progress?: (progress: IndexProgress) => void;
  /** Asked between batches; an index that is stopped keeps what it has. */
  isStopped?: () => boolean;
  /** Waited for before each batch: jobs that draw go first. */
  turn?: () => Promise<void>;
  /** For tests. */
  saveEvery?: number;
}

/** Thrown by the work itself when it is to end. */
class Stopped extends Error {}

/** Thrown when an index is stopped before its pictures have been counted: there is nothing to keep yet. */
export class StoppedCounting extends BadRequest {}

/**
 * The record of the index of a set of pictures: a new one, or that of one that was stopped, cut short or done whose pictures are still the same.
 *
 * @throws BadRequest for a set without pictures; IndexInUse; StoppedCounting
 */
export async function prepareIndex({ store, looker, model, layers, set, isStopped }: IndexOptions): Promise<IndexRecord> {
  const { hash, device } = await looker.eye(model);
  const identified = await identify(set, isStopped);
  if (identified === null)
    throw new StoppedCounting(`stopped while the pictures in ${set.source} were counted: the same command begins again`);
  const { images, hash: setHash } = identified;
  if (images === 0)
    throw new BadRequest(`there are no pictures in ${set.source} nor below it: name a folder with PNG, JPEG or WebP files`);
  const key = { modelName: model, modelHash: hash, layers: [...layers], source: set.source, setHash, device };
  return openIndex(store, key, images);
}

/**
 * Makes an index, or goes on with one that was stopped or cut short; one that is done is left as it is.
 *
 * @returns its record: `done`, or `stopped` when `isStopped` said so
 * @throws BadRequest for a set without pictures that can be read; IndexInUse; StoppedCounting
 */
export async function runIndex(options: IndexOptions): Promise<IndexRecord> {
  const { store, looker, model } = options;
  const record = await prepareIndex(options);
  if (record.state === 'done') return record;
  claimIndex(store, record);
  const { id } = record;
  const seen = () => ({ pid: process.pid, seenAt: Date.now() });
  try {
    return await walkAndFinish(options, await looker.eye(model), record, seen);
  } catch (error) {
    updateIndex(store, id, { state: 'failed', error: error instanceof Error ? error.message : String(error), pid: null });
    throw error;
  }
}

async function walkAndFinish(
  options: IndexOptions,
  eye: EyeView,
  record: IndexRecord,
  seen: () => { pid: number; seenAt: number },
): Promise<IndexRecord> {
  const { store, looker, layers, set, progress, isStopped, turn } = options;
  const { id, images } = record;
  const tell = ({ done, unreadable }: Walked, stage: IndexProgress['stage']) =>
    progress?.({ id, images, done, unreadable: unreadable.count, stage });
  const told = ({ done, unreadable }: Walked) => ({
    done,
    unreadable: unreadable.count,
    firstUnreadable: unreadable.first,
    ...seen(),
  });
  const stop = async (walked: Walked, save: () => Buffer): Promise<IndexRecord> => {
    await keepWalk(store, id, save(), { ...told(walked), state: 'stopped', pid: null });
    return findIndex(store, id)!;
  };

  let every = options.saveEvery ?? saveEvery;
  let saved = performance.now();
  await turn?.();
  const { walked, isWhole, save } = await walk({
    looker,
    eye,
    layers,
    set,
    // One whose file is gone is no state: the walk begins from the start.
    state: record.checkpoint === null ? undefined : await store.blobs.read(record.checkpoint).catch(() => undefined),
    async between(walked, save) {
      tell(walked, 'looking');
      if (isStopped?.()) return false;
      if (performance.now() - saved >= every) {
        const begun = performance.now();
        await keepWalk(store, id, save(), told(walked));
        saved = performance.now();
        every = options.saveEvery ?? Math.max(saveEvery, (saved - begun) / savingShare);
      }
      await turn?.();
      return !isStopped?.();
    },
  });
  if (!isWhole) return stop(walked, save);
  if (walked.unreadable.count === walked.done) {
    const [{ name, why } = { name: 'the folder', why: 'it is empty now' }] = walked.unreadable.first;
    throw new BadRequest(`none of the ${images} pictures in ${set.source} can be read (${name}: ${why}): index others`);
  }
  await keepWalk(store, id, save(), told(walked));
  tell(walked, 'finishing');
  await dropFindings(store, id);
  const grids: IndexRecord['grids'] = {};
  const breath = createBreath();
  let said = Date.now();
  const breathe = async () => {
    if (isStopped?.()) throw new Stopped();
    if (Date.now() - said >= sayEvery) {
      updateIndex(store, id, seen());
      said = Date.now();
    }
    await breath();
  };
  try {
    const rows = await storeImages(store, id, set, walked, breathe);
    for (const [layer, tally] of walked.tallies) {
      const { rows: height, columns } = tally.shape;
      grids[layer] = { rows: height, columns };
      let some: UnitRecord[] = [];
      const keep = () => {
        keepUnits(store, { indexId: id, layer, columns }, some, rows);
        some = [];
      };
      const meaning = await looker.meaning(eye.name, layer);
      for await (const unit of finishLayer(tally, walked.kept, meaning, looker.products, breathe)) {
        some.push(unit);
        if (some.length === unitsAtATime) keep();
      }
      keep();
    }
  } catch (error) {
    if (error instanceof Stopped) return stop(walked, save);
    throw error;
  }
  await closeIndex(store, id, { ...told(walked), grids, pid: null });
  return findIndex(store, id)!;
}

/** Rows for all examples that some unit shows, with thumbnails of those that are not bundled. @returns the rows' ids by number */
async function storeImages(
  store: Store,
  id: string,
  set: PictureSet,
  { kept, tallies }: Walked,
  breathe: Breathe,
): Promise<Map<number, number>> {
  const shown = new Set<number>();
  for (const tally of tallies.values()) for await (const image of shownOf(tally, breathe)) shown.add(image);
  const all = [...kept].filter(([number]) => shown.has(number)).sort(([a], [b]) => a - b);
  const rows = new Map<number, number>();
  for (let start = 0; start < all.length; start += imagesAtATime) {
    await breathe();
    const some = await Promise.all(
      all.slice(start, start + imagesAtATime).map(async ([number, { name }]) => ({
        number,
        name,
        // One that was there before and is not now has no thumbnail.
        thumbnail: set.source === bundled ? null : await thumbnailOf(set.fileOf(name)).catch(() => null),
      })),
    );
    for (const [number, row] of await keepImages(store, id, some)) rows.set(number, row);
  }
  return rows;
}
