import { afterAll, describe, expect, it } from 'vitest';
import type { BrivlModel, Eye } from '../../models/brivl/model.js';
import { imagine, type Imagined, type ImagineInput, type Watcher } from '../../server/imagination/imagine.js';
import { askSecond, cosine, embedText, lookAt } from '../../server/imagination/look.js';
import { objectives, optimizers, parametrizations, type Job } from '../../server/jobs/job.js';
import { digest, eyeOf, fake, jobOf, recordRun, sessionsInMemory, type Told } from './fake.js';

const sessions = sessionsInMemory();
afterAll(() => sessions.release());

const runOf = (job: Job, input: Partial<ImagineInput> = {}, watcher: Watcher = {}): Promise<Told> =>
  recordRun(sessions, { job, model: fake, ...input }, watcher);

/** What must not depend on anything but model and job. */
const bytesOf = ({ result: { seconds: _, pixels, ...rest }, steps }: Told) => ({
  ...rest,
  picture: digest(pixels),
  frames: steps.map((report) => digest(report.pixels)),
});

const mean = (values: readonly number[]): number => values.reduce((a, b) => a + b) / values.length;
const textOf = async (text: string): Promise<Float32Array> => (await embedText(sessions, fake, text)).embedding;
const everything = parametrizations.flatMap((parameters) =>
  objectives.flatMap((objective) => optimizers.map((optimizer) => ({ parameters, objective, optimizer }))),
);

describe('a run', () => {
  it.each(everything)('comes nearer to its text: $parameters, $objective, $optimizer', async (kind) => {
    const { result, steps } = await runOf(jobOf({ ...kind, steps: 30 }));
    const curve = result.curve.map(({ cos }) => cos!);
    expect(curve).toHaveLength(30);
    expect(mean(curve.slice(-4))).toBeGreaterThan(mean(curve.slice(0, 2)) + 0.02);
    expect(steps.map(({ step }) => step)).toEqual(curve.map((_, i) => i));
    expect(steps.map(({ cos }) => cos)).toEqual(curve);
    expect(result.canceled).toBe(false);
  });

  it.each(parametrizations)('of %s gives the same bytes again, and other bytes for another seed', async (parameters) => {
    const first = await runOf(jobOf({ parameters }));
    const again = await runOf(jobOf({ parameters }));
    expect(bytesOf(again)).toEqual(bytesOf(first));
    // In fresh sessions too.
    const fresh = sessionsInMemory();
    expect(digest((await imagine(fresh, { job: jobOf({ parameters }), model: fake })).pixels)).toBe(digest(first.result.pixels));
    await fresh.release();
    const other = await runOf(jobOf({ parameters, seed: 2 }));
    expect(digest(other.result.pixels)).not.toBe(digest(first.result.pixels));
  });

  it.each(optimizers.flatMap((optimizer) => parametrizations.map((parameters) => [parameters, optimizer] as const)))(
    'of %s with %s goes on from every checkpoint to the same bytes',
    async (parameters, optimizer) => {
      const job = jobOf({ parameters, optimizer, steps: 5, schedule: 'warmup-cosine' });
      const whole = await runOf(job);
      expect(whole.saved).toHaveLength(5);
      for (const [i, checkpoint] of whole.saved.entries()) {
        const rest = await runOf(job, { checkpoint });
        expect(rest.steps.map(({ step }) => step)).toEqual([0, 1, 2, 3, 4].slice(i + 1));
        expect(rest.result.curve).toEqual(whole.result.curve);
        expect(digest(rest.result.pixels)).toBe(digest(whole.result.pixels));
        expect(rest.result.cos).toBe(whole.result.cos);
        expect(bytesOf(rest).frames).toEqual(bytesOf(whole).frames.slice(i + 1));
        // Time goes on where it stopped.
        expect(rest.result.seconds).toBeGreaterThan(whole.steps[i].seconds);
      }
    },
  );

  it('tells of its text before the first step, and of concepts at every fifth', async () => {
    const order: string[] = [];
    const { steps, result } = await runOf(
      jobOf({ steps: 11 }),
      {},
      {
        begun: ({ textConcepts, notices }) => {
          order.push('begun');
          expect(textConcepts).toHaveLength(5);
          expect(notices).toEqual([]);
        },
        between: (_, step) => order.push(`between ${step}`),
      },
    );
    expect(order).toEqual(['begun', ...Array.from({ length: 11 }, (_, i) => `between ${i + 1}`)]);
    expect(steps.flatMap(({ step, concepts }) => (concepts ? [[step, concepts.length]] : []))).toEqual([
      [0, 5],
      [5, 5],
      [10, 5],
    ]);
    for (const { pixels, steps: all } of steps) expect([pixels.length, all]).toEqual([64 * 64 * 3, 11]);
    expect(result.pictureConcepts).toHaveLength(10);
    const scores = result.pictureConcepts.map(({ score }) => score);
    expect(scores).toEqual([...scores].sort((a, b) => b - a));
    expect([result.secondOpinion, result.secondOpinionConcepts]).toEqual([null, []]);
    expect(steps.every((report, i) => i === 0 || report.seconds >= steps[i - 1].seconds)).toBe(true);
  });

  it('says what of its texts was cut or not understood', async () => {
    const { result } = await runOf(jobOf({ text: 'far more than sixteen characters', negative: ['a 🏰'], steps: 1 }));
    expect(result.notices.map(({ code }) => code)).toEqual(['text-cut', 'text-unknown']);
    expect(result.notices[1].message).toContain('🏰');
  });

  it('asks the second opinion, which does not change the picture', async () => {
    const bridge = Float32Array.from({ length: 144 }, (_, i) => Math.sin(i));
    const second = { eye: eyeOf(500), joint: fake.concepts.joint, bridge };
    const model: BrivlModel = { ...fake, hash: 'fake with second', second };
    const { result } = await runOf(jobOf({ steps: 7 }), { model });
    expect(digest(result.pixels)).toBe(digest((await runOf(jobOf({ steps: 7 }))).result.pixels));
    expect(result.curve.flatMap(({ step, secondOpinion }) => (secondOpinion === undefined ? [] : [step]))).toEqual([0, 5]);
    expect(result.secondOpinionConcepts).toHaveLength(10);
    const canvas = { width: 64, height: 64 };
    const text = await textOf('nature');
    const { score } = await askSecond(sessions, model, second, text, [result.pixels], canvas);
    expect(result.secondOpinion).toBe(score);
    expect(Math.abs(score!)).toBeLessThanOrEqual(1);
  });

  it('builds each graph once', async () => {
    const before = sessions.built.length;
    const job = jobOf({ width: 72, height: 64 });
    await runOf(job);
    const built = sessions.built.length - before;
    await runOf({ ...job, seed: 5, steps: 3, text: 'time' });
    expect(sessions.built.length - before).toBe(built);
    expect(new Set(sessions.built).size).toBe(sessions.built.length);
  });
});

