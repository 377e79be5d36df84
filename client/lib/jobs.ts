import type { Job } from '../../server/jobs/job.js';

/** What a job is called: its text, the way it leads, or the neurons that stand in a text's place. */
export const titleOf = ({ text, from, neurons }: Pick<Job, 'text' | 'from' | 'neurons'>): string =>
  text === '' ? neurons.map(({ unit }) => unit).join(' + ') : from === undefined ? text : `${from} → ${text}`;

/** Width over height of a job's picture: of the whole sheet where it has copies (server/imagination/copies.ts). */
export function ratioOf({ width, height, copies = 1 }: Pick<Job, 'width' | 'height' | 'copies'>): number {
  const columns = Math.ceil(Math.sqrt(copies));
  return (columns * width) / (Math.ceil(copies / columns) * height);
}
