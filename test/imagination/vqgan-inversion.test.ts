import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import fc from 'fast-check';
import { afterAll, describe, expect, it } from 'vitest';
import { Graph, simplify, sizeOf } from '../../models/graph/index.js';
import { createRegistry } from '../../models/registry.js';
import { clampToPicture } from '../../models/vqgan/vqgan.js';
import { decodeCheckpoint } from '../../server/imagination/checkpoint.js';
import { latentMapOf, latentSpectrumOf, startOf } from '../../server/imagination/generator.js';
import { specOf, type ImagineInput } from '../../server/imagination/imagine.js';
import { cosine, embedText, lookAt } from '../../server/imagination/look.js';
import { objectives, weighted } from '../../server/imagination/objectives.js';
import { meanOf, remember, stretchOf } from '../../server/imagination/optimizers.js';
import { Random } from '../../server/imagination/random.js';
import { drawGraph, stepGraph } from '../../server/imagination/step.js';
import { cutViews, viewInputs, viewPlans, ViewSampler, viewsOfRun } from '../../server/imagination/views.js';
import { job as jobSchema, jobRequest, storedJob, type Job } from '../../server/jobs/job.js';
import { randomStream, relativeError, run } from '../graph/session.js';
import { digest, drawingByTokens, fake, jobOf, randomGenerator } from './fake.js';

const { generator, sessions, runOf, release } = drawingByTokens();
afterAll(release);

const canvas = { width: 72, height: 64 };
const latentMap = latentMapOf(generator);
const shape = latentMap.shape(canvas);
const size = sizeOf(shape);
const { config, codebook, channelRange } = generator;
const positions = size / config.embedDim;

const inversion = (fields: Record<string, unknown> = {}): Job =>
  jobOf({ method: 'vqgan', latents: 'map', ...canvas, steps: 5, ...fields });

/** The latent maps after each move of a run that shows no mean. */
async function pathOf(fields: Record<string, unknown> = {}, input: Partial<ImagineInput> = {}): Promise<Float32Array[]> {
  const { saved } = await runOf(inversion({ average: 0, ...fields }), input);
  const extras = fields.anchorTo === 'start' ? (['start'] as const) : [];
  return saved.map((bytes) => decodeCheckpoint(bytes, size, 2, extras).parameters);
}

/** The code at each position of a latent map that is nearest, in float64. */
const nearestCodes = (z: ArrayLike<number>): number[] =>
  Array.from({ length: positions }, (_, p) => {
    const distances = Array.from({ length: config.codes }, (_, code) => {
      let sum = 0;
      for (let c = 0; c < config.embedDim; c++) sum += (z[c * positions + p] - codebook[code * config.embedDim + c]) ** 2;
      return sum;
    });
    return distances.indexOf(Math.min(...distances));
  });

const latentOf = (codes: readonly number[]): Float32Array =>
  Float32Array.from({ length: size }, (_, i) => codebook[codes[i % positions] * config.embedDim + Math.floor(i / positions)]);

/** A latent map somewhere in the box of the codebook, on no code. */
function somewhere(seed: number): Float32Array {
  const random = randomStream(seed);
  return Float32Array.from({ length: size }, (_, i) => {
    const channel = Math.floor(i / positions);
    return channelRange.low[channel] + random() * (channelRange.high[channel] - channelRange.low[channel]);
  });
}

const picture = Float32Array.from({ length: 3 * canvas.width * canvas.height }, (_, i) => 0.5 + 0.4 * Math.sin(i / 37));

