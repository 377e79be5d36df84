import { afterAll, expect, it } from 'vitest';
import { summarize } from '../../models/brivl/statistics.js';
import type { Eye } from '../../models/brivl/model.js';
import type { ImageTower } from '../../models/brivl/towers.js';
import { Graph, type Value } from '../../models/graph/index.js';
import { lookAt } from '../../server/imagination/look.js';
import { drawUnits, type Drawing } from '../../server/neurons/visualize.js';
import { fake, sessionsInMemory } from '../imagination/fake.js';
import { randomStream } from '../graph/session.js';

const sessions = sessionsInMemory();
afterAll(() => sessions.release());

const drawing: Drawing = {
  parameters: 'fourier',
  canvas: 24,
  look: 32,
  views: 2,
  steps: 24,
  rate: 0.1,
  crop: 0.5,
  totalVariation: 0.1,
  batch: 4,
  seed: 3,
};

const side = fake.eye.size;
const site = { layer: 'LLP', spot: 'mean' } as const;

/** What the channels answer some smooth and some noisy pictures. */
async function readings(eye: Eye, hash: string): Promise<Float32Array[]> {
  const random = randomStream(4);
  const rows: Float32Array[] = [];
  for (let i = 0; i < 12; i++) {
    const [base, spread] = [random() * 255, i % 2 ? 60 : 5];
    const pixels = Uint8Array.from({ length: side * side * 3 }, () => Math.max(0, Math.min(255, base + spread * (random() - 0.5))));
    const { answers } = await lookAt(sessions, hash, eye, pixels, { width: side, height: side }, [site]);
    rows.push(answers[0].slice());
  }
  return rows;
}

const layerOf = async (model: { hash: string; eye: Eye } = fake) => ({
  model,
  layer: 'LLP',
  statistics: summarize(await readings(model.eye, model.hash)),
});

it('pictures drive their own channels, more than where they began', async () => {
  const of = await layerOf();
  const channels = [0, 5, 9, 15];
  const drawn = await drawUnits(sessions, of, channels, drawing);
  const begun = await drawUnits(sessions, of, channels, { ...drawing, steps: 0 });
  expect(drawn.map(({ channel }) => channel)).toEqual(channels);
  for (const [i, unit] of drawn.entries()) {
    expect(unit.activation).toBeGreaterThan(begun[i].activation);
    expect(unit.rank).toBeLessThanOrEqual(begun[i].rank);
    expect(unit.pixels).toHaveLength(24 * 24 * 3);
  }
});

it('tells what a picture does: activation, percentile and rank by z', async () => {
  const of = await layerOf();
  const [unit] = await drawUnits(sessions, of, [5], drawing);
  const { answers } = await lookAt(sessions, fake.hash, fake.eye, unit.pixels, { width: 24, height: 24 }, [site]);
  expect(unit.activation).toBe(answers[0][5]);
  const { means, deviations } = of.statistics;
  const z = Array.from(answers[0], (v, c) => (v - means[c]) / (deviations[c] || 1));
  expect(unit.rank).toBe([...z].sort((a, b) => b - a).indexOf(z[5]) + 1);
  const rows = await readings(fake.eye, fake.hash);
  if (rows.every((row) => row[5] < unit.activation)) expect(unit.percentile).toBe(100);
  else expect(unit.percentile).toBeLessThan(100);
});

it('neighbours do not matter, nor does how many there are', async () => {
  const of = await layerOf();
  const many = await drawUnits(sessions, of, [1, 5, 9, 12], drawing);
  const few = await drawUnits(sessions, of, [9, 5], drawing);
  expect(Buffer.from(few[1].pixels).equals(many[1].pixels)).toBe(true);
  expect(Buffer.from(few[0].pixels).equals(many[2].pixels)).toBe(true);
});

it('the same seed gives the same bytes, another seed others', async () => {
  const of = await layerOf();
  const draw = async (seed: number) => (await drawUnits(sessions, of, [2], { ...drawing, seed }))[0].pixels;
  expect(Buffer.from(await draw(3)).equals(await draw(3))).toBe(true);
  expect(Buffer.from(await draw(3)).equals(await draw(4))).toBe(false);
});

it('wakes a channel that is silent at the start', async () => {
  // The mean brightness less .7, above 0: on grey it is dead, and so is its gradient.
  const bright = (g: Graph, pictures: Value): ImageTower => {
    const seen = fake.eye.look(g, pictures);
    const dead = g.op('Relu', [g.sub(g.op('AveragePool', [g.reduceMean(pictures, [1], true)], { kernel_shape: [4, 4], strides: [4, 4] }), g.scalar(0.7))]); // prettier-ignore
    return { ...seen, layers: new Map([['LLP', dead]]) };
  };
  const eye: Eye = { ...fake.eye, layers: [{ name: 'LLP', channels: 1 }], look: bright };
  const statistics = summarize([Float32Array.of(0), Float32Array.of(0.1)]);
  const of = { model: { hash: 'dead', eye }, layer: 'LLP', statistics };
  const [begun] = await drawUnits(sessions, of, [0], { ...drawing, steps: 0 });
  const [drawn] = await drawUnits(sessions, of, [0], { ...drawing, steps: 48 });
  expect(begun.activation).toBe(0);
  expect(drawn.activation).toBeGreaterThan(0.01);
});
