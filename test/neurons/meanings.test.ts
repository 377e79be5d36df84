import { describe, expect, it } from 'vitest';
import type { ConceptSpace } from '../../models/brivl/model.js';
import { Random } from '../../server/imagination/random.js';
import { labels } from '../../server/neurons/dissect.js';
import { layout, mainPlane, memberships } from '../../server/neurons/layout.js';
import { clarity, polysemanticity, redundancies } from '../../server/neurons/measures.js';
import { best, normalized, rowOf, type Rows } from '../../server/neurons/vectors.js';
import { wordsOf } from '../../server/neurons/words.js';

const atOnce = () => Promise.resolve();
/** In float64. */
const products = (a: Rows, b: Rows) =>
  Promise.resolve(Float32Array.from(list(a).flatMap((row) => list(b).map((other) => dot(row, other)))));
const rows = (count: number, length: number, seed: number, near = 0): Rows => {
  const random = new Random(seed);
  return {
    count,
    length,
    values: Float32Array.from({ length: count * length }, (_, i) => random.normal() + (i % length === 0 ? near : 0)),
  };
};

// Twins in float64 arrays of arrays, straight from the definitions.
const list = (of: Rows) => Array.from({ length: of.count }, (_, i) => [...rowOf(of, i)]);
const dot = (a: readonly number[], b: readonly number[]) => a.reduce((sum, v, i) => sum + v * b[i], 0);
const cosine = (a: readonly number[], b: readonly number[]) => dot(a, b) / Math.sqrt(dot(a, a) * dot(b, b));
const centre = (vectors: readonly number[][]) =>
  vectors[0].map((_, k) => vectors.reduce((sum, v) => sum + v[k], 0) / vectors.length);
const mean = (values: readonly number[]) => values.reduce((a, b) => a + b, 0) / values.length;
const pairsOf = (vectors: readonly number[][]) => vectors.flatMap((a, i) => vectors.slice(i + 1).map((b) => cosine(a, b)));

describe("SemanticLens' measures", () => {
  it('clarity is the mean cosine of all pairs', () => {
    for (const of of [rows(12, 9, 1), rows(2, 9, 2, 3), rows(5, 4, 3, 8)])
      expect(clarity(of)).toBeCloseTo(mean(pairsOf(list(of))), 5);
    expect(clarity({ count: 3, length: 2, values: Float32Array.of(1, 1, 2, 2, 3, 3) })).toBeCloseTo(1, 6);
    expect(clarity(rows(1, 4, 1))).toBeNull();
  });

  it('polysemanticity is 1 - the cosine of the centres of the best two clusters', () => {
    for (const of of [rows(8, 5, 4), rows(9, 3, 5, 2), rows(6, 4, 6), rows(4, 2, 7)]) {
      const vectors = list(of);
      let least = { error: Infinity, value: NaN };
      for (let code = 1; code < 2 ** (of.count - 1); code++) {
        const clusters = [0, 1].map((side) => vectors.filter((_, i) => ((code >> i) & 1) === side));
        const centres = clusters.map(centre);
        const error = clusters.reduce((sum, cluster, side) => sum + cluster.reduce((s, v) => s + v.reduce((t, x, k) => t + (x - centres[side][k]) ** 2, 0), 0), 0); // prettier-ignore
        const isLone = clusters.some((cluster) => cluster.length < 2);
        const value = isLone
          ? mean(vectors.slice(0, 10).map((v) => 1 - cosine(centre(vectors), v)))
          : 1 - cosine(centres[0], centres[1]);
        if (error < least.error - 1e-9) least = { error, value };
      }
      expect(polysemanticity(of)).toBeCloseTo(least.value, 5);
    }
    const twoThings = { count: 6, length: 2, values: Float32Array.of(1, 0, 1, 0.01, 1, 0, 0, 1, 0.01, 1, 0, 1) };
    expect(polysemanticity(twoThings)).toBeCloseTo(1, 1);
    expect(polysemanticity(rows(1, 4, 1))).toBeNull();
  });

  it('redundancy is the greatest cosine to another unit', async () => {
    const of = rows(7, 4, 8);
    of.values.fill(0, 4, 8);
    const vectors = list(of);
    const silent = (i: number) => i === 1;
    const wanted = vectors.map((a, i) =>
      silent(i) ? null : Math.max(...vectors.flatMap((b, j) => (j === i || silent(j) ? [] : [cosine(a, b)]))),
    );
    const told = await redundancies(of, products);
    told.forEach((value, i) => (wanted[i] === null ? expect(value).toBeNull() : expect(value).toBeCloseTo(wanted[i], 5)));
    expect(await redundancies(rows(1, 4, 9), products)).toEqual([null]);
  });
});

