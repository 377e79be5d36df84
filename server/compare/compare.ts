import { cosine } from '../imagination/look.js';
import type { Notice } from '../jobs/job.js';
import type { Label } from './labels.js';
import { filled } from './templates.js';

/** What puts texts and pictures into one joint space: the engine, or the compute process. */
export interface Embedder {
  text(text: string): Promise<{ embedding: Float32Array; notices: Notice[] }>;
  /** @param name a file or an id, as the caller names its pictures */
  picture(name: string): Promise<Float32Array>;
}

export interface Pace {
  /** Looked at between embeddings. */
  signal?: AbortSignal;
  /** Called after each embedding. */
  progress?: (done: number, of: number, what: 'texts' | 'pictures') => void;
}

/** How many pictures are read, decoded and looked at at a time. */
const batch = 4;

/**
 * One direction for each text: the mean of the embeddings of the text in every template, normalised, as CLIP's ensembles are.
 * @param templates at least one; `['{}']` for the texts as they are
 */
export async function embedTexts(
  embedder: Embedder,
  texts: readonly string[],
  templates: readonly string[],
  { signal, progress }: Pace = {},
): Promise<{ directions: Float32Array[]; notices: Notice[] }> {
  const notices = new Map<string, Notice>();
  const directions: Float32Array[] = [];
  for (const [i, text] of texts.entries()) {
    const embeddings: Float32Array[] = [];
    for (const template of templates) {
      signal?.throwIfAborted();
      const told = await embedder.text(filled(template, text));
      embeddings.push(told.embedding);
      for (const notice of told.notices) notices.set(notice.message, notice);
    }
    directions.push(embeddings.length === 1 ? embeddings[0] : meanDirection(embeddings));
    progress?.(i + 1, texts.length, 'texts');
  }
  return { directions, notices: [...notices.values()] };
}

/** The normalised mean; zeros when the vectors cancel out. */
export function meanDirection(vectors: readonly Float32Array[]): Float32Array {
  const sum = Float64Array.from({ length: vectors[0].length }, (_, k) => vectors.reduce((total, vector) => total + vector[k], 0));
  const length = Math.hypot(...sum) || 1;
  return Float32Array.from(sum, (value) => value / length);
}

/**
 * Embeds pictures in their order, a few at a time: only the embeddings stay in memory.
 * @param skip told of a picture that cannot be read, which is then left out; without it the first such error is thrown
 */
export async function* embedPictures(
  embedder: Embedder,
  names: readonly string[],
  { signal, progress }: Pace = {},
  skip?: (name: string, error: unknown) => void,
): AsyncGenerator<{ name: string; embedding: Float32Array }> {
  for (let start = 0; start < names.length; start += batch) {
    signal?.throwIfAborted();
    const some = names.slice(start, start + batch);
    const seen = await Promise.allSettled(some.map((name) => embedder.picture(name)));
    for (const [i, answer] of seen.entries()) {
      const name = some[i];
      if (answer.status === 'fulfilled') yield { name, embedding: answer.value };
      else if (skip) skip(name, answer.reason);
      else throw answer.reason;
      progress?.(start + i + 1, names.length, 'pictures');
    }
  }
}

/** The cosine of one picture to every text. */
export const scoresOf = (picture: Float32Array, directions: readonly Float32Array[]): number[] =>
  directions.map((direction) => cosine(picture, direction));

export interface Ranked {
  label: string;
  score: number;
}

/** The `top` best of scores, best first; ties keep the labels' order. */
export function rank(scores: readonly number[], top: number): { index: number; score: number }[] {
  return scores
    .map((score, index) => ({ index, score }))
    .sort((a, b) => b.score - a.score || a.index - b.index)
    .slice(0, top);
}

/** One picture whose class is known (or not: undefined), and the classes in the order in which the model takes them for it. */
export interface Verdict {
  truth: number | undefined;
  /** Indices of labels, likeliest first, at least five where there are five. */
  ranking: readonly number[];
}

/** The share of pictures with a known class that have it among their first `top`; null when no class is known. */
export function accuracy(verdicts: readonly Verdict[], top: number): number | null {
  const known = verdicts.filter(({ truth }) => truth !== undefined);
  if (!known.length) return null;
  return known.filter(({ truth, ranking }) => ranking.slice(0, top).includes(truth!)).length / known.length;
}

export interface Confusion {
  /** The classes that occur, as truth or as answer, in the labels' order. */
  labels: string[];
  /** [truth, answer]: how many pictures of a class were taken for each. */
  counts: number[][];
}

/** Which classes were taken for which; null when no class is known. */
export function confusionOf(verdicts: readonly Verdict[], labels: readonly Label[]): Confusion | null {
  const known = verdicts.filter(({ truth }) => truth !== undefined);
  if (!known.length) return null;
  const occurring = [...new Set(known.flatMap(({ truth, ranking }) => [truth!, ranking[0]]))].sort((a, b) => a - b);
  const place = new Map(occurring.map((label, i) => [label, i]));
  const counts = occurring.map(() => occurring.map(() => 0));
  for (const { truth, ranking } of known) counts[place.get(truth!)!][place.get(ranking[0])!] += 1;
  return { labels: occurring.map((i) => labels[i].text), counts };
}
