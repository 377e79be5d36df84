import { extname } from 'node:path';
import { z } from 'zod';
import { decodeTo } from '../compute/pictures.js';
import type { Engine } from '../compute/engine.js';
import { stretchOf } from '../imagination/optimizers.js';
import type { Imagined } from '../imagination/imagine.js';
import { moved, type Motion } from '../imagination/zoom.js';
import { limits, type Job } from '../jobs/job.js';
import { formatPrompts, parsePrompts, type Prompt } from '../jobs/prompts.js';
import { plainFile } from '../store/picture.js';
import { readPngText } from '../store/png-text.js';
import { numberOf, readNamed, stringOf, UsageError, type Command, type Values } from './command.js';
import { createFilm, videoOf } from './film.js';
import { createTeller, jobOf, jobOptions, measuresOf, pictureToStartFrom, textOf } from './imagine.js';
import { untilInterrupted } from './interrupt.js';
import { openEngine } from './studio.js';

export const zoomCommand: Command = {
  usage:
    'zoom "<text>" | zoom FILE.png --video FILE [--frames N] [--zoom FACTOR] [--shift X,Y] [--rotate DEGREES] [--steps-per-frame N] [the options of imagine] [--json]',
  summary: 'film a way into a picture that is imagined anew at each frame: one drawn for a text, or a PNG that imagine wrote',
  options: {
    ...jobOptions,
    video: { type: 'string' },
    frames: { type: 'string' },
    zoom: { type: 'string' },
    shift: { type: 'string' },
    rotate: { type: 'string' },
    'steps-per-frame': { type: 'string' },
  },
  async run(positionals, values) {
    const video = videoOf(values);
    if (video === undefined) throw new UsageError('--video FILE is missing: name the .webp or .gif to write');
    const frames = within(values, 'frames', { usual: 60, min: 2, max: 600, whole: true });
    const stepsPerFrame = within(values, 'steps-per-frame', { usual: 5, min: 1, max: limits.steps, whole: true });
    const motion: Motion = {
      zoom: within(values, 'zoom', { usual: 1.02, min: 0.5, max: 2 }),
      shift: shiftOf(values),
      rotate: within(values, 'rotate', { usual: 0, min: -180, max: 180 }),
    };
    const given = textOf(positionals, 'text or FILE.png', values);
    const { job, story, picture, init } = await sceneOf(given, values);
    if (story.length > frames)
      throw new UsageError(`${story.length} prompts in series do not fit into ${frames} frames: take more frames`);
    const quiet = values.json === true;
    const engine = await openEngine(stringOf(values, 'device'));
    try {
      const film = createFilm(job);
      const begun = performance.now();
      const lineOf = (frame: number) =>
        story.length === 0 ? '' : formatPrompts([story[stretchOf(frame, frames, story.length - 1).index]]);
      const shown: Pick<Imagined, 'cos' | 'secondOpinion'>[] = [];
      await untilInterrupted(async (canceled) => {
        let pixels = picture;
        if (!pixels) {
          const teller = createTeller(quiet);
          const first = await engine.imagine({ jobId: 'cli', job: { ...job, text: lineOf(0) }, init }, { ...teller, canceled });
          teller.end();
          pixels = first.pixels;
          shown.push({ cos: first.cos, secondOpinion: first.secondOpinion });
        }
        film.add(pixels);
        for (let frame = 1; frame < frames && !canceled(); frame++) {
          const seed = (job.seed + frame) % (limits.seed + 1);
          const done = await drawFrame(engine, { ...job, text: lineOf(frame), seed, steps: stepsPerFrame }, moved(pixels, job, motion), canceled); // prettier-ignore
          if (done.canceled) break;
          pixels = done.pixels;
          film.add(pixels);
          shown.push({ cos: done.cos, secondOpinion: done.secondOpinion });
          if (!quiet && process.stderr.isTTY) process.stderr.write(`\rframe ${frame + 1}/${frames}  ${measuresOf(done)} `);
        }
        if (!quiet && process.stderr.isTTY) process.stderr.write('\r\x1b[K');
      });
      await film.write(video);
      const told = {
        video,
        text: job.text,
        frames: film.length,
        ...motion,
        stepsPerFrame,
        seed: job.seed,
        width: job.width,
        height: job.height,
        seconds: (performance.now() - begun) / 1000,
        canceled: film.length < frames,
        shown,
      };
      if (!quiet) console.log(`${video}  ${told.frames} frames  ${told.seconds.toFixed(1)} s`);
      return told;
    } finally {
      await engine.release();
    }
  },
};

