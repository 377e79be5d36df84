import { cp, mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import sharp from 'sharp';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { runIndex, type IndexOptions } from '../../server/neurons/index.js';
import { bundledSet, folderSet } from '../../server/neurons/pictures.js';
import type { Looker } from '../../server/neurons/see.js';
import { unitView } from '../../server/neurons/view.js';
import {
  examplesOf,
  findIndexImage,
  IndexInUse,
  indexOfLayer,
  listIndexes,
  unitsOf,
  updateIndex,
  type IndexRecord,
} from '../../server/store/neurons.js';
import { examples, indexImages } from '../../server/store/schema.js';
import { openStore, type Store } from '../../server/store/store.js';
import { fake, sessionsInMemory } from '../imagination/fake.js';
import { fakeLooker, pictureFolder } from './eyes.js';

let root: string;
let pictures: string;
let stores = 0;
const open: Store[] = [];
const sessions = sessionsInMemory();
const looker = fakeLooker(sessions);

beforeAll(async () => {
  root = await mkdtemp(path.join(tmpdir(), 'reverie-index-'));
  pictures = path.join(root, 'pictures');
  await pictureFolder(pictures, 27);
});
afterAll(async () => {
  for (const store of open) await store.close();
  await sessions.release();
  await rm(root, { recursive: true, force: true });
});

async function newStore(folder = path.join(root, `data-${stores++}`)): Promise<Store> {
  const store = await openStore(folder);
  open.push(store);
  return store;
}

const run = (store: Store, options: Partial<IndexOptions> = {}) =>
  runIndex({ store, looker, model: 'fake', layers: ['LLP', 'stem'], set: folderSet(pictures), ...options });

/** All that an index says, without the ids of its rows. */
const findings = (store: Store, { id, layers, grids, unreadable, images }: IndexRecord) => ({
  ...{ grids, unreadable, images },
  units: layers.map((layer) =>
    unitsOf(store, id, layer).map((unit) => ({
      unit,
      examples: examplesOf(store, id, layer, unit.channel).map(({ image, ...example }) => ({ ...example, name: image.name, thumbnail: image.thumbnail })), // prettier-ignore
    })),
  ),
});

describe('an index', () => {
  it('tells of every channel, with thumbnails of the pictures of a folder', async () => {
    const store = await newStore();
    const record = await run(store);
    expect(record).toMatchObject({ state: 'done', done: 30, images: 30, unreadable: 3, checkpoint: null, pid: null });
    expect(record.grids).toEqual({ LLP: { rows: 8, columns: 8 }, stem: { rows: 16, columns: 16 } });
    const eye = await looker.eye('fake');
    for (const { name: layer, channels } of eye.layers)
      for (let channel = 0; channel < channels; channel++) {
        const unit = unitView(store, eye, { layer, channel }, record, fake.statistics.get(layer)!)!;
        expect(unit.words).toHaveLength(10);
        expect(unit.words.map(({ score }) => score)).toEqual(unit.words.map(({ score }) => score).sort((a, b) => b - a));
        expect(unit.label!.word).toMatch(/^concept \d+$/);
        expect([unit.similar.length, unit.opposite.length]).toEqual([Math.min(10, channels - 1), 5]);
        expect(unit.similar.every((other) => other.channel !== channel)).toBe(true);
        expect(unit.similar[0].cosine).toBeGreaterThanOrEqual(unit.opposite[0].cosine);
        const { top, upper, middle, lower, least } = unit.examples;
        expect([top, upper, middle, lower, least].map((strip) => strip.length)).toEqual([12, 4, 4, 4, 4]);
        expect(top[0].activation).toBeCloseTo(unit.statistics.max, 5);
        expect(least[0].activation).toBeLessThanOrEqual(lower[0].activation);
        const { map, x, y, url } = top[0];
        expect(map!.values).toHaveLength(map!.rows * map!.columns);
        expect(map!.values[y * map!.columns + x]).toBeCloseTo(Math.max(...map!.values), 2);
        expect(url).toMatch(/^\/api\/neurons\/examples\/\d+$/);
        for (const at of [unit.statistics.density, (unit.clarity! + 1) / 2, unit.polysemanticity! / 2, (unit.redundancy! + 1) / 2])
          expect(at >= 0 && at <= 1.0001).toBe(true);
      }
    const [example] = examplesOf(store, record.id, 'LLP', 0);
    const thumbnail = await sharp(store.blobs.pathOf(findIndexImage(store, example.image.id)!.thumbnail!)).metadata();
    expect([thumbnail.format, Math.max(thumbnail.width, thumbnail.height) <= 192]).toEqual(['jpeg', true]);
    // Pictures that no unit shows are not kept.
    const shown = new Set(store.db.select().from(examples).all().map(({ image }) => image)); // prettier-ignore
    expect(store.db.select().from(indexImages).all()).toHaveLength(shown.size);
    expect(unitView(store, eye, { layer: 'LLP', channel: 99 }, record, fake.statistics.get('LLP')!)).toBeUndefined();
  });

  it('killed at any moment between two batches goes on from what was saved, to the same findings', async () => {
    const whole = await newStore();
    const wanted = findings(whole, await run(whole));
    const data = path.join(root, `data-${stores++}`);
    const store = await newStore(data);
    let batches = 0;
    const copies: string[] = [];
    // What lies on the disk at that moment is what a killed process leaves.
    const turn = async () => {
      const copy = path.join(root, `killed-${batches++}`);
      await store.blobs.settled();
      await cp(data, copy, { recursive: true });
      copies.push(copy);
    };
    expect(findings(store, await run(store, { turn, saveEvery: 0 }))).toEqual(wanted);
    expect(copies).toHaveLength(5);
    for (const copy of [copies[1], copies[3]]) {
      const left = await newStore(copy);
      const { state, done } = listIndexes(left)[0];
      expect([state, done > 0]).toEqual(['running', true]);
      const looked: number[] = [];
      expect(findings(left, await run(left, { progress: ({ done }) => looked.push(done) }))).toEqual(wanted);
      expect(Math.min(...looked)).toBeGreaterThan(done === 30 ? 29 : done);
    }
  });

  it('stopped keeps what it has, and goes on; done, it is left as it is', async () => {
    const store = await newStore();
    let asked = 0;
    const stopped = await run(store, { isStopped: () => ++asked > 2 });
    expect(stopped).toMatchObject({ state: 'stopped', pid: null });
    expect(stopped.done).toBeGreaterThan(0);
    expect(stopped.done).toBeLessThan(30);
    // One of a folder that is not done does not stand in the place of the bundled one.
    expect(indexOfLayer(store, stopped.modelHash, 'LLP')).toBeUndefined();
    const done = await run(store);
    expect([done.id, done.state]).toEqual([stopped.id, 'done']);
    const blind: Looker = { ...looker, see: () => Promise.reject(new Error('nobody should look')) };
    expect(await run(store, { looker: blind })).toEqual(done);
  });

  it('stopped while it names the channels begins that part anew', async () => {
    const store = await newStore();
    let isFinishing = false;
    let asked = 0;
    const stopped = await run(store, {
      progress: ({ stage }) => (isFinishing = stage === 'finishing'),
      isStopped: () => isFinishing && ++asked > 20,
    });
    expect(stopped).toMatchObject({ state: 'stopped', done: 30 });
    const done = await run(store);
    const whole = await newStore();
    expect(findings(store, done)).toEqual(findings(whole, await run(whole)));
  });

  it('whose state is lost or damaged begins from the start', async () => {
    for (const lose of [(file: string) => writeFile(file, 'damaged'), (file: string) => rm(file)]) {
      const store = await newStore();
      let asked = 0;
      const stopped = await run(store, { isStopped: () => ++asked > 2 });
      await lose(store.blobs.pathOf(stopped.checkpoint!));
      expect(await run(store)).toMatchObject({ id: stopped.id, state: 'done', done: 30, unreadable: 3 });
    }
  });

  it('is not of another device', async () => {
    const store = await newStore();
    const elsewhere: Looker = { ...looker, eye: async (model) => ({ ...(await looker.eye(model)), device: 'abacus' }) };
    const stopped = await run(store, { isStopped: () => true });
    const other = await run(store, { isStopped: () => true, looker: elsewhere });
    expect(new Set(listIndexes(store).map(({ id }) => id))).toEqual(new Set([stopped.id, other.id]));
  });

  it('leaves those alone that another process makes', async () => {
    const store = await newStore();
    const shared = path.join(root, 'shared');
    await pictureFolder(shared, 3);
    const over = () => run(store, { set: folderSet(shared), layers: ['LLP'], isStopped: () => true });
    const { id } = await over();
    updateIndex(store, id, { state: 'running', pid: process.ppid, seenAt: Date.now() });
    await expect(over()).rejects.toThrow(IndexInUse);
    await writeFile(path.join(shared, 'zzz.png'), 'x');
    await expect(over()).rejects.toThrow(`another process (${process.ppid}) is making an index of ${shared}`);
    expect(listIndexes(store).map((record) => record.id)).toEqual([id]);
    // A process that has not been seen for long is gone.
    updateIndex(store, id, { seenAt: Date.now() - 60_000 });
    expect((await over()).id).not.toBe(id);
  });

  it('that fails says why, and goes on when it is asked again', async () => {
    const store = await newStore();
    let batches = 0;
    const failing: Looker = {
      ...looker,
      see: (ask) => (++batches > 2 ? Promise.reject(new Error('the device is gone')) : looker.see(ask)),
    };
    await expect(run(store, { looker: failing, saveEvery: 0 })).rejects.toThrow('the device is gone');
    expect(listIndexes(store)[0]).toMatchObject({ state: 'failed', error: 'the device is gone', done: 16 });
    expect(await run(store)).toMatchObject({ state: 'done', error: null });
  });

  it('begins anew when the pictures have changed, and takes the place of the one before', async () => {
    const store = await newStore();
    const changing = path.join(root, 'changing');
    await pictureFolder(changing, 12);
    const over = (options: Partial<IndexOptions> = {}) => run(store, { set: folderSet(changing), layers: ['LLP'], ...options });
    const first = await over({ isStopped: () => true });
    await writeFile(path.join(changing, 'zzz.png'), 'x');
    const second = await over();
    expect(second.id).not.toBe(first.id);
    expect(listIndexes(store).map(({ id }) => id)).toEqual([second.id]);
    await writeFile(path.join(changing, 'zzzz.png'), 'x');
    const third = await over();
    expect(listIndexes(store).map(({ id }) => id)).toEqual([third.id]);
    expect(indexOfLayer(store, 'fake', 'LLP')!.id).toBe(third.id);
    expect(store.db.select().from(indexImages).all().every(({ indexId }) => indexId === third.id)).toBe(true); // prettier-ignore
  });

  it('of nothing that can be read is an error that says so', async () => {
    const store = await newStore();
    const bad = path.join(root, 'bad');
    await pictureFolder(bad, 0);
    await expect(run(store, { set: folderSet(bad) })).rejects.toThrow(/none of the 3 pictures in .*bad can be read/);
    const blinded: Looker = {
      ...looker,
      async see(ask) {
        const seen = await looker.see(ask);
        return { ...seen, embeddings: seen.embeddings.fill(NaN) };
      },
    };
    await expect(run(store, { looker: blinded })).rejects.toThrow(/none of the 30 pictures in .*not finite/);
    const empty = await mkdtemp(path.join(root, 'empty-'));
    await expect(run(store, { set: folderSet(empty) })).rejects.toThrow(/there are no pictures in .*empty-/);
  });

  it('of a network without words has no words; with an exact way to the joint space it takes that', async () => {
    const store = await newStore();
    const wordless = fakeLooker(sessions, { ...fake, hash: 'wordless', concepts: null });
    const record = await run(store, { looker: wordless, layers: ['LLP'] });
    const [unit] = unitsOf(store, record.id, 'LLP');
    expect([unit.label, unit.words]).toEqual([null, []]);
    expect(unit.similar).toHaveLength(10);

    // Each channel pulls along one coordinate, and channel 12 against channel 0.
    const { embed } = fake.eye;
    const matrix = Float32Array.from({ length: 16 * embed }, (_, i) => {
      const [channel, k] = [Math.floor(i / embed), i % embed];
      return channel === 12 ? -Number(k === 0) : Number(k === channel % embed);
    });
    const exact = fakeLooker(sessions, { ...fake, hash: 'exact', eye: { ...fake.eye, directions: () => matrix } });
    const told = unitsOf(store, (await run(store, { looker: exact, layers: ['LLP'] })).id, 'LLP');
    expect(told[1].similar[0]).toMatchObject({ channel: 13, cosine: 1 });
    expect(told[0].opposite[0]).toMatchObject({ channel: 12, cosine: -1 });
    const { entries, joint } = fake.concepts;
    const best = entries.map(({ word }, i) => ({ word, score: joint[i * embed + 3] })).sort((a, b) => b.score - a.score)[0];
    expect(told[3].words[0].word).toBe(best.word);
    expect(told[3].words[0].score).toBeCloseTo(best.score, 6);
  });

  it('of the bundled photographs keeps no pictures of its own', async () => {
    const store = await newStore();
    const record = await run(store, { set: bundledSet, layers: ['LLP'] });
    expect(record.unreadable).toBe(0);
    const eye = await looker.eye('fake');
    const { examples } = unitView(store, eye, { layer: 'LLP', channel: 1 }, record, fake.statistics.get('LLP')!)!;
    const [{ image, name, url, credit }] = examples.top;
    expect([image, url]).toEqual([name, `/api/photographs/${name}`]);
    expect(credit!.licence).toMatch(/^(CC|LicenseRef)/);
    expect(store.db.select().from(indexImages).all().every(({ thumbnail }) => thumbnail === null)).toBe(true); // prettier-ignore
  });
});
