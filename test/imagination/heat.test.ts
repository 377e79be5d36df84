import { afterAll, describe, expect, it } from 'vitest';
import { Graph } from '../../models/graph/index.js';
import { summarize } from '../../models/brivl/statistics.js';
import { UnknownUnitError } from '../../models/brivl/units.js';
import { normalize } from '../../models/brivl/transformer.js';
import type { Eye } from '../../models/brivl/model.js';
import { firingOf, heatOf, relevanceOf } from '../../server/imagination/heat.js';
import { randomStream, relativeError, run } from '../graph/session.js';
import { fake, sessionsInMemory } from './fake.js';

const sessions = sessionsInMemory();
afterAll(() => sessions.release());

const [size, channels, side] = [32, 16, 8];
const canvas = { width: size, height: size };
const pixelsOf = (seed: number) => {
  const random = randomStream(seed);
  return Uint8Array.from({ length: size * size * 3 }, () => Math.floor(256 * random()));
};
const sight = (seed: number) => ({ model: fake, pixels: pixelsOf(seed), canvas });

/** The LLP map [16, 64] of a picture: the eye alone, fed by hand. */
async function mapOf(pixels: Uint8Array): Promise<number[]> {
  const g = new Graph();
  const seen = fake.eye.look(g, g.input('x', [1, 3, size, size]));
  g.output('map', seen.llp);
  const planes = Float32Array.from({ length: 3 * size * size }, (_, i) => {
    const [c, p] = [Math.floor(i / (size * size)), i % (size * size)];
    return pixels[3 * p + c] / 255;
  });
  return (await run(g, { x: planes })).map.data;
}

const meanOf = (values: readonly number[]) => values.reduce((a, b) => a + b, 0) / values.length;
const channelOf = (map: readonly number[], c: number) => map.slice(c * side * side, (c + 1) * side * side);

/** Statistics over four other pictures. */
async function statistics() {
  const readings: Float32Array[] = [];
  for (const seed of [11, 12, 13, 14]) {
    const map = await mapOf(pixelsOf(seed));
    readings.push(Float32Array.from({ length: channels }, (_, c) => meanOf(channelOf(map, c))));
  }
  return { readings, measured: summarize(readings) };
}

describe('heat maps', () => {
  it("are the channel's map of the whole picture, its mean, and the share of pictures below", async () => {
    const { readings, measured } = await statistics();
    const map = await mapOf(pixelsOf(1));
    for (const channel of [0, 5, 15]) {
      const heat = await heatOf(sessions, sight(1), { layer: 'LLP', channel }, measured);
      expect([heat.rows, heat.columns]).toEqual([side, side]);
      expect(relativeError(heat.values, channelOf(map, channel))).toBeLessThan(5e-3);
      expect(heat.activation).toBeCloseTo(meanOf(channelOf(map, channel)), 5);
      const sorted = readings.map((row) => row[channel]).sort((a, b) => a - b);
      if (heat.activation >= sorted[3]) expect(heat.percentile).toBe(100);
      else if (heat.activation <= sorted[0]) expect(heat.percentile).toBe(0);
      else expect(Math.floor((heat.percentile / 100) * 3)).toBe(sorted.findLastIndex((v) => v <= heat.activation));
    }
  });

  it('of another layer have its size', async () => {
    const stem = summarize([new Float32Array(8), new Float32Array(8).fill(1)]);
    expect(await heatOf(sessions, sight(1), { layer: 'stem', channel: 7 }, stem)).toMatchObject({ rows: 16, columns: 16 });
  });
});

