import { describe, expect, test } from 'vitest';
import { changesOf, defaults, fieldsOf, mostSeed, recalledSettings, settingsOf, type Settings } from '../../client/lib/settings.js';
import { jobRequest, limits } from '../../server/jobs/job.js';

const jobOf = (settings: Settings, isFromPicture = false) =>
  jobRequest.parse({
    text: 'nature',
    ...fieldsOf(settings, isFromPicture),
    ...(isFromPicture && { init: '0'.repeat(64) }),
  });
const vqgan: Settings = { ...structuredClone(defaults), method: 'vqgan' };

describe('the settings of the page', () => {
  test.each(['feavis', 'vqgan'] as const)('have the defaults of the server for %s', (method) => {
    const job = jobRequest.parse({ text: 'nature', method });
    expect(jobOf({ ...defaults, method })).toEqual(job);
    // What is shown as the default is what is used where nothing is asked for.
    const told: Record<string, unknown> = { ...defaults, ...defaults[method], method };
    for (const [name, value] of Object.entries(job)) if (name in told) expect([name, told[name]]).toEqual([name, value]);
    expect(mostSeed).toBe(limits.seed);
  });

  test('ask for what was changed, of the chosen method alone', () => {
    const settings: Settings = {
      ...vqgan,
      steps: 60,
      negative: [' ', 'people'],
      feavis: { ...defaults.feavis, parameters: 'maco' },
      vqgan: {
        ...defaults.vqgan,
        start: 'codes',
        tries: 4,
        average: 0,
        anchor: 1,
        anchorTo: 'start',
        learningRate: 0.1,
        width: 320,
      },
    };
    expect(jobOf(settings)).toMatchObject({
      ...{ method: 'vqgan', parameters: 'fourier', steps: 60, negative: ['people'], start: 'codes', tries: 4, average: 0 },
      ...{ anchor: 1, anchorTo: 'start', learningRate: 0.1, width: 320, height: 256 },
    });
    expect(Object.keys(changesOf(settings))).toHaveLength(9);
    expect(jobOf({ ...settings, method: 'feavis' })).toMatchObject({ parameters: 'maco', width: 224 });
  });

  test('leave out what has no say: the start beside a picture, what to hold to without a hold', () => {
    const settings: Settings = { ...vqgan, vqgan: { ...defaults.vqgan, start: 'codes', tries: 4, anchorTo: 'start', restarts: 2 } };
    const job = jobOf(settings, true);
    expect(job).toMatchObject({ method: 'vqgan', restarts: 2 });
    for (const field of ['start', 'tries', 'anchorTo']) expect(field in job).toBe(false);
  });

  test('take over those of a job, and keep the other method’s', () => {
    const before: Settings = { ...structuredClone(defaults), feavis: { ...defaults.feavis, width: 448 } };
    const job = jobRequest.parse({ text: 'time', method: 'vqgan', start: 'codes', size: '320x256', steps: 30, optimizer: 'sgd' });
    const after = settingsOf(job, before);
    expect(after).toMatchObject({ method: 'vqgan', steps: 30, optimizer: 'sgd', feavis: { width: 448 } });
    expect(after.vqgan).toEqual({ ...defaults.vqgan, start: 'codes', width: 320 });
    expect(jobOf(after)).toEqual({ ...job, text: 'nature' });
  });

  test('that a browser remembers from before there were two methods are still known', () => {
    const flat = { method: 'feavis', parameters: 'maco', width: 320, height: 224, steps: 30, learningRate: 2 };
    const settings = recalledSettings(flat as Partial<Settings>);
    expect(settings).toMatchObject({
      steps: 30,
      feavis: { parameters: 'maco', width: 320, learningRate: 2 },
      vqgan: defaults.vqgan,
    });
    expect(Object.keys(settings).sort()).toEqual(Object.keys(defaults).sort());
    expect(recalledSettings(structuredClone(vqgan))).toEqual(vqgan);
  });
});
