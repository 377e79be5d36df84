import { desc, eq, getTableColumns, lt } from 'drizzle-orm';
import { storedJob, type ResultView } from '../jobs/job.js';
import { images, results } from './schema.js';
import type { Store } from './store.js';

/** A row without its tokens, which are large beside the rest and not wanted in lists. */
export type ResultRecord = Omit<typeof results.$inferSelect, 'tokens'>;

const { tokens: _tokens, ...listed } = getTableColumns(results);

const modern = <Row extends ResultRecord>(record: Row): Row => ({ ...record, job: storedJob.parse(record.job) });

export function findResult({ db }: Store, id: string): typeof results.$inferSelect | undefined {
  const record = db.select().from(results).where(eq(results.id, id)).get();
  return record && modern(record);
}

/** Results newest first, before `cursor` (a `seq`) where given. */
export const listResults = ({ db }: Store, page: { before?: number; limit: number }): ResultRecord[] =>
  db
    .select(listed)
    .from(results)
    .where(page.before === undefined ? undefined : lt(results.seq, page.before))
    .orderBy(desc(results.seq))
    .limit(page.limit)
    .all()
    .map(modern);

/** Removes a result and, unless something else needs them, its pictures. @returns false when there is no such result. */
export async function deleteResult({ db, blobs }: Store, id: string): Promise<boolean> {
  const removed = db.delete(results).where(eq(results.id, id)).returning().get();
  for (const file of [removed?.image, removed?.unquantized]) if (file) await blobs.release(file);
  return removed !== undefined;
}

export function resultView(record: ResultRecord): ResultView {
  const { id, jobId, job, device, width, height, cos, secondOpinion, curve, seconds, notices, image, createdAt } = record;
  const { generatorName, generatorHash } = record;
  return {
    id,
    jobId,
    job,
    model: { name: record.modelName, hash: record.modelHash },
    generator: generatorName !== null && generatorHash !== null ? { name: generatorName, hash: generatorHash } : null,
    device,
    width,
    height,
    cos,
    secondOpinion,
    textConcepts: record.textConcepts,
    pictureConcepts: record.pictureConcepts,
    secondOpinionConcepts: record.secondOpinionConcepts,
    neurons: record.neurons ?? [],
    curve,
    seconds,
    notices,
    imageId: image,
    imageUrl: `/api/results/${id}/image.png`,
    unquantizedUrl: record.unquantized === null ? null : `/api/results/${id}/unquantized.png`,
    createdAt,
  };
}

/** Keeps an uploaded picture. @returns its content id. */
export const keepImage = ({ db, blobs }: Store, picture: { png: Uint8Array; width: number; height: number }): Promise<string> =>
  blobs.put(picture.png, 'image/png', (id) => {
    db.insert(images)
      .values({ id, width: picture.width, height: picture.height, createdAt: Date.now() })
      .onConflictDoNothing()
      .run();
    return id;
  });
