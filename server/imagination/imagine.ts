import type { BrivlModel } from '../../models/brivl/model.js';
import { percentile, type ChannelStatistics } from '../../models/brivl/statistics.js';
import { llpLayer } from '../../models/brivl/efficientnet.js';
import { siteName } from '../../models/brivl/units.js';
import { sizeOf, type TypedArray } from '../../models/graph/index.js';
import type { VqganModel } from '../../models/vqgan/model.js';
import type { Concept, CurvePoint, Job, NeuronReading, Notice } from '../jobs/job.js';
import { decodeCheckpoint, encodeCheckpoint, type Extra, type RunState } from './checkpoint.js';
import { copied, copiesIn, sheetOf } from './copies.js';
import { latentMapOf, latentSpectrumOf, requireFit, startOf, tokensOf, type Tokens } from './generator.js';
import { askSecond, conceptsOf, cosine, inner, lookAt, mean, meanOfRows, type Look } from './look.js';
import { pullWeights, pullsOf, readingsOf, sitesOf } from './neurons.js';
import { meanOf, optimizers, remember, schedules, stretchOf, type OptimizerName } from './optimizers.js';
import { parametrizations, type Canvas, type Parametrization } from './parameters.js';
import { Random } from './random.js';
import type { Feeds, Runner, Sessions } from './sessions.js';
import type { StatisticsOf } from './statistics.js';
import { drawGraph, stepGraph, type StepSpec } from './step.js';
import { embedSets, setsOf } from './texts.js';
import { kindsOf, viewPlans, ViewSampler, viewsOfRun, type ViewFeeds, type ViewPlan } from './views.js';

export interface ImagineInput {
  job: Job;
  model: BrivlModel;
  /** What draws, when the job's method is vqgan. */
  generator?: VqganModel;
  /** Picture to start from, [3, H, W] in [0, 1] at the size of one copy. */
  start?: Float32Array;
  checkpoint?: Uint8Array;
  /** Other views than the method's own: for comparing them. */
  plan?: ViewPlan;
  /** How photographs drive the sites of the job's neurons; when left out, what the model's own files tell. */
  statistics?: StatisticsOf;
}

/**
 * The picture after `step` moves, and how near it was: the mean cosine over the views of the step (null without a text), and the percentile of
 * their mean answer of the first neuron. Where the mean of latent maps is shown, views are of the latest one.
 */
export interface StepReport extends CurvePoint {
  steps: number;
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
  /** Of the sheet, where there are copies. */
  width: number;
  height: number;
  /** Cosine of the whole, finished picture to the text, or along the direction to it; the mean over copies. Null without a text. */
  cos: number | null;
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
  const canvas = sheetOf(job);
  const begunAt = performance.now();
  const generator = generatorOf(input, canvas.tile);
  const pulls = pullsOf(job, { name: model.name, layers: model.eye.layers });
  const statistics: ChannelStatistics[] = [];
  for (const { site } of pulls) statistics.push(await (input.statistics ?? statisticsOfFiles)(model, site));
  const prompts = setsOf(job);
  const { sets, texts, notices } = await embedSets(sessions, model, prompts, job.from);
  const last = sets.at(-1)!.main;
  watcher.begun?.({ textConcepts: last ? conceptsOf(model, last, 5) : [], notices });

