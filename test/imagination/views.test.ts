import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { differentiate, Graph, simplify } from '../../models/graph/index.js';
import { Random } from '../../server/imagination/random.js';
import { cutViews, resample, viewInputs, viewPlans, ViewSampler, type ViewPlan } from '../../server/imagination/views.js';
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

describe('views beside the crops', () => {
  const [views, side] = [3, 24];
  const plain: ViewPlan = { side: () => 1, centre: () => 0.5, noise: 0, brightness: 0 };
  const canvas = { width: side, height: side };
  const sampled = (plan: ViewPlan, count = views) =>
    new ViewSampler(plan, canvas, count, side, new Random(1)).sample(new Random(5));
  /** Bilinear, 0 outside. */
  const read = (map: (y: number, x: number) => number, py: number, px: number) => {
    let total = 0;
    for (const y of [Math.floor(py), Math.floor(py) + 1])
      for (const x of [Math.floor(px), Math.floor(px) + 1])
        if (y >= 0 && x >= 0 && y < side && x < side) total += map(y, x) * (1 - Math.abs(y - py)) * (1 - Math.abs(x - px));
    return total;
  };
  const pixelOf = (place: number) => ((place + 1) * side - 1) / 2;
  const turning = { ...plain, warp: { degrees: 20, tilt: 0.2 } };

  it('turns and tilts: there and back again, with the area that it says', () => {
    const { warpFrom, warpTo, warpShrink } = sampled(turning);
    const at = (grid: Float32Array, v: number, k: number) => (y: number, x: number) => grid[2 * ((v * side + y) * side + x) + k];
    for (let v = 0; v < views; v++)
      for (let y = 6; y < side - 6; y++)
        for (let x = 6; x < side - 6; x++) {
          const [px, py] = [0, 1].map((k) => pixelOf(at(warpTo, v, k)(y, x)));
          expect(pixelOf(read(at(warpFrom, v, 0), py, px))).toBeCloseTo(x, 1);
          expect(pixelOf(read(at(warpFrom, v, 1), py, px))).toBeCloseTo(y, 1);
          const slope = (k: number, dy: number, dx: number) =>
            ((at(warpTo, v, k)(y + dy, x + dx) - at(warpTo, v, k)(y - dy, x - dx)) * side) / 4;
          const area = slope(0, 0, 1) * slope(1, 1, 0) - slope(0, 1, 0) * slope(1, 0, 1);
          expect(warpShrink[(v * side + y) * side + x]).toBeCloseTo(area, 2);
        }
  });

  it('have a gradient through a turn near the exact one, for smooth pictures', async () => {
    const feeds = sampled(turning);
    const smooth = (seed: number) =>
      Float32Array.from({ length: 3 * side * side }, (_, i) => {
        const [c, y, x] = [Math.floor(i / side ** 2), Math.floor(i / side) % side, i % side];
        const window = Math.sin((Math.PI * (y + 0.5)) / side) * Math.sin((Math.PI * (x + 0.5)) / side);
        return window ** 2 * (1 + Math.sin(seed + c + (y * (c + 1)) / 5) * Math.cos(seed * 2 + (x * (3 - c)) / 6));
      });
    const direction = new Float32Array(views * 3 * side * side);
    for (let v = 0; v < views; v++) direction.set(smooth(v + 10), v * 3 * side * side);
    const g = new Graph();
    const x = g.input('picture', [3, side, side]);
    const crops = cutViews(g, x, viewInputs(g, views, side, canvas, ['warp']));
    const sum = g.reduceSum(g.mul(crops, g.floats(direction, crops.shape)), [0, 1, 2, 3]);
    g.output('value', sum);
    g.output('gradient', differentiate(g, sum, [x])[0]);
    const { value, gradient } = await run(simplify(g), { picture: smooth(1), ...feeds });
    // The exact one, by scattering.
    const exact = new Float64Array(3 * side * side);
    for (let v = 0; v < views; v++)
      for (let i = 0; i < side * side; i++) {
        const [px, py] = [0, 1].map((k) => Math.min(Math.max(pixelOf(feeds.warpFrom[2 * (v * side * side + i) + k]), 0), side - 1));
        for (let c = 0; c < 3; c++)
          for (const y of [Math.floor(py), Math.ceil(py)])
            for (const column of [Math.floor(px), Math.ceil(px)]) {
              if (Math.floor(py) === Math.ceil(py) && y !== Math.floor(py)) continue;
              exact[(c * side + y) * side + column] +=
                direction[(v * 3 + c) * side * side + i] * (1 - Math.abs(y - py)) * (1 - Math.abs(column - px));
            }
      }
    const dot = (a: ArrayLike<number>, b: ArrayLike<number>) => Array.from(a).reduce((total, n, i) => total + n * b[i], 0);
    // A linear map: its value is the exact gradient's product with the picture.
    expect(value.data[0]).toBeCloseTo(dot(smooth(1), exact), 1);
    const cos = dot(gradient.data, exact) / Math.sqrt(dot(gradient.data, gradient.data) * dot(exact, exact));
    expect(cos).toBeGreaterThan(0.995);
    expect(dot(gradient.data, exact) / dot(exact, exact)).toBeCloseTo(1, 1);
  });

  it('change colours and leave greys; without saturation only turn them', () => {
    const { colour } = sampled({ ...plain, colour: { saturation: 0, hue: 0.5 } });
    for (let v = 0; v < views; v++) {
      const row = (r: number) => Array.from(colour.subarray(v * 9 + 3 * r, v * 9 + 3 * r + 3));
      for (const r of [0, 1, 2]) {
        expect(row(r).reduce((a, b) => a + b)).toBeCloseTo(1, 6);
        for (const s of [0, 1, 2]) expect(row(r).reduce((sum, n, i) => sum + n * row(s)[i], 0)).toBeCloseTo(+(r === s), 6);
      }
    }
    const grown = sampled({ ...plain, colour: { saturation: 0.3, hue: 0 } }).colour;
    for (let v = 0; v < views; v++) {
      // (1, -1, 0) is across the greys: it is only stretched.
      const [red, green, blue] = [0, 1, 2].map((r) => grown[v * 9 + 3 * r] - grown[v * 9 + 3 * r + 1]);
      expect([red + green, blue]).toEqual([expect.closeTo(0, 6), expect.closeTo(0, 6)]);
      expect(Math.abs(red - 1)).toBeLessThanOrEqual(0.3);
    }
  });

  it('are erased in one rectangle, as often as the plan says', () => {
    const { kept } = sampled({ ...plain, erased: 0.5 }, 200);
    let hit = 0;
    for (let v = 0; v < 200; v++) {
      const gone: [number, number][] = [];
      for (let i = 0; i < side * side; i++) if (kept[v * side * side + i] === 0) gone.push([Math.floor(i / side), i % side]);
      if (gone.length === 0) continue;
      hit += 1;
      const extent = (k: 0 | 1) => Math.max(...gone.map((p) => p[k])) - Math.min(...gone.map((p) => p[k])) + 1;
      expect(extent(0) * extent(1)).toBe(gone.length);
      expect(gone.length / side ** 2).toBeGreaterThan(0.08);
      expect(gone.length / side ** 2).toBeLessThan(0.45);
    }
    expect(hit).toBeGreaterThan(80);
    expect(hit).toBeLessThan(120);
  });

  it('see the whole now and then', () => {
    const { rows } = sampled({ ...plain, side: () => 0.25, whole: 0.5 }, 60);
    const seen = Array.from({ length: 60 }, (_, v) => {
      const columns = new Set<number>();
      for (let o = 0; o < side; o++) for (let i = 0; i < side; i++) if (rows[(v * side + o) * side + i] > 0) columns.add(i);
      return columns.size;
    });
    expect(seen.filter((n) => n === side).length).toBeGreaterThan(18);
    expect(seen.filter((n) => n < side / 2).length).toBeGreaterThan(18);
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
