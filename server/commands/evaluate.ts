import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { z } from 'zod';
import { defaultModel } from '../../models/registry.js';
import { repositoryRoot } from '../root.js';
import { stringOf, type Command } from './command.js';
import { openEngine } from './studio.js';

const questions = z.array(z.object({ text: z.string(), accept: z.array(z.string()).min(1) }));

/** Rank of the first accepted concept for each text of test/eval/concepts-dev.json. */
export const evalCommand: Command = {
  usage: 'eval [--model NAME] [--json]',
  summary: 'how often a text calls up an accepted concept: hit@1, hit@5, hit@10',
  options: { model: { type: 'string' } },
  async run(_, values) {
    const set = questions.parse(JSON.parse(readFileSync(join(repositoryRoot, 'test/eval/concepts-dev.json'), 'utf8')));
    const model = stringOf(values, 'model') ?? defaultModel;
    const engine = await openEngine('cpu');
    try {
      const ranks: { text: string; rank: number; first: string }[] = [];
      for (const { text, accept } of set) {
        const { concepts } = await engine.conceptsOfText(model, text, 1000);
        ranks.push({ text, rank: concepts.findIndex(({ wnid }) => accept.includes(wnid)) + 1, first: concepts[0].word });
      }
      const hit = (k: number) => ranks.filter(({ rank }) => rank > 0 && rank <= k).length / ranks.length;
      const told = { model, texts: ranks.length, hit1: hit(1), hit5: hit(5), hit10: hit(10), ranks };
      if (values.json !== true) {
        for (const { text, rank, first } of ranks) console.log(`${String(rank).padStart(4)}  ${text}  (first: ${first})`);
        console.log(
          `${ranks.length} texts: hit@1 ${told.hit1.toFixed(3)}, hit@5 ${told.hit5.toFixed(3)}, hit@10 ${told.hit10.toFixed(3)}`,
        );
      }
      return told;
    } finally {
      await engine.release();
    }
  },
};
