import { mkdirSync } from 'node:fs';
import path from 'node:path';
import { BetterSQLiteSession } from 'drizzle-orm/better-sqlite3/session';
import { readMigrationFiles } from 'drizzle-orm/migrator';
import { createTableRelationsHelpers, extractTablesRelationalConfig } from 'drizzle-orm/relations';
import { BaseSQLiteDatabase, SQLiteSyncDialect } from 'drizzle-orm/sqlite-core';
import Libsql from 'libsql';
import { repositoryRoot } from '../root.js';
import { openBlobs, type Blobs } from './blobs.js';
import * as schema from './schema.js';

export type Database = BaseSQLiteDatabase<'sync', { changes: number; lastInsertRowid: number | bigint }, typeof schema>;

/** Everything that survives the process: rows in DATA_DIR/reverie.db, files in DATA_DIR/blobs. */
export interface Store {
  db: Database;
  blobs: Blobs;
  /** Waits for writes under way, then closes the database. */
  close(): Promise<void>;
}

/**
 * Opens, and where needed makes or migrates, the store in `dataDir`.
 * @param isShared a server may have it open too: files without a row may be those that it is about to give one
 * @throws Error naming the folder when it cannot be written or holds a database that is not ours.
 */
export async function openStore(dataDir: string, { isShared = false } = {}): Promise<Store> {
  let client: Libsql.Database;
  let db: Database;
  try {
    mkdirSync(dataDir, { recursive: true });
    client = new Libsql(path.join(dataDir, 'reverie.db'), { timeout: 5000 });
    // FULL: a job that was answered with 201 is on the disk, whatever happens to the machine.
    for (const pragma of ['journal_mode = WAL', 'synchronous = FULL', 'foreign_keys = ON']) client.pragma(pragma);
    db = migrated(client);
  } catch (error) {
    throw new Error(
      `the data folder ${dataDir} cannot be used (${error instanceof Error ? error.message : String(error)}): name a writable one in DATA_DIR`,
      { cause: error },
    );
  }
  const blobs = openBlobs(db, path.join(dataDir, 'blobs'));
  if (!isShared) await blobs.sweep();
  return {
    db,
    blobs,
    async close() {
      await blobs.settled();
      // Leaves one file, which can be copied.
      client.pragma('wal_checkpoint(TRUNCATE)');
      client.close();
    },
  };
}

/** Drizzle over libsql, put together from its public parts: `drizzle-orm/better-sqlite3` itself imports a driver that Node 20 lacks. */
function migrated(client: Libsql.Database): Database {
  const dialect = new SQLiteSyncDialect();
  const tables = extractTablesRelationalConfig(schema, createTableRelationsHelpers);
  const relational = { fullSchema: schema, schema: tables.tables, tableNamesMap: tables.tableNamesMap };
  const session = new BetterSQLiteSession<typeof schema, typeof tables.tables>(client, dialect, relational);
  dialect.migrate(readMigrationFiles({ migrationsFolder: path.join(repositoryRoot, 'server/store/migrations') }), session);
  return new BaseSQLiteDatabase('sync', dialect, session, relational) as unknown as Database;
}
