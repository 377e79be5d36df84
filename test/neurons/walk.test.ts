import { mkdir, mkdtemp, rm, symlink, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import sharp from 'sharp';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { z } from 'zod';
import { bundledSet, decodeFor, folderSet, identify, type PictureFile } from '../../server/neurons/pictures.js';
import type { EyeView, Looker } from '../../server/neurons/see.js';
import { decodeState, encodeState } from '../../server/neurons/state.js';
import { walk, type Walked } from '../../server/neurons/walk.js';
import { lookAt } from '../../server/imagination/look.js';
import { fake, sessionsInMemory } from '../imagination/fake.js';
import { fakeLooker, noisePicture, pictureFolder } from './eyes.js';

let folder: string;
const sessions = sessionsInMemory();
const looker: Looker = fakeLooker(sessions);
const layers = ['LLP', 'stem'];
let eye: EyeView;
const unreadable = ['005-broken.jpg', 'b/half.png', 'tiff.png'];

beforeAll(async () => {
  folder = await mkdtemp(path.join(tmpdir(), 'reverie-walk-'));
  await pictureFolder(folder, 27);
  eye = await looker.eye('fake');
});
afterAll(async () => {
  await sessions.release();
  await rm(folder, { recursive: true, force: true });
});

async function filesOf(set: { walk(): AsyncIterable<PictureFile> | Iterable<PictureFile> }): Promise<PictureFile[]> {
  const files = [];
  for await (const file of set.walk()) files.push(file);
  return files;
}

describe('sets of pictures', () => {
  it('a folder: PNG, JPEG and WebP files of all depths, sorted, without hidden ones', async () => {
    const names = (await filesOf(folderSet(folder))).map(({ name }) => name);
    expect(names).toHaveLength(30);
    expect(names).toContain('b/深/002.webp');
    for (const name of unreadable) expect(names).toContain(name);
    expect(names.some((name) => /notes|hidden/.test(name))).toBe(false);
    const [loose, deep] = [names.filter((name) => !name.includes('/')), names.filter((name) => name.startsWith('b/深/'))];
    for (const part of [loose, deep]) expect([...part].sort()).toEqual(part);
  });

  it('follows links, but not in a circle, and to no folder twice', async () => {
    const linked = await mkdtemp(path.join(tmpdir(), 'reverie-links-'));
    await symlink(folder, path.join(linked, 'set'));
    await symlink(linked, path.join(linked, 'again'));
    await symlink(path.join(linked, 'nowhere'), path.join(linked, 'gone.png'));
    expect(await filesOf(folderSet(linked))).toHaveLength(30);
    // Folders that link to each other: of ten, all ways through them would be millions.
    const names = Array.from({ length: 10 }, (_, i) => `folder-${i}`);
    for (const name of names) await mkdir(path.join(linked, name));
    for (const from of names) for (const to of names) await symlink(path.join(linked, to), path.join(linked, from, to));
    await writeFile(path.join(linked, 'folder-3', 'one.png'), '');
    expect(await filesOf(folderSet(linked))).toHaveLength(31);
    await rm(linked, { recursive: true });
  });

  it('is known by names, sizes and times of change', async () => {
    const { images, hash } = (await identify(folderSet(folder)))!;
    expect(images).toBe(30);
    expect((await identify(folderSet(folder)))!.hash).toBe(hash);
    await writeFile(path.join(folder, 'more.png'), 'x');
    expect(await identify(folderSet(folder))).toMatchObject({ images: 31 });
    await rm(path.join(folder, 'more.png'));
    expect((await identify(folderSet(folder)))!.hash).toBe(hash);
  });

  it('is counted until somebody stops it', async () => {
    let met = 0;
    const endless = {
      ...folderSet(folder),
      *walk() {
        for (;;) yield { name: String(met++), path: path.join(folder, 'nowhere') };
      },
    };
    expect(await identify(endless, () => true)).toBeNull();
    expect(met).toBeLessThan(1000);
  });

  it('names a folder that is none', () => {
    expect(() => folderSet(path.join(folder, 'nowhere'))).toThrow(/nowhere cannot be listed/);
    expect(() => folderSet(path.join(folder, 'notes.txt'))).toThrow(/cannot be listed/);
  });

  it('the bundled photographs are at least a hundred, each with its author and licence', async () => {
    expect((await filesOf(bundledSet)).length).toBeGreaterThanOrEqual(100);
  });
});

/** What the walk should have seen, picture by picture, each looked at alone. */
async function alone(files: readonly PictureFile[]) {
  const canvas = { width: eye.size, height: eye.size };
  const readings = new Map<number, { embedding: Float32Array; LLP: Float32Array; stem: Float32Array }>();
  for (const [i, file] of files.entries()) {
    if (unreadable.includes(file.name)) continue;
    const sites = layers.map((layer) => ({ layer, spot: 'mean' as const }));
    const { embedding, answers } = await lookAt(sessions, fake.hash, fake.eye, await decodeFor(eye.size, file.path), canvas, sites);
    readings.set(i, { embedding: embedding.slice(), LLP: answers[0].slice(), stem: answers[1].slice() });
  }
  return readings;
}

describe('a walk', () => {
  it('tallies what the eye answers to each picture; those that cannot be read are counted and named', async () => {
    const files = await filesOf(folderSet(folder));
    const { walked, isWhole } = await walk({ looker, eye, layers, set: folderSet(folder) });
    expect([isWhole, walked.done]).toEqual([true, 30]);
    expect(walked.unreadable.count).toBe(3);
    expect(walked.unreadable.first.map(({ name }) => name).sort()).toEqual(unreadable);
    expect(walked.unreadable.first.find(({ name }) => name === 'tiff.png')!.why).toMatch(/tiff, not PNG, JPEG or WebP/);
    const readings = [...(await alone(files))];
    for (const layer of ['LLP', 'stem'] as const) {
      const tally = walked.tallies.get(layer)!;
      for (let channel = 0; channel < tally.shape.channels; channel++) {
        const values = readings.map(([image, answer]) => ({ image, value: answer[layer][channel] }));
        const mean = values.reduce((sum, { value }) => sum + value, 0) / values.length;
        expect(tally.moments.means[channel]).toBeCloseTo(mean, 5);
        const best = [...values].sort((a, b) => b.value - a.value).slice(0, 12);
        tally.top.of(channel).forEach((slot, rank) => {
          const { image, activation, place, map } = tally.slots.read(channel, slot);
          expect(activation).toBeCloseTo(best[rank].value, 4);
          expect(walked.kept.get(image)!.name).toBe(files[image].name);
          expect(walked.kept.get(image)!.embedding).not.toBeNull();
          // The map's mean is the activation, and its greatest value lies at the place.
          const cells = [...map!.bytes].map((byte) => map!.low + (byte / 255) * (map!.high - map!.low));
          expect(cells.reduce((a, b) => a + b, 0) / cells.length).toBeCloseTo(activation, 2);
          expect(cells[place]).toBeCloseTo(Math.max(...cells), 5);
        });
        expect(tally.histograms.of(channel)!.counts.reduce((a, b) => a + b, 0)).toBe(27);
        expect(tally.awake[channel]).toBeLessThanOrEqual(27);
      }
    }
    // Where channels pull is their covariance with the embedding.
    const { pulls } = walked.tallies.get('LLP')!;
    const mean = (of: (i: number) => number) => readings.reduce((sum, _, i) => sum + of(i), 0) / readings.length;
    for (const [channel, k] of [
      [0, 0],
      [5, 7],
      [15, 11],
    ]) {
      const [a, e] = [(i: number) => readings[i][1].LLP[channel], (i: number) => readings[i][1].embedding[k]];
      const [ma, me] = [mean(a), mean(e)];
      expect(pulls!.products[channel * eye.embed + k] / 27).toBeCloseTo(
        mean((i) => (a(i) - ma) * (e(i) - me)),
        5,
      );
    }
  });

  it('stopped after any batch and taken up again, also twice, gives the same bytes', async () => {
    const set = folderSet(folder);
    const whole = (await walk({ looker, eye, layers, set })).save();
    const until = async (batches: number, state?: Uint8Array) => {
      let left = batches;
      return walk({ looker, eye, layers, set, state, between: () => --left > 0 });
    };
    for (const batches of [1, 2, 3]) {
      const first = await until(batches);
      expect([first.isWhole, first.walked.done]).toEqual([false, 8 * batches]);
      const state = Buffer.from(first.save());
      expect((await walk({ looker, eye, layers, set, state })).save().equals(whole)).toBe(true);
    }
    const second = await until(1, Buffer.from((await until(1)).save()));
    expect((await walk({ looker, eye, layers, set, state: second.save() })).save().equals(whole)).toBe(true);
    // One that cannot be read is none.
    const damaged = Buffer.from(whole);
    damaged[whole.length - 1] ^= 1;
    for (const state of [damaged, Buffer.from('of another program')])
      expect((await walk({ looker, eye, layers, set, state })).save().equals(whole)).toBe(true);
    // A state of the end is the end.
    expect((await walk({ looker, eye, layers, set, state: whole })).save().equals(whole)).toBe(true);
  });

  it('holds no more after more pictures', async () => {
    const many = await mkdtemp(path.join(tmpdir(), 'reverie-many-'));
    const picture = await (await noisePicture(7)).png().toBuffer();
    for (let i = 0; i < 40; i++) await writeFile(path.join(many, `${String(i).padStart(4, '0')}.png`), picture);
    const sizes: number[] = [];
    const measure = ({ tallies }: Walked) => {
      sizes.push(
        [...tallies.values()].flatMap((tally) => Object.values(tally.arrays)).reduce((sum, array) => sum + array.byteLength, 0),
      );
      return true;
    };
    const { walked } = await walk({ looker, eye, layers, set: folderSet(many), between: measure });
    expect(new Set(sizes).size).toBe(1);
    // Equal pictures: the first twelve stay the strongest, the first two of the one bin are remembered.
    expect([...walked.kept.keys()].sort((a, b) => a - b)).toEqual(Array.from({ length: 12 }, (_, i) => i));
    await rm(many, { recursive: true });
  });

  it('refuses answers that are not finite', async () => {
    const broken: Looker = {
      ...looker,
      async see(ask) {
        const seen = await looker.see(ask);
        seen.layers[0].means[3] = NaN;
        return seen;
      },
    };
    const { walked } = await walk({ looker: broken, eye, layers, set: folderSet(folder) });
    // The first picture of each batch that is one.
    expect(walked.unreadable.first.filter(({ why }) => /not finite/.test(why)).length).toBeGreaterThanOrEqual(3);
  });
});

describe('states', () => {
  const arrays = { a: Float64Array.of(1, NaN), b: Uint8Array.of(3) };
  const bytes = encodeState({ at: 3 }, arrays);
  const read = (from: Uint8Array, into: Record<string, Float64Array | Uint8Array>) =>
    decodeState(from, z.object({ at: z.int() }), () => into);

  it('come back', () => {
    const into = { a: new Float64Array(2), b: new Uint8Array(1) };
    expect(read(bytes, into)).toEqual({ at: 3 });
    expect(into).toEqual(arrays);
  });

  it('that are damaged, cut or of other arrays are refused', () => {
    const into = { a: new Float64Array(2), b: new Uint8Array(1) };
    for (const at of [20, 60, bytes.length - 1]) {
      const damaged = Buffer.from(bytes);
      damaged[at] ^= 1;
      expect(() => read(damaged, into)).toThrow(/damaged/);
    }
    expect(() => read(bytes.subarray(0, bytes.length - 4), into)).toThrow(/damaged/);
    expect(() => read(Buffer.from('hello'), into)).toThrow(/not the state/);
    expect(() => read(bytes, { ...into, b: new Uint8Array(2) })).toThrow(/1 bytes of b where 2 of b/);
    expect(() => read(bytes, { a: into.a })).toThrow(/2 arrays, not 1/);
  });
});

describe('pictures', () => {
  it('are squeezed to the eye, upright, transparency on white', async () => {
    const file = path.join(folder, '.clear.png');
    await sharp({ create: { width: 9, height: 50, channels: 4, background: { r: 0, g: 0, b: 0, alpha: 0 } } })
      .png()
      .toFile(file);
    const pixels = await decodeFor(32, file);
    expect([pixels.length, pixels.every((v) => v === 255)]).toEqual([32 * 32 * 3, true]);
    await rm(file);
  });
});
