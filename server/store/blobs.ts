import { createHash, randomBytes } from 'node:crypto';
import { mkdir, open, readdir, readFile, rename, rm, stat } from 'node:fs/promises';
import path from 'node:path';
import { eq, lt } from 'drizzle-orm';
import { contentId } from '../jobs/job.js';
import * as schema from './schema.js';
import type { Database } from './store.js';

/** Files by content: written once, never changed, removed when no row refers to them. */
export interface Blobs {
  /**
   * Writes the bytes (atomically, on the disk when it resolves) and, in one transaction with the file's own row, runs `claim`,
   * which stores the row that refers to it. Equal bytes are one file.
   */
  put<Claimed>(bytes: Uint8Array, mime: string, claim: (id: string) => Claimed): Promise<Claimed>;
  /** As `put`, for a row that refers to several files. */
  putAll<Claimed>(files: readonly Uint8Array[], mime: string, claim: (ids: string[]) => Claimed): Promise<Claimed>;
  /** @throws Error when there is no such file. */
  read(id: string): Promise<Buffer>;
  /** Absolute path of the file of a well-formed id; it need not exist. @throws Error for anything that is not a content id. */
  pathOf(id: string): string;
  mimeOf(id: string): string | undefined;
  /** Removes the file unless a row still refers to it. */
  release(id: string): Promise<void>;
  /** As `release`, of many with few commits. */
  releaseAll(ids: readonly string[]): Promise<void>;
  /** Removes files that a crash left without a row, or with one that nothing refers to. */
  sweep(): Promise<void>;
  /** Resolves when every write that was asked for has ended. */
  settled(): Promise<void>;
}

/** Younger files without a row may be those that another process (`reverie index`) is about to give one, in milliseconds. */
const leftAfter = 3_600_000;
/** Files that are let go of in one transaction: the disk waits once for all of them, and nobody waits long for the database. */
const releasedTogether = 256;

export function openBlobs(db: Database, folder: string): Blobs {
  // Writes and removals take turns: a removal between a file's write and its claim would leave a row without a file.
  let turn: Promise<unknown> = Promise.resolve();
  const inTurn = <T>(work: () => Promise<T>): Promise<T> => {
    const mine = turn.then(work);
    turn = mine.catch(() => undefined);
    return mine;
  };

  const pathOf = (id: string) => {
    if (!contentId.test(id)) throw new Error(`${JSON.stringify(id.slice(0, 80))} is not a content id`);
    return path.join(folder, id.slice(0, 2), id);
  };

  /** Removes the row unless another refers to it. */
  const isReferred = (id: string) => {
    try {
      db.delete(schema.blobs).where(eq(schema.blobs.id, id)).run();
      return false;
    } catch (error) {
      if (error instanceof Error && /FOREIGN KEY/.test(`${error.message} ${String(error.cause)}`)) return true;
      throw error;
    }
  };

  const release = async (ids: readonly string[]) => {
    for (let start = 0; start < ids.length; start += releasedTogether) {
      const some = ids.slice(start, start + releasedTogether);
      const free = db.transaction(() => some.filter((id) => !isReferred(id)));
      for (const id of free) await rm(pathOf(id), { force: true });
    }
  };

  const putAll: Blobs['putAll'] = (files, mime, claim) =>
    inTurn(async () => {
      const rows = files.map((bytes) => ({
        id: createHash('sha256').update(bytes).digest('hex'),
        mime,
        bytes: bytes.length,
        createdAt: Date.now(),
      }));
      for (const [at, { id }] of rows.entries()) {
        const known = db.select({ id: schema.blobs.id }).from(schema.blobs).where(eq(schema.blobs.id, id)).get();
        if (!known) await writeDurably(pathOf(id), files[at]);
      }
      return db.transaction((transaction) => {
        transaction.insert(schema.blobs).values(rows).onConflictDoNothing().run();
        return claim(rows.map(({ id }) => id));
      });
    });

  return {
    pathOf,
    putAll,
    put: (bytes, mime, claim) => putAll([bytes], mime, ([id]) => claim(id)),
    read: (id) => readFile(pathOf(id)),
    mimeOf: (id) => db.select({ mime: schema.blobs.mime }).from(schema.blobs).where(eq(schema.blobs.id, id)).get()?.mime,
    release: (id) => inTurn(() => release([id])),
    releaseAll: (ids) => inTurn(() => release(ids)),
    sweep: () =>
      inTurn(async () => {
        await mkdir(folder, { recursive: true });
        const before = Date.now() - leftAfter;
        const rows = () => db.select({ id: schema.blobs.id }).from(schema.blobs);
        // Referred to or not, each is tried; the files of those that go are found below.
        const old = rows().where(lt(schema.blobs.createdAt, before)).all();
        db.transaction(() => old.forEach(({ id }) => isReferred(id)));
        const known = new Set(
          rows()
            .all()
            .map(({ id }) => id),
        );
        for (const entry of await readdir(folder, { recursive: true, withFileTypes: true })) {
          if (!entry.isFile() || known.has(entry.name)) continue;
          const file = path.join(entry.parentPath, entry.name);
          const { mtimeMs } = await stat(file).catch(() => ({ mtimeMs: Infinity }));
          if (mtimeMs < before) await rm(file, { force: true });
        }
      }),
    async settled() {
      await turn;
    },
  };
}

/** The file is either absent or whole, also after a power cut: write beside it, sync, rename, sync the folder. */
async function writeDurably(file: string, bytes: Uint8Array): Promise<void> {
  const folder = path.dirname(file);
  await mkdir(folder, { recursive: true });
  const draft = `${file}.${randomBytes(6).toString('hex')}.part`;
  const handle = await open(draft, 'wx', 0o600);
  try {
    await handle.writeFile(bytes);
    await handle.sync();
  } finally {
    await handle.close();
  }
  await rename(draft, file);
  const directory = await open(folder, 'r');
  try {
    await directory.sync();
  } finally {
    await directory.close();
  }
}
