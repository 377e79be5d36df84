import { createHash } from 'node:crypto';
import { BadRequest, ComputeCrash } from '../../server/compute/protocol.js';
import { parseUnit } from '../../models/brivl/units.js';
import type { Tokens } from '../../server/imagination/generator.js';
import type { Job } from '../../server/jobs/job.js';
import type { Compute, ImagineAnswer, ImagineAsk, ModelView, Progress, Requests } from '../../server/compute/protocol.js';

const model = (name: string): ModelView => ({
  name,
  kind: name.startsWith('vqgan') ? 'generator' : 'encoder',
  description: 'a scripted model',
  hash: createHash('sha256').update(name).digest('hex'),
  parameters: 1,
  bytes: 4,
  inputSize: 224,
  embed: 4,
  channels: 1280,
  layers: [
    { name: 'block7.1', channels: 320 },
    { name: 'LLP', channels: 1280 },
  ],
  ready: name !== 'brivl-absent',
});

const concepts = (seed: string, top: number) =>
  Array.from({ length: top }, (_, rank) => ({
    wnid: `n${seed.length}${rank}`,
    word: `${seed.slice(0, 20)} ${rank}`,
    zh: null,
    score: 0.9 - rank / 200,
  }));

/** Indexes are tested over networks, small ones: test/neurons. */
const noEyes = (): never => {
  throw new BadRequest('the scripted compute sees nothing');
};

interface Imagining {
  ask: ImagineAsk;
  isCanceled: boolean;
  reject: (error: Error) => void;
}

/**
 * A compute process without networks. The state of a job is a hash that every step hashes again, so a picture tells whether all of its
 * steps were made, in order, also over a resume. A text can hold orders: `fail at 3`, `crash at 3`, `crash once at 3`.
 */
export class ScriptedCompute implements Compute {
  /** Jobs that were asked for, in order, with the step they began at. */
  readonly begun: { jobId: string; text: string; from: number }[] = [];
  readonly isClosed = () => this.closed;
  private closed = false;
  private readonly running = new Map<string, Imagining>();
  private readonly crashed = new Set<string>();
  private gate: { step: number; reached: () => void; open: Promise<void>; release: () => void } | undefined;

  constructor(private readonly options: { checkpointEvery?: number; models?: string[] } = {}) {}

  /** Holds the next job that comes to `step` there. @returns when it is there */
  holdAt(step: number): Promise<void> {
    let release = () => {};
    let reached = () => {};
    const open = new Promise<void>((resolve) => (release = resolve));
    const arrived = new Promise<void>((resolve) => (reached = resolve));
    this.gate = { step, reached, open, release };
    return arrived;
  }

  letGo(): void {
    this.gate?.release();
    this.gate = undefined;
  }

  /** As when the process is killed: everything pending is rejected. */
  crash(): void {
    for (const { reject } of this.running.values()) reject(new ComputeCrash('the compute process ended with SIGKILL'));
    this.running.clear();
    this.letGo();
  }

  async request<K extends keyof Requests>(
    kind: K,
    ask: Requests[K]['ask'],
    onProgress: (progress: Progress) => void = () => {},
  ): Promise<Requests[K]['answer']> {
    await Promise.resolve();
    if ('text' in ask && ask.text === 'crash') throw new ComputeCrash('the compute process ended with SIGSEGV');
    if ('text' in ask && ask.text === 'refuse') throw new BadRequest('the scripted compute refuses this text');
    const answers: {
      [Kind in keyof Requests]: (ask: Requests[Kind]['ask']) => Requests[Kind]['answer'] | Promise<Requests[Kind]['answer']>;
    } = {
      hello: () => ({
        device: { device: 'scripted', available: ['scripted', 'cpu'], notice: null },
        models: (this.options.models ?? ['brivl-nano', 'brivl-absent']).map(model),
      }),
      imagine: (imagine) => this.imagine(imagine, onProgress),
      embedText: ({ model: name }) => ({ model: name, embedding: Float32Array.of(0.5, 0.5, 0.5, 0.5), notices: [] }),
      embedImage: ({ model: name }) => ({ model: name, embedding: Float32Array.of(0.5, 0.5, 0.5, 0.5) }),
      conceptNames: () => ({ names: [{ wnid: 'n09472597', word: 'volcano', zh: '火山' }] }),
      conceptsOfText: ({ text, top }) => ({ concepts: concepts(text, top), notices: [] }),
      eye: ({ model: name }) => ({
        name,
        hash: model(name).hash,
        eyeHash: model(name).hash,
        size: 8,
        embed: 4,
        device: 'scripted',
        layers: model(name).layers,
      }),
      see: () => noEyes(),
      meaning: () => noEyes(),
      products: () => noEyes(),
      statistics: () => noEyes(),
      heat: ({ channel }) => ({ rows: 1, columns: 2, values: [channel, 0], activation: channel / 2, percentile: 50 }),
      firing: ({ top }) => ({
        rows: 1,
        columns: 2,
        units: Array.from({ length: top }, (_, channel) => ({
          ...{ channel, activation: 0.5, percentile: 50, z: -channel, y: 0, x: 0 },
          map: [1, 0],
        })),
      }),
      relevance: () => ({ rows: 1, columns: 2, values: [1, -1], cos: 0.5, notices: [] }),
      conceptsOfImage: ({ top }) => ({ concepts: concepts('picture', top) }),
    };
    return (answers[kind] as (ask: Requests[K]['ask']) => Requests[K]['answer'] | Promise<Requests[K]['answer']>)(ask);
  }

