import { afterAll, describe, expect, it } from 'vitest';
import { differentiate, Graph, simplify, sizeOf } from '../../models/graph/index.js';
import { createRunner } from '../../server/compute/sessions.js';
import { optimizers } from '../../server/imagination/optimizers.js';
import { parametrizations, type Canvas, type ParametrizationName } from '../../server/imagination/parameters.js';
import { Random } from '../../server/imagination/random.js';
import { interpret } from '../graph/dags.js';
import { randomStream, relativeError, run, sessionOptions } from '../graph/session.js';
import { enlarged, fromColour, inverseTransform, toColour, transform } from './oracles.js';

const names = Object.keys(parametrizations) as ParametrizationName[];
const canvases: Canvas[] = [
  { width: 12, height: 10 },
  { width: 9, height: 14 },
  { width: 15, height: 15 },
];
const cases = names.flatMap((name) => canvases.map((canvas) => [name, canvas.width, canvas.height, canvas] as const));

const worst: Record<string, number> = {};
function close(kind: string, error: number, limit: number): void {
  worst[kind] = Math.max(worst[kind] ?? 0, error);
  expect(error, kind).toBeLessThan(limit);
}
afterAll(() => console.info('parametrizations, worst', JSON.stringify(worst)));

/** Parameters as they begin, moved far enough for the picture to have contrast. */
function somewhere(name: ParametrizationName, canvas: Canvas): Float32Array {
  const random = randomStream(canvas.width);
  return parametrizations[name].init(canvas, new Random(3)).map((v) => v + 0.6 * (random() - 0.5));
}

async function drawn(name: ParametrizationName, canvas: Canvas, parameters: Float32Array): Promise<number[]> {
  const g = new Graph();
  g.output('picture', parametrizations[name].draw(g, g.input('p', parametrizations[name].shape(canvas)), canvas).picture);
  return (await run(simplify(g), { p: parameters })).picture.data;
}

/** What the docstrings say, in float64. */
const oracles: Record<Exclude<ParametrizationName, 'maco'>, (p: Float32Array, canvas: Canvas) => Float64Array> = {
  fourier(p, { width, height }) {
    const half = Math.floor(width / 2) + 1;
    const scaled = Float64Array.from(p, (v, i) => {
      const [l, k] = [Math.floor(i / half) % height, i % half];
      const f = Math.hypot(Math.min(l, height - l) / height, k / width);
      return (v * Math.sqrt(width * height)) / Math.max(f, 1 / Math.max(width, height)) / 4;
    });
    const middle = scaled.length / 2;
    return toColour(inverseTransform(scaled.subarray(0, middle), scaled.subarray(middle), 3, height, width));
  },
  pixels(p, { width, height }) {
    const sum = new Float64Array(3 * width * height);
    let at = 0;
    for (let k = 1; Math.min(width, height) / k >= 7; k *= 2) {
      const [h, w] = [Math.ceil(height / k), Math.ceil(width / k)];
      enlarged(p.subarray(at, at + 3 * h * w), [3, h, w], height, width).forEach((v, i) => (sum[i] += v));
      at += 3 * h * w;
    }
    expect(at).toBe(p.length);
    return toColour(sum);
  },
};

/** Low waves, light with a little colour as photographs are, well inside (0, 1). */
function smooth({ width, height }: Canvas): Float32Array {
  return Float32Array.from({ length: 3 * width * height }, (_, i) => {
    const [c, y, x] = [Math.floor(i / (width * height)), Math.floor(i / width) % height, i % width];
    const light = Math.sin((2 * Math.PI * x) / width) * Math.cos((2 * Math.PI * y) / height - 1);
    const hue = Math.sin((2 * Math.PI * (2 * x - y)) / width + 2 * c);
    return 0.5 + 0.35 * light + 0.05 * hue;
  });
}

/** A pale disc on a slope: edges have every frequency. */
const disc = ({ width, height }: Canvas): Float32Array =>
  Float32Array.from({ length: 3 * width * height }, (_, i) => {
    const [y, x] = [Math.floor(i / width) % height, i % width];
    return Math.hypot(x - width * 0.6, y - height * 0.4) < width / 4 ? 0.9 : 0.2 + (0.3 * y) / height;
  });

const meanError = (a: ArrayLike<number>, b: ArrayLike<number>): number =>
  Array.from(a, (v, i) => Math.abs(v - b[i])).reduce((sum, v) => sum + v, 0) / a.length;

