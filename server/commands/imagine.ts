import { createHash } from 'node:crypto';
import { mkdirSync, writeFileSync } from 'node:fs';
import { dirname, extname } from 'node:path';
import sharp from 'sharp';
import type { Engine } from '../compute/engine.js';
import { jobRequest, limits, type Job } from '../jobs/job.js';
import { listOf, numberOf, readNamed, required, sentences, stringOf, UsageError, type Command, type Values } from './command.js';
import { pictureFile } from '../store/picture.js';
import { reencodeUpload } from '../store/uploads.js';
import { openEngine } from './studio.js';

export const imagineCommand: Command = {
  usage:
    'imagine "<text>" --out FILE.png [--method feavis|vqgan] [--parameters fourier|pixels|maco] [--generator NAME] [--start smooth|codes] [--negative "<text>"]... [--neuron LLP-k[=weight]]... [--seed N] [--count N] [--steps N] [--views N] [--size N|WxH] [--init FILE] [--video FILE] [--device NAME] [--json]',
  summary: 'draw what the model imagines at a text',
  options: {
    out: { type: 'string' },
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
    model: { type: 'string' },
    device: { type: 'string' },
    seed: { type: 'string' },
    count: { type: 'string' },
    steps: { type: 'string' },
    views: { type: 'string' },
    size: { type: 'string' },
    batch: { type: 'string' },
    init: { type: 'string' },
    generator: { type: 'string' },
    start: { type: 'string' },
    tries: { type: 'string' },
    average: { type: 'string' },
    anchor: { type: 'string' },
    'anchor-to': { type: 'string' },
    restarts: { type: 'string' },
    video: { type: 'string' },
  },
  async run(positionals, values) {
    const out = stringOf(values, 'out');
    if (!out || extname(out).toLowerCase() !== '.png') throw new UsageError('--out FILE.png is missing: name the PNG to write');
    const video = stringOf(values, 'video');
    if (video && !['.webp', '.gif'].includes(extname(video).toLowerCase()))
      throw new UsageError(`--video takes a file that ends in .webp or .gif, not ${video}`);
    const count = numberOf(values, 'count') ?? 1;
    if (!Number.isInteger(count) || count < 1 || count > 64)
      throw new UsageError(`--count takes a whole number from 1 to 64, not ${count}`);
    const file = stringOf(values, 'init');
    const init = file === undefined ? undefined : await pictureToStartFrom(file);
    const job = jobOf(required(positionals, 'text'), values, init);
    if (job.seed + count - 1 > limits.seed) throw new UsageError(`--seed with --count must stay at or below ${limits.seed}`);
    const engine = await openEngine(stringOf(values, 'device'));
    try {
      const results = [];
      for (let i = 0; i < count; i++) {
        const numbered = (name: string) => (count === 1 ? name : name.replace(/(\.[^.]+)$/, `-${i + 1}$1`));
        const filmed = video && createFilm(job);
        const done = await imagineToFile(engine, { ...job, seed: job.seed + i }, numbered(out), {
          init: init?.png,
          frame: filmed ? filmed.frame : undefined,
          quiet: values.json === true,
        });
        if (filmed) await filmed.write(numbered(video));
        if (values.json !== true)
          console.log(
            `${done.out}  cos ${done.cos.toFixed(3)}  second opinion ${done.secondOpinion?.toFixed(3) ?? '-'}  ${done.seconds.toFixed(1)} s`,
          );
        results.push(done);
      }
      return count === 1 ? results[0] : { results };
    } finally {
      await engine.release();
    }
  },
};

/** The picture as the server would keep it when it is uploaded, and its id: so that both write the same PNG. */
async function pictureToStartFrom(file: string): Promise<{ id: string; png: Uint8Array }> {
  const { png } = await reencodeUpload(readNamed(file, '--init'));
  return { id: createHash('sha256').update(png).digest('hex'), png };
}

