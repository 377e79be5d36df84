import { percentile, type BrivlModel } from '../../models/brivl/model.js';
import { sizeOf } from '../../models/graph/index.js';
import type { Concept, CurvePoint, Job, NeuronReading, Notice } from '../jobs/job.js';
import { decodeCheckpoint, encodeCheckpoint, type RunState } from './checkpoint.js';
import { askSecond, conceptsOf, cosine, embedText, lookAt } from './look.js';
import { optimizers, schedules, type OptimizerName } from './optimizers.js';
import { parametrizations, type Canvas } from './parameters.js';
import { Random } from './random.js';
import type { Sessions } from './sessions.js';
import { drawGraph, stepGraph, type StepSpec } from './step.js';
import { viewPlans, ViewSampler } from './views.js';

export interface ImagineInput {
  job: Job;
  model: BrivlModel;
  /** Picture to start from, [3, H, W] in [0, 1] at the canvas's size. */
  start?: Float32Array;
  checkpoint?: Uint8Array;
}

/** The picture after `step` moves, and how near it was: the mean cosine over the views of the run that drew it. */
export interface StepReport {
  step: number;
  steps: number;
  cos: number;
  secondOpinion?: number;
  concepts?: Concept[];
  pixels: Uint8Array;
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
  curve: CurvePoint[];
  seconds: number;
  notices: Notice[];
}

/** The second opinion and the picture's concepts are asked at every fifth step: each costs a tenth of one. */
const askEvery = 5;

/** A negative text pushes with this part of the main text's strength (shared reference, vqgan.md: negatives at -.3). */
const negativeWeight = -0.3;

/**
 * Imagines: the whole of a job, from text to picture. Same model, job and device give the same bytes, also when taken up from a checkpoint.
 * Clocks are read only for telling seconds.
 */
export async function imagine(sessions: Sessions, input: ImagineInput, watcher: Watcher = {}): Promise<Imagined> {
  const { job, model } = input;
  const canvas: Canvas = { width: job.width, height: job.height };
  const begunAt = performance.now();
  const texts = await embedAll(sessions, model, job);
  watcher.begun?.({ textConcepts: conceptsOf(model, texts.main, 5), notices: texts.notices });

  const spec = specOf(job, texts.weights.length, sessions.target);
  const key = `step:${model.hash}:${JSON.stringify(spec)}`;
  const stepper = await sessions.runner(key, () => stepGraph(spec, model.eye));
  const optimizer = optimizers[spec.optimizer];
  const rate = job.learningRate ?? defaultRate(job.parameters, spec.optimizer);
  const random = new Random(job.seed);
  const sampler = new ViewSampler(viewPlans[job.parameters], canvas, job.views, model.eye.size, new Random(job.seed ^ 0x5eed));
  const state = begin(input, canvas, random, optimizer.slots);
  const neurons = neuronWeights(job, model);
  let concepts: Concept[] = [];

  const inspect = async (pixels: Uint8Array) => {
    const { embedding: seen, channels } = await lookAt(sessions, model.hash, model.eye, pixels, canvas);
    const second = model.second ? await askSecond(sessions, model, model.second, texts.main, pixels, canvas) : null;
    concepts = conceptsOf(model, seen, 10);
    return { cos: cosine(seen, texts.main), second, channels };
  };
  const elapsed = () => state.seconds + (performance.now() - begunAt) / 1000;
  const ranAway = (step: number, what: string) =>
    new Error(`the picture ran away at step ${step} (${what}): lower the learning rate, which is ${rate}`);
  const save = () => encodeCheckpoint({ ...state, random: random.save(), seconds: elapsed() });

  while (state.step < job.steps) {
    if (watcher.canceled?.()) {
      // The chance to save exactly here, so that a stopped server goes on with the same step.
      watcher.between?.(save, state.step);
      break;
    }
    const t = state.step + 1;
    const scalars = optimizer.scalars(t, rate * schedules[job.schedule](t, job.steps));
    const out = await stepper.run({
      ...sampler.sample(random),
      parameters: state.parameters,
      ...Object.fromEntries(state.slots.map((slot, i) => [`slot${i}`, slot])),
      ...Object.fromEntries(scalars.map((value, i) => [`scalar${i}`, Float32Array.of(value)])),
      texts: texts.embeddings,
      weights: texts.weights,
      ...(neurons ? { neurons } : {}),
    });
    const cos = out.cos[0] as number;
    if (!Number.isFinite(cos) || !Number.isFinite(out.loss[0])) throw ranAway(t, 'the loss is not a number');
    const pixels = out.preview as Uint8Array;
    const asked = state.step % askEvery === 0 ? await inspect(pixels) : null;
    const point: CurvePoint = { step: state.step, cos, ...(asked?.second ? { secondOpinion: asked.second.score } : {}) };
    state.curve.push(point);
    watcher.step?.({
      ...point,
      steps: job.steps,
      pixels,
      seconds: elapsed(),
      ...(asked ? { concepts: concepts.slice(0, 5) } : {}),
    });
    state.parameters = out["parameters'"] as Float32Array;
    state.slots = state.slots.map((_, i) => out[`slot${i}'`] as Float32Array);
    state.step = t;
    watcher.between?.(save, t);
  }
  // A move that went nowhere shows in the next step's loss; there is no step after the last.
  if (!state.parameters.every(Number.isFinite)) throw ranAway(state.step, 'its parameters are not numbers');

  const drawer = await sessions.runner(`draw:${job.parameters}:${canvas.width}x${canvas.height}`, () =>
    drawGraph(canvas, job.parameters),
  );
  const pixels = (await drawer.run({ parameters: state.parameters })).preview as Uint8Array;
  const { cos, second, channels } = await inspect(pixels);
  return {
    canceled: state.step < job.steps,
    pixels,
    ...canvas,
    cos,
    secondOpinion: second?.score ?? null,
    pictureConcepts: concepts,
    secondOpinionConcepts: second?.concepts ?? [],
    neurons: readNeurons(job, model, channels),
    curve: state.curve,
    seconds: elapsed(),
    notices: texts.notices,
  };
}