describe('the units that a picture drives', () => {
  it('are told by z, with where they fire', async () => {
    const { measured } = await statistics();
    const map = await mapOf(pixelsOf(2));
    const z = Array.from({ length: channels }, (_, c) => {
      const { means, deviations } = measured;
      return deviations[c] > 0 ? (meanOf(channelOf(map, c)) - means[c]) / deviations[c] : 0;
    });
    const order = z.map((_, c) => c).sort((a, b) => z[b] - z[a] || a - b);
    const { rows, columns, units } = await firingOf(sessions, sight(2), 'LLP', measured, 5);
    expect([rows, columns]).toEqual([side, side]);
    expect(units.map(({ channel }) => channel)).toEqual(order.slice(0, 5));
    for (const unit of units) {
      const own = channelOf(map, unit.channel);
      expect(unit.z).toBeCloseTo(z[unit.channel], 3);
      expect(own[unit.y! * side + unit.x!]).toBeCloseTo(Math.max(...own), 5);
      expect(relativeError(unit.map!, own)).toBeLessThan(5e-3);
    }
  });

  it('a channel that never moved stands at 0, whatever it answers', async () => {
    const still = summarize([new Float32Array(channels)]);
    const { units } = await firingOf(sessions, sight(2), 'LLP', still, channels);
    expect(units.map(({ z }) => z)).toEqual(new Array(channels).fill(0));
    expect(units.map(({ channel }) => channel)).toEqual(units.map((_, c) => c));
  });
});

describe('a layer of tokens', () => {
  const eye: Eye = {
    ...fake.eye,
    layers: [...fake.eye.layers, { name: 'attention1', channels }],
    look(g, pictures) {
      const seen = fake.eye.look(g, pictures);
      const tokens = g.transpose(g.reshape(seen.llp, [pictures.shape[0], channels, side * side]), [0, 2, 1]);
      return { ...seen, layers: new Map([...seen.layers, ['attention1', tokens]]) };
    },
  };
  const model = { hash: 'tokens', eye };

  it('tells how strongly its units fire, not where', async () => {
    const { measured } = await statistics();
    const there = { ...sight(3), model };
    const tokens = await firingOf(sessions, there, 'attention1', measured, 4);
    const map = await firingOf(sessions, there, 'LLP', measured, 4);
    expect(tokens).toMatchObject({ rows: null, columns: null });
    expect(tokens.units.map(({ channel }) => channel)).toEqual(map.units.map(({ channel }) => channel));
    expect(tokens.units[0]).toMatchObject({ y: null, x: null, map: null });
    await expect(heatOf(sessions, there, { layer: 'attention1', channel: 0 }, measured)).rejects.toThrow(UnknownUnitError);
  });
});

describe('a layer of large maps', () => {
  const eye: Eye = {
    ...fake.eye,
    layers: [...fake.eye.layers, { name: 'wide', channels: 8 }],
    look(g, pictures) {
      const seen = fake.eye.look(g, pictures);
      const stem = seen.layers.get('stem')!;
      return { ...seen, layers: new Map([...seen.layers, ['wide', g.concat([stem, stem, stem], 3)]]) };
    },
  };
  const there = { ...sight(3), model: { hash: 'wide', eye } };
  const used = summarize([new Float32Array(8), new Float32Array(8).fill(1)]);

  it('is told in means over blocks, and among many units by its maximum alone', async () => {
    const { values: stem } = await heatOf(sessions, sight(3), { layer: 'stem', channel: 2 }, used);
    const heat = await heatOf(sessions, there, { layer: 'wide', channel: 2 }, used);
    expect([heat.rows, heat.columns, heat.values.length]).toEqual([16, 32, 16 * 32]);
    expect(heat.activation).toBeCloseTo(meanOf(stem), 2);
    // Blocks of one column and of two take turns.
    expect(heat.values[0]).toBeCloseTo(stem[0], 2);
    expect(heat.values[1]).toBeCloseTo((stem[1] + stem[2]) / 2, 2);
    const { rows, columns, units } = await firingOf(sessions, there, 'wide', used, 1);
    expect([rows, columns, units[0].map]).toEqual([16, 48, null]);
    expect(units[0].x).toBeLessThan(16);
  });
});

