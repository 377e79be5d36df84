import { readFileSync, writeFileSync } from 'node:fs';
import { basename, extname, join } from 'node:path';
import { drawStory } from '../compare/draw.js';
import { limits, type Job } from '../jobs/job.js';
import { readNamed, required, stringOf, UsageError, type Command, type Values } from './command.js';
import { createFilm, filmRun, videoOf } from './film.js';
import { imagineToFile, Interrupted, jobOf, jobOptions, measuresOf, pictureToStartFrom, startFrom } from './imagine.js';
import { untilInterrupted } from './interrupt.js';
import { openEngine } from './studio.js';

/** Pictures of a film on the way, over all lines: a long story takes fewer of each. */
const mostFilmed = 300;

export const storyCommand: Command = {
  usage: 'story FILE [--out DIR] [--morph] [--video FILE] [the options of imagine] [--json]',
  summary: 'draw a picture for each line of a poem, in one style; --morph: each line begins with the picture of the one before',
  options: { ...jobOptions, out: { type: 'string' }, morph: { type: 'boolean' }, video: { type: 'string' } },
  async run(positionals, values) {
    const file = required(positionals, 'FILE');
    const video = videoOf(values);
    const init = await pictureToStartFrom(values);
    const jobs = jobsOf(file, { init: init?.id }, values);
    const folder = stringOf(values, 'out') ?? join('data', 'stories', basename(file, extname(file)));
    const film = video === undefined ? undefined : createFilm(jobs[0]);
    const most = Math.max(1, Math.min(75, Math.floor(mostFilmed / jobs.length)));
    const quiet = values.json === true;
    const engine = await openEngine(stringOf(values, 'device'));
    try {
      const lines = await untilInterrupted(async (canceled) => {
        const drawn: Pick<Awaited<ReturnType<typeof imagineToFile>>, 'text' | 'out' | 'cos' | 'secondOpinion' | 'neurons'>[] = [];
        let start = init;
        for (const [i, asked] of jobs.entries()) {
          const job = i > 0 && values.morph === true ? after(asked, start!.id, values) : asked;
          const name = join(folder, `${String(i + 1).padStart(2, '0')}.png`);
          const frame = film && filmRun(film, job.steps, most);
          let done;
          try {
            done = await imagineToFile(engine, job, name, { init: start?.png, frame, quiet, canceled });
          } catch (error) {
            if (!(error instanceof Interrupted)) throw error;
            break;
          }
          const { text, out, cos, secondOpinion, neurons } = done;
          drawn.push({ text, out, cos, secondOpinion, neurons });
          if (!quiet) console.log(`${out}  ${text}  ${measuresOf(done)}`);
          if (values.morph === true) start = startFrom(readFileSync(out));
        }
        return drawn;
      });
      const sheet = lines.length > 0 ? join(folder, 'story.png') : null;
      if (sheet) writeFileSync(sheet, await drawStory(lines.map(({ out, text }) => ({ picture: readFileSync(out), line: text }))));
      if (film && video) await film.write(video);
      if (!quiet) console.log([sheet, video].filter(Boolean).join('\n'));
      const { seed, steps } = jobs[0];
      return {
        lines,
        sheet,
        video: video ?? null,
        seed,
        steps,
        morph: values.morph === true,
        canceled: lines.length < jobs.length,
      };
    } finally {
      await engine.release();
    }
  },
};

/** A line that begins with a picture has no start to choose. */
const after = ({ text }: Job, init: string, values: Values): Job =>
  jobOf({ text, init }, { ...values, start: undefined, tries: undefined });

/** A job for each line of the file that is neither empty nor a comment. Throws a UsageError that names the line. */
function jobsOf(file: string, base: { init?: string }, values: Values): Job[] {
  // What is wrong with the options is wrong with them, not with a line.
  jobOf({ ...base, text: 'line' }, values);
  const lines = readText(file)
    .split(/\r\n|\r|\n/)
    .map((line, i) => ({ text: line.trim(), number: i + 1 }))
    .filter(({ text }) => text !== '' && !text.startsWith('#'));
  if (lines.length === 0) throw new UsageError(`${file} has no line to draw: write a text a line`);
  if (lines.length > limits.lines)
    throw new UsageError(`${file} has ${lines.length} lines to draw, at most ${limits.lines} are a story: split it`);
  return lines.map(({ text, number }) => {
    try {
      return jobOf({ ...base, text }, values);
    } catch (error) {
      if (!(error instanceof UsageError)) throw error;
      throw new UsageError(`${file}, line ${number}: ${error.message}`, { cause: error });
    }
  });
}

function readText(file: string): string {
  const bytes = readNamed(file, 'the story');
  try {
    return new TextDecoder('utf-8', { fatal: true }).decode(bytes);
  } catch (error) {
    throw new UsageError(`the story ${file} is not a text in UTF-8: save it as one`, { cause: error });
  }
}
