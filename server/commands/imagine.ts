import { createHash } from 'node:crypto';
import { mkdirSync, writeFileSync } from 'node:fs';
import { dirname, extname } from 'node:path';
import type { Engine } from '../compute/engine.js';
import { jobRequest, limits, type Job } from '../jobs/job.js';
import {
  listOf,
  numberOf,
  readNamed,
  required,
  sentences,
  stringOf,
  UsageError,
  type Command,
  type Options,
  type Values,
} from './command.js';
import { createFilm, filmRun, videoOf } from './film.js';
import { sheetOf } from '../imagination/copies.js';
import type { Imagined, Watcher } from '../imagination/imagine.js';
import { pictureFile, plainFile } from '../store/picture.js';
import { reencodeUpload } from '../store/uploads.js';
import { openEngine } from './studio.js';

/** What every command takes that draws: a job's fields, and the device. */
export const jobOptions = {
  method: { type: 'string' },
  parameters: { type: 'string' },
  objective: { type: 'string' },
  optimizer: { type: 'string' },
  'learning-rate': { type: 'string' },
  schedule: { type: 'string' },
  'total-variation': { type: 'string' },
  negative: { type: 'string', multiple: true },
  weighted: { type: 'string', multiple: true },
  neuron: { type: 'string', multiple: true },
  from: { type: 'string' },
  'cos-power': { type: 'string' },
  model: { type: 'string' },
  device: { type: 'string' },
  seed: { type: 'string' },
  steps: { type: 'string' },
  views: { type: 'string' },
  size: { type: 'string' },
  batch: { type: 'string' },
  init: { type: 'string' },
  generator: { type: 'string' },
  latents: { type: 'string' },
  start: { type: 'string' },
  tries: { type: 'string' },
  average: { type: 'string' },
  anchor: { type: 'string' },
  'anchor-to': { type: 'string' },
  restarts: { type: 'string' },
} satisfies Options;

export const imagineCommand: Command = {
  usage:
    'imagine ["<text>"] --out FILE.png [--method feavis|vqgan] [--parameters fourier|pixels|maco] [--generator NAME] [--latents spectrum|map] [--start grey|smooth|codes] [--from "<text>"] [--negative "<text>"]... [--neuron UNIT[=weight]]... [--copies N [--diversity WEIGHT]] [--seed N] [--count N] [--steps N] [--views N] [--size N|WxH] [--init FILE] [--video FILE] [--unquantized FILE.png] [--device NAME] [--json]',
  summary: 'draw what the model imagines at a text, beside neurons (LLP-108, block7.1/ch-33@centre) or at them alone',
  options: {
    ...jobOptions,
    out: { type: 'string' },
    count: { type: 'string' },
    copies: { type: 'string' },
    diversity: { type: 'string' },
    video: { type: 'string' },
    unquantized: { type: 'string' },
  },
  async run(positionals, values) {
    const out = stringOf(values, 'out');
    if (!out || extname(out).toLowerCase() !== '.png') throw new UsageError('--out FILE.png is missing: name the PNG to write');
    const video = videoOf(values);
    const unquantized = stringOf(values, 'unquantized');
    if (unquantized && extname(unquantized).toLowerCase() !== '.png')
      throw new UsageError(`--unquantized takes a file that ends in .png, not ${unquantized}`);
    const count = numberOf(values, 'count') ?? 1;
    if (!Number.isInteger(count) || count < 1 || count > 64)
      throw new UsageError(`--count takes a whole number from 1 to 64, not ${count}`);
    const init = await pictureToStartFrom(values);
    const job = jobOf({ text: textOf(positionals, 'text', values), init: init?.id }, values);
    if (unquantized && job.method !== 'vqgan')
      throw new UsageError('--unquantized belongs to --method vqgan: only its pictures are quantized');
    if (job.seed + count - 1 > limits.seed) throw new UsageError(`--seed with --count must stay at or below ${limits.seed}`);
    const engine = await openEngine(stringOf(values, 'device'));
    try {
      const results = [];
      for (let i = 0; i < count; i++) {
        const numbered = (name: string) => (count === 1 ? name : name.replace(/(\.[^.]+)$/, `-${i + 1}$1`));
        const film = video === undefined ? undefined : createFilm(sheetOf(job));
        const done = await imagineToFile(engine, { ...job, seed: job.seed + i }, numbered(out), {
          init: init?.png,
          frame: film && filmRun(film, job.steps),
          unquantized: unquantized && numbered(unquantized),
          quiet: values.json === true,
        });
        if (film) await film.write(numbered(video!));
        if (values.json !== true) console.log(`${done.out}  ${measuresOf(done)}  ${done.seconds.toFixed(1)} s`);
        results.push(done);
      }
      return count === 1 ? results[0] : { results };
    } finally {
      await engine.release();
    }
  },
};

