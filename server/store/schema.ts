import { blob, index, integer, primaryKey, real, sqliteTable, text, uniqueIndex } from 'drizzle-orm/sqlite-core';
import type { Tokens } from '../imagination/generator.js';
import type { Concept, CurvePoint, Job, JobStatus, NeuronReading, Notice } from '../jobs/job.js';
import type { ExampleKind, Neighbour } from '../neurons/finish.js';
import type { Histogram } from '../neurons/histogram.js';
import type { Unreadable } from '../neurons/walk.js';

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
    /** To the text; null where a job has none. */
    cos: real(),
    secondOpinion: real('second_opinion'),
    textConcepts: text('text_concepts', { mode: 'json' }).$type<Concept[]>().notNull(),
    pictureConcepts: text('picture_concepts', { mode: 'json' }).$type<Concept[]>().notNull(),
    secondOpinionConcepts: text('second_opinion_concepts', { mode: 'json' }).$type<Concept[]>().notNull(),
    /** Null in rows from before they were kept. */
    neurons: text({ mode: 'json' }).$type<NeuronReading[]>(),
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

export const indexStates = ['running', 'stopped', 'failed', 'done'] as const;
export type IndexState = (typeof indexStates)[number];

/** What a model's layers answer to a set of pictures. */
export const indexes = sqliteTable(
  'indexes',
  {
    seq: integer().primaryKey({ autoIncrement: true }),
    id: text().notNull().unique(),
    modelName: text('model_name').notNull(),
    modelHash: text('model_hash').notNull(),
    layers: text({ mode: 'json' }).$type<string[]>().notNull(),
    /** `bundled`, or the absolute path of a folder. */
    source: text().notNull(),
    /** Of the names, sizes and times of its files. */
    setHash: text('set_hash').notNull(),
    images: integer().notNull(),
    done: integer().notNull().default(0),
    unreadable: integer().notNull().default(0),
    firstUnreadable: text('first_unreadable', { mode: 'json' }).$type<Unreadable[]>().notNull().default([]),
    /** By layer: rows and columns of its map. Empty until it is done. */
    grids: text({ mode: 'json' }).$type<Record<string, { rows: number; columns: number }>>().notNull().default({}),
    state: text().$type<IndexState>().notNull(),
    error: text(),
    /** Which process walks, and when it was last seen doing so. */
    pid: integer(),
    seenAt: integer('seen_at'),
    /** The walk's state, while it is not done. */
    checkpoint: text().references(() => blobs.id),
    createdAt: integer('created_at').notNull(),
    finishedAt: integer('finished_at'),
  },
  (table) => [index('indexes_by_model').on(table.modelHash, table.source), index('indexes_by_checkpoint').on(table.checkpoint)],
);

/** Those pictures of an index that are examples of some unit. */
export const indexImages = sqliteTable(
  'index_images',
  {
    id: integer().primaryKey({ autoIncrement: true }),
    indexId: text('index_id')
      .notNull()
      .references(() => indexes.id, { onDelete: 'cascade' }),
    /** Its number in the set. */
    number: integer().notNull(),
    name: text().notNull(),
    /** A small JPEG; null for the bundled photographs, which lie in the repository, and for a picture that was gone at the end. */
    thumbnail: text().references(() => blobs.id),
  },
  (table) => [
    uniqueIndex('index_images_by_number').on(table.indexId, table.number),
    index('index_images_by_thumbnail').on(table.thumbnail),
  ],
);

export const units = sqliteTable(
  'units',
  {
    indexId: text('index_id')
      .notNull()
      .references(() => indexes.id, { onDelete: 'cascade' }),
    layer: text().notNull(),
    channel: integer().notNull(),
    mean: real().notNull(),
    deviation: real().notNull(),
    max: real().notNull(),
    density: real().notNull(),
    histogram: text({ mode: 'json' }).$type<Histogram>().notNull(),
    label: text({ mode: 'json' }).$type<Concept>(),
    words: text({ mode: 'json' }).$type<Concept[]>().notNull(),
    similar: text({ mode: 'json' }).$type<Neighbour[]>().notNull(),
    opposite: text({ mode: 'json' }).$type<Neighbour[]>().notNull(),
    clarity: real(),
    polysemanticity: real(),
    redundancy: real(),
    x: real().notNull(),
    y: real().notNull(),
  },
  (table) => [primaryKey({ columns: [table.indexId, table.layer, table.channel] })],
);

/** How a unit answers a picture. */
export const examples = sqliteTable(
  'examples',
  {
    indexId: text('index_id').notNull(),
    layer: text().notNull(),
    channel: integer().notNull(),
    kind: text().$type<ExampleKind>().notNull(),
    rank: integer().notNull(),
    image: integer()
      .notNull()
      .references(() => indexImages.id, { onDelete: 'cascade' }),
    activation: real().notNull(),
    y: integer().notNull(),
    x: integer().notNull(),
    /** Its map in bytes, row by row: low + byte / 255 (high - low). */
    map: blob({ mode: 'buffer' }),
    low: real(),
    high: real(),
  },
  (table) => [
    primaryKey({ columns: [table.indexId, table.layer, table.channel, table.kind, table.rank] }),
    index('examples_by_image').on(table.image),
  ],
);
