import { afterAll, describe, expect, it } from 'vitest';
import type { ImageTower } from '../../models/brivl/towers.js';
import { normalize } from '../../models/brivl/transformer.js';
import { differentiate, Graph, simplify, type Value } from '../../models/graph/index.js';
import { neurons, objectives, totalVariation, weighted, type ObjectiveName } from '../../server/imagination/objectives.js';
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
    const pull = neurons(g, { llp, layers: new Map(), projected: llp, embedding: llp }, g.input('weights', [channels]));
    g.output('y', pull);
    g.output('gradient', differentiate(g, pull, [llp])[0]);
    const out = await run(simplify(g), { llp: map, weights });
    const channel = (i: number) => Math.floor(i / (h * w)) % channels;
    const expected = map.map((_, i) => -weights[channel(i)] / (h * w * views));
    close('neurons', relativeError(out.y.data, [map.reduce((sum, v, i) => sum + v * expected[i], 0)]), 1e-6);
    close('neurons gradient', relativeError(out.gradient.data, expected), 1e-6);
  });
});
