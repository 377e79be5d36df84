import { copyFileSync, existsSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import sharp from 'sharp';
import { afterAll, beforeAll, describe, expect, it, vi } from 'vitest';
import { createEngine, openRegistry, type Engine } from '../../server/compute/engine.js';
import { drawAtlas, type AtlasFile, type AtlasOptions } from '../../server/commands/atlas.js';
import { fileNameOf } from '../../server/imagination/statistics.js';
import { atlasOf, createTiles } from '../../server/neurons/atlas.js';
import { atlasDrawing } from '../../server/neurons/visualize.js';
import { folderIn, width } from '../models/plain-network.js';
import { inProcess } from './reverie.js';

const home = mkdtempSync(path.join(tmpdir(), 'reverie-atlas-'));
let engine: Engine;
beforeAll(async () => {
  vi.stubEnv('DATA_DIR', home);
  folderIn(path.join(home, 'models'), 'plain');
  engine = await createEngine(openRegistry(), 'cpu');
});
afterAll(async () => {
  await engine.release();
  vi.unstubAllEnvs();
  rmSync(home, { recursive: true });
});

const drawing = { ...atlasDrawing, canvas: 16, look: 16, steps: 6 };

async function atlas(out: string, more: Partial<AtlasOptions> = {}) {
  const lines: string[] = [];
  const told = await drawAtlas(engine, {
    ...{ model: 'plain', layer: 'LLP', out: path.join(home, out), drawing, limit: Infinity },
    isInterrupted: () => false,
    tell: (line) => lines.push(line),
    ...more,
  });
  return { ...told, said: lines.join('\n') };
}

const bytesOf = (out: string, file: string) => readFileSync(path.join(home, out, file));

describe('an atlas', () => {
  it('has every channel; stopped and begun again, it comes to the same bytes', async () => {
    expect(await atlas('whole')).toMatchObject({ out: path.join(home, 'whole/LLP.webp'), channels: width, drawn: width });

    const some = await atlas('parts', { limit: 1 });
    expect(some).toMatchObject({
      out: null,
      drawn: 4,
      said: expect.stringMatching(/4\/6.* s left[^]*2 are left: run it again/) as string,
    });
    expect(existsSync(path.join(home, 'parts/LLP.webp'))).toBe(false);
    const rest = await atlas('parts');
    expect(rest).toMatchObject({ drawn: width, said: expect.stringContaining('4 of 6 are drawn already: going on') as string });
    for (const file of ['LLP.webp', 'LLP.json']) expect(bytesOf('parts', file).equals(bytesOf('whole', file)), file).toBe(true);
    expect(readdirSync(path.join(home, 'parts')).sort()).toEqual(['LLP.json', 'LLP.webp']);

    const described = JSON.parse(bytesOf('whole', 'LLP.json').toString()) as AtlasFile;
    expect(described).toMatchObject({ model: 'plain', layer: 'LLP', tile: 96, columns: 3, channels: width, steps: 6 });
    expect([described.activations.length, described.ranks.length]).toEqual([width, width]);
    const sheet = await sharp(bytesOf('whole', 'LLP.webp')).metadata();
    expect(sheet).toMatchObject({ format: 'webp', width: 3 * 96, height: 2 * 96 });
  });

  it('of a layer of any name is found by it; one that is damaged, or of another layer, is none', async () => {
    const layer = 'conv1:out';
    const { out } = await atlas('models/plain/atlas', { layer });
    const eye = await engine.looker.eye('plain');
    expect(atlasOf(eye, layer)).toMatchObject({ file: out, view: { tile: 96, columns: 3 } });
    for (const other of ['conv1_out', 'conv1/out']) {
      expect(fileNameOf(other)).not.toBe(fileNameOf(layer));
      for (const ending of ['webp', 'json'])
        copyFileSync(out!.replace(/webp$/, ending), path.join(path.dirname(out!), `${fileNameOf(other)}.${ending}`));
      expect(atlasOf(eye, other)).toBeNull();
    }
    writeFileSync(out!.replace(/webp$/, 'json'), '{"model":');
    expect(atlasOf(eye, layer)).toBeNull();
    expect(fileNameOf('LLP')).toBe('LLP');
  });

  it('gives one channel by itself, and nothing for a channel that it has not', async () => {
    const { out } = await atlas('tiled');
    const sheet = { file: out!, view: { url: '', tiles: '', tile: 96, columns: 3 } };
    const tiles = createTiles();
    for (const [channel, left, top] of [
      [0, 0, 0],
      [2, 192, 0],
      [4, 96, 96],
    ]) {
      // prettier-ignore
      const tile = await tiles.tile(sheet, channel);
      const expected = sharp(out!).extract({ left, top, width: 96, height: 96 });
      expect((await sharp(tile).raw().toBuffer()).equals(await expected.raw().toBuffer()), `channel ${channel}`).toBe(true);
    }
    expect(await tiles.tile(sheet, width)).toBeUndefined();
    await expect(tiles.prepare({ ...sheet, file: `${out}.gone` })).rejects.toThrow(/missing/);
    expect(await tiles.tile(sheet, 0)).toBeInstanceOf(Buffer);
  });

  it('of another drawing does not go on with what is there', async () => {
    await atlas('changed', { limit: 1 });
    const other = await atlas('changed', { limit: 1, drawing: { ...drawing, seed: 2 } });
    expect(other.drawn).toBe(4);
    expect(other.said).not.toContain('going on');
  });

  it('ends between two batches when it is interrupted', async () => {
    expect(await atlas('interrupted', { isInterrupted: () => true })).toMatchObject({ out: null, drawn: 0 });
  });
});

it('a network that cannot be opened is told with the reason, and the others are there', async () => {
  folderIn(path.join(home, 'models'), 'broken', { file: 'other.onnx' });
  expect(engine.models().find(({ name }) => name === 'plain')).toMatchObject({ kind: 'eye', ready: true, channels: width });
  await expect(atlas('no', { model: 'broken' })).rejects.toThrow(/other\.onnx is missing/);
  rmSync(path.join(home, 'models/broken'), { recursive: true });
});

it('reverie atlas says what is wrong with how it was called', async () => {
  const wrong = (...args: string[]) => inProcess(['atlas', '--model', 'plain', '--out', path.join(home, 'no'), ...args]);
  expect((await wrong('--layer', 'nowhere')).stderr).toContain('its layers are conv1:out');
  expect((await wrong('--limit', '0')).stderr).toContain('--limit takes');
  expect((await wrong('--model', 'nobody')).stderr).toContain('there is no model nobody');
  expect((await inProcess(['atlas'])).stderr).toContain('--out DIR is missing');
});
