import { createHash } from 'node:crypto';
import { and, asc, desc, eq, or, sql } from 'drizzle-orm';
import { BadRequest } from '../compute/protocol.js';
import type { ExampleKind, UnitRecord } from '../neurons/finish.js';
import { bundled } from '../neurons/pictures.js';
import { examples, indexes, indexImages, units, type IndexState } from './schema.js';
import type { Store } from './store.js';

export type IndexRecord = typeof indexes.$inferSelect;
export type UnitRow = typeof units.$inferSelect;
export type ExampleRow = Omit<typeof examples.$inferSelect, 'image'> & { image: typeof indexImages.$inferSelect };
export type { IndexState };

/** What an index is of: two that are of the same are one. */
export interface IndexKey {
  modelName: string;
  modelHash: string;
  layers: string[];
  source: string;
  setHash: string;
  /** Numbers of one device are not mixed with those of another. */
  device: string;
}

/**
 * Of what an index says and of the state of its walk. To be raised when either changes its meaning: then indexes of before are not read any
 * more, and are made anew.
 */
const format = 1;
const isCurrent = ({ id }: Pick<IndexRecord, 'id'>) => id.startsWith(`${format}-`);

const idOf = ({ modelHash, layers, source, setHash, device }: IndexKey): string => {
  const digest = createHash('sha256').update(JSON.stringify([modelHash, layers, source, setHash, device]));
  return `${format}-${digest.digest('hex').slice(0, 24)}`;
};

/** A process that has not been seen for so long does not walk any more, in milliseconds. */
const goneAfter = 30_000;

/** Another process is at work on the same index, or on one that this one would take the place of. */
export class IndexInUse extends BadRequest {
  constructor({ pid, source }: IndexRecord) {
    super(`another process (${pid}) is making an index of ${source}: wait for it, or stop it first`);
  }
}

/** True while another process that lives walks. */
export function isElsewhere({ state, pid, seenAt }: IndexRecord): boolean {
  if (state !== 'running' || pid === null || pid === process.pid || Date.now() - (seenAt ?? 0) > goneAfter) return false;
  try {
    process.kill(pid, 0);
    return true;
  } catch (error) {
    return (error as NodeJS.ErrnoException).code === 'EPERM';
  }
}

/**
 * The index of that key, made where there is none yet. Unfinished ones of the same source whose pictures have changed since, or of another
 * format, are removed.
 *
 * @throws IndexInUse when another process is making one of those
 */
export async function openIndex(store: Store, { device, ...key }: IndexKey, images: number): Promise<IndexRecord> {
  const { db } = store;
  const id = idOf({ device, ...key });
  const outdated = sameKind(store, key).filter(
    (other) => other.id !== id && other.state !== 'done' && (other.setHash !== key.setHash || !isCurrent(other)),
  );
  const inUse = outdated.find(isElsewhere);
  if (inUse) throw new IndexInUse(inUse);
  // Whoever opens one makes it: nobody who asks meanwhile shall find it stopped, or begin it too.
  const now = Date.now();
  db.insert(indexes)
    .values({ ...key, id, images, state: 'running', pid: process.pid, seenAt: now, createdAt: now })
    .onConflictDoNothing()
    .run();
  for (const other of outdated) await removeIndex(store, other.id);
  return findIndex(store, id)!;
}

/**
 * Makes an index this process's, unless another has taken it since it was read.
 * @throws IndexInUse
 */
export function claimIndex(store: Store, record: IndexRecord): void {
  if (isElsewhere(record)) throw new IndexInUse(record);
  const isAsRead = sql`${indexes.pid} is ${record.pid} and ${indexes.seenAt} is ${record.seenAt}`;
  const { changes } = store.db
    .update(indexes)
    .set({ state: 'running', error: null, pid: process.pid, seenAt: Date.now() })
    .where(and(eq(indexes.id, record.id), or(eq(indexes.pid, process.pid), isAsRead)))
    .run();
  if (changes === 0) throw new IndexInUse(findIndex(store, record.id) ?? record);
}

