import type { Job, JobRequest } from '../../server/jobs/job.js';
import type { Constraint } from './constraints.js';

/** What is set in the controls and under "more". What belongs to one method keeps its values while the other is chosen. */
export interface Settings extends Pick<
  Job,
  'method' | 'objective' | 'schedule' | 'totalVariation' | 'model' | 'steps' | 'views' | 'weighted' | 'negative'
> {
  /** Beside the line, or in its place. */
  neurons: Constraint[];
  /** '' for none. */
  from: string;
  cosPower: number;
  copies: number;
  diversity: number;
  /** '' and, for the learning rate, null leave the choice to the method; so does a start of ''. */
  optimizer: NonNullable<Job['optimizer']> | '';
  feavis: Own & Pick<Job, 'parameters'>;
  vqgan: Own & { start: NonNullable<Job['start']> | '' } & Required<
      Pick<Job, 'generator' | 'latents' | 'tries' | 'average' | 'anchor' | 'anchorTo' | 'restarts'>
    >;
}

interface Own {
  width: number;
  height: number;
  learningRate: number | null;
}

/** The server's own defaults (server/jobs/job.ts); test/client/settings.test.ts holds the two together. */
export const defaults: Settings = {
  method: 'feavis',
  objective: 'dot-cos',
  schedule: 'constant',
  totalVariation: 0.5,
  model: 'brivl-nano',
  steps: 120,
  views: 8,
  weighted: [],
  negative: [],
  neurons: [],
  from: '',
  cosPower: 1,
  copies: 1,
  diversity: 0,
  optimizer: '',
  feavis: { parameters: 'fourier', width: 224, height: 224, learningRate: null },
  vqgan: {
    ...{
      generator: 'vqgan-nano',
      latents: 'spectrum',
      start: '',
      tries: 1,
      average: 0.9,
      anchor: 0,
      anchorTo: 'zero',
      restarts: 0,
    },
    ...{ width: 256, height: 256, learningRate: null },
  },
};

const { method: _method, feavis: _feavis, vqgan: _vqgan, ...sharedDefaults } = defaults;

const differing = <Values extends object>(values: Values, usual: Partial<Values>): Partial<Values> =>
  Object.fromEntries(
    Object.entries(usual).flatMap(([name, value]) => {
      const now: unknown = values[name as keyof Values];
      return JSON.stringify(now) === JSON.stringify(value) ? [] : [[name, now]];
    }),
  ) as Partial<Values>;

/** What differs from the defaults, of the method that is chosen. */
export const changesOf = (settings: Settings): Record<string, unknown> => ({
  ...differing<Partial<Settings>>(settings, sharedDefaults),
  ...differing<Partial<Settings['feavis'] & Settings['vqgan']>>(settings[settings.method], defaults[settings.method]),
});

/** The fields of a job request that the settings ask for; a picture to start from leaves the start nothing to choose. */
export function fieldsOf(settings: Settings, isFromPicture: boolean): Omit<JobRequest, 'text' | 'seed' | 'init'> {
  const { start, tries, anchorTo, cosPower, diversity, ...fields } = changesOf({
    ...settings,
    from: settings.from.trim(),
    weighted: settings.weighted.filter(({ text }) => text.trim() !== ''),
    negative: settings.negative.filter((text) => text.trim() !== ''),
  });
  return {
    method: settings.method,
    ...fields,
    ...(cosPower !== undefined && settings.objective === 'dot-cos' && { cosPower }),
    ...(diversity !== undefined && settings.copies > 1 && { diversity }),
    ...(!isFromPicture && start !== undefined && { start }),
    ...(!isFromPicture && tries !== undefined && { tries }),
    ...(fields['anchor'] !== undefined && anchorTo !== undefined && { anchorTo }),
  } as Omit<JobRequest, 'text' | 'seed' | 'init'>;
}

const taken = <Values extends object>(usual: Values, from: object): Values =>
  Object.fromEntries(
    Object.entries(usual).map(([name, value]) => [name, (from as Record<string, unknown>)[name] ?? value]),
  ) as Values;

/** The settings that a job was asked with; those of the other method stay as they are. */
export function settingsOf(job: Job, before: Settings): Settings {
  const { method } = job;
  return { ...before, ...taken(sharedDefaults, job), method, [method]: taken(defaults[method], job) };
}

/** Settings that the browser remembered, if only in part; before there were two methods they were flat, as a job is. */
export function recalledSettings(kept: Partial<Settings>): Settings {
  const { method = 'feavis', feavis = kept, vqgan = {} } = kept;
  return { method, ...taken(sharedDefaults, kept), feavis: taken(defaults.feavis, feavis), vqgan: taken(defaults.vqgan, vqgan) };
}

export const mostSeed = 0xffffffff;