  cancel(jobId: string): void {
    const imagining = this.running.get(jobId);
    if (imagining) imagining.isCanceled = true;
    this.letGo();
  }

  close(): Promise<void> {
    this.crash();
    this.closed = true;
    return Promise.resolve();
  }

  private imagine(ask: ImagineAsk, onProgress: (progress: Progress) => void): Promise<ImagineAnswer> {
    return new Promise((resolve, reject) => {
      const mine: Imagining = { ask, isCanceled: false, reject };
      this.running.set(ask.jobId, mine);
      this.steps(mine, onProgress)
        .then(resolve, reject)
        .finally(() => this.running.get(ask.jobId) === mine && this.running.delete(ask.jobId));
    });
  }

  private async steps(mine: Imagining, onProgress: (progress: Progress) => void): Promise<ImagineAnswer> {
    const { jobId, job, init, checkpoint } = mine.ask;
    const every = this.options.checkpointEvery ?? 5;
    let { step, state } = checkpoint
      ? (JSON.parse(Buffer.from(checkpoint).toString()) as { step: number; state: string })
      : { step: 0, state: hash(JSON.stringify(job) + (init ? hash(init) : '')) };
    this.begun.push({ jobId, text: job.text, from: step });
    onProgress({ kind: 'begun', jobId, textConcepts: concepts(job.text, 3), notices: [] });

    const keep = () => {
      onProgress({ kind: 'checkpoint', jobId, step, checkpoint: Buffer.from(JSON.stringify({ step, state })) });
    };
    while (step < job.steps && !mine.isCanceled) {
      await new Promise((resolve) => setImmediate(resolve));
      const { gate } = this;
      if (gate?.step === step) {
        gate.reached();
        await gate.open;
      }
      if (this.running.get(jobId) !== mine) throw new ComputeCrash('the compute process ended');
      if (mine.isCanceled) break;
      step += 1;
      state = hash(state);
      this.obey(job.text, jobId, step);
      const told = {
        kind: 'step' as const,
        jobId,
        step,
        steps: job.steps,
        ...measured(job, step),
        stepsPerSecond: 100,
        secondsLeft: 1,
      };
      onProgress({
        ...told,
        ...(step % 10 === 0 && { secondOpinion: 0.25 }),
        pixels: paint(state, job.width, job.height),
        width: job.width,
        height: job.height,
        ...(job.method === 'vqgan' && { tokens: tokensOf(state, job) }),
      });
      if (step % every === 0) keep();
    }
    if (mine.isCanceled && step < job.steps) keep();
    return {
      canceled: mine.isCanceled && step < job.steps,
      pixels: paint(state, job.width, job.height),
      width: job.width,
      height: job.height,
      cos: measured(job, step).cos,
      secondOpinion: job.text === '' ? null : 0.25,
      pictureConcepts: concepts('picture', 3),
      secondOpinionConcepts: concepts('second', 3),
      neurons: job.neurons
        .map(({ unit }) => ({ unit, ...parseUnit(unit), activation: 1.5, percentile: 90 }))
        .map(({ spot: _, ...reading }) => reading),
      curve: Array.from({ length: step }, (_, index) => ({ step: index + 1, ...measured(job, index + 1) })),
      seconds: 1,
      device: 'scripted',
      modelHash: model(job.model).hash,
      notices: [],
      ...(job.method === 'vqgan' && {
        tokens: tokensOf(state, job),
        generator: { name: job.generator!, hash: model(job.generator!).hash },
        unquantized: paint(hash(state), job.width, job.height),
      }),
    };
  }

  private obey(text: string, jobId: string, step: number): void {
    const [, order, once, when] = /(fail|crash)( once)? at (\d+)/.exec(text) ?? [];
    if (Number(when) !== step || (once && this.crashed.has(jobId))) return;
    this.crashed.add(jobId);
    throw order === 'fail'
      ? new Error('the scripted job failed as it was told')
      : new ComputeCrash('the compute process ended with SIGSEGV');
  }
}

const hash = (data: string | Uint8Array) => createHash('sha256').update(data).digest('hex');
/** Cos grows with the steps, and so does a first neuron; a job without a text has no cos. */
const measured = ({ text, neurons, steps }: Job, step: number) => ({
  cos: text === '' ? null : (0.9 * step) / steps,
  ...(neurons.length > 0 && { percentile: (90 * step) / steps }),
});

/** Codes of the state's bytes, beyond a byte's range. */
const tokensOf = (state: string, { width, height }: Job): Tokens => ({
  rows: height / 8,
  columns: width / 8,
  codebook: 4096,
  codes: Array.from({ length: (height * width) / 64 }, (_, i) => 16 * Buffer.from(state, 'hex')[i % 31] + (i % 16)),
});

/** Stripes of the state's bytes: cheap, and different for every state. */
function paint(state: string, width: number, height: number): Uint8Array {
  const bytes = Buffer.from(state, 'hex');
  return Uint8Array.from({ length: width * height * 3 }, (_, index) => bytes[index % 31]);
}
