import { createHash } from 'node:crypto';
import { and, asc, desc, eq } from 'drizzle-orm';
import type { ExampleKind, UnitRecord } from '../neurons/finish.js';
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
}

const idOf = ({ modelHash, layers, source, setHash }: IndexKey): string =>
  createHash('sha256')
    .update(JSON.stringify([modelHash, layers, source, setHash]))
    .digest('hex')
    .slice(0, 24);

/** The index of that key, made where there is none yet. Unfinished ones of the same source whose pictures have changed since are removed. */
export async function openIndex(store: Store, key: IndexKey, images: number): Promise<IndexRecord> {
  const { db } = store;
  const id = idOf(key);
  db.insert(indexes)
    .values({ ...key, id, images, state: 'stopped', createdAt: Date.now() })
    .onConflictDoNothing()
    .run();
  for (const other of sameKind(store, key))
    if (other.id !== id && other.state !== 'done' && other.setHash !== key.setHash) await removeIndex(store, other.id);
  return findIndex(store, id)!;
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

/** The index that tells of a layer: the newest that is done, else the newest. */
export function indexOfLayer({ db }: Store, modelHash: string, layer: string): IndexRecord | undefined {
  const found = db
    .select()
    .from(indexes)
    .where(eq(indexes.modelHash, modelHash))
    .orderBy(desc(indexes.finishedAt), desc(indexes.seq))
    .all()
    .filter(({ layers }) => layers.includes(layer));
  return found.find(({ state }) => state === 'done') ?? found[0];
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
  for (const { thumbnail } of thumbnails) if (thumbnail) await store.blobs.release(thumbnail);
}

/** An index is done: its checkpoint goes, and with it the older ones of the same model, layers and source. */
export async function closeIndex(store: Store, id: string, change: Partial<typeof indexes.$inferInsert>): Promise<void> {
  const record = findIndex(store, id)!;
  updateIndex(store, id, { ...change, state: 'done', checkpoint: null, error: null, finishedAt: Date.now() });
  if (record.checkpoint) await store.blobs.release(record.checkpoint);
  for (const other of sameKind(store, record)) if (other.id !== id) await removeIndex(store, other.id);
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
