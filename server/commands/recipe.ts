import { existsSync, mkdirSync, readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import sharp from 'sharp';
import { z } from 'zod';
import { createMemory } from '../compare/remembering.js';
import type { Engine } from '../compute/engine.js';
import { cosine } from '../imagination/look.js';
import { jobRequest, type Job } from '../jobs/job.js';
import { mainOf, parsePrompts } from '../jobs/prompts.js';
import { repositoryRoot } from '../root.js';
import { numberOf, sentences, stringOf, UsageError, type Command } from './command.js';
import { imagineToFile, measuresOf } from './imagine.js';
import { openEngine } from './studio.js';

/** A recipe: an experiment as data. Each job is a job request; `seeds` repeats all of them. */
const recipeFile = z.strictObject({
  name: z.string().regex(/^[a-z0-9-]{1,40}$/),
  title: z.strictObject({ en: z.string(), zh: z.string() }),
  description: z.strictObject({ en: z.string(), zh: z.string() }),
  seeds: z.array(z.number().int().min(0)).min(1).max(16),
  jobs: z
    .array(z.looseObject({ text: z.string().default('') }))
    .min(1)
    .max(64),
});

type Recipe = z.output<typeof recipeFile>;

const folder = join(repositoryRoot, 'recipes');

export function readRecipes(): Recipe[] {
  if (!existsSync(folder)) return [];
  return readdirSync(folder)
    .filter((file) => file.endsWith('.json'))
    .sort()
    .map((file) => readRecipe(join(folder, file)));
}

/** @throws UsageError that names the file, where in it, and what does not fit. */
export function readRecipe(file: string): Recipe {
  let content: unknown;
  try {
    content = JSON.parse(readFileSync(file, 'utf8'));
  } catch (error) {
    throw new UsageError(`the recipe ${file} is not JSON: ${(error as Error).message}`, { cause: error });
  }
  const parsed = recipeFile.safeParse(content);
  if (!parsed.success) throw new UsageError(`the recipe ${file} does not fit: ${sentencesAt(parsed.error)}`);
  for (const [i, request] of parsed.data.jobs.entries()) {
    const checked = jobRequest.safeParse(request);
    if (!checked.success) throw new UsageError(`the recipe ${file}, jobs.${i}: ${sentences(checked.error)}`);
  }
  return parsed.data;
}

const sentencesAt = (error: z.ZodError): string =>
  error.issues.map(({ path, message }) => `${path.join('.') || 'the file'}: ${message}`).join('; ');

export const recipeCommand: Command = {
  usage: 'recipe list | recipe run NAME [--out DIR] [--steps N] [--json]',
  summary: 'run an experiment of the recipes folder and lay its pictures side by side',
  options: { out: { type: 'string' }, steps: { type: 'string' }, device: { type: 'string' } },
  async run([verb, name], values) {
    const recipes = readRecipes();
    if (verb === 'list' || verb === undefined) {
      if (values.json !== true)
        for (const recipe of recipes) console.log(`${recipe.name.padEnd(12)} ${recipe.title.en} / ${recipe.title.zh}`);
      return {
        recipes: recipes.map((recipe) => ({
          name: recipe.name,
          title: recipe.title,
          jobs: recipe.jobs.length * recipe.seeds.length,
        })),
      };
    }
    if (verb !== 'run') throw new UsageError(`recipe takes list or run, not ${verb}`);
    const recipe = recipes.find((r) => r.name === name);
    if (!recipe) throw new UsageError(`there is no recipe ${name ?? ''}: there is ${recipes.map((r) => r.name).join(', ')}`);
    const out = stringOf(values, 'out') ?? join('data', 'recipes', recipe.name);
    mkdirSync(out, { recursive: true });
    const rows = recipe.seeds.map((seed) =>
      recipe.jobs.map((request) => toJob({ ...request, seed, ...override(numberOf(values, 'steps')) })),
    );
    const engine = await openEngine(stringOf(values, 'device'));
    try {
      const results = [];
      const remembered = createMemory<Float32Array>(64);
      const embed = (model: string, text: string) =>
        remembered(`${model} ${text}`, async () => (await engine.embedText(model, text)).embedding);
      for (const [r, jobs] of rows.entries())
        for (const [c, job] of jobs.entries()) {
          const done = await imagineToFile(engine, job, join(out, `${r + 1}-${c + 1}.png`), { quiet: values.json === true });
          if (values.json !== true) console.log(`${done.out}  ${job.text}  seed ${job.seed}  ${measuresOf(done)}`);
          const { curve: _, ...told } = done;
          results.push({ ...told, text: job.text, rank: await rankOfText(engine, job, jobs, done.out, embed) });
        }
      const sheet = join(out, 'sheet.png');
      await contactSheet(
        sheet,
        results.map((result) => result.out),
        recipe.jobs.length,
      );
      const ranked = results.filter(({ rank }) => rank !== null);
      const first = ranked.filter(({ rank }) => rank === 1).length;
      if (values.json !== true && ranked.length > 0)
        console.log(`${first} of ${ranked.length} pictures are nearest to their own text`);
      if (values.json !== true) console.log(sheet);
      return { recipe: recipe.name, sheet, results };
    } finally {
      await engine.release();
    }
  },
};

/**
 * The place, from 1, of a picture's own text among the texts of its row, by cosine of the whole picture's embedding; null where there are not
 * several to tell apart, or none of its own.
 * @param embed a text in a model's joint space
 */
async function rankOfText(
  engine: Engine,
  own: Job,
  row: readonly Job[],
  file: string,
  embed: (model: string, text: string) => Promise<Float32Array>,
): Promise<number | null> {
  const lines = [...new Set(row.map(({ text }) => text))].filter((text) => text !== '');
  if (own.text === '' || lines.length < 2) return null;
  const { embedding } = await engine.embedImage(own.model, readFileSync(file));
  const nearness = async (line: string) => cosine(embedding, await embed(own.model, mainOf(parsePrompts(line).at(-1)!).text));
  const mine = await nearness(own.text);
  let rank = 1;
  for (const text of lines) if ((await nearness(text)) > mine) rank++;
  return rank;
}

const override = (steps: number | undefined) => (steps === undefined ? {} : { steps });

function toJob(request: object): Job {
  const parsed = jobRequest.safeParse(request);
  if (!parsed.success) throw new UsageError(`in the recipe: ${sentences(parsed.error)}`);
  return parsed.data;
}

const tile = 224;
const gap = 6;

/** Pictures side by side, `columns` in a row, on the darkroom's black. */
export async function contactSheet(file: string, pictures: string[], columns: number): Promise<void> {
  const rows = Math.ceil(pictures.length / columns);
  const place = (i: number) => gap + i * (tile + gap);
  const tiles = await Promise.all(
    pictures.map(async (picture, i) => ({
      input: await sharp(picture).resize(tile, tile, { fit: 'contain', background: '#0d0c0b' }).toBuffer(),
      left: place(i % columns),
      top: place(Math.floor(i / columns)),
    })),
  );
  await sharp({ create: { width: place(columns), height: place(rows), channels: 3, background: '#0d0c0b' } })
    .composite(tiles)
    .png()
    .toFile(file);
}
