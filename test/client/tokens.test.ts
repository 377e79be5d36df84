import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { changedCells, countsOf, eachBox, grain, motifOf, paletteOf, textureOf, unpacked } from '../../client/lib/tokens.js';
import { packed } from '../../server/jobs/frames.js';

const gridOf = (codes: number[], columns = codes.length) => ({ rows: codes.length / columns, columns, codebook: 4096, codes });
const themes = ['dark', 'light'] as const;

/** Relative luminance of a packed colour, WCAG 2.2. */
const luminance = (word: number) =>
  [0.2126, 0.7152, 0.0722].reduce((sum, weight, at) => {
    const c = ((word >>> (8 * at)) & 255) / 255;
    return sum + weight * (c <= 0.04045 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4);
  }, 0);

describe('a grid of codes', () => {
  test('travels in two bytes a code and comes back as it was', () => {
    fc.assert(
      fc.property(fc.array(fc.integer({ min: 0, max: 0xffff }), { minLength: 1 }), (codes) => {
        const sent = packed(gridOf(codes));
        expect(sent.codes).toHaveLength(2 * codes.length);
        // A browser gets an ArrayBuffer, Node a view into a larger one.
        const inside = new Uint8Array([9, 9, 9, ...sent.codes]).subarray(3);
        for (const bytes of [sent.codes, sent.codes.buffer as unknown as Uint8Array, inside])
          expect(Array.from(unpacked({ ...sent, codes: bytes }).codes)).toEqual(codes);
      }),
    );
  });

  test('counts in how many cells each code stands', () => {
    expect(countsOf(gridOf([7, 0, 7, 7, 4095]))).toEqual(
      new Map([
        [7, 3],
        [0, 1],
        [4095, 1],
      ]),
    );
  });

  test('tells which cells changed, and none where there is nothing to compare with', () => {
    const now = gridOf([1, 2, 3, 4, 5, 6], 3);
    expect(changedCells(gridOf([1, 9, 3, 9, 5, 6], 3), now)).toEqual([1, 3]);
    for (const before of [null, gridOf([9, 9, 9, 9, 9, 9], 2), gridOf([9, 9], 2)]) expect(changedCells(before, now)).toEqual([]);
  });

  test('covers its surface with whole pixels, each once', () => {
    const surface = { width: 37, height: 23 };
    const covered = new Uint8Array(surface.width * surface.height);
    const grid = gridOf(Array<number>(5 * 4).fill(0), 5);
    eachBox(grid, surface, grid.codes.keys(), (x, y, w, h) => {
      for (let at = 0; at < w * h; at++) covered[(y + Math.floor(at / w)) * surface.width + x + (at % w)] += 1;
    });
    expect(covered.every((times) => times === 1)).toBe(true);
  });
});

describe.each(themes)('codes in the %s theme', (theme) => {
  const palette = paletteOf(4096, theme);
  /** The cell of a code as text. */
  const squareOf = (code: number) => textureOf(gridOf([code]), palette).join();

  test('look alike where they are equal, and only there', () => {
    const texture = textureOf(gridOf([5, 1000, 5, 6], 2), palette);
    const cell = (row: number, column: number) =>
      Array.from({ length: grain * grain }, (_, at) => texture[(row * grain + (at >> 2)) * 2 * grain + column * grain + (at & 3)]);
    expect(cell(1, 0)).toEqual(cell(0, 0));
    expect(cell(0, 1)).not.toEqual(cell(0, 0));
    expect(cell(0, 0).join()).toBe(squareOf(5));
    expect(new Set(Array.from({ length: 4096 }, (_, code) => squareOf(code))).size).toBe(4096);
  });

  test('differ by more than their hue: of 48 in a row, no two have both lightness and motif in common', () => {
    const levels = Array.from({ length: 6 }, (_, level) => {
      const alike = Array.from({ length: 600 }, (__, i) => luminance(palette[2 * (6 * i + level)]));
      return alike.reduce((a, b) => a + b) / alike.length;
    });
    const rising = levels.toSorted((a, b) => a - b);
    rising.slice(1).forEach((light, at) => expect((light + 0.05) / (rising[at] + 0.05)).toBeGreaterThan(1.15));
    expect(new Set(Array.from({ length: 48 }, (_, code) => `${levels[code % 6]} ${motifOf(code)}`)).size).toBe(48);
  });

  test('have a motif that can be seen', () => {
    for (let code = 0; code < 4096; code++) {
      const [a, b] = [palette[2 * code], palette[2 * code + 1]].map(luminance).sort((x, y) => x - y);
      expect((b + 0.05) / (a + 0.05), `code ${code}`).toBeGreaterThan(1.2);
      expect(palette[2 * code] >>> 24).toBe(255);
    }
  });
});

test('the themes have different colours', () => {
  expect(paletteOf(8, 'dark')).not.toEqual(paletteOf(8, 'light'));
});
