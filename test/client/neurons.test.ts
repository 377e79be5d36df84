import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { firstRow, gridOf, mostTiles, rowsOfSlots, scrollTo, spriteAt, walked } from '../../client/lib/neuron-grid.js';
import { ember } from '../../client/lib/neuron-heat.js';
import { dragged, nearestUnit, toMap, toWindow, wholeMap, zoomed } from '../../client/lib/neuron-map.js';
import {
  channelOfQuery,
  found,
  inOrder,
  measureOf,
  pathOfUnit,
  percent,
  strips,
  unitName,
  unitOfPath,
  type UnitSummary,
} from '../../client/lib/neurons.js';
import { placeOf } from '../../client/lib/places.js';
import { exampleKinds } from '../../server/neurons/finish.js';
import { unitName as nameForJobs } from '../../models/brivl/units.js';

const unit = (
  channel: number,
  label: [string, string] | null,
  words: [string, string][] = [],
  density: number | null = null,
): UnitSummary => ({
  channel,
  label: label && { word: label[0], zh: label[1], score: 0.5 },
  words: words.map(([word, zh]) => ({ word, zh })),
  ...{ mean: null, max: null, density, clarity: null, polysemanticity: null, redundancy: null, x: null, y: null, example: null },
});
const channels = (units: readonly UnitSummary[]) => units.map(({ channel }) => channel);

describe('addresses of units', () => {
  test('lead back to the unit, whatever a layer is called', () => {
    const name = fc.string({ minLength: 1, unit: 'grapheme' });
    fc.assert(
      fc.property(name, name, fc.option(fc.nat(999_999)), (model, layer, channel) => {
        const path = pathOfUnit({ model, layer, channel });
        expect(path.split('/').length).toBe(channel === null ? 4 : 5);
        expect(unitOfPath(path)).toEqual({ model, layer, channel });
      }),
    );
  });

  test('that are wrong lead to the layer or to the first one', () => {
    expect(placeOf('/neurons').unit).toEqual({ model: 'brivl-nano', layer: 'LLP', channel: null });
    expect(placeOf('/neurons/brivl-nano/LLP/').unit).toEqual({ model: 'brivl-nano', layer: 'LLP', channel: null });
    expect(placeOf('/neurons/brivl-nano/LLP/x').unit?.channel).toBeNull();
    expect(placeOf('/neurons/%E0%A4%A/LLP/1').unit?.channel).toBeNull();
    expect(placeOf('/neurons/brivl-nano/block7.1/33')).toMatchObject({ page: 'neurons', unit: { layer: 'block7.1', channel: 33 } });
  });

  test('names and kinds of examples are those of the server', () => {
    for (const layer of ['LLP', 'block7.1', 'a/b'])
      expect(unitName(layer, 33)).toBe(nameForJobs({ layer, channel: 33, spot: 'mean' }));
    expect(strips).toEqual(exampleKinds);
  });
});

describe('search', () => {
  const clock = unit(1, ['analog clock', '时钟']);
  const wall = unit(2, ['castle', '城堡'], [['wall clock', '挂钟']]);
  const caterpillar = unit(3, ['caterpillar', '毛虫']);
  const cat = unit(4, ['tabby cat', '虎斑猫']);
  const all = [wall, clock, caterpillar, cat];

  test('in either language; a label before further words', () => {
    expect(channels(found(all, '钟'))).toEqual([1, 2]);
    expect(channels(found(all, 'clock'))).toEqual([1, 2]);
    expect(channels(found(all, ' CLOCK '))).toEqual([1, 2]);
    expect(channels(found(all, '猫'))).toEqual([4]);
  });

  test('finds words by their beginnings, not by their middles', () => {
    expect(channels(found(all, 'cat'))).toEqual([3, 4]);
    expect(channels(found(all, 'lock'))).toEqual([]);
    expect(found(all, '')).toEqual(all);
  });

  test('reads numbers', () => {
    expect(['108', ' LLP-108', 'llp-108', '#108', 'LLP/ch-108'].map((query) => channelOfQuery(query, 'LLP'))).toEqual(
      Array(5).fill(108),
    );
    expect(channelOfQuery('block7.1/ch-33', 'block7.1')).toBe(33);
    expect(['block7.1/ch-33', 'clock', '', '1.5', 'LLP-'].map((query) => channelOfQuery(query, 'LLP'))).toEqual(
      Array(5).fill(null),
    );
  });
});

