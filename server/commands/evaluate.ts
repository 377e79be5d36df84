import { mkdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { z } from 'zod';
import { defaultModel } from '../../models/registry.js';
import type { Engine } from '../compute/engine.js';
import { cosine } from '../imagination/look.js';
import { jobRequest, methods, type Job } from '../jobs/job.js';
import { repositoryRoot } from '../root.js';
import { listOf, numberOf, stringOf, UsageError, type Command, type Values } from './command.js';
import { imagineToFile } from './imagine.js';
import { contactSheet } from './recipe.js';
import { openEngine } from './studio.js';

const questions = z.array(z.object({ text: z.string(), accept: z.array(z.string()).min(1) }));

const read = (file: string) => questions.parse(JSON.parse(readFileSync(join(repositoryRoot, 'test/eval', file), 'utf8')));

const heldOut = z.array(
  z.object({ texts: z.object({ en: z.string(), zh: z.string() }), accept: z.array(z.string()).min(1), shows: z.array(z.string()) }),
);

/**
 * Questions to a model: does a text call up the right concepts, also texts like none that it was taught; do translations find each other;
 * and does another network recognise what was drawn?
 */
export const evalCommand: Command = {
  usage: 'eval [--held-out | --pictures [--method feavis|vqgan]...] [--seeds N] [--out DIR] [--model NAME] [--json]',
  summary:
    'how often a text calls up an accepted concept, --held-out: texts that were never taught; --pictures: what the second opinion sees',
  options: {
    'held-out': { type: 'boolean' },
    pictures: { type: 'boolean' },
    method: { type: 'string', multiple: true },
    seeds: { type: 'string' },
    out: { type: 'string' },
    model: { type: 'string' },
    device: { type: 'string' },
  },
  async run(_, values) {
    const model = stringOf(values, 'model') ?? defaultModel;
    const quiet = values.json === true;
    const engine = await openEngine(stringOf(values, 'device') ?? 'cpu');
    try {
      if (values['held-out'] === true) return await rankHeldOut(engine, model, quiet);
      if (values.pictures !== true) return await rankTexts(engine, model, quiet);
      const out = stringOf(values, 'out') ?? join('data', 'eval');
      return await rankPictures(engine, model, out, numberOf(values, 'seeds') ?? 3, methodsOf(values), quiet);
    } finally {
      await engine.release();
    }
  },
};

function methodsOf(values: Values): Job['method'][] {
  const asked = listOf(values, 'method');
  const known = methods.filter((method) => asked.includes(method));
  const unknown = asked.find((name) => !methods.some((method) => method === name));
  if (unknown !== undefined) throw new UsageError(`--method takes ${methods.join(' or ')}, not ${unknown}`);
  return known.length > 0 ? known : ['feavis'];
}

/** Rank of the first accepted concept for each text of concepts-dev.json. */
async function rankTexts(engine: Engine, model: string, quiet: boolean) {
  const ranks: { text: string; rank: number; first: string }[] = [];
  for (const { text, accept } of read('concepts-dev.json')) {
    const { concepts } = await engine.conceptsOfText(model, text, 1000);
    ranks.push({ text, rank: concepts.findIndex(({ wnid }) => accept.includes(wnid)) + 1, first: concepts[0].word });
  }
  const hit = (k: number) => ranks.filter(({ rank }) => rank > 0 && rank <= k).length / ranks.length;
  const told = { model, texts: ranks.length, hit1: hit(1), hit5: hit(5), hit10: hit(10), ranks };
  if (!quiet) {
    for (const { text, rank, first } of ranks) console.log(`${String(rank).padStart(4)}  ${text}  (first: ${first})`);
    console.log(
      `${ranks.length} texts: hit@1 ${told.hit1.toFixed(3)}, hit@5 ${told.hit5.toFixed(3)}, hit@10 ${told.hit10.toFixed(3)}`,
    );
  }
  return told;
}

/**
 * held-out.json: texts that no lesson of the text head had, each in two languages. `accept` was judged by a reader who saw neither the corpus
 * nor the model, and has what the corpus' writer weighed .5 or more; `strict` counts the writer's own list alone.
 */
async function rankHeldOut(engine: Engine, model: string, quiet: boolean) {
  const entries = heldOut.parse(JSON.parse(readFileSync(join(repositoryRoot, 'test/eval/held-out.json'), 'utf8')));
  const told: Record<string, number | string> = { model, texts: entries.length };
  const sides: Float32Array[][] = [];
  const milliseconds: number[] = [];
  for (const language of ['en', 'zh'] as const) {
    const side: Float32Array[] = [];
    const ranks: { accept: number; strict: number }[] = [];
    for (const [i, { texts, accept, shows }] of entries.entries()) {
      if (!quiet && i % 200 === 0) console.error(`${language}: ${i} of ${entries.length}`);
      const { concepts } = await engine.conceptsOfText(model, texts[language], 10);
      const rank = (of: string[]) => concepts.findIndex(({ wnid }) => of.includes(wnid)) + 1;
      ranks.push({ accept: rank(accept), strict: rank(shows) });
      if (side.length < 200) {
        const begun = performance.now();
        side.push((await engine.embedText(model, texts[language])).embedding);
        milliseconds.push(performance.now() - begun);
      }
    }
    sides.push(side);
    for (const by of ['accept', 'strict'] as const)
      for (const k of [1, 5, 10])
        told[`${language}.${by}.hit${k}`] = ranks.filter((r) => r[by] > 0 && r[by] <= k).length / ranks.length;
  }
  for (const [name, from, to] of [
    ['pairs.en', sides[0], sides[1]],
    ['pairs.zh', sides[1], sides[0]],
  ] as const)
    told[name] = from.filter((a, i) => to.every((b, j) => j === i || cosine(a, b) < cosine(a, to[i]))).length / from.length;
  if (!quiet)
    for (const [name, value] of Object.entries(told)) console.log(name, typeof value === 'number' ? +value.toFixed(3) : value);
  return told;
}

/**
 * Pictures of pictures.json at the default settings of one or several methods; the second opinion's rank of the first accepted concept in
 * each, 0 when over 10. The sheet has a row a text, and in it the seeds of each method.
 */
async function rankPictures(engine: Engine, model: string, out: string, seeds: number, methods: Job['method'][], quiet: boolean) {
  mkdirSync(out, { recursive: true });
  const set = read('pictures.json');
  const pictures: {
    text: string;
    method: Job['method'];
    seed: number;
    out: string;
    rank: number;
    cos: number | null;
    secondOpinion: number | null;
    seconds: number;
    seen: string[];
  }[] = [];
  for (const [i, { text, accept }] of set.entries())
    for (const method of methods)
      for (let seed = 1; seed <= seeds; seed++) {
        const job = jobRequest.parse({ text, seed, model, method });
        const file = join(out, `${i + 1}-${method === 'feavis' ? '' : `${method}-`}${seed}.png`);
        const done = await imagineToFile(engine, job, file, { quiet: true });
        const rank = done.secondOpinionConcepts.findIndex(({ wnid }) => accept.includes(wnid)) + 1;
        const { cos, secondOpinion, seconds } = done;
        const seen = done.secondOpinionConcepts.slice(0, 5).map(({ word }) => word);
        pictures.push({ text, method, seed, out: file, rank, cos, secondOpinion, seconds, seen });
        if (!quiet)
          console.log(
            `${text}  ${method}  seed ${seed}  rank ${rank || '-'}  cos ${cos?.toFixed(3) ?? '-'}  second ${secondOpinion?.toFixed(3) ?? '-'}  ${seconds.toFixed(1)} s  ${seen.join(', ')}`,
          );
      }
  const sheet = join(out, 'sheet.png');
  await contactSheet(
    sheet,
    pictures.map((picture) => picture.out),
    seeds * methods.length,
  );
  const perText = methods.flatMap((method) =>
    set.map(({ text }) => {
      const own = pictures.filter((p) => p.text === text && p.method === method && p.rank > 0);
      return { text, method, recognised: own.filter(({ rank }) => rank <= 5).length, amongTen: own.length, of: seeds };
    }),
  );
  if (!quiet)
    for (const method of methods) {
      const own = perText.filter((p) => p.method === method);
      const among = own.reduce((sum, { amongTen }) => sum + amongTen, 0);
      console.log(
        `${method}: ${own.map(({ text, recognised }) => `${text} ${recognised}/${seeds}`).join(', ')}; among the first ten ${among} of ${own.length * seeds}`,
      );
    }
  return { model, sheet, perText, pictures };
}
