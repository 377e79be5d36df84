import { index, integer, real, sqliteTable, text } from 'drizzle-orm/sqlite-core';
import type { Tokens } from '../imagination/generator.js';
import type { Concept, CurvePoint, Job, JobStatus, Notice } from '../jobs/job.js';

// A row that needs a file refers to `blobs`, so SQLite itself knows when a file is no longer needed: see blobs.ts. A table that comes
// later does the same and nothing else has to learn of it. `seq` orders rows by age and is what cursors hold; ids are random and
// never become paths. Times are milliseconds since 1970. After a change: `npx drizzle-kit generate --config server/store/drizzle.config.ts`.

/** Files of DATA_DIR/blobs by the SHA-256 of their bytes. */
export const blobs = sqliteTable('blobs', {
  id: text().primaryKey(),
  mime: text().notNull(),
  bytes: integer().notNull(),
  createdAt: integer('created_at').notNull(),
});

export const jobs = sqliteTable(
  'jobs',
  {
    seq: integer().primaryKey({ autoIncrement: true }),
    id: text().notNull().unique(),
    status: text().$type<JobStatus>().notNull(),
    /** Order in the queue, lowest first; between two neighbours there is always their midpoint. */
    position: real().notNull(),
    job: text({ mode: 'json' }).$type<Job>().notNull(),
    initImage: text('init_image').references(() => blobs.id),
    idempotencyKey: text('idempotency_key').unique(),
    step: integer().notNull().default(0),
    cos: real(),
    secondOpinion: real('second_opinion'),
    textConcepts: text('text_concepts', { mode: 'json' }).$type<Concept[]>().notNull().default([]),
    notices: text({ mode: 'json' }).$type<Notice[]>().notNull().default([]),
    error: text(),
    /** How often the job was started and neither finished nor was put back in good order. */
    attempt: integer().notNull().default(0),
    /** How often the compute process died under the job while the server lived. */
    crashes: integer().notNull().default(0),
    createdAt: integer('created_at').notNull(),
    startedAt: integer('started_at'),
    finishedAt: integer('finished_at'),
  },
  (table) => [index('jobs_by_status').on(table.status, table.position), index('jobs_by_init_image').on(table.initImage)],
);

/** The latest checkpoint of a job that has not finished. */
export const checkpoints = sqliteTable(
  'checkpoints',
  {
    jobId: text('job_id')
      .primaryKey()
      .references(() => jobs.id, { onDelete: 'cascade' }),
    step: integer().notNull(),
    blob: text()
      .notNull()
      .references(() => blobs.id),
    createdAt: integer('created_at').notNull(),
  },
  (table) => [index('checkpoints_by_blob').on(table.blob)],
);

export const results = sqliteTable(
  'results',
  {
    seq: integer().primaryKey({ autoIncrement: true }),
    id: text().notNull().unique(),
    jobId: text('job_id')
      .notNull()
      .unique()
      .references(() => jobs.id, { onDelete: 'cascade' }),
    job: text({ mode: 'json' }).$type<Job>().notNull(),
    modelName: text('model_name').notNull(),
    modelHash: text('model_hash').notNull(),
    /** The VQGAN that drew it, what it drew from, and the picture before quantization: null with other methods and in older rows. */
    generatorName: text('generator_name'),
    generatorHash: text('generator_hash'),
    tokens: text({ mode: 'json' }).$type<Tokens>(),
    unquantized: text().references(() => blobs.id),
    device: text().notNull(),
    width: integer().notNull(),
    height: integer().notNull(),
    cos: real().notNull(),
    secondOpinion: real('second_opinion'),
    textConcepts: text('text_concepts', { mode: 'json' }).$type<Concept[]>().notNull(),
    pictureConcepts: text('picture_concepts', { mode: 'json' }).$type<Concept[]>().notNull(),
    secondOpinionConcepts: text('second_opinion_concepts', { mode: 'json' }).$type<Concept[]>().notNull(),
    curve: text({ mode: 'json' }).$type<CurvePoint[]>().notNull(),
    seconds: real().notNull(),
    notices: text({ mode: 'json' }).$type<Notice[]>().notNull(),
    image: text()
      .notNull()
      .references(() => blobs.id),
    createdAt: integer('created_at').notNull(),
  },
  (table) => [index('results_by_image').on(table.image), index('results_by_unquantized').on(table.unquantized)],
);

/** Uploaded pictures; the id is that of the re-encoded PNG in `blobs`. */
export const images = sqliteTable('images', {
  id: text()
    .primaryKey()
    .references(() => blobs.id),
  width: integer().notNull(),
  height: integer().notNull(),
  createdAt: integer('created_at').notNull(),
});
