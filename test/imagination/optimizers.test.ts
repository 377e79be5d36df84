import { afterAll, describe, expect, it } from 'vitest';
import { Graph, simplify } from '../../models/graph/index.js';
import { createRunner } from '../../server/compute/sessions.js';
import { optimizers, schedules, type OptimizerName } from '../../server/imagination/optimizers.js';
import { randomStream, relativeError, sessionOptions } from '../graph/session.js';

const names = Object.keys(optimizers) as OptimizerName[];

const worst: Record<string, number> = {};
function close(kind: string, error: number, limit: number): void {
  worst[kind] = Math.max(worst[kind] ?? 0, error);
  expect(error, kind).toBeLessThan(limit);
}
afterAll(() => console.info('optimizers, worst', JSON.stringify(worst)));

/** Runs the graph form on a list of gradients, step by step. */
async function descend(
  name: OptimizerName,
  start: readonly number[],
  gradients: readonly (readonly number[])[],
  rate: number,
): Promise<number[][]> {
  const { slots, scalars, update } = optimizers[name];
  const shape = [start.length];
  const g = new Graph();
  const p = g.input('p', shape);
  const memory = Array.from({ length: slots }, (_, i) => g.input(`slot${i}`, shape));
  const inputs = scalars(1, rate).map((_, i) => g.input(`scalar${i}`, []));
  const moved = update(g, p, g.input('gradient', shape), memory, inputs);
  g.output("p'", moved.parameters);
  expect(moved.slots.length).toBe(slots);
  moved.slots.forEach((slot, i) => g.output(`slot${i}'`, slot));
  const runner = await createRunner(simplify(g), 'cpu', sessionOptions);
  let state: Record<string, Float32Array> = {
    p: Float32Array.from(start),
    ...Object.fromEntries(memory.map(({ name: slot }) => [slot, new Float32Array(start.length)])),
  };
  const path: number[][] = [];
  for (const [i, gradient] of gradients.entries()) {
    const numbers = Object.fromEntries(scalars(i + 1, rate).map((v, k) => [`scalar${k}`, Float32Array.of(v)]));
    const out = await runner.run({ ...state, ...numbers, gradient: Float32Array.from(gradient) });
    state = Object.fromEntries(Object.keys(state).map((key) => [key, out[`${key}'`] as Float32Array]));
    path.push(Array.from(state.p));
  }
  await runner.release();
  return path;
}

/** The papers' formulas, one number at a time in float64. */
const oracles: Record<
  OptimizerName,
  (start: readonly number[], gradients: readonly (readonly number[])[], rate: number) => number[][]
> = {
  adam: (start, gradients, rate) => moments(start, gradients, rate, (m, _, t) => m / (1 - 0.9 ** t)),
  nadam: (start, gradients, rate) =>
    moments(start, gradients, rate, (m, g, t) => (0.9 * m) / (1 - 0.9 ** (t + 1)) + (0.1 * g) / (1 - 0.9 ** t)),
  sgd(start, gradients, rate) {
    const p = [...start];
    const velocity = p.map(() => 0);
    return gradients.map((gradient) => {
      const size = Math.sqrt(gradient.reduce((sum, g) => sum + g * g, 0) / gradient.length + 1e-20);
      gradient.forEach((g, i) => {
        velocity[i] = 0.9 * velocity[i] + (0.1 * g) / size;
        p[i] -= rate * velocity[i];
      });
      return [...p];
    });
  },
};

function moments(
  start: readonly number[],
  gradients: readonly (readonly number[])[],
  rate: number,
  first: (m: number, gradient: number, t: number) => number,
): number[][] {
  const p = [...start];
  const [m, v] = [p.map(() => 0), p.map(() => 0)];
  return gradients.map((gradient, step) => {
    gradient.forEach((g, i) => {
      m[i] = 0.9 * m[i] + 0.1 * g;
      v[i] = 0.999 * v[i] + 0.001 * g * g;
      p[i] -= (rate * first(m[i], g, step + 1)) / (Math.sqrt(v[i] / (1 - 0.999 ** (step + 1))) + 1e-8);
    });
    return [...p];
  });
}

