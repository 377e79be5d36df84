import { describe, expect, it } from 'vitest';
import { differentiate, Graph, simplify } from '../../models/graph/index.js';
import { frequency, halfWidth, inverseRealTransform, radii, realTransform } from '../../server/imagination/fourier.js';
import { randomStream, relativeError, run } from '../graph/session.js';
import { inverseTransform, transform } from './oracles.js';

const sizes = [
  [1, 1],
  [1, 6],
  [5, 1],
  [2, 2],
  [8, 8],
  [7, 9],
  [6, 9],
  [9, 6],
  [16, 10],
  [12, 13],
] as const;

const draw = (n: number, seed: number): Float32Array => {
  const random = randomStream(seed);
  return Float32Array.from({ length: n }, () => 2 * random() - 1);
};

describe('frequencies', () => {
  it('are numpy’s', () => {
    const list = (n: number) => Array.from({ length: n }, (_, k) => frequency(k, n) * n);
    expect(list(1)).toEqual([0]);
    expect(list(5)).toEqual([0, 1, 2, -2, -1]);
    expect(list(6)).toEqual([0, 1, 2, -3, -2, -1]);
    expect([1, 2, 5, 6].map(halfWidth)).toEqual([1, 2, 3, 4]);
    const found = radii(4, 6);
    expect(found.length).toBe(16);
    expect(found[4 + 2]).toBeCloseTo(Math.hypot(1 / 4, 2 / 6), 12);
    expect(found[2 * 4 + 3]).toBeCloseTo(Math.hypot(1 / 2, 1 / 2), 12);
  });
});

describe('the transform and back', () => {
  it.each(sizes)('%i x %i is the sum of waves that it says, and so is its gradient', async (h, w) => {
    const [channels, half] = [3, halfWidth(w)];
    const size = channels * h * half;
    const [re, im] = [draw(size, h), draw(size, w + 50)];
    const g = new Graph();
    const [a, b] = ['re', 'im'].map((name) => g.input(name, [channels, h, half]));
    const y = inverseRealTransform(g, a, b, w);
    expect(y.shape).toEqual([channels, h, w]);
    const weights = draw(channels * h * w, 99);
    const objective = g.reduceSum(g.mul(y, g.floats(weights, y.shape)), [0, 1, 2]);
    g.output('y', y);
    differentiate(g, objective, [a, b]).forEach((d, i) => g.output(`d${i}`, d));
    const out = await run(simplify(g), { re, im });
    expect(relativeError(out.y.data, inverseTransform(re, im, channels, h, w))).toBeLessThan(1e-6);
    // It is linear: the gradient's element k is the projection of the wave k.
    const projections = [0, 1].map((part) =>
      Array.from({ length: size }, (_, k) => {
        const one = new Float64Array(size);
        one[k] = 1;
        const zero = new Float64Array(size);
        const wave = part === 0 ? inverseTransform(one, zero, channels, h, w) : inverseTransform(zero, one, channels, h, w);
        return wave.reduce((sum, v, i) => sum + v * weights[i], 0);
      }),
    );
    projections.forEach((expected, i) => expect(relativeError(out[`d${i}`].data, expected)).toBeLessThan(2e-6));
  });

  it.each([...sizes, [18, 36], [17, 40]] as const)('%i x %i: a picture comes back', (h, w) => {
    const picture = draw(3 * h * w, h * w);
    const { re, im } = realTransform(picture, 3, h, w);
    expect(relativeError(inverseTransform(re, im, 3, h, w), picture)).toBeLessThan(1e-6);
    const naive = transform(picture.subarray(0, h * w), h, w);
    const size = naive.length;
    expect(
      relativeError(
        re.subarray(0, size),
        naive.map(([a]) => a),
      ),
    ).toBeLessThan(1e-6);
    expect(
      relativeError(
        im.subarray(0, size),
        naive.map(([, b]) => b),
      ),
    ).toBeLessThan(1e-6);
  });
});