describe('a parametrization', () => {
  it.each(cases)('%s on %i x %i begins with its shape, seeded, nearly grey or plain noise', async (name, _, __, canvas) => {
    const { shape, init } = parametrizations[name];
    const parameters = init(canvas, new Random(5));
    expect(parameters.length).toBe(sizeOf(shape(canvas)));
    expect(init(canvas, new Random(5))).toEqual(parameters);
    expect(init(canvas, new Random(6))).not.toEqual(parameters);
    const picture = await drawn(name, canvas, parameters);
    expect(picture.length).toBe(3 * canvas.width * canvas.height);
    expect(picture.every((v) => v > 0 && v < 1)).toBe(true);
    if (name !== 'maco') expect(picture.every((v) => Math.abs(v - 0.5) < 0.1)).toBe(true);
  });

  it.each(cases.filter(([name]) => name !== 'maco'))('%s on %i x %i draws what it says', async (name, _, __, canvas) => {
    const parameters = somewhere(name, canvas);
    const expected = oracles[name as keyof typeof oracles](parameters, canvas);
    close(`${name} values`, relativeError(await drawn(name, canvas, parameters), expected), 2e-6);
  });

  it.each(canvases)('maco draws a standardised picture whose spectrum does not depend on the phases', async (canvas) => {
    const { width, height } = canvas;
    const size = width * height;
    const half = Math.floor(width / 2) + 1;
    const spectra: number[][][] = [];
    for (const seed of [1, 2]) {
      const z = fromColour(await drawn('maco', canvas, parametrizations.maco.init(canvas, new Random(seed))));
      const mean = z.reduce((a, b) => a + b) / z.length;
      const variance = z.reduce((a, v) => a + (v - mean) ** 2, 0) / z.length;
      close('maco mean', Math.abs(mean), 1e-4);
      close('maco variance', Math.abs(variance - 1), 1e-3);
      const magnitudes = [0, 1, 2].map((c) =>
        transform(z.subarray(c * size, (c + 1) * size), height, width).map(([re, im]) => Math.hypot(re, im)),
      );
      spectra.push(magnitudes);
    }
    // Bins with a mirror elsewhere keep their magnitude; those of the first and middle column mix with theirs.
    const free = Array.from({ length: height * half }, (_, i) => i).filter((i) => i % half > 0 && 2 * (i % half) !== width);
    const ratios = [0, 1, 2].flatMap((c) => free.map((i) => spectra[0][c][i] / spectra[1][c][i]));
    const typical = ratios[0];
    for (const ratio of ratios) close('maco spectrum', Math.abs(ratio / typical - 1), 5e-3);
    // The channels are 1 : 1.06 : .89, and magnitude falls with frequency.
    for (const i of free) {
      expect(spectra[0][1][i] / spectra[0][0][i]).toBeCloseTo(1.06, 2);
      expect(spectra[0][2][i] / spectra[0][0][i]).toBeCloseTo(0.89, 2);
    }
    expect(spectra[0][0][1]).toBeGreaterThan(3 * spectra[0][0][3]);
  });

  it.each(cases)('%s on %i x %i has the gradient of its differences', async (name, _, __, canvas) => {
    const { shape, draw } = parametrizations[name];
    const random = randomStream(canvas.height);
    const g = new Graph();
    const p = g.input('p', shape(canvas));
    const { picture } = draw(g, p, canvas);
    const weights = Float32Array.from({ length: sizeOf(picture.shape) }, () => random() - 0.5);
    const objective = g.reduceSum(g.mul(picture, g.floats(weights, picture.shape)), [0, 1, 2]);
    const forward = simplify((g.output('objective', objective), g));
    g.output('gradient', differentiate(g, objective, [p])[0]);
    const at = somewhere(name, canvas);
    const { gradient } = await run(simplify(g), { p: at });
    const value = (values: Float64Array): number => {
      const output = forward.outputs[0].value;
      return interpret(forward, { p: values })(output).data[0];
    };
    const slope = (move: (x: Float64Array, step: number) => void): number => {
      const [up, down] = [1e-4, -1e-4].map((step) => {
        const x = Float64Array.from(at);
        move(x, step);
        return value(x);
      });
      return (up - down) / 2e-4;
    };
    const picks = Array.from({ length: 6 }, () => Math.floor(random() * at.length));
    const direction = Float64Array.from(at, () => random() - 0.5);
    const slopes = [
      ...picks.map((i) => slope((x, step) => (x[i] += step))),
      slope((x, step) => direction.forEach((d, i) => (x[i] += d * step))),
    ];
    const found = [...picks.map((i) => gradient.data[i]), direction.reduce((sum, d, i) => sum + d * gradient.data[i], 0)];
    close(`${name} gradient`, relativeError(found, slopes), 1e-4);
  });

  it.each(cases)('%s on %i x %i begins from a picture', async (name, _, __, canvas) => {
    const target = name === 'maco' ? disc(canvas) : smooth(canvas);
    const picture = await drawn(name, canvas, parametrizations[name].init(canvas, new Random(1), target));
    if (name !== 'maco') return close(`${name} from a picture`, meanError(picture, target), 0.01);
    // Only the phases are taken over: the picture is of the same make, its contrast and spectrum are not.
    const correlation = (a: ArrayLike<number>, b: ArrayLike<number>) => {
      const mean = (v: ArrayLike<number>) => Array.from(v).reduce((x, y) => x + y) / v.length;
      const [ma, mb] = [mean(a), mean(b)];
      let [ab, aa, bb] = [0, 0, 0];
      for (let i = 0; i < a.length; i++) {
        ab += (a[i] - ma) * (b[i] - mb);
        aa += (a[i] - ma) ** 2;
        bb += (b[i] - mb) ** 2;
      }
      return ab / Math.sqrt(aa * bb);
    };
    expect(correlation(picture, target)).toBeGreaterThan(0.5);
  });

  it('holds black and white pictures just inside, where the sigmoid has a slope', async () => {
    const canvas = canvases[0];
    const target = smooth(canvas).map((v) => (v > 0.5 ? 1 : 0));
    for (const name of ['fourier', 'pixels'] as const) {
      const picture = await drawn(name, canvas, parametrizations[name].init(canvas, new Random(1), target));
      expect(meanError(picture, target)).toBeLessThan(0.02);
      expect(picture.every((v) => v > 0.001 && v < 0.999)).toBe(true);
    }
  });
});