/** The text that a command was given; '' where neurons are named in its place. */
export const textOf = (positionals: string[], what: string, values: Values): string =>
  positionals.length === 0 && listOf(values, 'neuron').length > 0 ? '' : required(positionals, what);

/** What a finished picture measured, for people. */
export function measuresOf({ cos, secondOpinion, neurons }: Pick<Imagined, 'cos' | 'secondOpinion' | 'neurons'>): string {
  const read = neurons.map(
    ({ unit, activation, percentile }) => `${unit} ${activation.toFixed(2)} (${percentile?.toFixed(0) ?? '-'}%)`,
  );
  const near = cos === null ? [] : [`cos ${cos.toFixed(3)}`, `second opinion ${secondOpinion?.toFixed(3) ?? '-'}`];
  return [...near, ...read].join('  ');
}

/** A picture to start from, and its id as `init` of a job. */
export interface Start {
  id: string;
  png: Uint8Array;
}

export const startFrom = (png: Uint8Array): Start => ({ id: createHash('sha256').update(png).digest('hex'), png });

/** What `--init` names, as the server would keep it when it is uploaded: so that both write the same PNG. */
export async function pictureToStartFrom(values: Values): Promise<Start | undefined> {
  const file = stringOf(values, 'init');
  return file === undefined ? undefined : startFrom((await reencodeUpload(readNamed(file, '--init'))).png);
}

/** A job from the command line's words, in place of those fields of `base`; the schema's own sentences tell what does not fit. */
export function jobOf(base: Record<string, unknown>, values: Values): Job {
  const weighted = listOf(values, 'weighted').map((entry) => {
    const at = entry.lastIndexOf(':');
    const weight = Number(entry.slice(at + 1));
    if (at < 1 || !Number.isFinite(weight)) throw new UsageError(`--weighted takes "text:weight", not ${JSON.stringify(entry)}`);
    return { text: entry.slice(0, at), weight };
  });
  const neurons = listOf(values, 'neuron').map((entry) => {
    const [unit, weight, ...more] = entry.split('=');
    if (more.length > 0 || (weight !== undefined && !(weight.trim() !== '' && Number.isFinite(Number(weight)))))
      throw new UsageError(
        `--neuron takes LLP-k, LLP-k=weight or another layer's unit as block7.1/ch-33=weight, not ${JSON.stringify(entry)}`,
      );
    return { unit, ...(weight !== undefined && { weight: Number(weight) }) };
  });
  const negative = listOf(values, 'negative');
  const size = stringOf(values, 'size');
  const given = {
    ...(weighted.length > 0 && { weighted }),
    ...(neurons.length > 0 && { neurons }),
    ...(negative.length > 0 && { negative }),
    method: stringOf(values, 'method'),
    parameters: stringOf(values, 'parameters'),
    objective: stringOf(values, 'objective'),
    from: stringOf(values, 'from'),
    cosPower: numberOf(values, 'cos-power'),
    copies: numberOf(values, 'copies'),
    diversity: numberOf(values, 'diversity'),
    optimizer: stringOf(values, 'optimizer'),
    schedule: stringOf(values, 'schedule'),
    model: stringOf(values, 'model'),
    learningRate: numberOf(values, 'learning-rate'),
    totalVariation: numberOf(values, 'total-variation'),
    seed: numberOf(values, 'seed'),
    steps: numberOf(values, 'steps'),
    views: numberOf(values, 'views'),
    batch: numberOf(values, 'batch'),
    generator: stringOf(values, 'generator'),
    latents: stringOf(values, 'latents'),
    start: stringOf(values, 'start'),
    tries: numberOf(values, 'tries'),
    average: numberOf(values, 'average'),
    anchor: numberOf(values, 'anchor'),
    anchorTo: stringOf(values, 'anchor-to'),
    restarts: numberOf(values, 'restarts'),
    size: size === undefined ? undefined : /^\d+$/.test(size) ? Number(size) : size,
  };
  const said = (fields: object) => Object.fromEntries(Object.entries(fields).filter(([, value]) => value !== undefined));
  const parsed = jobRequest.safeParse({ ...said(base), ...said(given) });
  if (!parsed.success) throw new UsageError(sentences(parsed.error));
  return parsed.data;
}

