import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { nearest, slotOf, strip, withMoment, type Moment } from '../../client/lib/film.js';

const moment = (step: number): Moment => ({
  step,
  picture: new Blob([]),
  cos: 0,
  secondOpinion: null,
  percentile: null,
  concepts: [],
  tokens: null,
});
const film = (steps: readonly number[], capacity?: number) =>
  steps.reduce<Moment[]>((kept, step) => withMoment(kept, moment(step), capacity), []);
const stepsOf = (moments: readonly Moment[]) => moments.map(({ step }) => step);

describe('the film', () => {
  test('stays in order of steps, each step once, whatever the order in which they come', () => {
    fc.assert(
      fc.property(fc.array(fc.integer({ min: 0, max: 60 }), { maxLength: 80 }), (steps) => {
        expect(stepsOf(film(steps))).toEqual([...new Set(steps)].sort((a, b) => a - b));
      }),
    );
  });

  test('a step that comes again is replaced by the newer moment', () => {
    const first = film([1, 2, 3]);
    const again = moment(2);
    expect(withMoment(first, again)[1]).toBe(again);
  });

  test('a long run keeps a bounded, even film with its first and last moment', () => {
    const kept = film(
      Array.from({ length: 2000 }, (_, step) => step + 1),
      240,
    );
    expect(kept.length).toBeLessThanOrEqual(240);
    expect(kept[0].step).toBe(1);
    expect(kept.at(-1)!.step).toBe(2000);
    const gaps = kept.slice(1).map(({ step }, index) => step - kept[index].step);
    expect(Math.max(...gaps)).toBeLessThanOrEqual(32);
  });

  test('nearest finds the moment at or beside a step', () => {
    expect(nearest([], 5)).toBeNull();
    expect(nearest(film([10, 20, 30]), 12)!.step).toBe(10);
    expect(nearest(film([10, 20, 30]), 16)!.step).toBe(20);
    expect(nearest(film([10, 20, 30]), 900)!.step).toBe(30);
  });

  test('the strip shows each stretch by its last moment', () => {
    expect(strip(film([1, 2, 5, 6, 7]), 12, 4).map((one) => one?.step ?? null)).toEqual([2, 6, 7, null]);
    expect(strip(film([1, 11]), 12, 4).map((one) => one?.step ?? null)).toEqual([1, 1, 1, 11]);
    expect(slotOf(0, 120, 18)).toBe(0);
    expect(slotOf(1, 120, 18)).toBe(0);
    expect(slotOf(120, 120, 18)).toBe(17);
  });
});