describe('the step graph', () => {
  /** Feeds of one run for a spec of `views`, whose view inputs are those of `run` among `runs`. */
  function feedsOf(views: number, parameters: Float32Array) {
    const sampler = new ViewSampler(viewPlans.vqgan, canvas, views, fake.eye.size, new Random(1));
    const random = randomStream(9);
    const text = Float32Array.from({ length: fake.eye.embed }, () => random() - 0.5);
    const length = Math.hypot(...text);
    return {
      sampled: sampler.sample(new Random(2)),
      feeds: {
        parameters,
        slot0: new Float32Array(size),
        slot1: new Float32Array(size),
        scalar0: [0.1],
        scalar1: [10],
        scalar2: [1000],
        texts: text.map((v) => v / length),
        weights: [1],
        anchorWeight: [0],
        gradient: new Float32Array(size),
      },
    };
  }

  it('has the decoder’s gradient at the nearest codes: finite differences agree', async () => {
    const at = somewhere(3);
    const job = inversion({ views: 4, batch: 2, objective: 'cos', totalVariation: 0 });
    const spec = specOf(job, 1, 'cpu');
    const { sampled, feeds } = feedsOf(2, at);
    const out = await run(stepGraph(spec, fake.eye, latentMap), { ...feeds, ...sampled });
    const gradient = out["gradient'"].data;
    // The loss as a function of a map that is decoded as it is.
    const g = new Graph();
    const z = g.input('z', shape);
    const inputs = viewInputs(g, 2, fake.eye.size, canvas);
    const drawn = g.reshape(clampToPicture(g, generator.decode(g, z)), [3, canvas.height, canvas.width]);
    const seen = fake.eye.look(g, cutViews(g, drawn, inputs));
    g.output('loss', weighted(g, objectives.cos(g, seen, g.input('texts', [1, fake.eye.embed])), g.input('weights', [1])));
    const forward = simplify(g);
    const lossAt = async (map: ArrayLike<number>) =>
      (await run(forward, { z: map, texts: feeds.texts, weights: feeds.weights, ...sampled })).loss.data[0];
    const codes = latentOf(nearestCodes(at));
    expect(out.loss.data[0]).toBeCloseTo(await lossAt(codes), 5);
    // It is not the gradient where z is.
    expect(Math.abs(out.loss.data[0] - (await lossAt(at)))).toBeGreaterThan(1e-4);
    for (const seed of [1, 2, 3]) {
      const random = randomStream(seed);
      const direction = Array.from({ length: size }, (_, i) => Math.sign(gradient[i]) * random());
      const step = 0.003;
      const moved = (by: number) => lossAt(Array.from(codes, (v, i) => v + by * direction[i]));
      const difference = ((await moved(step)) - (await moved(-step))) / (2 * step);
      const slope = direction.reduce((sum, d, i) => sum + d * gradient[i], 0);
      expect(Math.abs(slope / difference - 1)).toBeLessThan(0.02);
    }
  });

  it('adds up gradients over batches of views to that of all views at once', async () => {
    const at = somewhere(4);
    const graphOf = (batch: number) => stepGraph(specOf(inversion({ views: 8, batch }), 1, 'cpu'), fake.eye, latentMap);
    const { sampled, feeds } = feedsOf(4, at);
    const whole = await run(graphOf(4), { ...feeds, ...sampled });
    let sum: number[] = [...feeds.gradient];
    const losses = [];
    for (const part of [0, 1]) {
      const out = await run(graphOf(2), { ...feeds, ...viewsOfRun(sampled, part, 2), gradient: sum });
      sum = out["gradient'"].data;
      losses.push(out.loss.data[0]);
    }
    const average = sum.map((v) => v / 2);
    expect(relativeError(average, whole["gradient'"].data)).toBeLessThan(1e-5);
    expect((losses[0] + losses[1]) / 2).toBeCloseTo(whole.loss.data[0], 5);
  });

  it('keeps moved maps in the box of the codebook', async () => {
    const last = (await pathOf({ learningRate: 50 })).at(-1)!;
    const touched = Array.from(last, (v, i) => {
      const channel = Math.floor(i / positions);
      expect(v).toBeGreaterThanOrEqual(channelRange.low[channel]);
      expect(v).toBeLessThanOrEqual(channelRange.high[channel]);
      return v === channelRange.low[channel] || v === channelRange.high[channel];
    });
    expect(touched.filter(Boolean).length).toBeGreaterThan(size / 2);
  });

  it('is held near zero, or near the start, by the anchor', async () => {
    const start = await startMap(inversion());
    const lengthOf = (values: Float32Array) => Math.hypot(...values);
    const distanceOf = (values: Float32Array) => Math.hypot(...values.map((v, i) => v - start[i]));
    const [free, zero, near] = [
      await pathOf({ steps: 20 }),
      await pathOf({ steps: 20, anchor: 100 }),
      await pathOf({ steps: 20, anchor: 100, anchorTo: 'start' }),
    ].map((path) => path[17]);
    expect(lengthOf(zero)).toBeLessThan(0.8 * lengthOf(free));
    expect(distanceOf(near)).toBeLessThan(0.8 * distanceOf(free));
  });
});

