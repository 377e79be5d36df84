import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { inverse, mixed, timesTransposed } from '../../server/imagination/matrices.js';

const matrix = (n: number) => fc.array(fc.double({ min: -2, max: 2, noNaN: true }), { minLength: n * n, maxLength: n * n });

describe('matrices', () => {
  it('times their inverse are one', () => {
    fc.assert(
      fc.property(
        fc.integer({ min: 1, max: 7 }).chain((n) => fc.tuple(fc.constant(n), matrix(n))),
        ([n, free]) => {
          // Shuffled and made heavy on a diagonal: well away from the singular, and in need of pivots.
          const a = free.map((v, i) => v + ((Math.floor(i / n) + 1) % n === i % n ? 3 * n : 0));
          const back = inverse(a, n);
          for (let i = 0; i < n; i++)
            for (let j = 0; j < n; j++) {
              let sum = 0;
              for (let k = 0; k < n; k++) sum += a[i * n + k] * back[k * n + j];
              expect(Math.abs(sum - (i === j ? 1 : 0))).toBeLessThan(1e-9);
            }
        },
      ),
    );
  });

  it('without an inverse are refused', () => {
    expect(() => inverse([1, 2, 2, 4], 2)).toThrow('column 1 depends on those before it');
    expect(() => inverse([NaN], 1)).toThrow('no inverse');
  });

  it('mix rows, and add to each', () => {
    expect([...mixed([1, 2, 3, 4], [5, 6, 7, 8, 9, 10], 2, [100, 200])]).toEqual([121, 124, 127, 247, 254, 261]);
    expect([...mixed([1, 2, 3, 4], [5, 6], 2)]).toEqual([17, 39]);
  });

  it('times a transposed one', () => {
    expect([...timesTransposed(Float32Array.of(1, 2, 3, 4), 2, Float32Array.of(5, 6, 7, 8, 9, 10), 3, 2)]).toEqual([
      17, 23, 29, 39, 53, 67,
    ]);
  });
});