describe('optimizers', () => {
  it.each(names)('%s: ten steps of its formula, on gradients of many sizes', async (name) => {
    const random = randomStream(names.indexOf(name) + 1);
    const start = Array.from({ length: 8 }, () => random() - 0.5);
    const gradients = Array.from({ length: 10 }, () => start.map((_, i) => (random() - 0.4) * 10 ** (i - 5)));
    const [found, expected] = [await descend(name, start, gradients, 0.05), oracles[name](start, gradients, 0.05)];
    found.forEach((p, t) => close(`${name} step`, relativeError(p, expected[t]), 2e-6));
  });

  /**
   * torch 2.13.0 in float64, lr .05, from (1, -2, .5) with gradient (sin t / 10, sin 2t, 10 sin 3t) at step t; NAdam with
   * momentum_decay=1e6, which makes its momentum constant.
   */
  const torch = {
    adam: {
      1: [0.9500000059419749, -2.049999999450125, 0.45000000035430837],
      2: [0.8999365863254909, -2.0519368171117716, 0.4681170733002267],
      10: [0.8172713760437121, -2.068529095183771, 0.45787858836187734],
    },
    nadam: {
      1: [0.9263158128259819, -2.073684195120269, 0.4263158045915276],
      2: [0.8674117275528689, -2.051097605287312, 0.47096234353921423],
      10: [0.8155033965693526, -2.0684514816776747, 0.45513692362490604],
    },
  };

  it.each(['adam', 'nadam'] as const)('%s moves as PyTorch’s', async (name) => {
    const gradients = Array.from({ length: 10 }, (_, i) => [0, 1, 2].map((k) => Math.sin((i + 1) * (k + 1)) * 10 ** (k - 1)));
    const path = await descend(name, [1, -2, 0.5], gradients, 0.05);
    for (const [t, p] of Object.entries(torch[name])) close(`${name} against PyTorch`, relativeError(path[Number(t) - 1], p), 1e-6);
  });

  it.each(names)('%s does not move, and stays finite, without a gradient', async (name) => {
    expect(
      await descend(
        name,
        [1, 2],
        [
          [0, 0],
          [0, 0],
        ],
        0.05,
      ),
    ).toEqual([
      [1, 2],
      [1, 2],
    ]);
  });

  it.each(names)('%s moves by about its rate, whatever the gradient’s size', async (name) => {
    for (const size of [1e-6, 1, 1e6]) {
      const path = await descend(
        name,
        [0, 0],
        Array.from({ length: 30 }, () => [size, -size]),
        0.05,
      );
      const [last, before] = [path[29][0], path[28][0]];
      expect(before - last).toBeGreaterThan(0.03);
      expect(before - last).toBeLessThan(0.06);
    }
  });
});

describe('schedules', () => {
  const lengths = [1, 2, 3, 10, 120, 2000];

  it('constant is 1', () => expect(lengths.map(() => schedules.constant())).toEqual(lengths.map(() => 1)));

  it.each(lengths)('cosine over %i steps starts at 1 and falls to nearly nothing', (steps) => {
    const values = Array.from({ length: steps }, (_, i) => schedules.cosine(i + 1, steps));
    expect(values[0]).toBe(1);
    for (let i = 1; i < steps; i++) expect(values[i]).toBeLessThan(values[i - 1]);
    expect(values[steps - 1]).toBeGreaterThan(0);
    expect(values[steps - 1]).toBeLessThanOrEqual(steps === 1 ? 1 : Math.sin(Math.PI / 2 / steps) ** 2 + 1e-12);
  });

  it.each(lengths)('warmup-cosine over %i steps rises evenly to 1 in a tenth of them, then falls', (steps) => {
    const values = Array.from({ length: steps }, (_, i) => schedules['warmup-cosine'](i + 1, steps));
    const warm = Math.max(1, Math.round(steps / 10));
    expect(values[warm - 1]).toBe(1);
    for (let i = 0; i < warm; i++) expect(values[i]).toBeCloseTo((i + 1) / warm, 12);
    for (let i = warm; i < steps; i++) expect(values[i]).toBeLessThan(values[i - 1]);
    expect(values[steps - 1]).toBeGreaterThan(0);
  });
});