describe('order', () => {
  test('by measures from the largest, unknown ones last', () => {
    const units = [unit(0, null, [], 0.1), unit(1, null), unit(2, null, [], 0.4), unit(3, null, [], 0.1)];
    expect(channels(inOrder(units, 'density', 'en'))).toEqual([2, 0, 3, 1]);
    expect(channels(inOrder([...units].reverse(), 'channel', 'en'))).toEqual([0, 1, 2, 3]);
    expect(channels(inOrder(units, 'label', 'en'))).toEqual([0, 1, 2, 3]);
  });

  test('by label in the language of the page', () => {
    const units = [unit(0, ['zebra', '斑马']), unit(1, null), unit(2, ['apple', '苹果'])];
    expect(channels(inOrder(units, 'label', 'en'))).toEqual([2, 0, 1]);
    expect(channels(inOrder(units, 'label', 'zh'))).toEqual([0, 2, 1]);
  });

  test('measures are short', () => {
    expect([0, 0.0042, 0.42, 1].map(percent)).toEqual(['0%', '0.4%', '42%', '100%']);
    expect([measureOf('density', 0.071), measureOf('clarity', 0.5), measureOf('max', 3.14159)]).toEqual(['7.1%', '.50', '3.14']);
  });
});

describe('the grid', () => {
  const frames = fc.record({
    width: fc.integer({ min: 240, max: 5000 }),
    windowHeight: fc.integer({ min: 200, max: 3200 }),
    count: fc.integer({ min: 1, max: 5000 }),
    least: fc.constantFrom(78, 98),
  });

  test('never has 200 tiles in the page, and leaves no gap in the window', () => {
    fc.assert(
      fc.property(frames, fc.double({ min: 0, max: 1, noNaN: true }), (frame, share) => {
        const grid = gridOf(frame);
        expect(grid.columns * grid.slots).toBeLessThanOrEqual(mostTiles);
        expect(grid.rows * grid.columns).toBeGreaterThanOrEqual(frame.count);
        const above = share * Math.max(0, grid.height - frame.windowHeight);
        const first = firstRow(grid, above);
        const pitch = grid.side + grid.gap;
        expect(first * pitch).toBeLessThanOrEqual(above + 1e-6);
        expect((first + grid.slots) * pitch).toBeGreaterThanOrEqual(Math.min(above + frame.windowHeight, grid.height) - 1e-6);
      }),
    );
  });

  test('scrolling by a row changes one slot', () => {
    fc.assert(
      fc.property(fc.nat(500), fc.integer({ min: 1, max: 40 }), (first, slots) => {
        const before = rowsOfSlots(first, slots);
        const after = rowsOfSlots(first + 1, slots);
        expect([...before].sort((a, b) => a - b)).toEqual(Array.from({ length: slots }, (_, at) => first + at));
        expect(before.filter((row, slot) => row !== after[slot])).toEqual([first]);
      }),
    );
  });

  test('is walked within its bounds', () => {
    const grid = gridOf({ width: 594, windowHeight: 400, count: 17, least: 78 });
    expect(grid.columns).toBe(7);
    expect([walked('ArrowRight', 0, grid, 17), walked('ArrowDown', 3, grid, 17), walked('End', 3, grid, 17)]).toEqual([1, 10, 16]);
    // Below the tile there is none, but there is a last row: its last tile is the nearest.
    expect(walked('ArrowDown', 11, grid, 17)).toBe(16);
    expect([walked('ArrowUp', 3, grid, 17), walked('ArrowDown', 15, grid, 17), walked('ArrowLeft', 0, grid, 17)]).toEqual([
      3, 15, 0,
    ]);
    expect(walked('x', 3, grid, 17)).toBeNull();
  });

  test('scrolls no more than a tile needs', () => {
    const grid = gridOf({ width: 594, windowHeight: 400, count: 170, least: 78 });
    const pitch = grid.side + grid.gap;
    expect(scrollTo(grid, 3, { top: 3 * pitch, bottom: 4 * pitch })).toBe(0);
    expect(scrollTo(grid, 2, { top: 3 * pitch, bottom: 4 * pitch })).toBeCloseTo(-pitch);
    expect(scrollTo(grid, 9, { top: 0, bottom: 9 * pitch })).toBeCloseTo(grid.side);
  });

  test('cuts tiles out of the sheet', () => {
    expect(spriteAt(0, 40, 50)).toBe('0px 0px'.replaceAll('0px', '0px'));
    expect(spriteAt(83, 40, 50)).toBe('-150px -100px');
  });
});

