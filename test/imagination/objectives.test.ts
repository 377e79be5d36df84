import { afterAll, describe, expect, it } from 'vitest';
import type { ImageTower } from '../../models/brivl/towers.js';
import { normalize } from '../../models/brivl/transformer.js';
import { differentiate, Graph, simplify, type Value } from '../../models/graph/index.js';
import {
  likeness,
  neurons,
  objectives,
  totalVariation,
  weighted,
  type ObjectiveName,
} from '../../server/imagination/objectives.js';
import { randomStream, relativeError, run } from '../graph/session.js';

const [views, embed, count] = [4, 6, 3];
const names = Object.keys(objectives) as ObjectiveName[];

const worst: Record<string, number> = {};
function close(kind: string, error: number, limit: number): void {
  worst[kind] = Math.max(worst[kind] ?? 0, error);
  expect(error, kind).toBeLessThan(limit);
}
afterAll(() => console.info('objectives, worst', JSON.stringify(worst)));

const draw = (n: number, seed: number): Float32Array => {
  const random = randomStream(seed);
  return Float32Array.from({ length: n }, () => 2 * random() - 1);
};

function unitRows(values: Float32Array, columns: number): Float32Array {
  return values.map((v, i) => {
    const row = Math.floor(i / columns);
    return v / Math.hypot(...values.subarray(row * columns, (row + 1) * columns));
  });
}

/** Losses [V, K] by hand, of projected views [V, E] and texts [K, E]. */
const oracles: Record<ObjectiveName, (dot: number, cos: number) => number> = {
  cos: (_, cos) => -cos,
  'dot-cos': (dot, cos) => -dot * Math.max(0.1, cos),
  spherical: (_, cos) => (1 - cos) * (1 + (1 - cos) / 6 + (2 * (1 - cos) ** 2) / 45),
};

function losses(name: ObjectiveName, projected: ArrayLike<number>, texts: ArrayLike<number>): number[] {
  return Array.from({ length: views * count }, (_, i) => {
    const [v, k] = [Math.floor(i / count), i % count];
    let [dot, length] = [0, 0];
    for (let e = 0; e < embed; e++) {
      dot += projected[v * embed + e] * texts[k * embed + e];
      length += projected[v * embed + e] ** 2;
    }
    return oracles[name](dot, dot / Math.sqrt(length));
  });
}

const slopes = (f: (x: Float64Array) => number, at: ArrayLike<number>): number[] =>
  Array.from({ length: at.length }, (_, i) => {
    const moved = (step: number) => f(Float64Array.from(at, (v, j) => (j === i ? v + step : v)));
    return (moved(1e-5) - moved(-1e-5)) / 2e-5;
  });

const towerOf = (g: Graph, projected: Value): ImageTower => ({
  llp: projected,
  layers: new Map(),
  projected,
  embedding: normalize(g, projected),
});

describe('objectives', () => {
  it.each(names)('%s: value by view and text, weighted mean, gradient', async (name) => {
    const projected = draw(views * embed, 3).map((v) => 3 * v);
    const texts = unitRows(draw(count * embed, 5), embed);
    const weights = Float32Array.of(1, 0.5, -0.3);
    const g = new Graph();
    const p = g.input('projected', [views, embed]);
    const each = objectives[name](g, towerOf(g, p), g.input('texts', [count, embed]));
    expect(each.shape).toEqual([views, count]);
    const loss = weighted(g, each, g.input('weights', [count]));
    g.output('each', each);
    g.output('loss', loss);
    g.output('gradient', differentiate(g, loss, [p])[0]);
    const out = await run(simplify(g), { projected, texts, weights });
    close(`${name} values`, relativeError(out.each.data, losses(name, projected, texts)), 2e-6);
    const total = (x: ArrayLike<number>) => losses(name, x, texts).reduce((sum, v, i) => sum + v * weights[i % count], 0) / views;
    close(`${name} mean`, Math.abs(out.loss.data[0] - total(projected)), 2e-6);
    close(`${name} gradient`, relativeError(out.gradient.data, slopes(total, projected)), 1e-5);
  });

  it.each(names)('%s is finite, with a finite gradient, at the text itself, its opposite and nothing', async (name) => {
    const text = unitRows(draw(embed, 7), embed);
    const projected = Float32Array.from([
      ...text,
      ...text.map((v) => -v),
      ...new Float32Array(embed),
      ...text.map((v) => 1e-8 * v),
    ]);
    const g = new Graph();
    const p = g.input('projected', [views, embed]);
    const loss = weighted(g, objectives[name](g, towerOf(g, p), g.floats(text, [1, embed])), g.floats([1]));
    g.output('loss', loss);
    g.output('gradient', differentiate(g, loss, [p])[0]);
    const out = await run(simplify(g), { projected });
    expect([...out.loss.data, ...out.gradient.data.slice(0, 2 * embed)].every(Number.isFinite)).toBe(true);
    if (name === 'spherical') expect(Math.max(...out.gradient.data.slice(0, embed).map(Math.abs))).toBeLessThan(1e-5);
  });

  it('spherical is half the squared angle, within 1.9% up to a right angle, and rises all the way round', () => {
    let before = -1;
    let most = 0;
    for (let degrees = 0; degrees <= 180; degrees++) {
      const angle = (degrees * Math.PI) / 180;
      const value = oracles.spherical(0, Math.cos(angle));
      expect(value).toBeGreaterThan(before);
      before = value;
      if (degrees > 0 && degrees <= 90) most = Math.max(most, Math.abs(value / (angle ** 2 / 2) - 1));
    }
    close('spherical series', most, 0.019);
  });
});