/** What is filmed: the job, its prompts in series, and the picture to begin with, where it need not be drawn first. */
interface Scene {
  job: Job;
  /** None where there are neurons alone. */
  story: Prompt[][];
  /** [H, W, 3] bytes */
  picture?: Uint8Array;
  init?: Uint8Array;
}

const storyOf = ({ text }: Job) => (text === '' ? [] : parsePrompts(text));

async function sceneOf(given: string, values: Values): Promise<Scene> {
  if (extname(given).toLowerCase() !== '.png') {
    const init = await pictureToStartFrom(values);
    const job = jobOf({ text: given, init: init?.id }, values);
    return { job, story: storyOf(job), init: init?.png };
  }
  if (values.init !== undefined) throw new UsageError('give a PNG to go into or --init FILE, not both');
  const bytes = readNamed(given, 'the picture');
  const { width, height, ...fields } = jobIn(given, bytes);
  const job = jobOf(values.size === undefined ? { ...fields, width, height } : fields, values);
  if (job.copies !== undefined && job.copies > 1)
    throw new UsageError(`${given} shows ${job.copies} copies side by side: cut one out and name it with --init`);
  // A finished picture is about the last of its prompts in series.
  return { job, story: storyOf(job).slice(-1), picture: await decodeTo(bytes, job, 'cover') };
}

const kept = z.object({ job: z.looseObject({ text: z.string() }) });

/** The job in a PNG's metadata (store/picture.ts) without how it began. It comes from a stranger: its fields are for `jobOf` to check. */
function jobIn(file: string, png: Uint8Array): Record<string, unknown> {
  try {
    const { init: _, start: __, tries: ___, ...job } = kept.parse(JSON.parse(readPngText(png).get('reverie') ?? '')).job;
    return job;
  } catch (error) {
    throw new UsageError(`${file} tells no text: it is not a PNG that imagine wrote. Name a text, and the picture with --init`, {
      cause: error,
    });
  }
}

/** A few steps of imagination from a picture: with vqgan from its codes, else from itself. */
async function drawFrame(engine: Engine, job: Job, pixels: Uint8Array, canceled: () => boolean) {
  const init = await plainFile({ pixels, width: job.width, height: job.height });
  // A mean over so few steps would mostly show where they began.
  const average = job.method === 'vqgan' ? { average: job.average ?? 0 } : {};
  return engine.imagine({ jobId: 'cli', job: { ...job, ...average, tries: undefined, restarts: undefined }, init }, { canceled });
}

function within(
  values: Values,
  name: string,
  { usual, min, max, whole = false }: { usual: number; min: number; max: number; whole?: boolean },
): number {
  const value = numberOf(values, name) ?? usual;
  if (value < min || value > max || (whole && !Number.isInteger(value)))
    throw new UsageError(`--${name} takes a ${whole ? 'whole number' : 'number'} from ${min} to ${max}, not ${value}`);
  return value;
}

function shiftOf(values: Values): [number, number] {
  const typed = stringOf(values, 'shift') ?? '0,0';
  const [x, y, ...more] = typed.split(',').map((part) => (part.trim() === '' ? NaN : Number(part)));
  const most = limits.side.max;
  if (more.length > 0 || ![x, y].every((pixels) => Math.abs(pixels) <= most))
    throw new UsageError(
      `--shift takes two numbers of pixels from -${most} to ${most}, for example "2,-1", not ${JSON.stringify(typed)}`,
    );
  return [x, y];
}
