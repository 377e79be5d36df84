import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import type { ExampleView, IndexView, UnitView } from '../../server/neurons/view.js';
import { pictureFolder } from '../neurons/eyes.js';
import { inProcess, reverie } from './reverie.js';

let folder: string;
const before = process.env.DATA_DIR;
const pictures = () => path.join(folder, 'pictures');

beforeAll(async () => {
  folder = await mkdtemp(path.join(tmpdir(), 'reverie-neuron-'));
  process.env.DATA_DIR = path.join(folder, 'data');
  await pictureFolder(pictures(), 27);
});
afterAll(async () => {
  if (before === undefined) delete process.env.DATA_DIR;
  else process.env.DATA_DIR = before;
  await rm(folder, { recursive: true, force: true });
});

type Told = Omit<UnitView, 'examples'> & { examples: ExampleView[] };

describe('index', () => {
  it('stopped with Ctrl-C keeps what it has and says how to go on; the same command does', async () => {
    const listening = process.listenerCount('SIGINT');
    const interrupt = setInterval(() => {
      if (process.listenerCount('SIGINT') === listening) return;
      clearInterval(interrupt);
      process.emit('SIGINT');
    }, 5);
    const stopped = await inProcess(['index', pictures(), '--layer', 'block7.1', '--json']);
    clearInterval(interrupt);
    expect(stopped.code).toBe(0);
    const { state, done, id } = stopped.json() as IndexView;
    expect([state, done < 30]).toEqual(['stopped', true]);
    expect(stopped.stderr).toMatch(new RegExp(`stopped at ${done} of 30 pictures: the same command goes on from there`));

    const said = await reverie(['index', pictures(), '--layer', 'block7.1', '--json']);
    expect(said.code).toBe(0);
    expect(said.json()).toMatchObject({
      id,
      state: 'done',
      model: 'brivl-nano',
      layers: ['block7.1'],
      images: 30,
      done: 30,
      unreadable: 3,
    });
    expect(said.stderr).toMatch(/left out 005-broken\.jpg: /);
  });
});

describe('neuron', () => {
  it('tells of a unit in one JSON object, and to people', async () => {
    const said = await inProcess(['neuron', 'block7.1/ch-33', '--json']);
    expect([said.code, said.stderr]).toEqual([0, '']);
    const told = said.json() as Told;
    expect(told).toMatchObject({ model: 'brivl-nano', layer: 'block7.1', channel: 33, unit: 'block7.1/ch-33' });
    expect(told.words).toHaveLength(10);
    expect(told.words[0].zh).toMatch(/\p{Script=Han}/u);
    expect([told.similar.length, told.opposite.length, told.examples.length]).toEqual([10, 5, 12]);
    const people = await inProcess(['neuron', 'block7.1/ch-33']);
    expect(people.stdout).toMatch(/^block7\.1\/ch-33 of brivl-nano .*\nwords .*\npictures .*\nsimilar .*block7\.1\/ch-\d+/);
  });

  it('makes the index of a layer that has none, of the bundled photographs', async () => {
    const said = await inProcess(['neuron', 'block1.1/ch-3', '--json']);
    expect(said.code).toBe(0);
    expect(said.stderr).toMatch(/no index of block1\.1 yet: looking at the bundled photographs/);
    const told = said.json() as Told;
    expect(told).toMatchObject({ layer: 'block1.1', channel: 3, unit: 'block1.1/ch-3' });
    expect(told.examples[0].credit!.author).not.toBe('');
    // A map of 112 x 112 is not kept.
    expect(told.examples[0].map).toBeNull();
  });
});

describe('how they are called', () => {
  it.each([
    [['index'], /^folder is missing/],
    [['index', 'nowhere'], /^nowhere cannot be listed/],
    [['index', 'nowhere', '--bundled'], /^give a folder or --bundled, not both/],
    [['index', '--bundled', '--layer', 'block9'], /^brivl-nano has no layer "block9": its layers are stem, /],
    [['index', '--bundled', '--model', 'nobody'], /there is no model nobody/],
    [['neuron'], /^neuron is missing/],
    [['neuron', '108'], /^"108" names no neuron: write LLP-108/],
    [['neuron', 'LLP-1280'], /^brivl-nano has no neuron LLP-1280: its neurons are LLP-0 to LLP-1279/],
    [['neuron', 'LLP-3@centre'], /leave the place out of LLP-3@centre/],
  ])('%j: a sentence, the usage, exit code 2', async (args, sentence) => {
    const { code, stderr } = await inProcess(args);
    expect([code, stderr]).toEqual([2, expect.stringMatching(sentence)]);
    expect(stderr).toMatch(/\n\nusage: reverie (index|neuron) /);
  });
});