describe('parts of the loss', () => {
  it('total variation is the mean absolute difference of neighbours, both ways', async () => {
    const [h, w] = [4, 5];
    const picture = draw(3 * h * w, 9);
    const at = (x: ArrayLike<number>, c: number, y: number, i: number) => x[(c * h + y) * w + i];
    const naive = (x: ArrayLike<number>): number => {
      let [down, across] = [0, 0];
      for (let c = 0; c < 3; c++)
        for (let y = 0; y < h; y++)
          for (let i = 0; i < w; i++) {
            if (y + 1 < h) down += Math.abs(at(x, c, y + 1, i) - at(x, c, y, i));
            if (i + 1 < w) across += Math.abs(at(x, c, y, i + 1) - at(x, c, y, i));
          }
      return down / (3 * (h - 1) * w) + across / (3 * h * (w - 1));
    };
    const g = new Graph();
    const x = g.input('x', [3, h, w]);
    const variation = totalVariation(g, x);
    g.output('y', variation);
    g.output('gradient', differentiate(g, variation, [x])[0]);
    const out = await run(simplify(g), { x: picture });
    close('total variation', relativeError(out.y.data, [naive(picture)]), 1e-6);
    close('total variation gradient', relativeError(out.gradient.data, slopes(naive, picture)), 1e-5);
  });

  it('neurons pull by their weight: minus the weighted mean of their maps', async () => {
    const [channels, h, w] = [3, 2, 4];
    const map = draw(views * channels * h * w, 13);
    const weights = Float32Array.of(2, 0, -0.5);
    const g = new Graph();
    const llp = g.input('llp', [views, channels, h, w]);
    const seen = { llp, layers: new Map([['LLP', llp]]), projected: llp, embedding: llp };
    const pull = neurons(g, seen, { layer: 'LLP', spot: 'mean' }, g.input('weights', [channels]));
    g.output('y', pull);
    g.output('gradient', differentiate(g, pull, [llp])[0]);
    const out = await run(simplify(g), { llp: map, weights });
    const channel = (i: number) => Math.floor(i / (h * w)) % channels;
    const expected = map.map((_, i) => -weights[channel(i)] / (h * w * views));
    close('neurons', relativeError(out.y.data, [map.reduce((sum, v, i) => sum + v * expected[i], 0)]), 1e-6);
    close('neurons gradient', relativeError(out.gradient.data, expected), 1e-6);
  });

  it.each([
    ['the centre of a map', 'centre', [2, 3]],
    ['a place of a map', { y: 1, x: 4 }, [1, 4]],
  ] as const)('neurons pull at %s alone', async (_, spot, [y, x]) => {
    const [channels, h, w] = [2, 4, 6];
    const g = new Graph();
    const map = g.input('map', [views, channels, h, w]);
    const seen = { llp: map, layers: new Map([['block1.1', map]]), projected: map, embedding: map };
    const pull = neurons(g, seen, { layer: 'block1.1', spot }, g.input('weights', [channels]));
    g.output('gradient', differentiate(g, pull, [map])[0]);
    const { gradient } = await run(simplify(g), { map: draw(views * channels * h * w, 3), weights: Float32Array.of(2, -1) });
    const expected = Array.from({ length: views * channels * h * w }, (_, i) => {
      const [c, at] = [Math.floor(i / (h * w)) % channels, i % (h * w)];
      return at === y * w + x ? -[2, -1][c] / views : 0;
    });
    close('neurons at a spot', relativeError(gradient.data, expected), 1e-6);
  });

  it('neurons of tokens pull at their mean, and a place that a layer has not is named with those it has', async () => {
    const [tokens, channels] = [5, 3];
    const g = new Graph();
    const attended = g.input('tokens', [views, tokens, channels]);
    const map = g.input('map', [views, channels, 2, 3]);
    const seen = { llp: map, layers: new Map([['attention1', attended], ['LLP', map]]), projected: map, embedding: map }; // prettier-ignore
    const weights = g.input('weights', [channels]);
    g.output('gradient', differentiate(g, neurons(g, seen, { layer: 'attention1', spot: 'mean' }, weights), [attended])[0]);
    const feeds = {
      tokens: draw(views * tokens * channels, 5),
      map: draw(views * channels * 6, 6),
      weights: Float32Array.of(1, 0, -3),
    };
    const { gradient } = await run(simplify(g), feeds);
    const expected = Array.from({ length: views * tokens * channels }, (_, i) => -feeds.weights[i % channels] / (tokens * views));
    close('neurons of tokens', relativeError(gradient.data, expected), 1e-6);
    expect(() => neurons(g, seen, { layer: 'attention1', spot: 'centre' }, weights)).toThrow(
      /attention1@centre .* leave the @ out/,
    );
    expect(() => neurons(g, seen, { layer: 'LLP', spot: { y: 1, x: 3 } }, weights)).toThrow(
      /LLP@1,3 .* 0 to 1, its columns 0 to 2/,
    );
  });

  describe.each([
    ['with more places than channels', [6, 3, 2, 4]],
    ['with more channels than places', [6, 20, 1, 2]],
    ['of tokens', [6, 5, 4]],
  ])('the likeness of copies, of maps %s', (_, shape) => {
    const copies = 3;
    const size = shape.reduce((a, b) => a * b);
    const [n, channels, places] = shape.length === 3 ? [shape[0], shape[2], shape[1]] : [shape[0], shape[1], shape[2] * shape[3]];
    const at = (v: number, c: number, p: number) =>
      shape.length === 3 ? (v * places + p) * channels + c : (v * channels + c) * places + p;
    /** By the definition: Gram matrices over the views of each copy, and the mean cosine of pairs. */
    const naive = (x: ArrayLike<number>): number => {
      const grams = Array.from({ length: copies }, (_, copy) => {
        const gram = new Float64Array(channels * channels);
        for (let v = copy; v < n; v += copies)
          for (let a = 0; a < channels; a++)
            for (let b = 0; b < channels; b++)
              for (let p = 0; p < places; p++) gram[a * channels + b] += x[at(v, a, p)] * x[at(v, b, p)];
        return gram;
      });
      const dot = (a: Float64Array, b: Float64Array) => a.reduce((sum, value, i) => sum + value * b[i], 0);
      let [sum, pairs] = [0, 0];
      for (let a = 0; a < copies; a++)
        for (let b = a + 1; b < copies; b++) {
          sum += dot(grams[a], grams[b]) / Math.sqrt(dot(grams[a], grams[a]) * dot(grams[b], grams[b]));
          pairs++;
        }
      return sum / pairs;
    };

    it('is the mean cosine of their Gram matrices, and so is its gradient', async () => {
      const map = draw(size, 21);
      const g = new Graph();
      const x = g.input('x', shape);
      const alike = likeness(g, x, copies);
      g.output('y', alike);
      g.output('gradient', differentiate(g, alike, [x])[0]);
      const out = await run(simplify(g), { x: map });
      expect(out.y.data).toHaveLength(1);
      close('likeness', Math.abs(out.y.data[0] - naive(map)), 1e-5);
      close('likeness gradient', relativeError(out.gradient.data, slopes(naive, map)), 1e-4);
    });

    it('is 1 of copies that see the same, and finite of silence', async () => {
      const one = draw(size / copies, 22);
      const per = size / n;
      const same = Float32Array.from({ length: size }, (_, i) => one[Math.floor(i / (per * copies)) * per + (i % per)]);
      const g = new Graph();
      const x = g.input('x', shape);
      const alike = likeness(g, x, copies);
      g.output('y', alike);
      g.output('gradient', differentiate(g, alike, [x])[0]);
      const graph = simplify(g);
      expect((await run(graph, { x: same })).y.data[0]).toBeCloseTo(1, 5);
      const silent = await run(graph, { x: new Float32Array(size) });
      expect([...silent.y.data, ...silent.gradient.data].every(Number.isFinite)).toBe(true);
    });
  });
});