  const parametrizationOf = (base: Parametrization) => copied(base, canvas);
  const latents = generator && (job.latents === 'map' ? latentMapOf : latentSpectrumOf)(generator);
  const base = latents ?? parametrizations[job.parameters];
  const parametrization = parametrizationOf(base);
  const stops = prompts.some(({ main, others }) => [main, ...others].some((prompt) => prompt && prompt.stop !== null));
  const plan = input.plan ?? planOf(job);
  const spec = specOf(job, texts, sessions.target, stops, plan);
  const key = `${model.hash}:${parametrization.key}:${JSON.stringify(spec)}`;
  const stepper = await sessions.runner(`step:${key}`, () => stepGraph(spec, model.eye, parametrization));
  const optimizer = optimizers[spec.optimizer];
  const rate = job.learningRate ?? defaultRate(job, spec.optimizer);
  const decay = generator ? (job.average ?? defaultAverage) : 0;
  const random = new Random(job.seed);
  const sampler = new ViewSampler(plan, canvas, job.views, model.eye.size, new Random(job.seed ^ 0x5eed));
  const neurons = pullWeights(pulls, statistics);
  const pulling = Object.fromEntries(neurons.map((weights, i) => [`neurons${i}`, weights]));
  const first = pulls[0]?.units[0].channel;
  const sites = pulls.map(({ site }) => site);
  const read = (answers: readonly Float32Array[]) => readingsOf(job, pulls, statistics, answers);
  let concepts: Concept[] = [];
  /** The texts of a step: sets in series share the steps. After the last step they are still those of the last set. */
  const textsAt = (step: number) => sets[stretchOf(Math.min(step, job.steps - 1), job.steps, sets.length - 1).index];

