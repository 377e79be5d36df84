import { mkdtemp, rm, symlink, writeFile, mkdir } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import fc from 'fast-check';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { listPictures } from '../../server/compare/folder.js';
import {
  bundledLabels,
  conceptsAsLabels,
  folderMatcher,
  labelsIn,
  languages,
  readBundledLabels,
  readLabelFile,
  UnfitLabels,
} from '../../server/compare/labels.js';

let folder: string;
beforeAll(async () => {
  folder = await mkdtemp(path.join(tmpdir(), 'reverie-labels-'));
});
afterAll(() => rm(folder, { recursive: true, force: true }));
const at = (name: string) => path.join(folder, name);
const reading = async (name: string, content: string | Uint8Array) => {
  await writeFile(at(name), content);
  return () => readLabelFile(at(name));
};

const official = {
  'uc-merced':
    'agricultural airplane baseballdiamond beach buildings chaparral denseresidential forest freeway golfcourse harbor intersection mediumresidential mobilehomepark overpass parkinglot river runway sparseresidential storagetanks tenniscourt',
  aid: 'Airport BareLand BaseballField Beach Bridge Center Church Commercial DenseResidential Desert Farmland Forest Industrial Meadow MediumResidential Mountain Park Parking Playground Pond Port RailwayStation Resort River School SparseResidential Square Stadium StorageTanks Viaduct',
};

describe('bundled labels', () => {
  it.each(Object.entries(official))('%s has the folders of the set, and words in both languages', (name, folders) => {
    const { labels, title, templates } = readBundledLabels(name);
    expect(labels.map(({ folder }) => folder)).toEqual(folders.split(' '));
    for (const language of languages) {
      expect(new Set(labels.map((row) => row[language])).size).toBe(labels.length);
      expect(title?.[language]).toBeTruthy();
      expect(templates[language]!.every((text) => text.includes('{}'))).toBe(true);
    }
    expect(labels.every(({ zh }) => /^\p{Script=Han}+$/u.test(zh!))).toBe(true);
    const find = folderMatcher(labelsIn(labels, 'en'));
    for (const [i, one] of folders.split(' ').entries()) expect([find(one), find(one.toUpperCase())]).toEqual([i, i]);
  });

  it('are what there is', () => {
    expect(bundledLabels()).toEqual(['aid', 'uc-merced']);
  });
});

describe('label files', () => {
  it('are lines: a text, or a folder, a tab and a text', async () => {
    const read = await reading('a.txt', '\uFEFFcastle\r\n\r\n  n01\t云中的城堡  \n\tcat\n');
    expect(read().labels).toEqual([
      { en: 'castle', zh: 'castle' },
      { folder: 'n01', en: '云中的城堡', zh: '云中的城堡' },
      { en: 'cat', zh: 'cat' },
    ]);
  });

  it('are JSON: rows, texts, or both with a title and templates', async () => {
    expect((await reading('a.json', '["a", {"folder": "B", "zh": "乙"}]'))().labels).toEqual([
      { en: 'a', zh: 'a' },
      { folder: 'B', zh: '乙' },
    ]);
    const whole = { title: { en: 'X', zh: 'X' }, templates: { zh: ['一张{}'] }, labels: [{ en: 'a' }] };
    expect((await reading('b.json', JSON.stringify(whole)))()).toEqual(whole);
  });

  it.each([
    ['no.json', '{', /^the labels .*no\.json are not JSON/],
    ['no.json', '[]', /labels: there are no labels/],
    ['no.json', 'null', /the file: /],
    ['no.json', '[{"folder": "a"}]', /labels\.0: the label has no words/],
    ['no.json', '[{"en": ""}]', /labels\.0\.en: the English label is empty/],
    ['no.json', '[{"en": "a", "wnid": 3}]', /labels\.0: .*"wnid"/],
    ['no.json', '[{"en": "a\\nb"}]', /line breaks/],
    ['no.json', '[1, 2]', /labels\.0: .*1 more/],
    ['no.json', '{"labels": ["a"], "templates": {"en": ["a photo"]}}', /templates\.en\.0: a template has \{\} once/],
    ['no.json', JSON.stringify(Array(10_001).fill('a')), /at most 10000/],
    ['no.txt', '\n \n', /no labels in .*no\.txt/],
    ['no.txt', 'a\nb\tc\td\n', /line 2 has 2 tabs/],
    ['no.txt', 'a\n\u200b\n', /line 2: the English label is empty/],
    ['no.txt', Uint8Array.of(0x61, 0xff, 0xfe), /not text in UTF-8/],
    ['no.txt', 'a\n'.repeat(3_000_000), /6000000 bytes, at most 4194304/],
  ])('that do not fit are told: %s %#', async (name, content, sentence) => {
    const read = await reading(name, content);
    expect(read).toThrow(UnfitLabels);
    expect(read).toThrow(sentence);
  });

  it('that are not there are told', () => {
    expect(() => readLabelFile(at('nowhere.txt'))).toThrow(/nowhere\.txt cannot be read: ENOENT/);
    expect(() => readLabelFile(folder)).toThrow(/cannot be read: EISDIR/);
  });

  it('of any content are labels or a sentence', async () => {
    const anything = fc.oneof(fc.json(), fc.string({ unit: 'binary' }));
    await fc.assert(
      fc.asyncProperty(anything, fc.constantFrom('x.json', 'x.txt'), async (content, name) => {
        const read = await reading(name, content);
        try {
          expect(read().labels.length).toBeGreaterThan(0);
        } catch (error) {
          expect(error).toBeInstanceOf(UnfitLabels);
        }
      }),
      { numRuns: 200 },
    );
  });
});

