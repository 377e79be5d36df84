import { mkdtempSync, readdirSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, describe, expect, it } from 'vitest';
import { percentile, readStatistics, statisticsFile, summarize, type ChannelStatistics } from '../../models/brivl/statistics.js';
import type { BrivlModel } from '../../models/brivl/model.js';
import { Graph } from '../../models/graph/index.js';
import { openWeights } from '../../models/weights/weights.js';
import { createRunner } from '../../server/compute/sessions.js';
import { copied, sheetOf } from '../../server/imagination/copies.js';
import { specOf, type ImagineInput, type Watcher } from '../../server/imagination/imagine.js';
import { cosine, embedText, lookAt } from '../../server/imagination/look.js';
import { optimizers } from '../../server/imagination/optimizers.js';
import { parametrizations as drawing } from '../../server/imagination/parameters.js';
import { Random } from '../../server/imagination/random.js';
import { bundledPhotographs, createStatistics, measureStatistics } from '../../server/imagination/statistics.js';
import { stepGraph } from '../../server/imagination/step.js';
import { ViewSampler, viewPlans } from '../../server/imagination/views.js';
import { parametrizations, type Job } from '../../server/jobs/job.js';
import { randomStream, run, sessionOptions } from '../graph/session.js';
import { digest, drawingByTokens, fake, jobOf, recordRun, sessionsInMemory } from './fake.js';

const sessions = sessionsInMemory();
const folder = mkdtempSync(join(tmpdir(), 'reverie-statistics-'));
afterAll(async () => {
  await sessions.release();
  rmSync(folder, { recursive: true });
});

const runOf = (job: Job, input: Partial<ImagineInput> = {}, watcher: Watcher = {}) =>
  recordRun(sessions, { job, model: fake, ...input }, watcher);

const mean = (values: readonly number[]): number => values.reduce((a, b) => a + b) / values.length;

/** The maps of the fake eye for a picture [64, 64, 3], by a graph of its own: halved by the mean of four, which is what stretching it does. */
async function mapsOf(pixels: Uint8Array) {
  const [side, size] = [64, fake.eye.size];
  const halved = Float32Array.from({ length: 3 * size * size }, (_, i) => {
    const [c, y, x] = [Math.floor(i / (size * size)), Math.floor(i / size) % size, i % size];
    // A triangle of four taps, as antialiased bilinear shrinking by two is.
    const taps = (o: number) => [-1, 0, 1, 2].map((d) => ({ at: 2 * o + d, weight: [1, 3, 3, 1][d + 1] })).filter(({ at }) => at >= 0 && at < side); // prettier-ignore
    let [sum, total] = [0, 0];
    for (const { at: v, weight: a } of taps(y))
      for (const { at: u, weight: b } of taps(x)) {
        sum += a * b * pixels[3 * (v * side + u) + c];
        total += a * b;
      }
    return sum / total / 255;
  });
  const g = new Graph();
  const seen = fake.eye.look(g, g.input('x', [1, 3, size, size]));
  for (const [name, map] of seen.layers) g.output(name, map);
  const runner = await createRunner(g, 'cpu', sessionOptions);
  const out = await runner.run({ x: halved });
  await runner.release();
  const read = (layer: string, channel: number) => {
    const { shape } = seen.layers.get(layer)!;
    const [, , h, w] = shape;
    const map = out[layer].subarray(channel * h * w, (channel + 1) * h * w) as Float32Array;
    return { map, h, w };
  };
  return read;
}