/** A job from the command line's words; the schema's own sentences tell what does not fit. */
function jobOf(text: string, values: Values, init?: { id: string }): Job {
  const weighted = listOf(values, 'weighted').map((entry) => {
    const at = entry.lastIndexOf(':');
    const weight = Number(entry.slice(at + 1));
    if (at < 1 || !Number.isFinite(weight)) throw new UsageError(`--weighted takes "text:weight", not ${JSON.stringify(entry)}`);
    return { text: entry.slice(0, at), weight };
  });
  const neurons = listOf(values, 'neuron').map((entry) => {
    const [unit, weight = '1'] = entry.split('=');
    if (!Number.isFinite(Number(weight)) || weight.trim() === '')
      throw new UsageError(`--neuron takes LLP-k or LLP-k=weight, not ${JSON.stringify(entry)}`);
    return { unit, weight: Number(weight) };
  });
  const size = stringOf(values, 'size');
  const request = {
    text,
    weighted,
    neurons,
    negative: listOf(values, 'negative'),
    method: stringOf(values, 'method'),
    parameters: stringOf(values, 'parameters'),
    objective: stringOf(values, 'objective'),
    optimizer: stringOf(values, 'optimizer'),
    schedule: stringOf(values, 'schedule'),
    model: stringOf(values, 'model'),
    learningRate: numberOf(values, 'learning-rate'),
    totalVariation: numberOf(values, 'total-variation'),
    seed: numberOf(values, 'seed'),
    steps: numberOf(values, 'steps'),
    views: numberOf(values, 'views'),
    batch: numberOf(values, 'batch'),
    init: init?.id,
    generator: stringOf(values, 'generator'),
    start: stringOf(values, 'start'),
    tries: numberOf(values, 'tries'),
    average: numberOf(values, 'average'),
    anchor: numberOf(values, 'anchor'),
    anchorTo: stringOf(values, 'anchor-to'),
    restarts: numberOf(values, 'restarts'),
    size: size === undefined ? undefined : /^\d+$/.test(size) ? Number(size) : size,
  };
  const parsed = jobRequest.safeParse(Object.fromEntries(Object.entries(request).filter(([, value]) => value !== undefined)));
  if (!parsed.success) throw new UsageError(sentences(parsed.error));
  return parsed.data;
}

interface ToFile {
  init?: Uint8Array;
  frame?: (pixels: Uint8Array, step: number) => void;
  quiet?: boolean;
}

/**
 * Runs a job, writes its PNG (the bytes that the server would keep for it), and tells what came of it. Folders that are missing are made.
 * Progress goes to stderr when that is a terminal.
 */
export async function imagineToFile(engine: Engine, job: Job, out: string, { init, frame, quiet = false }: ToFile = {}) {
  const live = process.stderr.isTTY && !quiet;
  mkdirSync(dirname(out), { recursive: true });
  const done = await engine.imagine(
    { jobId: 'cli', job, init },
    {
      begun({ notices }) {
        for (const { message } of notices) console.error(message);
      },
      step({ step, steps, cos, seconds, pixels }) {
        frame?.(pixels, step);
        if (live) process.stderr.write(`\r${step}/${steps}  cos ${cos.toFixed(3)}  ${((step + 1) / seconds).toFixed(1)} steps/s `);
      },
    },
  );
  if (live) process.stderr.write('\r\x1b[K');
  frame?.(done.pixels, job.steps);
  const { pixels, width, height, curve, canceled: _, tokens: __, modelHash, ...told } = done;
  const model = { name: job.model, hash: modelHash };
  writeFileSync(out, await pictureFile({ pixels, width, height }, job, model, done.generator));
  return { out, text: job.text, seed: job.seed, steps: job.steps, width, height, ...told, model, curve };
}

/** Three seconds at most and a still of one at the end, as animated WebP or GIF. */
function createFilm({ width, height, steps }: Job) {
  const every = Math.max(1, Math.ceil(steps / 75));
  const frames: Uint8Array[] = [];
  let next = 0;
  return {
    frame(pixels: Uint8Array, step: number) {
      if (pixels.length === 0 || (step < next && step < steps)) return;
      frames.push(pixels);
      next = step + every;
    },
    async write(file: string): Promise<void> {
      const delay = frames.map((_, i) => (i === frames.length - 1 ? 1000 : 40));
      const raw = { width, height: height * frames.length, channels: 3 as const, pageHeight: height };
      const animation = sharp(Buffer.concat(frames), { raw, limitInputPixels: false });
      const written =
        extname(file).toLowerCase() === '.gif'
          ? animation.gif({ delay, loop: 0 })
          : animation.webp({ delay, loop: 0, quality: 82 });
      mkdirSync(dirname(file), { recursive: true });
      await written.toFile(file);
    },
  };
}