/** The latent map that a run begins with. */
async function startMap(job: Job, input: Partial<ImagineInput> = {}): Promise<Float32Array> {
  let saved: Uint8Array | undefined;
  await runOf(
    { ...job, average: 0, anchor: undefined },
    { ...input },
    { canceled: () => true, between: (save) => void (saved = save()) },
  );
  return decodeCheckpoint(saved!, size, 2).parameters;
}

describe('starts', () => {
  it('a picture begins with the tokens that the encoder gives it', async () => {
    const g = new Graph();
    const input = g.input('picture', [1, 3, canvas.height, canvas.width]);
    g.output('codes', generator.tokens(g, generator.encode(g, input)).codes);
    const { codes } = await run(simplify(g), { picture });
    const { steps } = await runOf(inversion({ steps: 1 }), { start: picture });
    expect(steps[0].tokens).toEqual({ rows: 16, columns: 18, codebook: config.codes, codes: codes.data });
    expect(new Set(codes.data).size).toBeGreaterThan(1);
  });

  it.each(['smooth', 'codes'] as const)('%s: codes, by the seed alone', async (start) => {
    const first = await startMap(inversion({ start }));
    expect(first).toEqual(latentOf(nearestCodes(first)));
    expect(await startMap(inversion({ start, text: 'time' }))).toEqual(first);
    expect(await startMap(inversion({ start, seed: 2 }))).not.toEqual(first);
  });

  it('of several tries the nearest to the text is taken', async () => {
    const [main, starts] = [(await embedText(sessions, fake, 'nature')).embedding, [] as Float32Array[]];
    const random = new Random(1);
    for (let i = 0; i < 4; i++) starts.push(await startOf(sessions, generator, canvas, 'codes', random));
    const drawer = await sessions.runner('by hand', () => drawGraph(canvas, latentMap));
    const scores: number[] = [];
    for (const parameters of starts) {
      const { preview } = await drawer.run({ parameters });
      scores.push(cosine((await lookAt(sessions, fake.hash, fake.eye, preview as Uint8Array, canvas)).embedding, main));
    }
    const best = starts[scores.indexOf(Math.max(...scores))];
    expect(await startMap(inversion({ start: 'codes', tries: 4 }))).toEqual(best);
    expect(await startMap(inversion({ start: 'codes' }))).toEqual(starts[0]);
    expect(best).not.toBe(starts[0]);
  });

  it('grey: nearly the mean of what is usual, by the seed alone', async () => {
    const first = await startMap(inversion({ start: 'grey' }));
    const { mean, axes } = generator.natural();
    const d = config.embedDim;
    for (let c = 0; c < d; c++) {
      const width = Math.hypot(...axes.subarray(c * d, (c + 1) * d));
      for (const v of first.subarray(c * positions, (c + 1) * positions))
        expect(Math.abs(v - mean[c])).toBeLessThan(0.06 * width + 1e-6);
    }
    expect(await startMap(inversion({ start: 'grey', seed: 2 }))).not.toEqual(first);
  });

  it('random codes are spread over the codebook', async () => {
    const codes = new Set<number>();
    for (const seed of [1, 2, 3])
      for (const code of nearestCodes(await startMap(inversion({ start: 'codes', seed })))) codes.add(code);
    expect(codes.size).toBeGreaterThan(20);
  });
});