describe('neurons of any layer', () => {
  const own: BrivlModel['statistics'] = fake.statistics;

  it('are read from the finished picture: its mean over the map, or a place of it', async () => {
    const names = ['LLP-3', 'stem/ch-5', 'LLP-3@centre', 'LLP-7@1,6', 'LLP-0'];
    const spots = (layer: string) => own.get(layer)!;
    const { result } = await runOf(jobOf({ neurons: names.map((unit) => ({ unit, weight: 1 })) }), {
      statistics: (_, { layer }) => Promise.resolve(spots(layer)),
    });
    const read = await mapsOf(result.pixels);
    const at = (channel: number, y: number, x: number) => read('LLP', channel).map[y * read('LLP', channel).w + x];
    const expected = [
      mean([...read('LLP', 3).map]),
      mean([...read('stem', 5).map]),
      at(3, Math.floor(read('LLP', 3).h / 2), Math.floor(read('LLP', 3).w / 2)),
      at(7, 1, 6),
      mean([...read('LLP', 0).map]),
    ];
    expect(result.neurons.map(({ unit, layer, channel }) => [unit, layer, channel])).toEqual([
      ['LLP-3', 'LLP', 3],
      ['stem/ch-5', 'stem', 5],
      ['LLP-3@centre', 'LLP', 3],
      ['LLP-7@1,6', 'LLP', 7],
      ['LLP-0', 'LLP', 0],
    ]);
    result.neurons.forEach(({ layer, channel, activation, percentile: share }, i) => {
      expect(activation).toBeCloseTo(expected[i], 4);
      expect(share).toBe(percentile(spots(layer).quantiles, channel, activation));
    });
  });

  it.each(['LLP-3', 'stem/ch-5', 'LLP-5@centre', 'LLP-5@2,1'])(
    '%s is driven up by its weight, and down by a negative one',
    async (unit) => {
      const activation = async (weight: number) => {
        const job = jobOf({ steps: 25, objective: 'cos', neurons: [{ unit, weight }] });
        const { result } = await runOf(job, { statistics: (_, { layer }) => Promise.resolve(own.get(layer)!) });
        return result.neurons[0].activation;
      };
      const still = await activation(0);
      expect(await activation(3)).toBeGreaterThan(still);
      expect(await activation(-3)).toBeLessThan(still);
    },
  );

  it('weigh in deviations: equal weights pull a channel that varies less the harder', async () => {
    const varying = (channel: number, deviation: number): BrivlModel['statistics'] => {
      const statistics = own.get('LLP')!;
      const deviations = statistics.deviations.slice();
      deviations[channel] = deviation;
      return new Map([['LLP', { ...statistics, deviations }]]);
    };
    const drawn = async (weight: number, deviation: number) =>
      digest((await runOf(jobOf({ neurons: [{ unit: 'LLP-3', weight }] }), { model: { ...fake, statistics: varying(3, deviation) } })).result.pixels); // prettier-ignore
    expect(await drawn(2, 0.5)).toBe(await drawn(4, 1));
    expect(await drawn(2, 0.5)).not.toBe(await drawn(2, 1));
  });

  it('that a model does not have are refused with those it has, before anything is drawn', async () => {
    const refused = (unit: string) => expect(runOf(jobOf({ neurons: [{ unit, weight: 1 }] }))).rejects;
    await refused('LLP-16').toThrow(/LLP-16.*LLP-0 to LLP-15/);
    await refused('stem/ch-8').toThrow('stem/ch-8: its neurons are stem/ch-0 to stem/ch-7');
    await refused('block9.9/ch-0').toThrow(/no layer "block9.9": its layers are stem, LLP/);
    const statistics = () => Promise.resolve(own.get('LLP')!);
    const far = runOf(jobOf({ neurons: [{ unit: 'LLP-0@8,0', weight: 1 }] }), { statistics });
    await expect(far).rejects.toThrow('the rows of LLP are 0 to 7, its columns 0 to 7');
  });

  it('share graphs: other channels and weights of the same sites need none of their own', async () => {
    const job = (unit: string, weight: number) => jobOf({ steps: 1, neurons: [{ unit, weight }] });
    await runOf(job('LLP-1', 1));
    const built = sessions.built.length;
    await runOf(job('LLP-2', -4));
    expect(sessions.built.length).toBe(built);
  });
});

describe('a job without a text', () => {
  const alone = { text: '', neurons: [{ unit: 'LLP-3', weight: 2 }], steps: 12 };

  it('is drawn for its neurons alone: no cos anywhere, the percentile in its place', async () => {
    const begun: unknown[] = [];
    const { result, steps } = await runOf(jobOf(alone), {}, { begun: ({ textConcepts }) => begun.push(textConcepts) });
    expect(begun).toEqual([[]]);
    expect([result.cos, result.secondOpinion]).toEqual([null, null]);
    expect(result.pictureConcepts).toHaveLength(10);
    expect(result.curve.map(({ step, cos }) => [step, cos])).toEqual(Array.from({ length: 12 }, (_, i) => [i, null]));
    for (const { percentile: share } of result.curve) expect(share! >= 0 && share! <= 100).toBe(true);
    expect(steps.map(({ percentile: share }) => share)).toEqual(result.curve.map(({ percentile: share }) => share));
    const before = await runOf(jobOf({ ...alone, steps: 1 }));
    expect(result.neurons[0].activation).toBeGreaterThan(before.result.neurons[0].activation);
    expect(result.curve.at(-1)!.percentile).toBeGreaterThan(result.curve[0].percentile!);
  });

  it('may have texts to move away from, and goes on from a checkpoint to the same bytes', async () => {
    const job = jobOf({ ...alone, steps: 4, negative: ['people'] });
    const whole = await runOf(job);
    expect(whole.result.cos).toBeNull();
    expect(digest(whole.result.pixels)).not.toBe(digest((await runOf(jobOf({ ...alone, steps: 4 }))).result.pixels));
    for (const checkpoint of whole.saved) {
      const rest = await runOf(job, { checkpoint });
      expect(digest(rest.result.pixels)).toBe(digest(whole.result.pixels));
      expect(rest.result.curve).toEqual(whole.result.curve);
    }
  });
});

