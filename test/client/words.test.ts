import { describe, expect, test } from 'vitest';
import { fileNameOf, firstLines, moreLines, rollLine } from '../../client/lib/lines.js';
import { cosine, duration, millions, rate } from '../../client/lib/numbers.js';
import { pages, placeOf } from '../../client/lib/places.js';
import { english } from '../../client/lib/words/en.js';
import { chinese } from '../../client/lib/words/zh.js';

const paths = (value: unknown, at = ''): string[] =>
  typeof value === 'object' && value !== null
    ? Object.entries(value).flatMap(([key, inner]) => paths(inner, `${at}.${key}`))
    : [at];

describe('the dictionaries', () => {
  test('have the same words', () => {
    expect(paths(chinese)).toEqual(paths(english));
  });

  test('name every page', () => {
    for (const { id } of pages) expect([english.pages[id], chinese.pages[id]].every(Boolean), id).toBe(true);
  });

  test('leave nothing empty but the corner of a table', () => {
    const empty = (words: unknown, at = ''): string[] =>
      typeof words === 'string'
        ? words.trim() === ''
          ? [at]
          : []
        : typeof words === 'object' && words !== null
          ? Object.entries(words).flatMap(([key, inner]) => empty(inner, `${at}.${key}`))
          : [];
    for (const words of [english, chinese]) expect(empty(words)).toEqual(['.nanoTable.part']);
  });
});

describe('numbers', () => {
  test('cosines', () => {
    expect([0.614, 0, -0.04, 1, -0.001].map((value) => cosine(value))).toEqual(['.61', '.00', '−.04', '1.00', '.00']);
  });

  test('time, rate and size', () => {
    expect(duration(12.6, english)).toBe('13 s');
    expect(duration(-1, english)).toBe('0 s');
    expect(duration(135, chinese)).toBe('2 分 15 秒');
    expect([3.61, 24.4].map(rate)).toEqual(['3.6', '24']);
    expect([4_690_000, 650_000_000].map(millions)).toEqual(['4.7', '650']);
  });
});

describe('lines', () => {
  test('five to begin with, none twice, all in both languages', () => {
    const all = [...firstLines, ...moreLines];
    expect(firstLines).toHaveLength(5);
    for (const language of ['zh', 'en'] as const) {
      expect(new Set(all.map((line) => line[language])).size).toBe(all.length);
      expect(all.every((line) => line[language].trim() !== '')).toBe(true);
    }
  });

  test('the dice never rolls what is there', () => {
    for (let chance = 0; chance < 1; chance += 0.01) expect(rollLine('zh', '自然', chance)).not.toBe('自然');
  });

  test('file names hold on every system', () => {
    expect(fileNameOf('让生命像夏天的花朵一样美丽', 7)).toBe('让生命像夏天的花朵一样美丽-7.png');
    expect(fileNameOf('  a/b: "c"?\\ ', 1)).toBe('a-b-c-1.png');
    expect(fileNameOf('…', 3)).toBe('reverie-3.png');
    expect(fileNameOf('x'.repeat(400), 3).length).toBeLessThan(60);
  });
});

test('paths lead to pages, unknown ones to the beginning', () => {
  expect(placeOf('/')).toEqual({ page: 'imagine', jobId: null, resultId: null });
  expect(placeOf('/jobs/j1')).toEqual({ page: 'imagine', jobId: 'j1', resultId: null });
  expect(placeOf('/results/r1')).toEqual({ page: 'imagine', jobId: null, resultId: 'r1' });
  expect(placeOf('/gallery').page).toBe('gallery');
  expect(placeOf('/models/').page).toBe('models');
  expect(placeOf('/jobs/%E0%A4%A').page).toBe('imagine');
  expect(placeOf('/nowhere/at/all').page).toBe('imagine');
});
