import { percentile, type BrivlModel } from '../../models/brivl/model.js';
import { sizeOf, type TypedArray } from '../../models/graph/index.js';
import type { VqganModel } from '../../models/vqgan/model.js';
import type { Concept, CurvePoint, Job, NeuronReading, Notice } from '../jobs/job.js';
import { decodeCheckpoint, encodeCheckpoint, type Extra, type RunState } from './checkpoint.js';
import { latentMapOf, requireFit, startOf, tokensOf, unquantized, type Tokens } from './generator.js';
import { askSecond, conceptsOf, cosine, lookAt } from './look.js';
import { meanOf, optimizers, remember, schedules, stretchOf, type OptimizerName } from './optimizers.js';
import { parametrizations, type Canvas, type Parametrization } from './parameters.js';
import { Random } from './random.js';
import type { Feeds, Runner, Sessions } from './sessions.js';
import { drawGraph, stepGraph, type StepSpec } from './step.js';
import { embedSets, setsOf } from './texts.js';
import { viewPlans, ViewSampler, viewsOfRun, type ViewFeeds } from './views.js';

export interface ImagineInput {
  job: Job;
  model: BrivlModel;
  /** What draws, when the job's method is vqgan. */
  generator?: VqganModel;
  /** Picture to start from, [3, H, W] in [0, 1] at the canvas's size. */
  start?: Float32Array;
  checkpoint?: Uint8Array;
}

/**
 * The picture after `step` moves, and how near it was: the mean cosine over the views of the step. Where the mean of latent maps is shown,
 * views are of the latest one.
 */
export interface StepReport {
  step: number;
  steps: number;
  cos: number;
  secondOpinion?: number;
  concepts?: Concept[];
  /** [H, W, 3]; empty at steps where the mean of latent maps is not drawn. */
  pixels: Uint8Array;
  /** What the picture was drawn from, with vqgan. */
  tokens?: Tokens;
  seconds: number;
}

/** What a run tells, and asks, between steps. All may be left out. */
export interface Watcher {
  begun?(told: { textConcepts: Concept[]; notices: Notice[] }): void;
  step?(report: StepReport): void;
  /** Called between steps with a way to save the run; saving costs a copy of the parameters. */
  between?(save: () => Uint8Array, step: number): void;
  canceled?(): boolean;
}

export interface Imagined {
  canceled: boolean;
  pixels: Uint8Array;
  width: number;
  height: number;
  /** Cosine of the whole, finished picture to the text. */
  cos: number;
  secondOpinion: number | null;
  pictureConcepts: Concept[];
  secondOpinionConcepts: Concept[];
  /** How the finished picture drives the neurons that the job names. */
  neurons: NeuronReading[];
  /** With vqgan. */
  tokens?: Tokens;
  generator?: { name: string; hash: string };
  /** The finished picture drawn from the latent map itself instead of its nearest codes, [H, W, 3]; not of a run that was canceled. */
  unquantized?: Uint8Array;
  curve: CurvePoint[];
  seconds: number;
  notices: Notice[];
}

/** The second opinion and the picture's concepts are asked at every fifth step: each costs a tenth of one. */
const askEvery = 5;

/** The mean of latent maps is drawn at every second step, and where it is asked about: with vqgan-nano it costs .3 of a step. */
const meanEvery = 2;

/** Decay of the moving average of latent maps: over the last ten or so, of 120 (VQGAN+CLIP's .99 is for many hundreds). */
const defaultAverage = 0.9;

/**
 * Imagines: the whole of a job, from text to picture. Same model, job and device give the same bytes, also when taken up from a checkpoint.
 * Clocks are read only for telling seconds.
 */