const sameKind = ({ db }: Store, { modelName, layers, source }: Pick<IndexKey, 'modelName' | 'layers' | 'source'>) =>
  db
    .select()
    .from(indexes)
    .where(and(eq(indexes.modelName, modelName), eq(indexes.source, source)))
    .all()
    .filter((other) => JSON.stringify(other.layers) === JSON.stringify(layers));

export const findIndex = ({ db }: Store, id: string): IndexRecord | undefined =>
  db.select().from(indexes).where(eq(indexes.id, id)).get();

/** Newest first. */
export const listIndexes = ({ db }: Store): IndexRecord[] => db.select().from(indexes).orderBy(desc(indexes.seq)).all();

/**
 * The index that tells of a layer: the newest that is done, else that of the bundled photographs. One of a folder that is not done tells of
 * nothing: whoever began it goes on with it.
 */
export function indexOfLayer({ db }: Store, modelHash: string, layer: string): IndexRecord | undefined {
  const found = db
    .select()
    .from(indexes)
    .where(eq(indexes.modelHash, modelHash))
    .orderBy(desc(indexes.finishedAt), desc(indexes.seq))
    .all()
    .filter((record) => isCurrent(record) && record.layers.includes(layer));
  return found.find(({ state }) => state === 'done') ?? found.find(({ source }) => source === bundled);
}

export function updateIndex({ db }: Store, id: string, change: Partial<typeof indexes.$inferInsert>): void {
  db.update(indexes).set(change).where(eq(indexes.id, id)).run();
}

/** Makes `state` the checkpoint of a walk and drops the one before. */
export async function keepWalk(
  store: Store,
  id: string,
  state: Uint8Array,
  change: Partial<typeof indexes.$inferInsert>,
): Promise<void> {
  const before = findIndex(store, id)?.checkpoint;
  const now = await store.blobs.put(state, 'application/octet-stream', (checkpoint) => {
    updateIndex(store, id, { ...change, checkpoint });
    return checkpoint;
  });
  if (before && before !== now) await store.blobs.release(before);
}

/** A picture that is an example, as it is stored. */
export interface ExampleImage {
  number: number;
  name: string;
  /** A small JPEG, for pictures that are not bundled. */
  thumbnail: Buffer | null;
}

/** Stores some pictures. @returns the ids of their rows, by number */
export async function keepImages(store: Store, indexId: string, pictures: readonly ExampleImage[]): Promise<Map<number, number>> {
  const insert = (thumbnails: ReadonlyMap<ExampleImage, string>) =>
    new Map(
      store.db
        .insert(indexImages)
        .values(
          pictures.map((picture) => ({
            indexId,
            number: picture.number,
            name: picture.name,
            thumbnail: thumbnails.get(picture) ?? null,
          })),
        )
        .returning({ id: indexImages.id, number: indexImages.number })
        .all()
        .map(({ id, number }) => [number, id]),
    );
  const drawn = pictures.filter(({ thumbnail }) => thumbnail !== null);
  if (drawn.length === 0) return insert(new Map());
  return store.blobs.putAll(
    drawn.map(({ thumbnail }) => thumbnail!),
    'image/jpeg',
    (ids) => insert(new Map(drawn.map((picture, i) => [picture, ids[i]]))),
  );
}

/** Stores units of a layer with their examples. @param images ids of the pictures' rows by number @param columns of the layer's map */
export function keepUnits(
  { db }: Store,
  at: { indexId: string; layer: string; columns: number },
  records: readonly UnitRecord[],
  images: ReadonlyMap<number, number>,
): void {
  const { indexId, layer, columns } = at;
  db.transaction((transaction) => {
    for (const { examples: own, ...unit } of records) {
      transaction
        .insert(units)
        .values({ ...unit, indexId, layer })
        .run();
      const rows = Object.entries(own).flatMap(([kind, list]) =>
        list.map((example, rank) => ({
          indexId,
          layer,
          channel: unit.channel,
          kind: kind as ExampleKind,
          rank,
          image: images.get(example.image)!,
          activation: example.activation,
          y: Math.floor(example.place / columns),
          x: example.place % columns,
          map: example.map && Buffer.from(example.map.bytes),
          low: example.map?.low ?? null,
          high: example.map?.high ?? null,
        })),
      );
      transaction.insert(examples).values(rows).run();
    }
  });
}

