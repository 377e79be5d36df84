import type { Job } from '../../server/jobs/job.js';

/** What is set under "more". */
export type Settings = Pick<
  Job,
  | 'method'
  | 'parameters'
  | 'objective'
  | 'schedule'
  | 'totalVariation'
  | 'model'
  | 'width'
  | 'height'
  | 'steps'
  | 'views'
  | 'weighted'
  | 'negative'
> & {
  /** '' and null leave the choice to the parameters. */
  optimizer: NonNullable<Job['optimizer']> | '';
  learningRate: number | null;
};

/** The server's own defaults (server/jobs/job.ts); test/client/settings.test.ts holds the two together. */
export const defaults: Settings = {
  method: 'feavis',
  parameters: 'fourier',
  objective: 'dot-cos',
  schedule: 'constant',
  totalVariation: 0.5,
  model: 'brivl-nano',
  width: 224,
  height: 224,
  steps: 120,
  views: 8,
  weighted: [],
  negative: [],
  optimizer: '',
  learningRate: null,
};

export const mostSeed = 0xffffffff;