describe('labels in a language', () => {
  it('are the words of that language; equal words are one class', () => {
    const rows = [{ folder: 'x', en: 'crane', zh: '鹤' }, { folder: 'y', en: 'crane', zh: '起重机' }]; // prettier-ignore
    expect(labelsIn(rows, 'en').map(({ text, folders }) => [text, folders])).toEqual([['crane', ['x', 'y']]]);
    expect(labelsIn(rows, 'zh').map(({ text }) => text)).toEqual(['鹤', '起重机']);
    expect(() => labelsIn([{ en: 'a' }, { folder: 'f', en: 'b' }], 'zh')).toThrow(
      /label 1 \(a\) has no words in "zh".*language en/,
    );
  });

  it('are found by folder, then by words in either language, in any case and form', () => {
    const labels = labelsIn(
      [
        { folder: 'Café', en: 'coffee house', zh: '咖啡馆' },
        { folder: 'bar', en: 'pub', zh: '酒吧' },
        { en: 'bar', zh: '酒吧' },
        { folder: 'constructor', en: '__proto__' },
      ],
      'en',
    );
    const find = folderMatcher(labels);
    expect(['cafe\u0301', 'COFFEE HOUSE', '咖啡馆', 'BAR', 'pub', '__proto__', 'Constructor'].map(find)).toEqual([
      0, 0, 0, 1, 1, 3, 3,
    ]);
    // Two labels are called 酒吧: it names neither.
    expect(['酒吧', 'nothing', 'toString', ''].map(find)).toEqual([undefined, undefined, undefined, undefined]);
    expect(() => folderMatcher(labelsIn([{ folder: 'A', en: 'x' }, { folder: 'a', en: 'y' }], 'en'))).toThrow(/x and y both have the folder a/); // prettier-ignore
  });

  it('can be a model’s concepts', () => {
    const { labels } = conceptsAsLabels([
      { wnid: 'n1', word: 'tench', zh: '丁鱥' },
      { wnid: 'n2', word: 'x', zh: null },
    ]);
    expect(labels).toEqual([{ folder: 'n1', en: 'tench', zh: '丁鱥' }, { folder: 'n2', en: 'x' }]); // prettier-ignore
  });
});

it('pictures of a folder and its subfolders come sorted, whatever else is there', async () => {
  for (const name of ['b/deep', 'B', '.hidden', 'empty']) await mkdir(at(`set/${name}`), { recursive: true });
  for (const name of ['z.JPG', 'a.png', '.a.png', 'notes.txt', 'b/2.tif', 'b/10.webp', 'b/deep/x.png', 'B/1.jpeg', '.hidden/1.png'])
    await writeFile(at(`set/${name}`), '');
  await mkdir(at('set/folder.png'));
  await symlink(at('nowhere'), at('set/broken.png'));
  await symlink(at('set/b'), at('set/link'));
  expect(listPictures(at('set')).map(({ file }) => file)).toEqual([
    'a.png',
    'z.JPG',
    'B/1.jpeg',
    'b/10.webp',
    'b/2.tif',
    'link/10.webp',
    'link/2.tif',
  ]);
  expect(listPictures(at('set')).map(({ folder }) => folder).slice(0, 3)).toEqual([null, null, 'B']); // prettier-ignore
});