describe('the spectrum of the latent map', () => {
  const spectrum = latentSpectrumOf(generator);
  const { mean, axes, decay } = generator.natural();
  const d = config.embedDim;
  const [h, w] = [canvas.height / 4, canvas.width / 4];

  /** In float64, by the definition: every frequency's wave, its amplitude f^-decay, its axis. */
  function mapOf(parameters: ArrayLike<number>): number[] {
    const half = Math.floor(w / 2) + 1;
    const along = Array.from({ length: d }, (_, k) => {
      const bins = Array.from({ length: h * half }, (_, i) => {
        const [row, column] = [Math.floor(i / half), i % half];
        const f = Math.max(Math.hypot((2 * row < h ? row : row - h) / h, column / w), 1 / Math.max(h, w));
        const own = column === 0 || 2 * column === w;
        const at = (part: number) => parameters[(part * d + k) * h * half + i] * f ** -decay[k];
        return { row, column, times: own ? 1 : 2, re: at(0), im: at(1), variance: (own ? 2 : 4) * f ** (-2 * decay[k]) };
      });
      const gain = 1 / Math.sqrt(bins.reduce((sum, { variance }) => sum + variance, 0));
      return Array.from({ length: h * w }, (_, p) =>
        bins.reduce((sum, { row, column, times, re, im }) => {
          const angle = 2 * Math.PI * ((row * Math.floor(p / w)) / h + (column * (p % w)) / w);
          return sum + gain * times * (re * Math.cos(angle) - im * Math.sin(angle));
        }, 0),
      );
    });
    return Array.from({ length: size }, (_, i) => {
      const [c, p] = [Math.floor(i / positions), i % positions];
      return along.reduce((sum, one, k) => sum + axes[c * d + k] * one[p], mean[c]);
    });
  }

  /** The picture of a map that is decoded as it is. */
  async function decoded(map: ArrayLike<number>): Promise<number[]> {
    const g = new Graph();
    g.output('picture', clampToPicture(g, generator.decode(g, g.input('z', shape))));
    return (await run(simplify(g), { z: map })).picture.data;
  }

  async function drawn(parameters: ArrayLike<number>): Promise<number[]> {
    const g = new Graph();
    g.output('picture', spectrum.unquantized.draw(g, g.input('z', spectrum.shape(canvas)), canvas).picture);
    return (await run(simplify(g), { z: parameters })).picture.data;
  }

  const random = randomStream(5);
  const parameters = Float32Array.from({ length: sizeOf(spectrum.shape(canvas)) }, () => random() - 0.5);

  it('stands for the map that its waves add up to', async () => {
    expect(relativeError(await drawn(parameters), await decoded(mapOf(parameters)))).toBeLessThan(1e-4);
  });

  it('has parameters for every map', async () => {
    const map = somewhere(6);
    expect(relativeError(await drawn(spectrum.parametersOf(map, canvas)), await decoded(map))).toBeLessThan(1e-4);
    expect(relativeError(mapOf(spectrum.parametersOf(map, canvas)), map)).toBeLessThan(1e-4);
  });

  it('of normal numbers is a map that varies as is usual', () => {
    const [many, normal] = [new Float64Array(d), new Random(2)];
    const draws = 12;
    for (let n = 0; n < draws; n++)
      mapOf(Float32Array.from(parameters, () => normal.normal())).forEach((v, i) => {
        const c = Math.floor(i / positions);
        many[c] += (v - mean[c]) ** 2 / positions / draws;
      });
    many.forEach((variance, c) => {
      const usual = Math.hypot(...axes.subarray(c * d, (c + 1) * d));
      expect(Math.sqrt(variance) / usual).toBeGreaterThan(0.6);
      expect(Math.sqrt(variance) / usual).toBeLessThan(1.5);
    });
  });

  it('comes nearer to its text; several lie on one sheet as they lie alone', async () => {
    const { result } = await runOf(inversion({ latents: 'spectrum', steps: 40, views: 4 }));
    const curve = result.curve.map(({ cos }) => cos!);
    expect(curve.at(-1)!).toBeGreaterThan(curve[0] + 0.02);
    expect(result.unquantized).toBeDefined();
    const g = new Graph();
    const [one, two] = spectrum.drawAll!(g, g.input('both', [2, ...spectrum.shape(canvas)]), canvas);
    g.output('one', one.picture);
    g.output('two', two.picture);
    const other = parameters.map((v) => -v);
    const out = await run(simplify(g), { both: [...parameters, ...other] });
    const single = new Graph();
    single.output('picture', spectrum.draw(single, single.input('z', spectrum.shape(canvas)), canvas).picture);
    for (const [name, alone] of [
      ['one', parameters],
      ['two', other],
    ] as const)
      // prettier-ignore
      expect(relativeError(out[name].data, (await run(simplify(single), { z: alone })).picture.data)).toBeLessThan(1e-5);
  });
});

