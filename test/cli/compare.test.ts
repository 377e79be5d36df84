import { mkdir, mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import sharp from 'sharp';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import type { Ranked } from '../../server/compare/compare.js';
import { inProcess, reverie, type Said } from './reverie.js';

let folder: string;
const at = (name: string) => path.join(folder, name);

interface Similar {
  model: string;
  images: string[];
  texts: string[];
  matrix: number[][];
  skipped: { file: string; why: string }[];
}

interface Classified {
  images: { file: string; label?: string; top: Ranked[] }[];
  accuracy: number | null;
  accuracyTop5: number | null;
  confusion?: { labels: string[]; counts: number[][] };
  skipped: { file: string }[];
}

/** Eight pictures that the model imagined: a sheet of four in a row, two rows. */
const sheet = ['nature', 'time', 'science', 'dream', 'castle', 'volcano', 'daisy', 'cat'];

beforeAll(async () => {
  folder = await mkdtemp(path.join(tmpdir(), 'reverie-compare-'));
  const cut = (name: string) => {
    const i = sheet.indexOf(name);
    return sharp('recipes/pictures/eight.jpg').extract({
      left: (i % 4) * 224,
      top: Math.floor(i / 4) * 224,
      width: 224,
      height: 224,
    });
  };
  for (const name of ['flat', 'classes/Castle', 'classes/n02', 'classes/猫', 'classes/other', 'empty', 'bad'])
    await mkdir(at(name), { recursive: true });
  for (const name of ['castle', 'daisy', 'cat'])
    await cut(name)
      .png()
      .toFile(at(`flat/${name}.png`));
  await writeFile(at('flat/broken.jpg'), 'not a picture');
  await writeFile(at('bad/broken.jpg'), 'not a picture');
  await cut('castle').tiff().toFile(at('classes/Castle/1.tif'));
  await cut('volcano').jpeg().toFile(at('classes/n02/1.jpg'));
  // A daisy among the cats, to be taken for a daisy.
  await cut('cat').webp().toFile(at('classes/猫/1.webp'));
  await cut('daisy').png().toFile(at('classes/猫/2.png'));
  await cut('dream').png().toFile(at('classes/other/1.png'));
  await writeFile(at('texts.txt'), 'a castle\n\n雏菊\ncat\n');
  await writeFile(
    at('labels.json'),
    JSON.stringify([
      { folder: 'castle', en: 'castle', zh: '城堡' },
      { folder: 'n02', en: 'volcano', zh: '火山' },
      { en: 'cat', zh: '猫' },
      { en: 'daisy', zh: '雏菊' },
    ]),
  );
});
afterAll(() => rm(folder, { recursive: true, force: true }));

describe('similarity', () => {
  it('is the product of what embed answers, pictures x texts, without what cannot be read', async () => {
    const said = await inProcess(['similarity', '--images', at('flat'), '--texts', at('texts.txt'), '--out', at('new/heat.png'), '--json']); // prettier-ignore
    expect(said.code).toBe(0);
    expect(said.stderr).toMatch(/^skipped broken\.jpg: the image cannot be read/);
    const { model, images, texts, matrix, skipped } = said.json() as Similar;
    expect([model, images, texts]).toEqual(['brivl-nano', ['castle.png', 'cat.png', 'daisy.png'], ['a castle', '雏菊', 'cat']]);
    expect(skipped.map(({ file }) => file)).toEqual(['broken.jpg']);
    const embedding = async (...args: string[]) =>
      ((await inProcess(['embed', ...args, '--json'])).json() as { embedding: number[] }).embedding;
    for (const [i, file] of images.entries()) {
      const picture = await embedding('--image', at(`flat/${file}`));
      for (const [j, text] of texts.entries()) {
        const product = (await embedding(text)).reduce((sum, value, k) => sum + value * picture[k], 0);
        expect(matrix[i][j]).toBeCloseTo(product, 5);
      }
    }
    expect(matrix.map((row) => row.indexOf(Math.max(...row)))).toEqual([0, 2, 1]);
    const { width, height } = await sharp(at('new/heat.png')).metadata();
    expect([width > 300, height > 300]).toEqual([true, true]);
  });

  it('puts texts into templates, and is told line by line to people', async () => {
    const ask = (...args: string[]) => inProcess(['similarity', '--images', at('flat'), '--texts', at('texts.txt'), ...args]);
    const first = (said: Said) => (said.json() as Similar).matrix[0][0];
    const [plain, one, two, both] = [
      first(await ask('--json')),
      first(await ask('--template', 'a photo of {}', '--json')),
      first(await ask('--template', 'a painting of {}', '--json')),
      first(await ask('--template', 'a photo of {}', '--template', 'a painting of {}', '--json')),
    ];
    expect(new Set([plain, one, two, both]).size).toBe(4);
    expect((await ask()).stdout).toMatch(
      /^castle\.png {2}a castle {2}0\.\d{3}\ncat\.png {2}cat {2}0\.\d{3}\ndaisy\.png {2}雏菊 {2}0\.\d{3}\n$/,
    );
  });
});

describe('classify', () => {
  it('counts over a folder per class, and draws what is taken for what', async () => {
    const args = ['classify', '--images', at('classes'), '--labels', at('labels.json'), '--top', '2'];
    const said = await reverie([...args, '--out', at('confusion.png'), '--json']);
    expect([said.code, said.stderr]).toEqual([0, 'left out, because they are named as no label: other\n']);
    expect(said.stdout.trimEnd()).not.toContain('\n');
    const { images, accuracy, accuracyTop5, confusion } = said.json() as Classified;
    expect(images.map(({ file, label, top }) => [file, label, top[0].label, top.length])).toEqual([
      ['Castle/1.tif', 'castle', 'castle', 2],
      ['n02/1.jpg', 'volcano', 'volcano', 2],
      ['猫/1.webp', 'cat', 'cat', 2],
      ['猫/2.png', 'cat', 'daisy', 2],
    ]);
    expect([accuracy, accuracyTop5]).toEqual([0.75, 1]);
    expect(confusion).toEqual({
      labels: ['castle', 'volcano', 'cat', 'daisy'],
      counts: [
        [1, 0, 0, 0],
        [0, 1, 0, 0],
        [0, 0, 1, 1],
        [0, 0, 0, 0],
      ],
    });
    expect((await sharp(at('confusion.png')).metadata()).format).toBe('png');
    const people = await inProcess([...args, '--language', 'zh']);
    expect(people.stdout).toMatch(/^猫\/1\.webp {2}猫 0\.\d{3}, /m);
    expect(people.stdout).toMatch(/top-1 75\.0 %, top-5 100\.0 %\n$/);
  });

  it('has no accuracy over pictures without classes; takes bundled sets and lines', async () => {
    const aid = await inProcess(['classify', '--images', at('flat'), '--labels', 'aid', '--language', 'zh', '--json']);
    const told = aid.json() as Classified;
    expect([told.accuracy, told.accuracyTop5, told.confusion]).toEqual([null, null, undefined]);
    expect(told.images[0].top).toHaveLength(5);
    expect(told.images[0].top.every(({ label }) => /^\p{Script=Han}+$/u.test(label))).toBe(true);
    const lines = await inProcess(['classify', '--images', at('flat'), '--labels', at('texts.txt'), '--top', '1', '--json']);
    expect((lines.json() as Classified).images.map(({ top }) => top[0].label)).toEqual(['a castle', 'cat', '雏菊']);
  });
});

describe('how they are called', () => {
  it.each([
    [['similarity'], /^--images DIR is missing/],
    [['similarity', '--images', 'FLAT'], /^--texts FILE is missing/],
    [['similarity', 'more', '--images', 'FLAT', '--texts', 'TEXTS'], /^only options are taken, not more/],
    [['similarity', '--images', 'FLAT', '--texts', 'nowhere.txt'], /^nowhere\.txt cannot be read/],
    [['similarity', '--images', 'nowhere', '--texts', 'TEXTS'], /^--images nowhere cannot be listed/],
    [['similarity', '--images', 'EMPTY', '--texts', 'TEXTS'], /^there are no pictures in /],
    [['similarity', '--images', 'BAD', '--texts', 'TEXTS'], /none of the 1 pictures in .* can be read/],
    [
      ['similarity', '--images', 'FLAT', '--texts', 'TEXTS', '--template', 'a photo'],
      /^--template "a photo": a template has \{\} once/,
    ],
    [['similarity', '--images', 'FLAT', '--texts', 'TEXTS', '--out', 'a.jpg'], /^--out takes a file that ends in \.png/],
    [
      ['similarity', '--images', 'FLAT', '--texts', 'TEXTS', '--model', 'nobody'],
      /^there is no model nobody|there is no model nobody/,
    ],
    [['classify', '--images', 'FLAT'], /^--labels is missing: name a file, or one of aid, uc-merced, concepts/],
    [['classify', '--images', 'FLAT', '--labels', 'nothing'], /^nothing cannot be read/],
    [['classify', '--images', 'FLAT', '--labels', 'aid', '--language', 'fr'], /^--language takes en or zh, not fr/],
    [['classify', '--images', 'FLAT', '--labels', 'aid', '--top', '0'], /^--top takes a whole number/],
    [
      ['classify', '--images', 'FLAT', '--labels', 'aid', '--out', 'a.png'],
      /^--out draws which classes .* is not a folder per class/,
    ],
    [['classify', '--images', 'CLASSES', '--labels', 'aid'], /^no folder in .* is named as a label \(Castle, n02, other, 猫\)/],
  ])('%j: a sentence, the usage, exit code 2', async (args, sentence) => {
    const files: Record<string, string> = { FLAT: 'flat', EMPTY: 'empty', BAD: 'bad', CLASSES: 'classes', TEXTS: 'texts.txt' };
    const { code, stdout, stderr } = await inProcess(args.map((arg) => (files[arg] === undefined ? arg : at(files[arg]))));
    expect(stderr).toMatch(sentence);
    expect(stderr).toMatch(/\n\nusage: reverie (similarity|classify) --images/);
    expect([code, stdout]).toEqual([2, '']);
  });

  it('is in the help', async () => {
    const { stdout } = await inProcess(['help']);
    expect(stdout).toMatch(/^ {2}similarity /m);
    expect(stdout).toMatch(/^ {2}classify /m);
  });
});
