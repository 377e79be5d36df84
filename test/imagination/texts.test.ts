import fc from 'fast-check';
import { afterAll, describe, expect, it } from 'vitest';
import type { ImageTower } from '../../models/brivl/towers.js';
import { normalize } from '../../models/brivl/transformer.js';
import { differentiate, Graph, simplify } from '../../models/graph/index.js';
import { cosine, embedText, lookAt } from '../../server/imagination/look.js';
import { objectives, unstopped, weighted, type ObjectiveName } from '../../server/imagination/objectives.js';
import { setsOf, stopOf } from '../../server/imagination/texts.js';
import { randomStream, relativeError, run } from '../graph/session.js';
import { digest, drawingByTokens, fake, jobOf, type Told } from './fake.js';

const { sessions, runOf, release } = drawingByTokens();
afterAll(release);

const framesOf = ({ steps }: Told) => steps.map(({ pixels }) => digest(pixels));
const bytesOf = (told: Told) => ({
  picture: digest(told.result.pixels),
  frames: framesOf(told),
  curve: told.result.curve,
  cos: told.result.cos,
});

/** VQGAN+CLIP's loss of a view: 2 asin(|a - b| / 2)^2, with the sign of the weight. */
const signedLoss = (weight: number, a: readonly number[], b: readonly number[]): number =>
  Math.sign(weight) * 2 * Math.asin(Math.min(1, Math.hypot(...a.map((v, i) => v - b[i])) / 2)) ** 2;

describe('the texts of a job', () => {
  it('are the main text, the others of its set, and in every set the weighted and negative ones', () => {
    const job = jobOf({ text: 'lamps:-1|dawn:2|mist:.5:.1^noon', weighted: [{ text: 'w', weight: 3 }], negative: ['n'] });
    const always = [
      { text: 'w', weight: 3, stop: null },
      { text: 'n', weight: -0.3, stop: null },
    ];
    expect(setsOf(job)).toEqual([
      {
        main: { text: 'dawn', weight: 2, stop: null },
        others: [{ text: 'lamps', weight: -1, stop: null }, { text: 'mist', weight: 0.5, stop: 0.1 }, ...always],
      },
      { main: { text: 'noon', weight: 1, stop: null }, others: always },
    ]);
    expect(setsOf({ ...job, text: '' })).toEqual([{ main: null, others: always }]);
  });
});