describe('canceling', () => {
  it('ends between two steps with the picture so far and a chance to save', async () => {
    const job = jobOf({ steps: 9 });
    const whole = await runOf(job);
    let asked = 0;
    const saved: [number, Uint8Array][] = [];
    const { result, steps } = await runOf(
      job,
      {},
      { canceled: () => asked++ === 4, between: (save, step) => saved.push([step, save()]) },
    );
    expect([result.canceled, steps.length, result.curve.length]).toEqual([true, 4, 4]);
    expect(saved.map(([step]) => step)).toEqual([1, 2, 3, 4, 4]);
    // The picture after 4 moves is the one that step 4 begins with.
    expect(digest(result.pixels)).toBe(digest(whole.steps[4].pixels));
    expect(digest((await runOf(job, { checkpoint: saved[4][1] })).result.pixels)).toBe(digest(whole.result.pixels));
  });

  it('before the first step gives the picture that it would have begun with', async () => {
    const { result } = await runOf(jobOf(), {}, { canceled: () => true });
    expect([result.canceled, result.curve]).toEqual([true, []]);
    expect(digest(result.pixels)).toBe(digest((await runOf(jobOf())).steps[0].pixels));
  });
});

describe('a checkpoint of another run', () => {
  it('is refused when picture or optimizer differ', async () => {
    const { saved } = await runOf(jobOf({ steps: 1 }));
    for (const other of [{ width: 80 }, { parameters: 'maco' }, { optimizer: 'sgd' }])
      await expect(runOf(jobOf(other), { checkpoint: saved[0] })).rejects.toThrow('start the job anew');
    await expect(runOf(jobOf(), { checkpoint: saved[0].subarray(0, 50) })).rejects.toThrow('start the job anew');
  });
});

describe('texts', () => {
  const seenIn = async ({ pixels, width, height }: Imagined): Promise<Float32Array> =>
    (await lookAt(sessions, fake.hash, fake.eye, pixels, { width, height })).embedding;

  /** Cosine of the finished picture to each text. */
  async function cosines(fields: Record<string, unknown>, texts: readonly string[]): Promise<number[]> {
    const { result } = await runOf(jobOf({ steps: 25, objective: 'cos', ...fields }));
    const seen = await seenIn(result);
    return Promise.all(texts.map(async (text) => cosine(seen, await textOf(text))));
  }
  it('the result’s cos is that of the whole picture', async () => {
    const { result } = await runOf(jobOf());
    expect(result.cos).toBe(cosine(await seenIn(result), await textOf('nature')));
  });

  it('a negative text is left behind', async () => {
    const [[, without], [, with_]] = [
      await cosines({}, ['nature', 'dream']),
      await cosines({ negative: ['dream', 'dream'] }, ['nature', 'dream']),
    ];
    expect(with_).toBeLessThan(without - 0.005);
  });

  it('a weighted text pulls by its weight, either way', async () => {
    const found = [];
    for (const weight of [-2, 0, 2]) found.push((await cosines({ weighted: [{ text: 'xyz', weight }] }, ['xyz']))[0]);
    const [away, none, towards] = found;
    expect(away).toBeLessThan(none - 0.005);
    expect(towards).toBeGreaterThan(none + 0.005);
  });

  it('of weight 0 change nothing but rounding', async () => {
    const plain = await runOf(jobOf({ steps: 3 }));
    const more = await runOf(jobOf({ steps: 3, weighted: [{ text: 'xyz', weight: 0 }] }));
    expect(Math.abs(more.result.cos! - plain.result.cos!)).toBeLessThan(1e-3);
  });
});