describe('the cos power of dot-cos', () => {
  it.each([0, 0.5, 1, 2, 4])('%d: value and gradient', async (power) => {
    const projected = draw(views * embed, 31).map((v) => 3 * v);
    const texts = unitRows(draw(count * embed, 32), embed);
    const weights = Float32Array.of(1, 0.5, -0.3);
    const g = new Graph();
    const p = g.input('projected', [views, embed]);
    const loss = weighted(
      g,
      objectives['dot-cos'](g, towerOf(g, p), g.input('texts', [count, embed]), power),
      g.input('weights', [count]),
    );
    g.output('loss', loss);
    g.output('gradient', differentiate(g, loss, [p])[0]);
    const out = await run(simplify(g), { projected, texts, weights });
    const total = (x: ArrayLike<number>): number => {
      let sum = 0;
      for (let v = 0; v < views; v++)
        for (let k = 0; k < count; k++) {
          let [dot, length] = [0, 0];
          for (let e = 0; e < embed; e++) {
            dot += x[v * embed + e] * texts[k * embed + e];
            length += x[v * embed + e] ** 2;
          }
          sum -= (weights[k] * dot * Math.max(0.1, dot / Math.sqrt(length)) ** power) / views;
        }
      return sum;
    };
    close('cos power', Math.abs(out.loss.data[0] - total(projected)), 5e-6);
    close('cos power gradient', relativeError(out.gradient.data, slopes(total, projected)), 2e-5);
  });
});