export async function imagine(sessions: Sessions, input: ImagineInput, watcher: Watcher = {}): Promise<Imagined> {
  const { job, model } = input;
  const canvas: Canvas = { width: job.width, height: job.height };
  const begunAt = performance.now();
  const generator = generatorOf(input, canvas);
  const prompts = setsOf(job);
  const { sets, notices } = await embedSets(sessions, model, prompts);
  watcher.begun?.({ textConcepts: conceptsOf(model, sets.at(-1)!.main, 5), notices });

  const parametrization = generator ? latentMapOf(generator) : parametrizations[job.parameters];
  const stops = prompts.flat().some(({ stop }) => stop !== null);
  const spec = specOf(job, sets[0].feeds.weights.length, sessions.target, stops);
  const key = `${model.hash}:${parametrization.key}:${JSON.stringify(spec)}`;
  const stepper = await sessions.runner(`step:${key}`, () => stepGraph(spec, model.eye, parametrization));
  const optimizer = optimizers[spec.optimizer];
  const rate = job.learningRate ?? defaultRate(job, spec.optimizer);
  const decay = generator ? (job.average ?? defaultAverage) : 0;
  const random = new Random(job.seed);
  const plan = viewPlans[generator ? 'vqgan' : job.parameters];
  const sampler = new ViewSampler(plan, canvas, job.views, model.eye.size, new Random(job.seed ^ 0x5eed));
  const neurons = neuronWeights(job, model);
  let concepts: Concept[] = [];
  /** The texts of a step: sets in series share the steps. After the last step they are still those of the last set. */
  const textsAt = (step: number) => sets[stretchOf(Math.min(step, job.steps - 1), job.steps, sets.length - 1).index];

  const inspect = async (pixels: Uint8Array) => {
    const { main } = textsAt(state.step);
    const { embedding: seen, channels } = await lookAt(sessions, model.hash, model.eye, pixels, canvas);
    const second = model.second ? await askSecond(sessions, model, model.second, main, pixels, canvas) : null;
    concepts = conceptsOf(model, seen, 10);
    return { cos: cosine(seen, main), second, channels };
  };
  const draw = async (parameters: Float32Array, by: Parametrization = parametrization) => {
    const drawKey = `draw:${by.key}:${canvas.width}x${canvas.height}`;
    return (await sessions.runner(drawKey, () => drawGraph(canvas, by))).run({ parameters });
  };
  const nearness = async (parameters: Float32Array) => {
    const pixels = (await draw(parameters)).preview as Uint8Array;
    return cosine((await lookAt(sessions, model.hash, model.eye, pixels, canvas)).embedding, sets[0].main);
  };
  const state = await begin(input, random, sizeOf(parametrization.shape(canvas)), spec, decay, () =>
    generator
      ? bestOf(job.tries ?? 1, () => startOf(sessions, generator, canvas, job.start ?? 'smooth', random, input.start), nearness)
      : parametrizations[job.parameters].init(canvas, random, input.start),
  );
  const toShow = () => (state.sum ? meanOf(state.sum, state.step + 1, decay) : state.parameters);
  const elapsed = () => state.seconds + (performance.now() - begunAt) / 1000;
  const ranAway = (step: number, what: string) =>
    new Error(`the picture ran away at step ${step} (${what}): lower the learning rate, which is ${rate}`);
  const shown = ({ preview, codes }: Readonly<Record<string, TypedArray>>): { pixels: Uint8Array; tokens?: Tokens } => ({
    pixels: preview as Uint8Array,
    ...(generator && { tokens: tokensOf(generator, canvas, codes) }),
  });
  const save = () => encodeCheckpoint({ ...state, random: random.save(), seconds: elapsed() });

  while (state.step < job.steps) {
    if (watcher.canceled?.()) {
      // The chance to save exactly here, so that a stopped server goes on with the same step.
      watcher.between?.(save, state.step);
      break;
    }
    const t = state.step + 1;
    const { begin: begunStretch, length } = stretchOf(state.step, job.steps, job.restarts ?? 0);
    if (state.step === begunStretch) for (const slot of state.slots) slot.fill(0);
    const scalars = optimizer.scalars(t - begunStretch, rate * schedules[job.schedule](t - begunStretch, length));
    const views = sampler.sample(random);
    const { out, cos, loss } = await averagedStep(stepper, spec.runs, views, {
      parameters: state.parameters,
      ...Object.fromEntries(state.slots.map((slot, i) => [`slot${i}`, slot])),
      ...Object.fromEntries(scalars.map((value, i) => [`scalar${i}`, Float32Array.of(value)])),
      ...textsAt(state.step).feeds,
      ...(neurons ? { neurons } : {}),
      anchorWeight: Float32Array.of((job.anchor ?? 0) * (1 - state.step / job.steps)),
      ...(state.start ? { start: state.start } : {}),
    });
    if (!Number.isFinite(cos) || !Number.isFinite(loss)) throw ranAway(t, 'the loss is not a number');
    const isAsked = state.step % askEvery === 0;
    const isDrawn = !state.sum || isAsked || state.step % meanEvery === 0;
    const { pixels, tokens } = isDrawn ? shown(state.sum ? await draw(toShow()) : out) : { pixels: new Uint8Array() };
    const asked = isAsked ? await inspect(pixels) : null;
    const point: CurvePoint = { step: state.step, cos, ...(asked?.second ? { secondOpinion: asked.second.score } : {}) };
    state.curve.push(point);
    watcher.step?.({
      ...point,
      steps: job.steps,
      pixels,
      ...(tokens && { tokens }),
      seconds: elapsed(),
      ...(asked ? { concepts: concepts.slice(0, 5) } : {}),
    });
    state.parameters = out["parameters'"] as Float32Array;
    state.slots = state.slots.map((_, i) => out[`slot${i}'`] as Float32Array);
    if (state.sum) state.sum = remember(state.sum, state.parameters, decay);
    state.step = t;
    watcher.between?.(save, t);
  }
  // A move that went nowhere shows in the next step's loss; there is no step after the last. Where parameters are bounded it shows in what
  // the optimizer remembers.
  if (![state.parameters, ...state.slots].every((values) => values.every(Number.isFinite)))
    throw ranAway(state.step, 'its parameters are not numbers');

  const { pixels, tokens } = shown(await draw(toShow()));
  const { cos, second, channels } = await inspect(pixels);
  const canceled = state.step < job.steps;
  const without = generator && !canceled ? await draw(toShow(), unquantized(generator)) : null;
  return {
    canceled,
    pixels,
    ...canvas,
    cos,
    secondOpinion: second?.score ?? null,
    pictureConcepts: concepts,
    secondOpinionConcepts: second?.concepts ?? [],
    neurons: readNeurons(job, model, channels),
    ...(tokens && { tokens }),
    ...(generator && { generator: { name: generator.name, hash: generator.hash } }),
    ...(without && { unquantized: without.preview as Uint8Array }),
    curve: state.curve,
    seconds: elapsed(),
    notices,
  };
}