describe('neurons and total variation', () => {
  it('a neuron is driven up by its weight, and down by a negative one', async () => {
    const activation = async (neurons: { unit: string; weight: number }[]) => {
      const { result } = await runOf(jobOf({ steps: 25, objective: 'cos', neurons: [...neurons, { unit: 'LLP-3', weight: 0 }] }));
      return result.neurons.find(({ channel }) => channel === 3)!.activation;
    };
    const still = await activation([]);
    expect(await activation([{ unit: 'LLP-3', weight: 3 }])).toBeGreaterThan(still);
    expect(await activation([{ unit: 'LLP-3', weight: -3 }])).toBeLessThan(still);
  });

  it('a neuron that the model does not have is named, with those it has', async () => {
    await expect(runOf(jobOf({ neurons: [{ unit: 'LLP-16', weight: 1 }] }))).rejects.toThrow(/LLP-16.*LLP-0 to LLP-15/);
    await expect(runOf(jobOf({ neurons: [{ unit: 'LLP-15', weight: 1 }], steps: 1 }))).resolves.toBeDefined();
  });

  it('total variation makes the picture smoother', async () => {
    const roughness = async (totalVariation: number) => {
      const { pixels, width } = (await runOf(jobOf({ steps: 25, totalVariation }))).result;
      return mean(Array.from(pixels.subarray(3 * width), (v, i) => Math.abs(v - pixels[i])));
    };
    expect(await roughness(10)).toBeLessThan(0.9 * (await roughness(0)));
  });
});

describe('canvases and starts', () => {
  it.each([
    ['fourier', 64, 96],
    ['pixels', 97, 65],
    ['maco', 65, 64],
    ['fourier', 99, 67],
    ['pixels', 64, 160],
  ] as const)('%s on %i x %i', async (parameters, width, height) => {
    const { result, steps } = await runOf(jobOf({ parameters, width, height, steps: 3 }));
    expect([result.width, result.height, result.pixels.length]).toEqual([width, height, 3 * width * height]);
    expect(steps[2].pixels.length).toBe(3 * width * height);
    expect(new Set(result.pixels).size).toBeGreaterThan(3);
  });

  it.each(['fourier', 'pixels'] as const)('%s begins with the picture that it is given', async (parameters) => {
    const [width, height] = [80, 64];
    const start = Float32Array.from({ length: 3 * width * height }, (_, i) => {
      const [c, y, x] = [Math.floor(i / (width * height)), Math.floor(i / width) % height, i % width];
      return 0.5 + 0.3 * Math.sin(x / 9 + c) * Math.cos(y / 7);
    });
    const { steps } = await runOf(jobOf({ parameters, width, height, steps: 1 }), { start });
    const shown = Array.from(start, (_, i) => steps[0].pixels[(i % (width * height)) * 3 + Math.floor(i / (width * height))] / 255);
    expect(mean(shown.map((v, i) => Math.abs(v - start[i])))).toBeLessThan(0.01);
  });
});

describe('a run that runs away', () => {
  const withEye = (hash: string, change: (...parts: Parameters<Eye['look']>) => ReturnType<Eye['look']>): BrivlModel => ({
    ...fake,
    hash,
    eye: { ...fake.eye, look: change },
  });

  it('says so with the step and the learning rate, when the loss is no number', async () => {
    const model = withEye('root of less than nothing', (g, pictures) => {
      const seen = fake.eye.look(g, pictures);
      return { ...seen, embedding: g.op('Sqrt', [g.sub(seen.embedding, g.scalar(5))]) };
    });
    const run = runOf(jobOf({ learningRate: 0.25 }), { model });
    await expect(run).rejects.toThrow(/ran away at step 1 .*lower the learning rate, which is 0.25/);
  });

  it('says so too when only the last move went nowhere', async () => {
    // Its value is fine, its slope is not: the root of nothing.
    const model = withEye('root of nothing', (g, pictures) => {
      const seen = fake.eye.look(g, pictures);
      const nothing = g.op('Sqrt', [g.scale(g.reduceMean(pictures, [1, 2, 3]), 0)]);
      return { ...seen, embedding: g.add(seen.embedding, g.reshape(nothing, [pictures.shape[0], 1])) };
    });
    for (const steps of [1, 2])
      await expect(runOf(jobOf({ steps, objective: 'cos' }), { model }).then(() => 'finished')).rejects.toThrow('ran away');
  });
});