describe('the map', () => {
  const windows = fc.record({ width: fc.integer({ min: 200, max: 3000 }), height: fc.integer({ min: 200, max: 2000 }) });
  const inside = fc.double({ min: 0.05, max: 0.95, noNaN: true });

  test('what is under the pointer stays there while it zooms', () => {
    fc.assert(
      fc.property(windows, inside, inside, fc.double({ min: 1, max: 20, noNaN: true }), (window, x, y, factor) => {
        const point = { x: x * window.width, y: y * window.height };
        const before = wholeMap(window);
        const under = toMap(point, before, window);
        const after = zoomed(before, window, factor, point);
        fc.pre(under.x > 0 && under.x < 1 && under.y > 0 && under.y < 1);
        const at = toWindow(under, after, window);
        expect(at.x).toBeCloseTo(point.x, 4);
        expect(at.y).toBeCloseTo(point.y, 4);
      }),
    );
  });

  test('shows all of it at first, and never loses it', () => {
    fc.assert(
      fc.property(
        windows,
        fc.array(fc.tuple(fc.integer({ min: -4000, max: 4000 }), fc.integer({ min: -4000, max: 4000 }))),
        (window, moves) => {
          for (const corner of [
            { x: 0, y: 0 },
            { x: 1, y: 1 },
          ]) {
            const { x, y } = toWindow(corner, wholeMap(window), window);
            expect(x >= 0 && x <= window.width && y >= 0 && y <= window.height).toBe(true);
          }
          const end = moves.reduce((view, [dx, dy]) => dragged(view, window, dx, dy), wholeMap(window));
          expect(end.x >= 0 && end.x <= 1 && end.y >= 0 && end.y <= 1).toBe(true);
        },
      ),
    );
  });

  test('finds the nearest unit in reach', () => {
    const window = { width: 800, height: 600 };
    const view = wholeMap(window);
    const units = [
      { name: 'a', x: 0.2, y: 0.2 },
      { name: 'b', x: 0.8, y: 0.8 },
      { name: 'c', x: null, y: null },
    ];
    const at = toWindow({ x: 0.78, y: 0.8 }, view, window);
    expect(nearestUnit(units, at, view, window)?.name).toBe('b');
    expect(nearestUnit(units, at, view, window, 3)).toBeNull();
  });
});

test('a heat map is clear where the unit fires fully and dark where it is silent', () => {
  const veil = ember({ rows: 1, columns: 3, values: [-1, 2, 9] }, 4);
  const [silent, half, full] = [3, 7, 11].map((at) => veil[at]);
  expect(silent).toBeGreaterThan(half);
  expect(half).toBeGreaterThan(full);
  expect(full).toBe(0);
  expect(ember({ rows: 1, columns: 1, values: [3] }, 0)[3]).toBe(silent);
});