/** The one of several that is best; the first of equals. One alone is not judged. */
async function bestOf<T>(tries: number, make: () => Promise<T>, judge: (made: T) => Promise<number>): Promise<T> {
  let best = await make();
  if (tries === 1) return best;
  let height = await judge(best);
  for (let i = 1; i < tries; i++) {
    const made = await make();
    const found = await judge(made);
    if (found > height) [best, height] = [made, found];
  }
  return best;
}

/** One step of the stepper's graph: its outputs of the last run, and loss and cosine over the views of all. */
async function averagedStep(stepper: Runner, runs: number, views: ViewFeeds, feeds: Feeds) {
  let out: Record<string, TypedArray> = {};
  let gradient: TypedArray = new Float32Array(feeds.parameters.length);
  let [cos, loss] = [0, 0];
  for (let run = 0; run < runs; run++) {
    out = await stepper.run({ ...feeds, ...viewsOfRun(views, run, runs), gradient });
    gradient = out["gradient'"];
    cos += (out.cos[0] as number) / runs;
    loss += (out.loss[0] as number) / runs;
  }
  return { out, cos, loss };
}

export function specOf(job: Job, texts: number, target: StepSpec['target'], stops = false): StepSpec {
  const { width, height, parameters, views, batch = views, objective, totalVariation } = job;
  const optimizer = job.optimizer ?? (parameters === 'maco' ? 'nadam' : 'adam');
  return {
    canvas: { width, height },
    views: batch,
    runs: views / batch,
    objective,
    optimizer,
    texts,
    stops,
    totalVariation,
    neurons: job.neurons.length > 0,
    anchor: job.anchor ? (job.anchorTo ?? 'zero') : null,
    target,
  };
}

