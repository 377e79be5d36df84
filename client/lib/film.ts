import type { Concept } from '../../server/jobs/job.js';
import type { TokenGrid } from './tokens.js';

/** One kept moment of an imagination: the encoded picture and what was measured on it. */
export interface Moment {
  step: number;
  picture: Blob;
  /** Null without a text. */
  cos: number | null;
  secondOpinion: number | null;
  /** Of the first neuron, where there is one. */
  percentile: number | null;
  /** What the picture called up at or before this step. */
  concepts: Concept[];
  /** What the picture was drawn from, with vqgan. */
  tokens: TokenGrid | null;
}

/**
 * The film with one more moment, in order of steps; a moment of a step already there replaces it (a snapshot after a lost connection
 * repeats the last frame). Over `capacity`, the moment whose neighbours are nearest to each other is let go, so that a long run keeps an
 * even film and a bounded memory; the first and the last stay.
 */
export function withMoment(film: readonly Moment[], moment: Moment, capacity = 240): Moment[] {
  const at = film.findLastIndex((kept) => kept.step <= moment.step);
  const before = film.slice(0, film[at]?.step === moment.step ? at : at + 1);
  const grown = [...before, moment, ...film.slice(at + 1)];
  if (grown.length <= capacity) return grown;
  let least = 1;
  for (let index = 1; index < grown.length - 1; index++) if (gapWithout(grown, index) < gapWithout(grown, least)) least = index;
  return grown.filter((_, index) => index !== least);
}

const gapWithout = (film: readonly Moment[], index: number) => film[index + 1].step - film[index - 1].step;

/** The moment nearest to a step, or null on an empty film. */
export function nearest(film: readonly Moment[], step: number): Moment | null {
  let best: Moment | null = null;
  for (const moment of film) if (best === null || Math.abs(moment.step - step) <= Math.abs(best.step - step)) best = moment;
  return best;
}

/** The film cut into `slots` equal stretches of steps; each shows its last moment, one without a frame
 * that before it, and null stands where nothing has come yet. */
export function strip(film: readonly Moment[], steps: number, slots: number): (Moment | null)[] {
  const row = new Array<Moment | null>(slots).fill(null);
  for (const moment of film) row[slotOf(moment.step, steps, slots)] = moment;
  const last = row.findLastIndex((moment) => moment !== null);
  for (let slot = 1; slot < last; slot++) row[slot] ??= row[slot - 1];
  return row;
}

/** Which slot a step falls into; step `steps` is in the last. */
export function slotOf(step: number, steps: number, slots: number): number {
  return Math.min(slots - 1, Math.max(0, Math.ceil((step / steps) * slots) - 1));
}