describe('relevance of places to a text', () => {
  const text = (() => {
    const random = randomStream(5);
    const raw = Float32Array.from({ length: 12 }, () => 2 * random() - 1);
    const length = Math.hypot(...raw);
    return raw.map((v) => v / length);
  })();

  /** The fake's way from the map to the joint space, in float64, found from its answers: it is affine. */
  async function head() {
    const g = new Graph();
    const pictures = g.input('x', [1, 3, size, size]);
    const seen = fake.eye.look(g, pictures);
    g.output('projected', seen.projected);
    g.output('map', seen.llp);
    const points: { mean: number[]; projected: number[] }[] = [];
    for (let seed = 100; seed < 100 + channels + 1; seed++) {
      const random = randomStream(seed);
      const out = await run(g, { x: Float32Array.from({ length: 3 * size * size }, () => random()) });
      const mean = Array.from({ length: channels }, (_, c) => meanOf(channelOf(out.map.data, c)));
      points.push({ mean, projected: out.projected.data });
    }
    return points;
  }

  it('is gradient times activation, by finite differences of the map', async () => {
    const found = await relevanceOf(sessions, sight(4), text);
    expect([found.rows, found.columns]).toEqual([side, side]);
    const map = await mapOf(pixelsOf(4));
    // A graph that begins at the map: the fake's head is a mean and a matrix, which its own answers to two maps give away.
    const points = await head();
    const directions = solve(points);
    const cosOf = (values: readonly number[]) => {
      const p = directions.bias.map(
        (b, e) => b + directions.matrix.reduce((sum, row, c) => sum + row[e] * meanOf(channelOf(values, c)), 0),
      );
      return p.reduce((sum, v, e) => sum + v * text[e], 0) / Math.hypot(...p);
    };
    expect(found.cos).toBeCloseTo(cosOf(map), 3);
    const expected = Array.from({ length: side * side }, (_, place) =>
      Array.from({ length: channels }, (_, c) => {
        const at = c * side * side + place;
        const moved = (by: number) => cosOf(map.map((v, i) => (i === at ? v + by : v)));
        return (map[at] * (moved(1e-4) - moved(-1e-4))) / 2e-4;
      }).reduce((a, b) => a + b, 0),
    );
    expect(relativeError(found.values, expected)).toBeLessThan(0.02);
  });

  it('sums to nothing where the way to the joint space has no bias', async () => {
    const eye: Eye = {
      ...fake.eye,
      look(g, pictures) {
        const seen = fake.eye.look(g, pictures);
        const random = randomStream(6);
        const matrix = g.floats(
          Float32Array.from({ length: channels * 12 }, () => 2 * random() - 1),
          [channels, 12],
        );
        const projected = g.matMul(g.reduceMean(seen.llp, [2, 3]), matrix);
        return { ...seen, projected, embedding: normalize(g, projected) };
      },
    };
    const { values } = await relevanceOf(sessions, { ...sight(4), model: { hash: 'plain', eye } }, text);
    const size = values.reduce((sum, v) => sum + Math.abs(v), 0);
    expect(size).toBeGreaterThan(1e-3);
    expect(Math.abs(values.reduce((a, b) => a + b, 0))).toBeLessThan(1e-4 * size);
  });
});

/** The affine map through channels + 1 points, by Gauss elimination: projected = mean . matrix + bias. */
function solve(points: { mean: number[]; projected: number[] }[]): { matrix: number[][]; bias: number[] } {
  const n = points.length;
  const rows = points.map(({ mean, projected }) => [...mean, 1, ...projected]);
  for (let i = 0; i < n; i++) {
    const pivot = rows.slice(i).reduce((best, row, k) => (Math.abs(row[i]) > Math.abs(rows[best][i]) ? i + k : best), i);
    [rows[i], rows[pivot]] = [rows[pivot], rows[i]];
    for (let k = 0; k < n; k++) {
      if (k === i) continue;
      const factor = rows[k][i] / rows[i][i];
      for (let j = i; j < rows[k].length; j++) rows[k][j] -= factor * rows[i][j];
    }
  }
  const solution = rows.map((row, i) => row.slice(n).map((v) => v / row[i]));
  return { matrix: solution.slice(0, n - 1), bias: solution[n - 1] };
}
