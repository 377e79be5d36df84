import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { Graph, simplify } from '../../models/graph/index.js';
import { Random } from '../../server/imagination/random.js';
import { cutViews, resample, viewInputs, viewPlans, ViewSampler } from '../../server/imagination/views.js';
import { randomStream, relativeError, run } from '../graph/session.js';
import { crop, resampled } from './oracles.js';

function matrix(side: number, n: number, start: number, size: number): number[][] {
  const rows = Array.from({ length: side }, () => new Array<number>(n).fill(0));
  resample(side, n, start, size, (o, i, weight) => (rows[o][i] = weight));
  return rows;
}

describe('resampling', () => {
  const stretch = fc
    .tuple(
      fc.integer({ min: 1, max: 40 }),
      fc.integer({ min: 1, max: 60 }),
      fc.double({ min: 0.05, max: 1, noNaN: true }),
      fc.double({ min: 0, max: 1, noNaN: true }),
    )
    .map(([side, n, share, place]) => ({ side, n, size: share * n, start: place * (n - share * n) }));

  it('is the naive one, shrinking and enlarging, and its rows sum to 1', () => {
    const random = randomStream(1);
    fc.assert(
      fc.property(stretch, ({ side, n, start, size }) => {
        const line = Array.from({ length: n }, () => random() - 0.5);
        const rows = matrix(side, n, start, size);
        for (const row of rows) {
          expect(Math.abs(row.reduce((a, b) => a + b) - 1)).toBeLessThan(1e-12);
          expect(row.every((weight) => weight >= 0)).toBe(true);
        }
        const found = rows.map((row) => row.reduce((sum, weight, i) => sum + weight * line[i], 0));
        expect(relativeError(found, resampled(line, side, start, size))).toBeLessThan(1e-9);
      }),
      { numRuns: 300 },
    );
  });

  it('of everything at its own size is the identity', () => {
    expect(matrix(5, 5, 0, 5)).toEqual([0, 1, 2, 3, 4].map((o) => [0, 1, 2, 3, 4].map((i) => +(i === o))));
  });

  it('to half the size takes 1 : 3 : 3 : 1, as Pillow does', () => {
    expect(matrix(4, 8, 0, 8)[1]).toEqual([0, 1 / 8, 3 / 8, 3 / 8, 1 / 8, 0, 0, 0]);
  });
});

describe('views', () => {
  const canvas = { width: 30, height: 22 };
  const [views, side] = [5, 12];

  it.each(['fourier', 'pixels', 'maco'] as const)('of %s are naive crops with noise and brightness', async (name) => {
    const plan = viewPlans[name];
    const sampler = new ViewSampler(plan, canvas, views, side, new Random(4));
    const feeds = sampler.sample(new Random(9));
    const stream = randomStream(2);
    const picture = Float32Array.from({ length: 3 * canvas.height * canvas.width }, () => stream());

    // The same numbers, drawn again in the order that makes a run what it is.
    const again = new Random(9);
    const tape = new Random(4);
    const noise = Float32Array.from({ length: views * 3 * side * side + 65536 }, () => tape.normal(0, plan.noise));
    const places = Array.from({ length: views }, () => {
      const size = plan.side(again) * Math.min(canvas.width, canvas.height);
      const top = plan.centre(again) * (canvas.height - size);
      const left = plan.centre(again) * (canvas.width - size);
      return { size, top, left, side, brightness: again.uniform(-plan.brightness, plan.brightness) };
    });
    const from = again.below(65536);
    const expected = places.flatMap((place, v) =>
      crop(picture, [3, canvas.height, canvas.width], place).map(
        (value, i) => value + place.brightness + noise[from + v * 3 * side * side + i],
      ),
    );

    const g = new Graph();
    const x = g.input('picture', [3, canvas.height, canvas.width]);
    const crops = cutViews(g, x, viewInputs(g, views, side, canvas));
    expect(crops.shape).toEqual([views, 3, side, side]);
    g.output('crops', crops);
    const out = await run(simplify(g), { picture, ...feeds });
    expect(relativeError(out.crops.data, expected)).toBeLessThan(2e-6);
  });

  it.each(['fourier', 'pixels', 'maco'] as const)(
    'of %s stay inside the canvas and their ranges, and come again from the same seed',
    (name) => {
      const plan = viewPlans[name];
      for (const shape of [canvas, { width: 64, height: 64 }, { width: 64, height: 200 }]) {
        const sample = () => {
          const sampler = new ViewSampler(plan, shape, 3, 8, new Random(1));
          const random = new Random(2);
          return [0, 1, 2, 3].map(() => structuredClone(sampler.sample(random)));
        };
        const steps = sample();
        expect(sample()).toEqual(steps);
        expect(steps[0].noise).not.toEqual(steps[1].noise);
        for (const { rows, columns, noise, brightness } of steps) {
          for (let r = 0; r < 3 * 8; r++)
            expect(rows.subarray(r * shape.height, (r + 1) * shape.height).reduce((a, b) => a + b)).toBeCloseTo(1, 5);
          for (let v = 0; v < 3; v++)
            for (let o = 0; o < 8; o++) {
              const column = Array.from({ length: shape.width }, (_, i) => columns[(v * shape.width + i) * 8 + o]);
              expect(column.reduce((a, b) => a + b)).toBeCloseTo(1, 5);
            }
          expect(brightness.every((b) => Math.abs(b) <= plan.brightness)).toBe(true);
          expect(noise.every((v) => Math.abs(v) < 7 * plan.noise)).toBe(true);
          expect(noise.length).toBe(3 * 3 * 64);
        }
      }
    },
  );

  it('are from .4 to all of the short side for spectra, and MACO’s own normal crops', () => {
    const random = new Random(3);
    const sides = (name: 'fourier' | 'maco') => Array.from({ length: 4000 }, () => viewPlans[name].side(random));
    const [low, high] = [Math.min(...sides('fourier')), Math.max(...sides('fourier'))];
    expect(low).toBeGreaterThanOrEqual(0.25);
    expect(low).toBeLessThan(0.256);
    expect(high).toBeLessThanOrEqual(1);
    expect(high).toBeGreaterThan(0.995);
    const maco = sides('maco');
    expect(Math.min(...maco)).toBeGreaterThanOrEqual(0.2);
    expect(Math.max(...maco)).toBeLessThanOrEqual(1);
    expect(maco.reduce((a, b) => a + b) / maco.length).toBeCloseTo(0.5, 1);
    const centres = Array.from({ length: 4000 }, () => viewPlans.maco.centre(random));
    expect(centres.every((c) => c >= 0 && c <= 1)).toBe(true);
  });
});
