import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { Random } from '../../server/imagination/random.js';

const times = <T>(n: number, f: () => T): T[] => Array.from({ length: n }, f);

describe('the generator', () => {
  it('is xoshiro128** (the vector that Rust’s rand_xoshiro takes from the reference implementation)', () => {
    const random = new Random(0);
    random.load([1, 2, 3, 4]);
    expect(times(10, () => random.next())).toEqual([
      11520, 0, 5927040, 70819200, 2031721883, 1637235492, 1287239034, 3734860849, 3729100597, 4258142804,
    ]);
  });

  it('is seeded by splitmix32, computed here with whole numbers of any size', () => {
    const mask = 0xffffffffn;
    fc.assert(
      fc.property(fc.integer({ min: 0, max: 0xffffffff }), (seed) => {
        let s = BigInt(seed);
        const state = times(4, () => {
          s = (s + 0x9e3779b9n) & mask;
          let z = s;
          z = ((z ^ (z >> 16n)) * 0x21f0aaadn) & mask;
          z = ((z ^ (z >> 15n)) * 0x735a2d97n) & mask;
          return Number(z ^ (z >> 15n));
        });
        expect(new Random(seed).save()).toEqual(state);
      }),
    );
  });

  it('takes a seed by its 32 bits', () => {
    expect(new Random(-1).save()).toEqual(new Random(0xffffffff).save());
    expect(new Random(1).save()).not.toEqual(new Random(2).save());
  });

  it('is uniform: mean, variance, sixteen bins, neighbours', () => {
    const random = new Random(7);
    const n = 40_000;
    const values = times(n, () => random.uniform());
    const mean = values.reduce((a, b) => a + b) / n;
    expect(Math.abs(mean - 0.5)).toBeLessThan(4 * Math.sqrt(1 / 12 / n));
    expect(Math.abs(values.reduce((a, v) => a + (v - mean) ** 2, 0) / n - 1 / 12)).toBeLessThan(0.002);
    expect(Math.min(...values.slice(0, 9999))).toBeGreaterThanOrEqual(0);
    const bins = new Float64Array(16);
    for (const v of values) bins[Math.floor(v * 16)]++;
    const chi = bins.reduce((sum, count) => sum + (count - n / 16) ** 2 / (n / 16), 0);
    // 15 degrees of freedom: 37.7 is passed once in a thousand.
    expect(chi).toBeLessThan(37.7);
    const together = values.slice(1).reduce((sum, v, i) => sum + (v - 0.5) * (values[i] - 0.5), 0) / n / (1 / 12);
    expect(Math.abs(together)).toBeLessThan(4 / Math.sqrt(n));
  });

  it('is normal: mean, deviation, tails', () => {
    const random = new Random(11);
    const n = 40_000;
    const values = times(n, () => random.normal(2, 3));
    const mean = values.reduce((a, b) => a + b) / n;
    expect(Math.abs(mean - 2)).toBeLessThan(0.06);
    expect(Math.abs(Math.sqrt(values.reduce((a, v) => a + (v - mean) ** 2, 0) / n) - 3)).toBeLessThan(0.05);
    const share = (deviations: number) => values.filter((v) => Math.abs(v - 2) < 3 * deviations).length / n;
    expect(Math.abs(share(1) - 0.6827)).toBeLessThan(0.01);
    expect(Math.abs(share(2) - 0.9545)).toBeLessThan(0.005);
    expect(values.every(Number.isFinite)).toBe(true);
  });

  it('keeps to its ranges', () => {
    fc.assert(
      fc.property(
        fc.integer({ min: 0 }),
        fc.integer({ min: 1, max: 1 << 16 }),
        fc.double({ min: -9, max: 9, noNaN: true }),
        (seed, n, low) => {
          const random = new Random(seed);
          for (let i = 0; i < 20; i++) {
            const whole = random.below(n);
            expect(Number.isInteger(whole) && whole >= 0 && whole < n).toBe(true);
            const value = random.uniform(low, low + 1);
            expect(value >= low && value < low + 1 + 1e-15).toBe(true);
          }
        },
      ),
      { numRuns: 50 },
    );
  });

  it('goes on from what it saved, also between the two normal numbers of a pair', () => {
    fc.assert(
      fc.property(fc.integer({ min: 0, max: 0xffffffff }), fc.array(fc.boolean(), { maxLength: 9 }), (seed, draws) => {
        const random = new Random(seed);
        for (const normal of draws)
          if (normal) random.normal();
          else random.next();
        // Through JSON, as a checkpoint holds it.
        const saved = JSON.parse(JSON.stringify(random.save())) as number[];
        const other = new Random(0);
        other.normal();
        other.load(saved);
        const after = (r: Random) => times(5, () => [r.normal(), r.uniform(), r.below(9)]);
        expect(after(other)).toEqual(after(random));
      }),
    );
  });
});