describe('stops', () => {
  it('as bounds of weight x cosine are where VQGAN+CLIP’s loss is above the stop', () => {
    const weights = fc.double({ min: -10, max: 10, noNaN: true }).filter((weight) => Math.abs(weight) > 1e-3);
    const stops = fc.option(fc.oneof(fc.double({ min: -6, max: 6, noNaN: true }), fc.constantFrom(0, 1e300, -1e300)));
    fc.assert(
      fc.property(weights, stops, fc.double({ min: 0, max: Math.PI, noNaN: true }), (weight, stop, angle) => {
        const loss = signedLoss(weight, [1, 0], [Math.cos(angle), Math.sin(angle)]);
        if (stop !== null && Math.abs(loss - stop) < 1e-6) return;
        expect(weight * Math.cos(angle) < stopOf({ text: '', weight, stop })).toBe(stop === null || loss > stop);
      }),
      { numRuns: 2000 },
    );
  });

  const [views, embed] = [4, 6];
  const random = randomStream(3);
  const draw = (n: number) => Array.from({ length: n }, () => 2 * random() - 1);
  const unit = (row: readonly number[]) => row.map((v) => v / Math.hypot(...row));
  const rowsOf = (values: ArrayLike<number>) =>
    Array.from({ length: values.length / embed }, (_, r) => Array.from({ length: embed }, (_, i) => values[r * embed + i]));
  const prompts = [
    { text: '', weight: 1, stop: 1 },
    { text: '', weight: 0.5, stop: null },
    { text: '', weight: -0.3, stop: -1.2 },
  ];
  const value: Record<ObjectiveName, (dot: number, cos: number) => number> = {
    cos: (_, cos) => -cos,
    'dot-cos': (dot, cos) => -dot * Math.max(0.1, cos),
    spherical: (_, cos) => (1 - cos) * (1 + (1 - cos) / 6 + (2 * (1 - cos) ** 2) / 45),
  };

  it.each(Object.keys(objectives) as ObjectiveName[])(
    'of %s leave views that are there alone: float64 twin, finite differences',
    async (name) => {
      const projected = Float32Array.from(draw(views * embed), (v) => 3 * v);
      const texts = rowsOf(draw(prompts.length * embed)).map(unit);
      const isMoving = (view: readonly number[], k: number) => {
        const { weight, stop } = prompts[k];
        return stop === null || signedLoss(weight, unit(view), texts[k]) > stop;
      };
      const total = (x: ArrayLike<number>) =>
        rowsOf(x).reduce(
          (sum, view) =>
            sum +
            texts.reduce((part, text, k) => {
              const dot = view.reduce((d, v, i) => d + v * text[i], 0);
              return part + (isMoving(view, k) ? prompts[k].weight * value[name](dot, dot / Math.hypot(...view)) : 0);
            }, 0),
          0,
        ) / views;
      const moving = rowsOf(projected).flatMap((view) => texts.map((_, k) => isMoving(view, k)));
      // Both kinds, of the text that pulls and of the one that pushes.
      for (const k of [0, 2]) expect(new Set(moving.filter((_, i) => i % prompts.length === k)).size).toBe(2);

      const g = new Graph();
      const p = g.input('projected', [views, embed]);
      const seen: ImageTower = { llp: p, layers: new Map(), projected: p, embedding: normalize(g, p) };
      const [t, w, s] = [
        g.input('texts', [prompts.length, embed]),
        g.input('weights', [prompts.length]),
        g.input('stops', [prompts.length]),
      ];
      const mask = unstopped(g, seen, t, w, s);
      const loss = weighted(g, g.mul(objectives[name](g, seen, t), mask), w);
      g.output('mask', mask);
      g.output('loss', loss);
      g.output('gradient', differentiate(g, loss, [p])[0]);
      const out = await run(simplify(g), {
        projected,
        texts: texts.flat(),
        weights: prompts.map(({ weight }) => weight),
        stops: prompts.map(stopOf),
      });
      expect(out.mask.data).toEqual(moving.map(Number));
      expect(Math.abs(out.loss.data[0] - total(projected))).toBeLessThan(2e-6);
      const slopes = Array.from(projected, (_, i) => {
        const moved = (step: number) => total(Float64Array.from(projected, (v, j) => (j === i ? v + step : v)));
        return (moved(1e-5) - moved(-1e-5)) / 2e-5;
      });
      expect(relativeError(out.gradient.data, slopes)).toBeLessThan(1e-5);
    },
  );

  it('that no view can pass leave a picture as it began; those that every view passes change nothing but rounding', async () => {
    const plain = await runOf(jobOf({ totalVariation: 0 }));
    const stopped = await runOf(jobOf({ text: 'nature:1:5', totalVariation: 0 }));
    expect(new Set(framesOf(stopped)).size).toBe(1);
    expect(framesOf(stopped)[0]).toBe(framesOf(plain)[0]);
    const passed = await runOf(jobOf({ text: 'nature:1:-1', totalVariation: 0 }));
    expect(Math.abs(passed.result.cos! - plain.result.cos!)).toBeLessThan(1e-3);
    expect(new Set(framesOf(passed)).size).toBe(8);
  });

  it('hold a picture at their distance from the text', async () => {
    const endOf = async (text: string) => {
      const job = jobOf({ text, steps: 80, objective: 'cos', optimizer: 'sgd', totalVariation: 0 });
      const last = (await runOf(job)).result.curve.slice(-30);
      return last.reduce((sum, { cos }) => sum + cos!, 0) / last.length;
    };
    // A right angle: no view that has come to a cosine of 0 is moved on.
    const [free, held] = [await endOf('nature'), await endOf(`nature:1:${Math.PI ** 2 / 8}`)];
    expect(free).toBeGreaterThan(0.15);
    expect(Math.abs(held)).toBeLessThan(free / 2);
  });
});

