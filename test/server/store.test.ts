import { readdir, readFile, rm, utimes, writeFile } from 'node:fs/promises';
import path from 'node:path';
import { sql } from 'drizzle-orm';
import Libsql from 'libsql';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { job } from '../../server/jobs/job.js';
import { checkpointOf, dropCheckpoint, findJob, insertJob, keepCheckpoint, queuedIds, updateJob } from '../../server/store/jobs.js';
import { repositoryRoot } from '../../server/root.js';
import { findResult, keepImage, listResults, resultView } from '../../server/store/results.js';
import { jobs } from '../../server/store/schema.js';
import { openStore, type Store } from '../../server/store/store.js';
import { temporaryFolder } from './studio.js';

const migrations = path.join(repositoryRoot, 'server/store/migrations');

let folder: string;
let store: Store;
beforeEach(async () => {
  folder = await temporaryFolder();
  store = await openStore(folder);
});
afterEach(async () => {
  await store.close();
  await rm(folder, { recursive: true });
});

const files = async () =>
  (await readdir(path.join(folder, 'blobs'), { recursive: true, withFileTypes: true })).filter((entry) => entry.isFile()).length;
/** As if all that lies there had been written two hours ago. */
const age = async () => {
  store.db.run(sql`update blobs set created_at = created_at - 7200000`);
  for (const entry of await readdir(path.join(folder, 'blobs'), { recursive: true, withFileTypes: true }))
    if (entry.isFile()) await utimes(path.join(entry.parentPath, entry.name), 0, Date.now() / 1000 - 7200);
};
const nature = (id: string) => insertJob(store, { id, job: job.parse({ text: 'nature' }), idempotencyKey: null });
const reopen = async () => {
  await store.close();
  store = await openStore(folder);
};