export function specOf(job: Job, texts: number, target: StepSpec['target']): StepSpec {
  const { width, height, parameters, views, objective, totalVariation } = job;
  const optimizer = job.optimizer ?? (parameters === 'maco' ? 'nadam' : 'adam');
  return {
    canvas: { width, height },
    parameters,
    views,
    objective,
    optimizer,
    texts,
    totalVariation,
    neurons: job.neurons.length > 0,
    target,
  };
}

/**
 * Phases are angles, and MACO's authors move them by 1, each by its own measure; everything else lives near zero. SGD measures by the whole
 * gradient, most of which a few low frequencies hold: at 1 theirs would turn many times over.
 */
function defaultRate(parameters: Job['parameters'], optimizer: OptimizerName): number {
  return parameters === 'maco' && optimizer !== 'sgd' ? 1 : optimizers[optimizer].defaultRate;
}

async function embedAll(sessions: Sessions, model: BrivlModel, job: Job) {
  const lines = [{ text: job.text, weight: 1 }, ...job.weighted, ...job.negative.map((text) => ({ text, weight: negativeWeight }))];
  const notices: Notice[] = [];
  const rows: Float32Array[] = [];
  for (const { text } of lines) {
    const embedded = await embedText(sessions, model, text);
    rows.push(embedded.embedding);
    notices.push(...embedded.notices);
  }
  const embeddings = new Float32Array(rows.length * model.eye.embed);
  rows.forEach((row, i) => embeddings.set(row, i * row.length));
  return { main: rows[0], embeddings, weights: Float32Array.from(lines, ({ weight }) => weight), notices };
}

function begin({ job, start, checkpoint }: ImagineInput, canvas: Canvas, random: Random, slots: number): RunState {
  const parametrization = parametrizations[job.parameters];
  const size = sizeOf(parametrization.shape(canvas));
  if (checkpoint) {
    const state = decodeCheckpoint(checkpoint, size, slots);
    random.load(state.random);
    return state;
  }
  const parameters = parametrization.init(canvas, random, start);
  return {
    step: 0,
    random: [],
    curve: [],
    seconds: 0,
    parameters,
    slots: Array.from({ length: slots }, () => new Float32Array(size)),
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
