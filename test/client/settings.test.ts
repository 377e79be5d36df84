import { expect, test } from 'vitest';
import { defaults, mostSeed } from '../../client/lib/settings.js';
import { jobRequest, limits } from '../../server/jobs/job.js';

test('the defaults of the page are those of the server', () => {
  const {
    text: _text,
    seed: _seed,
    neurons: _neurons,
    optimizer,
    learningRate,
    init,
    ...job
  } = jobRequest.parse({ text: 'nature' });
  const { optimizer: own, learningRate: ownRate, ...settings } = defaults;
  expect(settings).toEqual(job);
  expect([optimizer, learningRate, init]).toEqual([undefined, undefined, undefined]);
  expect([own, ownRate]).toEqual(['', null]);
  expect(mostSeed).toBe(limits.seed);
});