describe('the store', () => {
  it('survives the process: write-ahead log, full sync, foreign keys, migrations once', async () => {
    const pragma = (name: string) => Object.values(store.db.get<Record<string, unknown>>(sql.raw(`pragma ${name}`)))[0];
    expect([pragma('journal_mode'), pragma('synchronous'), pragma('foreign_keys')]).toEqual(['wal', 2, 1]);
    nature('a');
    await reopen();
    expect(findJob(store, 'a')).toMatchObject({ status: 'queued', job: { text: 'nature', steps: 120 } });
  });

  /** A database as an earlier version left it, after the first so many migrations. */
  async function olderDatabase(versions: number): Promise<{ older: string; client: Libsql.Database }> {
    const older = await temporaryFolder();
    const client = new Libsql(path.join(older, 'reverie.db'));
    client.pragma('foreign_keys = ON');
    const { entries } = JSON.parse(await readFile(path.join(migrations, 'meta/_journal.json'), 'utf8')) as {
      entries: { when: number; tag: string }[];
    };
    client.exec('create table __drizzle_migrations (id integer primary key, hash text not null, created_at numeric)');
    for (const { when, tag } of entries.slice(0, versions)) {
      const file = await readFile(path.join(migrations, `${tag}.sql`), 'utf8');
      for (const statement of file.split('--> statement-breakpoint')) client.exec(statement);
      client.prepare('insert into __drizzle_migrations (hash, created_at) values (?, ?)').run(tag, when);
    }
    client.prepare("insert into blobs values ('a', 'image/png', 1, 1), ('b', 'image/png', 2, 1), ('c', 'x', 3, 1)").run();
    client
      .prepare(
        "insert into jobs (id, status, position, job, created_at) values ('j', 'succeeded', 1, ?, 1), ('k', 'succeeded', 2, ?, 1)",
      )
      .run(nature0, nature0);
    client.prepare("insert into checkpoints values ('k', 3, 'c', 1)").run();
    return { older, client };
  }
  const nature0 = JSON.stringify(job.parse({ text: 'nature', neurons: [{ unit: 'LLP-5', weight: 1 }] }));
  const first = (id: string, jobId: string) =>
    `insert into results (seq, id, job_id, job, model_name, model_hash, device, width, height, cos, text_concepts, picture_concepts,
      second_opinion_concepts, curve, seconds, notices, image, created_at)
      values (${id === 'r' ? 7 : 9}, '${id}', '${jobId}', ?, 'brivl-nano', 'h', 'cpu', 224, 192, .5, '[1]', '[2]', '[3]', '[4]', 1.5, '[5]', 'a', 6)`;

  it('takes over the rows of a database from before there were tokens', async () => {
    const { older, client } = await olderDatabase(1);
    client.prepare(first('r', 'j')).run(nature0);
    client.close();

    const opened = await openStore(older);
    const [row] = listResults(opened, { limit: 5 });
    expect(resultView(row)).toMatchObject({ id: 'r', job: { text: 'nature' }, cos: 0.5, generator: null, unquantizedUrl: null, neurons: [] }); // prettier-ignore
    expect(findResult(opened, 'r')).toMatchObject({ tokens: null, image: 'a' });
    expect(findJob(opened, 'j')).toMatchObject({ resultId: 'r', status: 'succeeded' });
    await opened.close();
    await rm(older, { recursive: true });
  });

  it('takes over every column of a database from before neurons were kept', async () => {
    const { older, client } = await olderDatabase(2);
    client.prepare(first('r', 'j')).run(nature0);
    client.prepare(first('s', 'k')).run(nature0);
    const tokens = { rows: 1, columns: 2, codebook: 4, codes: [3, 0] };
    client
      .prepare(
        "update results set generator_name = 'g', generator_hash = 'x', tokens = ?, unquantized = 'b', second_opinion = .25 where id = 's'",
      )
      .run(JSON.stringify(tokens));
    const columns = client.prepare('select * from results order by seq').all() as Record<string, unknown>[];
    client.close();

    const opened = await openStore(older);
    const kept = opened.db.all<Record<string, unknown>>(sql`select * from results order by seq`);
    expect(kept.map(({ neurons, ...rest }) => ({ ...rest, isNull: neurons === null }))).toEqual(
      columns.map((row) => ({ ...row, isNull: true })),
    );
    expect(findResult(opened, 's')).toMatchObject({ seq: 9, tokens, unquantized: 'b', neurons: null });
    expect(findResult(opened, 'r')).toMatchObject({ seq: 7, secondOpinion: null, cos: 0.5 });
    expect(checkpointOf(opened, 'k')).toMatchObject({ step: 3, blob: 'c' });
    // What refers to what is still known: a result's picture is not let go of, and a job takes its result along.
    expect(opened.db.all(sql`pragma foreign_key_check`)).toEqual([]);
    expect(() => opened.db.run(sql`delete from blobs where id = 'b'`)).toThrow();
    opened.db.run(sql`delete from jobs where id = 'k'`);
    expect(listResults(opened, { limit: 5 }).map(({ id }) => id)).toEqual(['r']);
    // A result may have no cos now.
    opened.db.run(sql`update results set cos = null where id = 'r'`);
    expect(resultView(listResults(opened, { limit: 5 })[0]).cos).toBeNull();
    await opened.close();
    await rm(older, { recursive: true });
  });

  it('says which folder it cannot use', async () => {
    const file = path.join(folder, 'file');
    await writeFile(file, '');
    await expect(openStore(file)).rejects.toThrow(`the data folder ${file} cannot be used`);
    await writeFile(path.join(folder, 'blobs', 'x'), '');
    const foreign = await temporaryFolder();
    await writeFile(path.join(foreign, 'reverie.db'), 'this is no database at all, it is only text. '.repeat(50));
    await expect(openStore(foreign)).rejects.toThrow(/cannot be used/);
    await rm(foreign, { recursive: true });
  });

  it('gives fields that came later to jobs that were stored before', () => {
    nature('a');
    store.db.update(jobs).set({ job: { text: 'old', model: 'brivl-nano', gone: 1 } as never }).run(); // prettier-ignore
    expect(findJob(store, 'a')?.job).toEqual(job.parse({ text: 'old' }));
  });

  it('orders the queue by position, which need not be whole', () => {
    for (const id of ['a', 'b', 'c']) nature(id);
    updateJob(store, 'c', { position: 1.5 });
    expect(queuedIds(store)).toEqual(['a', 'c', 'b']);
    nature('d');
    expect(queuedIds(store)).toEqual(['a', 'c', 'b', 'd']);
  });
});

