import { readFileSync } from 'node:fs';
import { extname } from 'node:path';
import sharp from 'sharp';
import type { Engine } from '../compute/engine.js';
import { jobRequest, type Job } from '../jobs/job.js';
import { listOf, numberOf, required, sentences, stringOf, UsageError, type Command, type Values } from './command.js';
import { openEngine } from './studio.js';

export const imagineCommand: Command = {
  usage: 'imagine "<text>" --out FILE.png [--parameters fourier|pixels|maco] [--seed N] [--steps N] [--json] ...',
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
    steps: { type: 'string' },
    views: { type: 'string' },
    size: { type: 'string' },
    init: { type: 'string' },
    video: { type: 'string' },
  },
  async run(positionals, values) {
    const out = stringOf(values, 'out');
    if (!out || extname(out).toLowerCase() !== '.png') throw new UsageError('--out FILE.png is missing: name the PNG to write');
    const video = stringOf(values, 'video');
    if (video && !['.webp', '.gif'].includes(extname(video).toLowerCase()))
      throw new UsageError(`--video takes a file that ends in .webp or .gif, not ${video}`);
    const job = jobOf(required(positionals, 'text'), values);
    const file = stringOf(values, 'init');
    const engine = await openEngine(stringOf(values, 'device'));
    try {
      const frames: Uint8Array[] = [];
      const done = await imagineToFile(engine, job, out, {
        init: file === undefined ? undefined : readFileSync(file),
        frame: video ? (pixels) => frames.push(pixels) : undefined,
        quiet: values.json === true,
      });
      if (video) await writeVideo(video, frames, job);
      if (values.json !== true)
        console.log(
          `${out}  cos ${done.cos.toFixed(3)}  second opinion ${done.secondOpinion?.toFixed(3) ?? '-'}  ${done.seconds.toFixed(1)} s`,
        );
      return done;
    } finally {
      await engine.release();
    }
  },
};

/** A job from the command line's words; the schema's own sentences tell what does not fit. */
function jobOf(text: string, values: Values): Job {
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
    size: size === undefined ? undefined : /^\d+$/.test(size) ? Number(size) : size,
  };
  const parsed = jobRequest.safeParse(Object.fromEntries(Object.entries(request).filter(([, value]) => value !== undefined)));
  if (!parsed.success) throw new UsageError(sentences(parsed.error));
  return parsed.data;
}

interface ToFile {
  init?: Uint8Array;
  frame?: (pixels: Uint8Array) => void;
  quiet?: boolean;
}

/** Runs a job, writes its PNG, and tells what came of it. Progress goes to stderr when that is a terminal. */
export async function imagineToFile(engine: Engine, job: Job, out: string, { init, frame, quiet = false }: ToFile = {}) {
  const live = process.stderr.isTTY && !quiet;
  const done = await engine.imagine(
    { jobId: 'cli', job, init },
    {
      begun({ notices }) {
        for (const { message } of notices) console.error(message);
      },
      step({ step, steps, cos, seconds, pixels }) {
        frame?.(pixels);
        if (live) process.stderr.write(`\r${step}/${steps}  cos ${cos.toFixed(3)}  ${((step + 1) / seconds).toFixed(1)} steps/s `);
      },
    },
  );
  if (live) process.stderr.write('\r\x1b[K');
  frame?.(done.pixels);
  const { pixels, width, height, curve, canceled: _, ...told } = done;
  await sharp(pixels, { raw: { width, height, channels: 3 } })
    .png()
    .toFile(out);
  return { out, text: job.text, seed: job.seed, steps: job.steps, width, height, ...told, curve };
}

/** Three seconds and a still of one at the end, as animated WebP or GIF. */
async function writeVideo(file: string, frames: Uint8Array[], { width, height }: Job): Promise<void> {
  const every = Math.max(1, Math.ceil(frames.length / 75));
  const shown = frames.filter((_, i) => i % every === 0 || i === frames.length - 1);
  const delay = shown.map((_, i) => (i === shown.length - 1 ? 1000 : 40));
  const raw = { width, height: height * shown.length, channels: 3 as const, pageHeight: height };
  const animation = sharp(Buffer.concat(shown), { raw, limitInputPixels: false });
  await (
    extname(file).toLowerCase() === '.gif' ? animation.gif({ delay, loop: 0 }) : animation.webp({ delay, loop: 0, quality: 82 })
  ).toFile(file);
}