/** Takes away what a finish that was cut short has stored, so that it can begin anew. */
export async function dropFindings(store: Store, indexId: string): Promise<void> {
  const { db } = store;
  const thumbnails = db
    .delete(indexImages)
    .where(eq(indexImages.indexId, indexId))
    .returning({ thumbnail: indexImages.thumbnail })
    .all();
  db.delete(units).where(eq(units.indexId, indexId)).run();
  await store.blobs.releaseAll(thumbnails.flatMap(({ thumbnail }) => thumbnail ?? []));
}

/** An index is done: its checkpoint goes, and with it the older ones of the same model, layers and source. */
export async function closeIndex(store: Store, id: string, change: Partial<typeof indexes.$inferInsert>): Promise<void> {
  const record = findIndex(store, id)!;
  updateIndex(store, id, { ...change, state: 'done', checkpoint: null, error: null, finishedAt: Date.now() });
  if (record.checkpoint) await store.blobs.release(record.checkpoint);
  for (const other of sameKind(store, record)) if (other.id !== id && !isElsewhere(other)) await removeIndex(store, other.id);
}

export async function removeIndex(store: Store, id: string): Promise<void> {
  await dropFindings(store, id);
  const [removed] = store.db.delete(indexes).where(eq(indexes.id, id)).returning().all();
  if (removed?.checkpoint) await store.blobs.release(removed.checkpoint);
}

export const unitsOf = ({ db }: Store, indexId: string, layer: string): UnitRow[] =>
  db
    .select()
    .from(units)
    .where(and(eq(units.indexId, indexId), eq(units.layer, layer)))
    .orderBy(asc(units.channel))
    .all();

/** What lists show of a layer's units. */
export const summariesOf = ({ db }: Store, indexId: string, layer: string) =>
  db
    .select({
      channel: units.channel,
      label: units.label,
      words: units.words,
      mean: units.mean,
      max: units.max,
      density: units.density,
      clarity: units.clarity,
      polysemanticity: units.polysemanticity,
      redundancy: units.redundancy,
      x: units.x,
      y: units.y,
    })
    .from(units)
    .where(and(eq(units.indexId, indexId), eq(units.layer, layer)))
    .orderBy(asc(units.channel))
    .all();

export const findUnit = ({ db }: Store, indexId: string, layer: string, channel: number): UnitRow | undefined =>
  db
    .select()
    .from(units)
    .where(and(eq(units.indexId, indexId), eq(units.layer, layer), eq(units.channel, channel)))
    .get();

export const examplesOf = ({ db }: Store, indexId: string, layer: string, channel: number): ExampleRow[] =>
  db
    .select()
    .from(examples)
    .innerJoin(indexImages, eq(examples.image, indexImages.id))
    .where(and(eq(examples.indexId, indexId), eq(examples.layer, layer), eq(examples.channel, channel)))
    .orderBy(asc(examples.rank))
    .all()
    .map((row) => ({ ...row.examples, image: row.index_images }));

/** The picture that drives each channel of a layer most. */
export const firstExamples = ({ db }: Store, indexId: string, layer: string): Map<number, typeof indexImages.$inferSelect> =>
  new Map(
    db
      .select({ channel: examples.channel, image: indexImages })
      .from(examples)
      .innerJoin(indexImages, eq(examples.image, indexImages.id))
      .where(and(eq(examples.indexId, indexId), eq(examples.layer, layer), eq(examples.kind, 'top'), eq(examples.rank, 0)))
      .all()
      .map(({ channel, image }) => [channel, image]),
  );

export const findIndexImage = ({ db }: Store, id: number) => db.select().from(indexImages).where(eq(indexImages.id, id)).get();