describe('parallel prompts', () => {
  it('push as weighted texts do, to the byte', async () => {
    const prompts = await runOf(jobOf({ text: 'nature | xyz:0.5 | dream:-2' }));
    const weighted = [
      { text: 'xyz', weight: 0.5 },
      { text: 'dream', weight: -2 },
    ];
    expect(bytesOf(prompts)).toEqual(bytesOf(await runOf(jobOf({ weighted }))));
  });

  it('of one text of weight 1 without a stop are that text, to the byte', async () => {
    const plain = bytesOf(await runOf(jobOf()));
    for (const text of ['nature:1', 'nature:1:-inf', ' nature ：１']) expect(bytesOf(await runOf(jobOf({ text })))).toEqual(plain);
  });

  it('are about the first with a positive weight', async () => {
    const { result } = await runOf(jobOf({ text: 'dream:-1 | nature' }));
    const { embedding: seen } = await lookAt(sessions, fake.hash, fake.eye, result.pixels, result);
    expect(result.cos).toBe(cosine(seen, (await embedText(sessions, fake, 'nature')).embedding));
  });
});

describe('prompts in series', () => {
  const line = 'nature | xyz:2:0.4 ^ time ^ dream | nature:-1';

  it('share the steps, one after another, in one picture that is about the last', async () => {
    const [story, nature] = [await runOf(jobOf({ text: 'nature ^ dream' })), await runOf(jobOf())];
    // The picture before step 4 is the last that only the first text has moved.
    expect(framesOf(story).slice(0, 5)).toEqual(framesOf(nature).slice(0, 5));
    expect(framesOf(story).slice(5)).not.toContain(framesOf(nature)[5]);
    expect(story.result.curve.slice(0, 4)).toEqual(nature.result.curve.slice(0, 4));
    const { embedding: seen } = await lookAt(sessions, fake.hash, fake.eye, story.result.pixels, story.result);
    expect(story.result.cos).toBe(cosine(seen, (await embedText(sessions, fake, 'dream')).embedding));
    const told: string[][] = [];
    await runOf(
      jobOf({ text: 'nature ^ dream', steps: 2 }),
      {},
      { begun: ({ textConcepts }) => told.push(textConcepts.map(({ wnid }) => wnid)) },
    );
    await runOf(
      jobOf({ text: 'dream', steps: 2 }),
      {},
      { begun: ({ textConcepts }) => told.push(textConcepts.map(({ wnid }) => wnid)) },
    );
    expect(told[0]).toEqual(told[1]);
  });

  it.each([
    ['feavis', {}],
    ['vqgan', { method: 'vqgan', tries: 2, anchor: 1, anchorTo: 'start', restarts: 1 }],
  ])('go on from every checkpoint to the same bytes: %s', async (_, fields) => {
    const job = jobOf({ text: line, steps: 7, ...fields });
    const whole = await runOf(job);
    expect(bytesOf(await runOf(job))).toEqual(bytesOf(whole));
    for (const [i, checkpoint] of whole.saved.entries()) {
      const rest = await runOf(job, { checkpoint });
      expect(bytesOf(rest)).toEqual({ ...bytesOf(whole), frames: framesOf(whole).slice(i + 1) });
    }
  });

  it('of sets of different sizes move as each set alone would, but for rounding', async () => {
    const sets = await runOf(jobOf({ text: 'nature ^ dream | xyz:2 | time', steps: 2 }));
    const alone = await runOf(jobOf({ steps: 2 }));
    const first = [sets, alone].map(({ result }) => result.curve[0].cos!);
    expect(first[0]).toBeCloseTo(first[1], 5);
  });

  it('embed each text once, and tell what was not understood once', async () => {
    const { result } = await runOf(jobOf({ text: 'a 🏰 ^ dream ^ a 🏰:2', steps: 3, negative: ['a 🏰'] }));
    expect(result.notices.map(({ code }) => code)).toEqual(['text-unknown']);
  });
});