describe('a run', () => {
  it.each(['cos', 'dot-cos', 'spherical'])('comes nearer to its text by %s', async (objective) => {
    const { result } = await runOf(inversion({ steps: 40, objective, views: 4 }));
    const curve = result.curve.map(({ cos }) => cos!);
    const mean = (values: number[]) => values.reduce((a, b) => a + b) / values.length;
    expect(mean(curve.slice(-5))).toBeGreaterThan(mean(curve.slice(0, 2)) + 0.02);
  });

  it('gives the same bytes again, other bytes for another seed, and tells its generator', async () => {
    const [first, again, other] = [await runOf(inversion()), await runOf(inversion()), await runOf(inversion({ seed: 2 }))];
    expect(digest(again.result.pixels)).toBe(digest(first.result.pixels));
    expect(again.result.tokens).toEqual(first.result.tokens);
    expect(again.result.curve).toEqual(first.result.curve);
    expect(digest(other.result.pixels)).not.toBe(digest(first.result.pixels));
    expect(first.result.generator).toEqual({ name: 'vqgan-fake', hash: generator.hash });
  });

  it.each([
    {},
    { average: 0 },
    { restarts: 2, schedule: 'cosine', average: 0.99 },
    { anchor: 2, anchorTo: 'start', restarts: 1 },
    { views: 4, batch: 2, optimizer: 'nadam' },
    { latents: 'spectrum' },
  ])('goes on from every checkpoint to the same bytes: %j', async (fields) => {
    const job = inversion({ ...fields, steps: 6 });
    const whole = await runOf(job);
    for (const [i, checkpoint] of whole.saved.entries()) {
      const rest = await runOf(job, { checkpoint });
      expect(rest.steps.map(({ step }) => step)).toEqual([0, 1, 2, 3, 4, 5].slice(i + 1));
      expect(rest.steps.map(({ pixels }) => digest(pixels))).toEqual(whole.steps.slice(i + 1).map(({ pixels }) => digest(pixels)));
      expect(digest(rest.result.pixels)).toBe(digest(whole.result.pixels));
      expect(rest.result.curve).toEqual(whole.result.curve);
      expect(rest.result.tokens).toEqual(whole.result.tokens);
    }
  });

  it('refuses a checkpoint that lacks what it needs', async () => {
    const { saved } = await runOf(inversion({ average: 0, steps: 1 }));
    await expect(runOf(inversion(), { checkpoint: saved[0] })).rejects.toThrow('start the job anew');
  });

  it('shows the mean of its latent maps, and draws it from the tokens that it tells', async () => {
    const decay = 0.8;
    const maps = [await startMap(inversion()), ...(await pathOf())];
    const { steps, result } = await runOf(inversion({ average: decay }));
    const means = maps.map((_, n) => {
      const weights = maps.slice(0, n + 1).map((__, i) => decay ** (n - i));
      const total = weights.reduce((a, b) => a + b);
      return Array.from({ length: size }, (__, k) => weights.reduce((sum, w, i) => sum + w * maps[i][k], 0) / total);
    });
    const shown = [...steps.map(({ tokens }) => tokens?.codes), result.tokens!.codes];
    // At every second step, and where it is asked about.
    expect(shown).toEqual(means.map((z, step) => (step === 1 || step === 3 ? undefined : nearestCodes(z))));
    expect(steps.map(({ pixels }) => pixels.length > 0)).toEqual([true, false, true, false, true]);
    expect(result.tokens).toMatchObject({ rows: 16, columns: 18, codebook: config.codes });
    const { preview } = await sessions
      .runner('by hand', () => drawGraph(canvas, latentMap))
      .then((drawer) => drawer.run({ parameters: latentOf(result.tokens!.codes) }));
    expect(digest(preview as Uint8Array)).toBe(digest(result.pixels));
  });

  it('shows the latest where no mean is asked for', async () => {
    const maps = [await startMap(inversion()), ...(await pathOf())];
    const { steps, result } = await runOf(inversion({ average: 0 }));
    expect([...steps.map(({ tokens }) => tokens), result.tokens].map((tokens) => tokens!.codes)).toEqual(maps.map(nearestCodes));
  });

  it('also draws the finished picture from the map itself; where that is codes it is the same picture', async () => {
    const last = (await pathOf()).at(-1)!;
    const { result } = await runOf(inversion({ average: 0 }));
    const drawer = await sessions.runner('unquantized by hand', () => drawGraph(canvas, latentMap.unquantized));
    const drawn = async (parameters: Float32Array) => digest((await drawer.run({ parameters })).preview as Uint8Array);
    expect(digest(result.unquantized!)).toBe(await drawn(last));
    expect(digest(result.unquantized!)).not.toBe(digest(result.pixels));
    expect(await drawn(latentOf(result.tokens!.codes))).toBe(digest(result.pixels));
    const { result: canceled } = await runOf(inversion(), {}, { canceled: () => true });
    expect(canceled.unquantized).toBeUndefined();
  });

  it('in batches of views is the run of all views but for rounding', async () => {
    const runs = [await runOf(inversion({ views: 4, steps: 1 })), await runOf(inversion({ views: 4, batch: 1, steps: 1 }))];
    const [whole, parts] = runs.map(({ result }) => result.curve[0].cos!);
    expect(Math.abs(whole - parts)).toBeLessThan(1e-5);
    const feavis = [jobOf({ views: 4, steps: 1 }), jobOf({ views: 4, batch: 2, steps: 1 })];
    const [one, two] = [await runOf(feavis[0]), await runOf(feavis[1])].map(({ result }) => result.curve[0].cos!);
    expect(Math.abs(one - two)).toBeLessThan(1e-5);
  });

  it('begins Adam anew at each restart', async () => {
    const learningRate = 0.01;
    const path = await pathOf({ steps: 4, restarts: 1, learningRate, totalVariation: 0 });
    const moves = path.map((z, i) => (i ? z.map((v, k) => Math.abs(v - path[i - 1][k])) : z));
    // Adam's first move is the learning rate, whatever the gradient, where the box does not stop it.
    const whole = (move: Float32Array) => move.filter((v) => Math.abs(v - learningRate) < 1e-4).length / size;
    expect(whole(moves[2])).toBeGreaterThan(0.75);
    expect(whole(moves[3])).toBeLessThan(0.5);
  });

  it('has no tokens by another method', async () => {
    const { steps, result } = await runOf(jobOf({ steps: 1 }));
    expect('tokens' in steps[0] || 'tokens' in result || 'generator' in result || 'unquantized' in result).toBe(false);
  });
});