/**
 * Phases are angles, and MACO's authors move them by 1, each by its own measure; everything else lives near zero. SGD measures by the whole
 * gradient, most of which a few low frequencies hold: at 1 theirs would turn many times over. Latent maps are moved by .05 to .2, of which
 * .15 was best (shared reference, vqgan.md and nano.md).
 */
function defaultRate({ method, parameters }: Job, optimizer: OptimizerName): number {
  if (method === 'vqgan') return 0.15;
  return parameters === 'maco' && optimizer !== 'sgd' ? 1 : optimizers[optimizer].defaultRate;
}

/** The generator of a job that needs one. Throws when it does not fit the canvas. */
function generatorOf({ job, generator }: ImagineInput, canvas: Canvas): VqganModel | null {
  if (job.method !== 'vqgan') return null;
  if (!generator) throw new Error('the method vqgan needs a generator');
  requireFit(canvas, generator);
  return generator;
}

/** The state at the start, or that of a checkpoint. `fresh` gives the parameters of a start. */
async function begin(
  { checkpoint }: ImagineInput,
  random: Random,
  size: number,
  { optimizer, anchor }: StepSpec,
  decay: number,
  fresh: () => Promise<Float32Array> | Float32Array,
): Promise<RunState> {
  const { slots } = optimizers[optimizer];
  if (checkpoint) {
    const extras: Extra[] = [...(decay > 0 ? (['sum'] as const) : []), ...(anchor === 'start' ? (['start'] as const) : [])];
    const state = decodeCheckpoint(checkpoint, size, slots, extras);
    random.load(state.random);
    return state;
  }
  const parameters = await fresh();
  return {
    step: 0,
    random: [],
    curve: [],
    seconds: 0,
    parameters,
    slots: Array.from({ length: slots }, () => new Float32Array(size)),
    ...(decay > 0 && { sum: remember(null, parameters, decay) }),
    ...(anchor === 'start' && { start: parameters }),
  };
}

/** A neuron that the model does not have. */
export class UnknownNeuronError extends Error {}

function channelOf(unit: string, { name, eye }: BrivlModel): number {
  const channel = Number(unit.slice('LLP-'.length));
  if (channel < eye.channels) return channel;
  throw new UnknownNeuronError(`${name} has no neuron ${unit}: its neurons are LLP-0 to LLP-${eye.channels - 1}`);
}

/** Weights over all channels, each in units of its own standard deviation; null when the job names none. */
function neuronWeights(job: Job, model: BrivlModel): Float32Array | null {
  if (job.neurons.length === 0) return null;
  const weights = new Float32Array(model.eye.channels);
  for (const { unit, weight } of job.neurons) {
    const channel = channelOf(unit, model);
    weights[channel] += weight / model.deviations[channel];
  }
  return weights;
}

function readNeurons(job: Job, model: BrivlModel, channels: Float32Array): NeuronReading[] {
  return job.neurons.map(({ unit }) => {
    const channel = channelOf(unit, model);
    const activation = channels[channel];
    return { channel, activation, percentile: model.quantiles && percentile(model.quantiles, channel, activation) };
  });
}