  const inspect = async (pixels: Uint8Array) => {
    const { main } = textsAt(state.step);
    const pictures = copiesIn(pixels, canvas);
    const looks: Look[] = [];
    for (const picture of pictures) looks.push(await lookAt(sessions, model.hash, model.eye, picture, canvas.tile, sites));
    const second = model.second ? await askSecond(sessions, model, model.second, main, pictures, canvas.tile) : null;
    concepts = conceptsOf(model, meanOfRows(looks.map(({ embedding }) => embedding)), 10);
    return {
      cos: main && mean(looks.map(({ embedding }) => cosine(embedding, main))),
      second,
      answers: sites.map((_, i) => meanOfRows(looks.map(({ answers }) => answers[i]))),
    };
  };
  const draw = async (parameters: Float32Array, by: Parametrization = parametrization, size: Canvas = canvas) => {
    const drawKey = `draw:${by.key}:${size.width}x${size.height}`;
    return (await sessions.runner(drawKey, () => drawGraph(size, by))).run({ parameters });
  };
  /** Of one copy: its cosine to the text, or what its neurons add up to where there is no text. */
  const nearness = async (parameters: Float32Array) => {
    const pixels = (await draw(parameters, base, canvas.tile)).preview as Uint8Array;
    const { main } = sets[0];
    const { embedding, answers } = await lookAt(sessions, model.hash, model.eye, pixels, canvas.tile, main ? [] : sites);
    if (main) return cosine(embedding, main);
    return answers.reduce((sum, row, i) => sum + inner(row, neurons[i]), 0);
  };
  const startOfCopy = () =>
    generator && latents
      ? bestOf(
          job.tries ?? 1,
          async () =>
            latents.parametersOf(
              await startOf(sessions, generator, canvas.tile, job.start ?? usualStart(job), random, input.start),
              canvas.tile,
            ),
          nearness,
        )
      : parametrizations[job.parameters].init(canvas.tile, random, input.start);
  const state = await begin(input, random, sizeOf(parametrization.shape(canvas)), spec, decay, async () => {
    const all = new Float32Array(sizeOf(parametrization.shape(canvas)));
    for (let copy = 0; copy < canvas.copies; copy++) all.set(await startOfCopy(), (copy * all.length) / canvas.copies);
    return all;
  });
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
    const { out, cos, answers, loss } = await averagedStep(stepper, spec.runs, views, {
      parameters: state.parameters,
      ...Object.fromEntries(state.slots.map((slot, i) => [`slot${i}`, slot])),
      ...Object.fromEntries(scalars.map((value, i) => [`scalar${i}`, Float32Array.of(value)])),
      ...textsAt(state.step).feeds,
      ...pulling,
      anchorWeight: Float32Array.of((job.anchor ?? 0) * (1 - state.step / job.steps)),
      ...(state.start ? { start: state.start } : {}),
    });
    if (!Number.isFinite(cos ?? 0) || !Number.isFinite(loss)) throw ranAway(t, 'the loss is not a number');
    const isAsked = state.step % askEvery === 0;
    const isDrawn = !state.sum || isAsked || state.step % meanEvery === 0;
    const { pixels, tokens } = isDrawn ? shown(state.sum ? await draw(toShow()) : out) : { pixels: new Uint8Array() };
    const asked = isAsked ? await inspect(pixels) : null;
    const score = asked?.second?.score ?? null;
    const point: CurvePoint = {
      step: state.step,
      cos,
      ...(score !== null && { secondOpinion: score }),
      ...(answers && { percentile: percentile(statistics[0].quantiles, first, answers[first]) }),
    };
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
  const { cos, second, answers } = await inspect(pixels);
  const canceled = state.step < job.steps;
  const without = latents && !canceled ? await draw(toShow(), parametrizationOf(latents.unquantized)) : null;
  return {
    canceled,
    pixels,
    width: canvas.width,
    height: canvas.height,
    cos,
    secondOpinion: second?.score ?? null,
    pictureConcepts: concepts,
    secondOpinionConcepts: second?.concepts ?? [],
    neurons: read(answers),
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

/** What a run gets without anything that measures. */
const statisticsOfFiles: StatisticsOf = ({ name, statistics }, { layer, spot }) => {
  const own = spot === 'mean' ? statistics.get(layer) : undefined;
  if (!own) throw new Error(`the files of ${name} do not tell how photographs drive ${siteName({ layer, spot })}`);
  return Promise.resolve(own);
};

/**
 * One step of the stepper's graph: its outputs of the last run, and loss, cosine (null without a text) and the answers of the first site (null
 * without neurons) over the views of all.
 */
async function averagedStep(stepper: Runner, runs: number, views: ViewFeeds, feeds: Feeds) {
  let out: Record<string, TypedArray> = {};
  let gradient: TypedArray = new Float32Array(feeds.parameters.length);
  let [cos, loss] = [0, 0];
  const answers: Float32Array[] = [];
  for (let run = 0; run < runs; run++) {
    out = await stepper.run({ ...feeds, ...viewsOfRun(views, run, runs), gradient });
    gradient = out["gradient'"];
    if ('cos' in out) cos += (out.cos[0] as number) / runs;
    if ('answers0' in out) answers.push(out.answers0 as Float32Array);
    loss += (out.loss[0] as number) / runs;
  }
  return { out, cos: 'cos' in out ? cos : null, answers: answers.length > 0 ? meanOfRows(answers) : null, loss };
}

const planOf = ({ method, parameters }: Job): ViewPlan => viewPlans[method === 'vqgan' ? 'vqgan' : parameters];

export function specOf(job: Job, texts: number, target: StepSpec['target'], stops = false, plan = planOf(job)): StepSpec {
  const { parameters, views, batch = views, objective, cosPower, totalVariation, copies = 1, diversity = 0 } = job;
  const { width, height } = sheetOf(job);
  const optimizer = job.optimizer ?? (parameters === 'maco' ? 'nadam' : 'adam');
  const neurons = sitesOf(job);
  return {
    canvas: { width, height },
    views: batch,
    runs: views / batch,
    kinds: kindsOf(plan),
    objective,
    ...(cosPower !== undefined && { cosPower }),
    optimizer,
    texts,
    isAbout: job.text !== '',
    stops,
    totalVariation,
    neurons,
    diversity: copies > 1 && diversity > 0 ? { copies, weight: diversity, layer: neurons[0]?.layer ?? llpLayer } : null,
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

/** A spectrum grows best out of nearly nothing, but for those who want to choose; a map needs something to begin with. */
const usualStart = ({ latents, tries = 1 }: Job) => (latents === 'map' || tries > 1 ? 'smooth' : 'grey');

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