describe('what does not fit', () => {
  it('a canvas that is no multiple of the downsampling, with the nearest that is', async () => {
    await expect(runOf(inversion({ width: 66 }))).rejects.toThrow(
      'vqgan-fake draws pictures whose sides are multiples of 4, and 66 x 64 is none: take 68 x 64',
    );
  });

  it('a job without its generator', async () => {
    await expect(runOf(inversion(), { generator: undefined })).rejects.toThrow('the method vqgan needs a generator');
  });

  it.each([
    [{ method: 'vqgan', size: '300x260' }, 'both sides must be multiples of 8, and 300 x 260 are not: take 304 x 264'],
    [{ method: 'vqgan', parameters: 'maco' }, 'the parameters of vqgan are its tokens, not maco: leave parameters out'],
    [{ method: 'vqgan', init: 'a'.repeat(64), start: 'codes' }, 'give init or start'],
    [{ method: 'vqgan', init: 'a'.repeat(64), tries: 4 }, 'give init or tries'],
    [{ method: 'vqgan', anchorTo: 'start' }, 'give anchor a weight too'],
    [{ method: 'vqgan', restarts: 10, steps: 10 }, '10 restarts do not fit into 10 steps'],
    [{ method: 'vqgan', start: 'noise' }, 'the start must be one of smooth, codes'],
    [{ method: 'vqgan', average: 1 }, 'average must be at most 0.999'],
    [{ generator: 'vqgan-nano' }, 'generator belongs to the method vqgan: set it, or leave generator out'],
    [{ restarts: 2 }, 'restarts belongs to the method vqgan'],
    [{ views: 8, batch: 3 }, '8 views cannot be looked at 3 at a time: batch must divide views'],
  ])('the job %j', (fields, message) => {
    const parsed = jobRequest.safeParse({ text: 'nature', ...fields });
    expect(parsed.error?.issues.map((issue) => issue.message).join()).toContain(message);
  });
});