describe('from one text to another', () => {
  it('the picture moves along their difference, and cos is along it', async () => {
    const text = async (of: string) => (await embedText(sessions, fake, of)).embedding;
    const [to, from] = [await text('nature'), await text('dream')];
    const difference = to.map((v, i) => v - from[i]);
    const { result } = await runOf(jobOf({ from: 'dream', steps: 30, objective: 'cos' }));
    const { embedding } = await lookAt(sessions, fake.hash, fake.eye, result.pixels, { width: 64, height: 64 });
    expect(result.cos).toBeCloseTo(cosine(embedding, difference), 5);
    const plain = await runOf(jobOf({ steps: 30, objective: 'cos' }));
    const seen = await lookAt(sessions, fake.hash, fake.eye, plain.result.pixels, { width: 64, height: 64 });
    expect(result.cos!).toBeGreaterThan(cosine(seen.embedding, difference));
  });

  it('that are one to the model lead nowhere', async () => {
    await expect(runOf(jobOf({ text: 'ab', from: 'ba' }))).rejects.toThrow(/"ab" and "ba" are the same to the model/);
  });
});

describe('with a VQGAN', () => {
  const tokens = drawingByTokens();
  afterAll(() => tokens.release());
  const vqgan = (fields: object) => jobOf({ method: 'vqgan', steps: 12, ...fields });

  it('neurons are driven up and down, beside a text and alone', async () => {
    for (const text of ['nature', '']) {
      const activation = async (weight: number) =>
        (await tokens.runOf(vqgan({ text, objective: 'cos', neurons: [{ unit: 'LLP-3', weight }, { unit: 'stem/ch-1', weight: 0 }] }))).result.neurons[0].activation; // prettier-ignore
      expect(await activation(5)).toBeGreaterThan(await activation(-5));
    }
  });

  it('the best of several starts without a text is the one whose neurons answer most', async () => {
    const job = vqgan({ text: '', neurons: [{ unit: 'LLP-3', weight: 1 }], start: 'smooth', steps: 1, tries: 6 });
    const firstFrame = async (tries: number) => {
      const { steps } = await tokens.runOf({ ...job, tries });
      const { answers } = await lookAt(sessions, fake.hash, fake.eye, steps[0].pixels, { width: 64, height: 64 }, [{ layer: 'LLP', spot: 'mean' }]); // prettier-ignore
      return answers[0][3];
    };
    expect(await firstFrame(6)).toBeGreaterThanOrEqual(await firstFrame(1));
  });

  it('copies have tokens and a picture before quantization, laid out as the pictures are', async () => {
    const { result } = await tokens.runOf(vqgan({ copies: 2, width: 64, height: 64 }));
    expect([result.width, result.height]).toEqual([128, 64]);
    expect([result.tokens!.rows, result.tokens!.columns, result.tokens!.codes.length]).toEqual([16, 32, 512]);
    expect(result.unquantized).toHaveLength(3 * 128 * 64);
    const again = await tokens.runOf(vqgan({ copies: 2, width: 64, height: 64 }), { checkpoint: undefined });
    expect(digest(again.result.pixels)).toBe(digest(result.pixels));
  });
});

