import { and, asc, count, desc, eq, getTableColumns, inArray, lt, max, sql } from 'drizzle-orm';
import { storedJob, type Job, type JobStatus } from '../jobs/job.js';
import { checkpoints, jobs, results } from './schema.js';
import type { Store } from './store.js';

/** A row of `jobs` with what other tables know of it. */
export type JobRecord = typeof jobs.$inferSelect & { resultId: string | null };

const columns = { ...getTableColumns(jobs), resultId: results.id };
const selectJobs = ({ db }: Store) => db.select(columns).from(jobs).leftJoin(results, eq(results.jobId, jobs.id));
const modern = (record: JobRecord): JobRecord => ({ ...record, job: storedJob.parse(record.job) });

/** Adds a job at the end of the queue. */
export function insertJob(store: Store, row: { id: string; job: Job; idempotencyKey: string | null }): JobRecord {
  return store.db.transaction((transaction) => {
    const last = transaction
      .select({ position: max(jobs.position) })
      .from(jobs)
      .get();
    const inserted = transaction
      .insert(jobs)
      .values({
        ...row,
        status: 'queued',
        initImage: row.job.init ?? null,
        position: Math.floor(last?.position ?? 0) + 1,
        createdAt: Date.now(),
      })
      .returning()
      .get();
    return { ...inserted, resultId: null };
  });
}

export function findJob(store: Store, id: string): JobRecord | undefined {
  const record = selectJobs(store).where(eq(jobs.id, id)).get();
  return record && modern(record);
}

export function findJobByKey(store: Store, idempotencyKey: string): JobRecord | undefined {
  const record = selectJobs(store).where(eq(jobs.idempotencyKey, idempotencyKey)).get();
  return record && modern(record);
}

export function updateJob(store: Store, id: string, change: Partial<typeof jobs.$inferInsert>): void {
  store.db.update(jobs).set(change).where(eq(jobs.id, id)).run();
}

/** Jobs newest first, before `cursor` (a `seq`) where given. */
export function listJobs(store: Store, page: { statuses?: JobStatus[]; before?: number; limit: number }): JobRecord[] {
  return selectJobs(store)
    .where(
      and(page.statuses && inArray(jobs.status, page.statuses), page.before === undefined ? undefined : lt(jobs.seq, page.before)),
    )
    .orderBy(desc(jobs.seq))
    .limit(page.limit)
    .all()
    .map(modern);
}

/** Waiting jobs in the order in which they will run. */
export const queuedIds = ({ db }: Store): string[] =>
  db
    .select({ id: jobs.id })
    .from(jobs)
    .where(eq(jobs.status, 'queued'))
    .orderBy(asc(jobs.position), asc(jobs.seq))
    .all()
    .map(({ id }) => id);

/** Jobs that a server left running when it ended without warning. */
export const abandonedJobs = (store: Store): JobRecord[] =>
  selectJobs(store)
    .where(inArray(jobs.status, ['running', 'canceling']))
    .all()
    .map(modern);

export const countJobsByStatus = ({ db }: Store): Partial<Record<JobStatus, number>> =>
  Object.fromEntries(
    db
      .select({ status: jobs.status, jobs: count() })
      .from(jobs)
      .groupBy(jobs.status)
      .all()
      .map((row) => [row.status, row.jobs]),
  );

/** Makes `bytes` the job's checkpoint and drops the one before. */
export async function keepCheckpoint(store: Store, jobId: string, step: number, bytes: Uint8Array): Promise<void> {
  const before = checkpointOf(store, jobId)?.blob;
  const now = await store.blobs.put(bytes, 'application/octet-stream', (blob) => {
    const row = { jobId, step, blob, createdAt: Date.now() };
    store.db.insert(checkpoints).values(row).onConflictDoUpdate({ target: checkpoints.jobId, set: row }).run();
    return blob;
  });
  if (before && before !== now) await store.blobs.release(before);
}

export const checkpointOf = ({ db }: Store, jobId: string) =>
  db.select().from(checkpoints).where(eq(checkpoints.jobId, jobId)).get();

export async function dropCheckpoint(store: Store, jobId: string): Promise<void> {
  const { db, blobs } = store;
  const checkpoint = db.delete(checkpoints).where(eq(checkpoints.jobId, jobId)).returning().get();
  if (checkpoint) await blobs.release(checkpoint.blob);
}

/** True when a picture of that content id was uploaded or is a result. */
export const isKnownPicture = ({ db }: Store, id: string): boolean =>
  db.get<{ known: number }>(
    sql`select exists(select 1 from images where id = ${id}) or exists(select 1 from results where image = ${id}) as known`,
  ).known === 1;