describe('files', () => {
  const picture = { png: Buffer.from('bytes'), width: 1, height: 1 };

  it('are one for equal bytes, and stay until nothing refers to them', async () => {
    const [first, second] = await Promise.all([keepImage(store, picture), keepImage(store, picture)]);
    expect(second).toBe(first);
    expect(await files()).toBe(1);
    await store.blobs.release(first);
    expect((await store.blobs.read(first)).toString()).toBe('bytes');
    store.db.run(sql`delete from images`);
    await store.blobs.release(first);
    expect(await files()).toBe(0);
    await expect(store.blobs.read(first)).rejects.toThrow();
  });

  it('are not kept when what refers to them is not', async () => {
    await expect(
      store.blobs.put(Buffer.from('x'), 'image/png', () => {
        throw new Error('no');
      }),
    ).rejects.toThrow('no');
    await age();
    await reopen();
    expect(await files()).toBe(0);
  });

  it('that one row refers to are kept together or not at all', async () => {
    const both = [Buffer.from('before'), Buffer.from('after')];
    await expect(
      store.blobs.putAll(both, 'image/png', () => {
        throw new Error('no');
      }),
    ).rejects.toThrow('no');
    expect(store.db.all(sql`select id from blobs`)).toEqual([]);
    const ids = await store.blobs.putAll(both, 'image/png', (ids) => ids);
    expect(await Promise.all(ids.map(async (id) => String(await store.blobs.read(id))))).toEqual(['before', 'after']);
  });

  it('left by a crash are swept at the start, the others kept', async () => {
    const id = await keepImage(store, picture);
    await writeFile(`${store.blobs.pathOf(id)}.abc.part`, 'half');
    await store.blobs.put(Buffer.from('nobody refers to it'), 'text/plain', () => undefined);
    // Another process may be about to give them a row.
    await reopen();
    expect(await files()).toBe(3);
    await age();
    await reopen();
    expect(await files()).toBe(1);
    expect(store.db.all(sql`select id from blobs`)).toEqual([{ id }]);
    expect((await store.blobs.read(id)).toString()).toBe('bytes');
  });

  it('have ids that are never paths', () => {
    for (const id of ['../../etc/passwd', '', 'A'.repeat(64), `${'a'.repeat(64)}/..`, `${'a'.repeat(64)}\n`])
      expect(() => store.blobs.pathOf(id)).toThrow(/not a content id/);
  });

  it('are written and removed in turn', async () => {
    // Each put finds the file of the one before, about to be removed.
    await Promise.all(
      Array.from({ length: 20 }, async () => {
        const id = await keepImage(store, picture);
        await store.blobs.release(id);
      }),
    );
    expect(await files()).toBe(1);
  });
});

describe('checkpoints', () => {
  it('of a job: the newest only', async () => {
    nature('a');
    await keepCheckpoint(store, 'a', 5, Buffer.from('five'));
    await keepCheckpoint(store, 'a', 10, Buffer.from('ten'));
    await keepCheckpoint(store, 'a', 10, Buffer.from('ten'));
    expect(await files()).toBe(1);
    const { step, blob } = checkpointOf(store, 'a')!;
    expect([step, (await store.blobs.read(blob)).toString()]).toEqual([10, 'ten']);
  });

  it('with equal bytes of two jobs do not lose each other', async () => {
    nature('a');
    nature('b');
    await keepCheckpoint(store, 'a', 5, Buffer.from('same'));
    await keepCheckpoint(store, 'b', 5, Buffer.from('same'));
    await dropCheckpoint(store, 'a');
    expect((await store.blobs.read(checkpointOf(store, 'b')!.blob)).toString()).toBe('same');
    await dropCheckpoint(store, 'b');
    expect(await files()).toBe(0);
  });
});