describe('copies', () => {
  it.each(parametrizations)('of %s are drawn on a sheet and go on from a checkpoint to the same bytes', async (parameters) => {
    const job = jobOf({ parameters, copies: 3, views: 3, steps: 3 });
    const whole = await runOf(job);
    expect([whole.result.width, whole.result.height, whole.result.pixels.length]).toEqual([128, 128, 3 * 128 * 128]);
    const tile = (index: number) => {
      const [top, left] = [64 * Math.floor(index / 2), 64 * (index % 2)];
      return Uint8Array.from({ length: 3 * 64 * 64 }, (_, i) => {
        const [y, x, c] = [Math.floor(i / 192), Math.floor(i / 3) % 64, i % 3];
        return whole.result.pixels[3 * ((top + y) * 128 + left + x) + c];
      });
    };
    const tiles = [0, 1, 2, 3].map(tile);
    expect(new Set(tiles.map(digest)).size).toBe(4);
    expect(new Set(tiles[3])).toEqual(new Set([128]));
    const text = (await embedText(sessions, fake, 'nature')).embedding;
    const looks = [];
    for (const pixels of tiles.slice(0, 3))
      looks.push(await lookAt(sessions, fake.hash, fake.eye, pixels, { width: 64, height: 64 }));
    expect(whole.result.cos).toBeCloseTo(mean(looks.map(({ embedding }) => cosine(embedding, text))), 6);
    for (const checkpoint of whole.saved) {
      const rest = await runOf(job, { checkpoint });
      expect(digest(rest.result.pixels)).toBe(digest(whole.result.pixels));
    }
  });

  it('are as rough as each of them is: seams and what the sheet lacks do not count', async () => {
    const sheet = sheetOf({ width: 64, height: 64, copies: 3 });
    /** The loss of a step that wants smoothness alone. */
    const roughness = async (copies: number, parameters: Float32Array) => {
      const job = jobOf({ parameters: 'pixels', copies, views: 3, totalVariation: 1, optimizer: 'sgd' });
      const spec = { ...specOf(job, 0, 'cpu'), isAbout: false };
      const { loss } = await run(stepGraph(spec, fake.eye, copies === 1 ? drawing.pixels : copied(drawing.pixels, sheet)), {
        parameters,
        slot0: new Float32Array(parameters.length),
        ...Object.fromEntries(optimizers.sgd.scalars(1, 1).map((value, i) => [`scalar${i}`, [value]])),
        ...new ViewSampler(viewPlans.pixels, spec.canvas, 3, fake.eye.size, new Random(1)).sample(new Random(2)),
      });
      return loss.data[0];
    };
    const each = [0.1, 0.5, 0.9].map((grey) =>
      drawing.pixels.init(sheet.tile, new Random(1), new Float32Array(3 * 64 * 64).fill(grey)),
    );
    const alone = [];
    for (const one of each) alone.push(await roughness(1, one));
    expect(await roughness(3, Float32Array.from(each.flatMap((one) => [...one])))).toBeCloseTo(mean(alone), 6);
  });

  it('one is the picture that there was before', async () => {
    expect(digest((await runOf(jobOf({ copies: 1 }))).result.pixels)).toBe(digest((await runOf(jobOf())).result.pixels));
  });

  it.each(['LLP-3', 'stem/ch-2'])('are held apart by diversity, of the layer of %s', async (unit) => {
    const layer = unit.startsWith('LLP') ? 'LLP' : 'stem';
    /** Mean cosine of the copies' Gram matrices, of the whole pictures. */
    const alike = async (fields: object) => {
      const { result } = await runOf(
        jobOf({ text: '', neurons: [{ unit, weight: 1 }], copies: 2, views: 4, steps: 30, ...fields }),
      );
      const grams = [];
      for (const left of [0, 64]) {
        const pixels = Uint8Array.from(
          { length: 3 * 64 * 64 },
          (_, i) => result.pixels[3 * (Math.floor(i / 192) * 128 + left) + (i % 192)],
        );
        const read = await mapsOf(pixels);
        const channels = fake.eye.layers.find(({ name }) => name === layer)!.channels;
        const maps = Array.from({ length: channels }, (_, c) => read(layer, c).map);
        grams.push(Float32Array.from(maps.flatMap((a) => maps.map((b) => a.reduce((sum, v, i) => sum + v * b[i], 0)))));
      }
      return cosine(grams[0], grams[1]);
    };
    expect(await alike({ diversity: 50 })).toBeLessThan(await alike({}));
  });
});