describe('fitting', () => {
  it.each(['fourier', 'pixels'] as const)('%s reaches a picture to a mean error under .01 in 300 steps of Adam', async (name) => {
    const canvas: Canvas = { width: 32, height: 24 };
    const { shape, draw, init } = parametrizations[name];
    const g = new Graph();
    const p = g.input('p', shape(canvas));
    const slots = [0, 1].map((i) => g.input(`slot${i}`, shape(canvas)));
    const scalars = [0, 1, 2].map((i) => g.input(`scalar${i}`, []));
    const { picture } = draw(g, p, canvas);
    const difference = g.sub(picture, g.floats(smooth(canvas), picture.shape));
    const loss = g.reduceMean(g.mul(difference, difference), [0, 1, 2]);
    const moved = optimizers.adam.update(g, p, differentiate(g, loss, [p])[0], slots, scalars);
    g.output("p'", moved.parameters);
    moved.slots.forEach((slot, i) => g.output(`slot${i}'`, slot));
    g.output('error', g.reduceMean(g.op('Abs', [difference]), [0, 1, 2]));
    const runner = await createRunner(simplify(g), 'cpu', sessionOptions);
    let state = {
      p: init(canvas, new Random(1)),
      slot0: new Float32Array(sizeOf(shape(canvas))),
      slot1: new Float32Array(sizeOf(shape(canvas))),
    };
    let error = Infinity;
    let t = 0;
    while (t < 300 && error > 0.01) {
      t++;
      const numbers = optimizers.adam.scalars(t, optimizers.adam.defaultRate);
      const out = await runner.run({ ...state, ...Object.fromEntries(numbers.map((v, i) => [`scalar${i}`, Float32Array.of(v)])) });
      state = {
        p: out["p'"] as Float32Array<ArrayBuffer>,
        slot0: out["slot0'"] as Float32Array<ArrayBuffer>,
        slot1: out["slot1'"] as Float32Array<ArrayBuffer>,
      };
      error = out.error[0] as number;
    }
    await runner.release();
    console.info(name, 'fits in', t, 'steps');
    expect(error).toBeLessThan(0.01);
  });
});
