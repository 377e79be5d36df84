import type { BrivlModel } from '../../models/brivl/model.js';
import type { Job, Notice } from '../jobs/job.js';
import { mainOf, parsePrompts, type Prompt } from '../jobs/prompts.js';
import { embedText, type EmbeddedText } from './look.js';
import type { Feeds, Sessions } from './sessions.js';

/** A negative text pushes with this part of the main text's strength (shared reference, vqgan.md: negatives at -.3). */
const negativeWeight = -0.3;

/** Prompts that push together. */
export interface PromptSet {
  /** What a run is about while the set lasts; null where the job has no text. */
  main: Prompt | null;
  others: Prompt[];
}

/**
 * The texts of a job: sets in series. Beside the main text of a set are the others of its prompts, and the job's weighted and negative texts.
 * @throws PromptError where the job's text is no line of prompts
 */
export function setsOf({ text: line, weighted, negative }: Pick<Job, 'text' | 'weighted' | 'negative'>): PromptSet[] {
  const always = [...weighted, ...negative.map((text) => ({ text, weight: negativeWeight }))].map((text) => ({
    ...text,
    stop: null,
  }));
  if (line === '') return [{ main: null, others: always }];
  return parsePrompts(line).map((set) => {
    const main = mainOf(set);
    return { main, others: [...set.filter((prompt) => prompt !== main), ...always] };
  });
}

export interface TextSet {
  /** Embedding of the main text, or the direction to it; null without one. */
  main: Float32Array | null;
  /** `texts`, `weights` and `stops` of a step (step.ts): K is that of the largest set, the others have texts of weight 0 at their end. */
  feeds: Feeds;
}

/**
 * Embeds every text of the sets once; what was cut off or not understood is said in notices.
 *
 * @param from what the main texts are directions from: their embeddings less its own, L2-normalised, stand in their place
 */
export async function embedSets(
  sessions: Sessions,
  model: BrivlModel,
  sets: readonly PromptSet[],
  from?: string,
): Promise<{ sets: TextSet[]; texts: number; notices: Notice[] }> {
  const embedded = new Map<string, EmbeddedText>();
  const embed = async (text: string) => {
    const known = embedded.get(text) ?? (await embedText(sessions, model, text));
    embedded.set(text, known);
    return known.embedding;
  };
  const origin = from === undefined ? null : await embed(from);
  const size = model.eye.embed;
  const texts = Math.max(...sets.map(({ main, others }) => (main ? 1 : 0) + others.length));
  const made: TextSet[] = [];
  for (const { main, others } of sets) {
    const prompts = [...(main ? [main] : []), ...others];
    const rows: Float32Array[] = [];
    for (const { text } of prompts) rows.push(await embed(text));
    if (main && origin) rows[0] = directionOf(rows[0], origin, main.text, from!);
    const feeds = { texts: new Float32Array(texts * size), weights: new Float32Array(texts), stops: new Float32Array(texts) };
    rows.forEach((row, i) => feeds.texts.set(row, i * size));
    feeds.weights.set(prompts.map(({ weight }) => weight));
    feeds.stops.set(prompts.map(stopOf));
    made.push({ main: main && rows[0], feeds });
  }
  return { sets: made, texts, notices: [...embedded.values()].flatMap(({ notices }) => notices) };
}

/** Two texts whose embeddings differ by less than rounding are one. */
const leastDifference = 1e-4;

function directionOf(to: Float32Array, from: Float32Array, text: string, origin: string): Float32Array {
  const difference = to.map((value, i) => value - from[i]);
  const length = Math.hypot(...difference);
  if (length < leastDifference)
    throw new NoDirectionError(
      `${JSON.stringify(text)} and ${JSON.stringify(origin)} are the same to the model, so nothing leads from one to the other: change from`,
    );
  return difference.map((value) => value / length);
}

/** Two texts that do not differ. */
export class NoDirectionError extends Error {}

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