describe('jobs', () => {
  it('for vqgan are 256 pixels and name their generator; asked for again they are the same', () => {
    const asked = jobRequest.parse({ text: 'nature', method: 'vqgan' });
    expect(asked).toMatchObject({ width: 256, height: 256, generator: 'vqgan-nano' });
    expect(JSON.stringify(jobRequest.parse(asked))).toBe(JSON.stringify(asked));
    expect(jobRequest.parse({ text: 'nature', method: 'vqgan', size: 64 })).toMatchObject({ width: 64, height: 64 });
  });

  it('of an earlier version still read, without fields that they had no word for', () => {
    const earlier = { text: 'nature', method: 'feavis', parameters: 'fourier', width: 224, height: 224, seed: 3, gone: true };
    const now = storedJob.parse(earlier);
    expect(now).toEqual(jobSchema.parse({ text: 'nature', seed: 3 }));
    expect('generator' in now).toBe(false);
  });
});

describe('the registry', () => {
  const root = mkdtempSync(join(tmpdir(), 'reverie-registry-'));
  afterAll(() => rmSync(root, { recursive: true }));
  const imported = join(root, 'imported');

  it('tells VQGANs from encoders, and says which there are', () => {
    const registry = createRegistry(root, imported);
    expect(registry.generators()).toEqual([]);
    expect(() => registry.openGenerator('vqgan-nano')).toThrow(
      `there is no generator vqgan-nano: put a VQGAN's folder into ${imported}`,
    );
    for (const name of ['painter', 'reader', 'broken']) mkdirSync(join(imported, name), { recursive: true });
    randomGenerator(join(imported, 'painter')).close();
    writeFileSync(join(imported, 'reader', 'config.json'), '{"image": {}}');
    writeFileSync(join(imported, 'broken', 'config.json'), '{');
    expect(registry.generators()).toEqual(['painter']);
    expect(registry.names().sort()).toEqual(['brivl-nano', 'broken', 'reader']);
    expect(() => registry.openGenerator('reader')).toThrow('there is no generator reader: there is painter');
    const opened = registry.openGenerator('painter');
    expect(opened.hash).toBe(generator.hash);
    expect(registry.openGenerator('painter')).toBe(opened);
    opened.close();
  });

  it('has the bundled generator once it is there', () => {
    const nano = join(root, 'models/vqgan/nano');
    mkdirSync(nano, { recursive: true });
    randomGenerator(nano).close();
    const registry = createRegistry(root);
    expect(registry.generators()).toEqual(['vqgan-nano']);
    registry.openGenerator('vqgan-nano').close();
  });
});

describe('stretches between restarts', () => {
  it('are equal to one step, and cover all steps', () => {
    fc.assert(
      fc.property(fc.integer({ min: 1, max: 300 }), fc.nat(40), (steps, asked) => {
        const restarts = Math.min(asked, steps - 1);
        const found = Array.from({ length: steps }, (_, step) => stretchOf(step, steps, restarts));
        const begins = new Set(found.map(({ begin }) => begin));
        expect(begins.size).toBe(restarts + 1);
        found.forEach(({ begin, length }, step) => {
          expect(step - begin).toBeGreaterThanOrEqual(0);
          expect(step - begin).toBeLessThan(length);
          expect(Math.abs(length - steps / (restarts + 1))).toBeLessThan(1);
        });
      }),
    );
  });
});

describe('the moving mean', () => {
  it('of one array is that array, of equal arrays is what they are', () => {
    const values = Float32Array.of(1.5, -3, 0);
    let sum = remember(null, values, 0.9);
    expect(relativeError(meanOf(sum, 1, 0.9), values)).toBeLessThan(1e-6);
    for (let i = 0; i < 20; i++) sum = remember(sum, values, 0.9);
    expect(relativeError(meanOf(sum, 21, 0.9), values)).toBeLessThan(1e-6);
  });
});