describe("CLIP-Dissect's labels", () => {
  it('are the concept of the greatest soft-WPMI', async () => {
    const pictures = normalized(rows(9, 6, 11));
    const concepts = normalized(rows(5, 6, 12));
    const units = [[0, 3, 5], [8, 1, 2], [], [4, 3, 0]];
    const [shown, said] = [list(pictures), list(concepts)];
    const shares = shown.map((picture) => {
      const powers = said.map((concept) => Math.exp(10 * dot(picture, concept)));
      return powers.map((power) => power / powers.reduce((a, b) => a + b, 0));
    });
    const given = units.map(
      (strongest) =>
      said.map((_, k) => strongest.reduce((sum, picture, rank) => sum + Math.log(1 + (0.998 - (rank / 3) * 0.028) * (shares[picture][k] - 1) + 1e-7), 0)), // prettier-ignore
    );
    const told = await labels(units, pictures, concepts, products, atOnce);
    units.forEach((strongest, unit) => {
      if (strongest.length === 0) return expect(told[unit]).toBeNull();
      const scores = said.map((_, k) => given[unit][k] - Math.log(mean([0, 1, 3].map((other) => Math.exp(given[other][k])))));
      const top = scores.indexOf(Math.max(...scores));
      expect(told[unit]!.index).toBe(top);
      expect(told[unit]!.score).toBeCloseTo(scores[top], 6);
    });
  });
});

describe('words', () => {
  it('are the concepts with the greatest cosine to the direction, best first', async () => {
    const joint = normalized(rows(20, 6, 13));
    const concepts: ConceptSpace = {
      classes: 20,
      joint: joint.values,
      entries: list(joint).map((_, i) => ({ wnid: `n${i}`, word: `word ${i}`, zh: `词${i}` })),
    };
    const directions = rows(3, 6, 14);
    directions.values.fill(0, 12);
    const told = await wordsOf(directions, concepts, 4, products);
    list(directions)
      .slice(0, 2)
      .forEach((direction, i) => {
        const wanted = list(joint).map((concept, k) => ({ k, score: cosine(direction, concept) })).sort((a, b) => b.score - a.score).slice(0, 4); // prettier-ignore
        expect(told[i].map(({ wnid }) => wnid)).toEqual(wanted.map(({ k }) => `n${k}`));
        told[i].forEach(({ score }, k) => expect(score).toBeCloseTo(wanted[k].score, 5));
      });
    expect(told[2]).toEqual([]);
  });

  it('of equal scores the first comes first', () => {
    expect(best([1, 3, 3, 2, 3], 3).map(({ index }) => index)).toEqual([1, 2, 4]);
    expect(best([5, 1], 3, 0)).toEqual([{ index: 1, score: 1 }]);
  });
});

describe('the layout', () => {
  it('is the plane of the main components at its start', async () => {
    // Three orthogonal directions with deviations 5, 2 and 0.1.
    const random = new Random(3);
    const hidden = Array.from({ length: 200 }, () => [5 * random.normal(), 2 * random.normal(), 0.1 * random.normal()]);
    const s = Math.SQRT1_2;
    const values = Float32Array.from(hidden.flatMap(([a, b, c]) => [s * (a + b), s * (a - b), c]));
    const points = await mainPlane({ count: 200, length: 3, values }, new Random(1), atOnce);
    for (const axis of [0, 1]) {
      const found = hidden.map((_, i) => points[2 * i + axis]);
      const centred = hidden.map((h) => h[axis] - mean(hidden.map((other) => other[axis])));
      expect(Math.abs(cosine(found, centred))).toBeGreaterThan(0.99);
    }
  });

  it('holds neighbours with memberships that sum to log2 of their number', () => {
    const distances = [0.1, 0.15, 0.2, 0.4, 0.5, 0.7];
    const held = memberships(distances);
    expect(held.reduce((a, b) => a + b, 0)).toBeCloseTo(Math.log2(6), 5);
    expect(held[0]).toBe(1);
    expect([...held].sort((a, b) => b - a)).toEqual(held);
  });

  it('puts like beside like, in the unit square, always at the same places', async () => {
    const random = new Random(6);
    const centres = list(rows(4, 16, 21));
    const values = Float32Array.from(
      { length: 120 * 16 },
      (_, i) => centres[Math.floor(i / 16) % 4][i % 16] + 0.2 * random.normal(),
    );
    const directions = { count: 120, length: 16, values };
    const places = await layout(directions, products, atOnce);
    expect(await layout(directions, products, atOnce)).toEqual(places);
    for (const { x, y } of places) for (const at of [x, y]) expect(at >= 0 && at <= 1).toBe(true);
    const isKin = places.map((a, i) => {
      const near = places
        .map((b, j) => ({ j, d: j === i ? Infinity : Math.hypot(a.x - b.x, a.y - b.y) }))
        .sort((p, q) => p.d - q.d);
      return near.slice(0, 5).filter(({ j }) => j % 4 === i % 4).length / 5;
    });
    expect(mean(isKin)).toBeGreaterThan(0.95);
  });

  it.each([0, 1, 2, 3, 4, 5])('takes %d directions, silent and equal ones too', async (count) => {
    const places = await layout({ count, length: 3, values: new Float32Array(3 * count) }, products, atOnce);
    expect(places).toHaveLength(count);
    for (const { x, y } of places) for (const at of [x, y]) expect(at >= 0 && at <= 1).toBe(true);
  });
});