/** A run that was ended from outside. */
export class Interrupted extends Error {}

/** Tells on stderr what could not be read of the texts, and, where that is a terminal, how a run is getting on. */
export function createTeller(quiet: boolean): Required<Pick<Watcher, 'begun' | 'step'>> & { end(): void } {
  const live = process.stderr.isTTY && !quiet;
  return {
    begun({ notices }) {
      for (const { message } of notices) console.error(message);
    },
    step({ step, steps, cos, percentile, seconds }) {
      const near = cos === null ? `${percentile?.toFixed(1) ?? '-'}%` : `cos ${cos.toFixed(3)}`;
      if (live) process.stderr.write(`\r${step}/${steps}  ${near}  ${((step + 1) / seconds).toFixed(1)} steps/s `);
    },
    end() {
      if (live) process.stderr.write('\r\x1b[K');
    },
  };
}

interface ToFile {
  init?: Uint8Array;
  frame?: (pixels: Uint8Array, step: number) => void;
  /** Where the picture before quantization goes, with vqgan. */
  unquantized?: string;
  quiet?: boolean;
  /** Asked between steps. */
  canceled?: () => boolean;
}

/**
 * Runs a job, writes its PNG (the bytes that the server would keep for it), and tells what came of it. Folders that are missing are made.
 * Progress goes to stderr when that is a terminal.
 * @throws Interrupted, and writes nothing, when the run was canceled
 */
export async function imagineToFile(
  engine: Engine,
  job: Job,
  out: string,
  { init, frame, unquantized: file, quiet = false, canceled }: ToFile = {},
) {
  mkdirSync(dirname(out), { recursive: true });
  const { begun, step, end } = createTeller(quiet);
  const done = await engine.imagine(
    { jobId: 'cli', job, init },
    {
      begun,
      step(report) {
        frame?.(report.pixels, report.step);
        step(report);
      },
      canceled,
    },
  );
  end();
  frame?.(done.pixels, job.steps);
  const { pixels, width, height, curve, canceled: isCanceled, tokens: _, unquantized, modelHash, ...told } = done;
  if (isCanceled) throw new Interrupted(`${out} was not finished`);
  const model = { name: job.model, hash: modelHash };
  writeFileSync(out, await pictureFile({ pixels, width, height }, job, model, done.generator));
  if (file && unquantized) {
    mkdirSync(dirname(file), { recursive: true });
    writeFileSync(file, await plainFile({ pixels: unquantized, width, height }));
  }
  return { out, text: job.text, seed: job.seed, steps: job.steps, width, height, ...told, model, curve };
}
