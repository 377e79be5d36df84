import type { BrivlModel } from '../../models/brivl/model.js';
import type { Job, Notice } from '../jobs/job.js';
import { mainOf, parsePrompts, type Prompt } from '../jobs/prompts.js';
import { embedText, type EmbeddedText } from './look.js';
import type { Feeds, Sessions } from './sessions.js';

/** A negative text pushes with this part of the main text's strength (shared reference, vqgan.md: negatives at -.3). */
const negativeWeight = -0.3;

/**
 * The texts of a job: sets in series, in each of which all push together. First the main text of the set, which a run is about while the
 * set lasts, then the others of the set, then the job's weighted and negative texts.
 * @throws PromptError where the job's text is no line of prompts
 */
export function setsOf({ text: line, weighted, negative }: Job): Prompt[][] {
  const always = [...weighted, ...negative.map((text) => ({ text, weight: negativeWeight }))].map((text) => ({
    ...text,
    stop: null,
  }));
  return parsePrompts(line).map((set) => {
    const main = mainOf(set);
    return [main, ...set.filter((prompt) => prompt !== main), ...always];
  });
}

export interface TextSet {
  /** Embedding of the main text. */
  main: Float32Array;
  /** `texts`, `weights` and `stops` of a step (step.ts): K is that of the largest set, the others have texts of weight 0 at their end. */
  feeds: Feeds;
}

/** Embeds every text of the sets once; what was cut off or not understood is said in notices. */
export async function embedSets(
  sessions: Sessions,
  model: BrivlModel,
  sets: readonly Prompt[][],
): Promise<{ sets: TextSet[]; notices: Notice[] }> {
  const embedded = new Map<string, EmbeddedText>();
  for (const { text } of sets.flat()) if (!embedded.has(text)) embedded.set(text, await embedText(sessions, model, text));
  const size = model.eye.embed;
  const most = Math.max(...sets.map((set) => set.length));
  return {
    sets: sets.map((set) => {
      const rows = set.map(({ text }) => embedded.get(text)!.embedding);
      const [texts, weights, stops] = [most * size, most, most].map((length) => new Float32Array(length));
      rows.forEach((row, i) => texts.set(row, i * size));
      weights.set(set.map(({ weight }) => weight));
      stops.set(set.map(stopOf));
      return { main: rows[0], feeds: { texts, weights, stops } };
    }),
    notices: [...embedded.values()].flatMap(({ notices }) => notices),
  };
}

/** Beyond every cosine. */
const never = 2;

/**
 * Where a text stops, as the bound of its weight times the cosine: VQGAN+CLIP's loss of a view, the squared angle over 2 with the sign of
 * the weight, is above `stop` exactly where weight x cosine is below this.
 */
export function stopOf({ weight, stop }: Prompt): number {
  if (stop === null) return Math.abs(weight) * never;
  const sign = Math.sign(weight);
  const half = sign * stop;
  if (half < 0) return weight * never;
  if (half >= Math.PI ** 2 / 2) return -weight * never;
  return weight * Math.cos(Math.sqrt(2 * half));
}