describe('statistics', () => {
  const random = randomStream(5);
  const rows = Array.from({ length: 7 }, () => Float32Array.from({ length: 3 }, () => 4 * random() - 1));
  const made = summarize(rows);

  it('are the mean, the deviation and the quantiles of what was read', () => {
    for (let c = 0; c < 3; c++) {
      const values = rows.map((row) => row[c]).sort((a, b) => a - b);
      expect(made.means[c]).toBeCloseTo(mean(values), 6);
      expect(made.deviations[c]).toBeCloseTo(Math.sqrt(mean(values.map((v) => (v - mean(values)) ** 2))), 6);
      const quantile = (level: number) => made.quantiles.values[level * 3 + c];
      expect([quantile(0), quantile(50), quantile(100)]).toEqual([values[0], values[3], values[6]]);
      // Halfway between the first two of seven.
      expect(percentile(made.quantiles, c, (values[0] + values[1]) / 2)).toBeCloseTo(100 / 12, 1);
    }
  });

  it('come back from a file as half floats', () => {
    const file = join(folder, 'some.safetensors');
    writeFileSync(file, statisticsFile(new Map([['a/b', made]])));
    const weights = openWeights(file);
    const read = readStatistics(weights, ['LLP', 'a/b']);
    weights.close();
    expect([...read.keys()]).toEqual(['a/b']);
    const { means, deviations, quantiles } = read.get('a/b')!;
    for (const [found, kept] of [
      [means, made.means],
      [deviations, made.deviations],
      [quantiles.levels, made.quantiles.levels],
      [quantiles.values, made.quantiles.values],
    ])
      // prettier-ignore
      found.forEach((v, i) => expect(Math.abs(v - kept[i])).toBeLessThan(2e-3));
  });

  const files = Array.from({ length: 4 }, (_, i) => String(i));
  const decode = (file: string, side: number) =>
    Promise.resolve(Uint8Array.from({ length: 3 * side * side }, (_, i) => (i * (Number(file.replace(/\D/g, '')) + 3)) % 256));

  it('are measured by looking at each picture as a whole', async () => {
    const sites = [{ layer: 'stem', spot: 'mean' }, { layer: 'LLP', spot: 'centre' }] as const; // prettier-ignore
    const [stem, llp] = await measureStatistics(sessions, fake, sites, decode, files);
    expect([stem.means.length, llp.means.length]).toEqual([8, 16]);
    const read = [];
    for (const file of files)
      read.push((await lookAt(sessions, fake.hash, fake.eye, await decode(file, 32), { width: 32, height: 32 }, sites)).answers);
    expect(stem.means[2]).toBeCloseTo(mean(read.map(([row]) => row[2])), 5);
    expect(llp.means[9]).toBeCloseTo(mean(read.map(([, row]) => row[9])), 5);
  });

  it('of a layer that the model’s files do not tell are measured once and kept; a damaged file is made again', async () => {
    let looked = 0;
    const counting = (file: string, side: number) => ((looked += 1), decode(file, side));
    const eye = { ...fake.eye, layers: [...fake.eye.layers, { name: 'features/x y', channels: 8 }] };
    const look: typeof eye.look = (g, pictures) => {
      const seen = fake.eye.look(g, pictures);
      return { ...seen, layers: new Map([...seen.layers, ['features/x y', seen.layers.get('stem')!]]) };
    };
    const model: BrivlModel = { ...fake, hash: 'slashed', eye: { ...eye, look } };
    const kept = join(folder, 'kept');
    const site = { layer: 'features/x y', spot: 'mean' } as const;
    const measured = await createStatistics(sessions, counting, kept)(model, site);
    expect(looked).toBe(bundledPhotographs().length);
    expect(readdirSync(kept)).toEqual([expect.stringMatching(/^slashed-features_2f_x_20_y-[0-9a-f]{16}\.safetensors$/)]);
    const again = await createStatistics(sessions, counting, kept)(model, site);
    expect(looked).toBe(bundledPhotographs().length);
    expect(again).toEqual(measured);
    writeFileSync(join(kept, readdirSync(kept)[0]), 'damaged');
    const anew: ChannelStatistics = await createStatistics(sessions, counting, kept)(model, site);
    expect(looked).toBe(2 * bundledPhotographs().length);
    expect(anew).toEqual(measured);
    // What the files tell is not measured.
    expect(await createStatistics(sessions, counting, kept)(fake, { layer: 'LLP', spot: 'mean' })).toBe(fake.statistics.get('LLP'));
    expect(looked).toBe(2 * bundledPhotographs().length);
  });
});
