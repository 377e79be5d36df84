import { mkdir, readdir, rm, writeFile } from 'node:fs/promises';
import path from 'node:path';
import fc from 'fast-check';
import sharp from 'sharp';
import { afterAll, afterEach, beforeAll, describe, expect, it } from 'vitest';
import type { ErrorBody, JobView } from '../../server/jobs/job.js';
import { queueLimit } from '../../server/http/routes.js';
import { readPngText } from '../../server/store/png-text.js';
import { ScriptedCompute } from './scripted-compute.js';
import { rawRequest, startStudio, temporaryFolder, type TestStudio } from './studio.js';

const problemOf = async (response: Response) => ({ status: response.status, ...((await response.json()) as ErrorBody).error });
const picture = (width: number, height: number) => sharp({ create: { width, height, channels: 3, background: '#336699' } });

describe('POST /api/jobs', () => {
  let studio: TestStudio;
  // Held before its first step, so that what is accepted stays in the queue.
  beforeAll(async () => {
    studio = await startStudio();
    void studio.compute.holdAt(0);
  });
  afterAll(() => studio.close());
  const jobsStored = async () => ((await (await studio.get('/api/jobs?limit=100')).json()) as { jobs: JobView[] }).jobs.length;

  it('fills in the defaults and answers with the job', async () => {
    const response = await studio.post({ text: '  nature  ' });
    expect(response.status).toBe(201);
    const view = (await response.json()) as JobView;
    expect(view).toMatchObject({ step: 0, steps: 120, cos: null, error: null, resultId: null });
    expect(view.job).toMatchObject({
      text: 'nature',
      width: 224,
      height: 224,
      views: 8,
      seed: 1,
      model: 'brivl-nano',
      negative: [],
    });
    expect(response.headers.get('location')).toBe(`/api/jobs/${view.id}`);
    expect(await studio.job(view.id)).toMatchObject({ id: view.id });
  });

  it.each([
    [{ size: '320x224' }, { width: 320, height: 224 }],
    [{ size: '320×224' }, { width: 320, height: 224 }],
    [{ size: '128' }, { width: 128, height: 128 }],
    [{ size: 96 }, { width: 96, height: 96 }],
    [{ width: 300 }, { width: 300, height: 224 }],
    [{ negative: 'people' }, { negative: ['people'] }],
    [{ negative: ['people', ' text '] }, { negative: ['people', 'text'] }],
    [{ text: '🏰 in the ☁️' }, { text: '🏰 in the ☁️' }],
    [
      { text: '', neurons: [{ unit: 'block7.1/ch-319' }] },
      { text: '', neurons: [{ unit: 'block7.1/ch-319' }] },
    ],
    [{ neurons: [{ unit: 'LLP-01@centre', weight: -1 }] }, { neurons: [{ unit: 'LLP-1@centre', weight: -1 }] }],
    [{ text: 'cafe\u0301' }, { text: 'caf\u00e9' }],
    [{ text: '春'.repeat(500) }, { text: '春'.repeat(500) }],
    [{ text: '🏰'.repeat(500) }, { text: '🏰'.repeat(500) }],
  ])('takes %j', async (fields, expected) => {
    const { job } = await studio.imagine({ text: 'castle', ...fields });
    expect(job).toMatchObject(expected);
  });

  it.each([
    ['no text', {}, /text is missing: write a concept/],
    ['an empty text', { text: '' }, /text is "": the text is empty: write/],
    ['a blank text', { text: ' \u3000 ' }, /empty: write/],
    ['an invisible text', { text: '\u200b\u200d' }, /empty: write/],
    ['10,000 characters', { text: 'a'.repeat(10_000) }, /10002 characters\).*at most 500 characters: shorten/],
    ['a control character', { text: 'na\u0007ture' }, /control characters.*remove/],
    ['a line break', { text: 'to be\nor not' }, /line breaks: remove/],
    ['half a surrogate pair', { text: 'a\ud800b' }, /control characters/],
    ['a number as text', { text: 5 }, /text is 5: .*string/],
    ['size 0', { text: 'a', size: 0 }, /size is 0: .*at least 64 pixels/],
    ['size 100000', { text: 'a', size: 100_000 }, /size is 100000: .*at most 1024 pixels/],
    ['a size in words', { text: 'a', size: 'large' }, /size is "large": .*320x224/],
    ['a long size', { text: 'a', size: '64x100000' }, /at most 1024/],
    ['size and width', { text: 'a', size: 64, width: 64 }, /either size or width/],
    ['width 0', { text: 'a', width: 0 }, /width is 0: .*at least 64/],
    ['a fraction of a pixel', { text: 'a', height: 64.5 }, /height is 64.5: .*whole number/],
    ['a number in quotes', { text: 'a', steps: '120' }, /steps is "120": .*must be a number/],
    ['no steps', { text: 'a', steps: 0 }, /steps is 0: .*at least 1/],
    ['too many steps', { text: 'a', steps: 1e9 }, /at most 2000/],
    ['null for a number', { text: 'a', seed: null }, /seed is null/],
    ['a negative seed', { text: 'a', seed: -1 }, /seed is -1: .*at least 0/],
    ['an unknown field', { text: 'a', prompt: 'b' }, /"prompt" is not a field here/],
    ['an unknown parametrization', { text: 'a', parameters: 'oil' }, /"oil": .*one of fourier, pixels, maco/],
    ['a malformed neuron', { text: 'a', neurons: [{ unit: 'LLP108', weight: 1 }] }, /neurons.0.unit is "LLP108": .*LLP-108/],
    [
      'an unknown generator',
      { text: 'a', method: 'vqgan' },
      /there is no generator "vqgan-nano": put a VQGAN's folder into DATA_DIR/,
    ],
    [
      'a neuron beyond the last of another layer',
      { text: 'a', neurons: [{ unit: 'block7.1/ch-320' }] },
      /neurons are block7.1\/ch-0 to block7.1\/ch-319/,
    ],
    ['a layer that is not there', { neurons: [{ unit: 'block9.1/ch-0' }] }, /its layers are block7.1, LLP/],
    ['views that copies cannot share', { text: 'a', copies: 3, views: 4 }, /take 6 views/],
    ['a neuron beyond the last', { text: 'a', neurons: [{ unit: 'LLP-99999', weight: 1 }] }, /LLP-0 to LLP-1279/],
    ['a weight beyond bounds', { text: 'a', weighted: [{ text: 'b', weight: 1e6 }] }, /weighted.0.weight is 1000000: .*at most 10/],
    ['an unknown model', { text: 'a', model: 'dall-e' }, /no model "dall-e": choose one of brivl-nano, brivl-absent/],
    ['a model that is not ready', { text: 'a', model: 'brivl-absent' }, /not ready/],
    ['a path as a model', { text: 'a', model: '../../etc/passwd' }, /model is "..\/..\/etc\/passwd"/],
    ['an init that is no id', { text: 'a', init: '../x' }, /init is ".*POST \/api\/images/],
    ['an init that nobody uploaded', { text: 'a', init: '0'.repeat(64) }, /upload it/],
    [
      'a weight that is none',
      { text: 'cat|dog:11' },
      /text is "cat\|dog:11": the weight 11 is not from -10 to 10 \(at position 8\): change it/,
    ],
    ['more sets of prompts than steps', { text: 'a^b^c', steps: 2 }, /3 prompts in series do not fit into 2 steps/],
    ['a list', [], /is \[\]/],
    ['a text alone', '"nature"', /is "nature"/],
    ['null', 'null', /null/],
    ['NaN', '{"text":"a","weighted":[{"text":"b","weight":NaN}]}', /not JSON.*NaN/],
    ['Infinity by overflow', '{"text":"a","learningRate":1e999}', /learningRate is Infinity/],
    ['half a body', '{"text":', /not JSON/],
    ['an empty body', '', /text is missing/],
  ])('answers %s with 400 and a sentence, and stores nothing', async (_name, body, sentence) => {
    const before = await jobsStored();
    const problem = await problemOf(await studio.post(body));
    expect(problem.status).toBe(400);
    expect(problem.message).toMatch(sentence);
    expect(await jobsStored()).toBe(before);
  });

  it('keeps a line of prompts as it was typed, and tells where a mistake in one is', async () => {
    const text = 'dawn:1:0.5 | mist ^ noon \\^ night';
    const view = await studio.imagine({ text });
    expect([view.job.text, (await studio.job(view.id)).job.text]).toEqual([text, text]);
    expect(await problemOf(await studio.post({ text: 'cat|🏰:11', steps: 0 }))).toMatchObject({
      status: 400,
      issues: [{ path: 'text', message: expect.stringContaining('(at position 6)') as string, position: 6 }, { path: 'steps' }],
    });
  });

  it('reads nothing but JSON, and little of it', async () => {
    const before = await jobsStored();
    for (const type of ['text/plain', 'application/x-www-form-urlencoded', 'multipart/form-data; boundary=x'])
      expect(await problemOf(await studio.post('{"text":"a"}', { 'Content-Type': type }))).toMatchObject({
        status: 415,
        message: expect.stringContaining('send application/json') as string,
      });
    expect((await studio.post('{"text":"a"}', { 'Content-Encoding': 'compress' })).status).toBe(415);
    expect((await studio.post({ text: 'a'.repeat(100_000) })).status).toBe(413);
    expect(await jobsStored()).toBe(before);
  });

  it('answers any JSON with 201 or 4xx, and keeps only what it answered with 201', async () => {
    const fields = [
      'text',
      'size',
      'width',
      'height',
      'steps',
      'views',
      'seed',
      'negative',
      'weighted',
      'neurons',
      'init',
      'model',
      '__proto__',
    ];
    const anyJson = fc.jsonValue({ maxDepth: 3 });
    const nearlyJob = fc
      .dictionary(fc.constantFrom(...fields), fc.oneof(anyJson, fc.string({ unit: 'binary' }), fc.double(), fc.integer()))
      .map((body) => ({ ...(body as object), text: body['text'] ?? 'a' }));
    await fc.assert(
      fc.asyncProperty(fc.oneof(anyJson, nearlyJob), async (body) => {
        const before = await jobsStored();
        const response = await studio.post(JSON.stringify(body));
        const answer = (await response.json()) as Partial<ErrorBody & JobView>;
        if (response.status === 201) {
          expect(await jobsStored()).toBe(before + 1);
          await studio.get(`/api/jobs/${answer.id}`, { method: 'DELETE' });
          return;
        }
        expect(response.status).toBeGreaterThanOrEqual(400);
        expect(response.status).toBeLessThan(500);
        expect(answer.error?.message).toBeTruthy();
        expect(await jobsStored()).toBe(before);
      }),
      { numRuns: 60 },
    );
  });

  it('gives the same job for the same Idempotency-Key and refuses the key for another', async () => {
    const key = { 'Idempotency-Key': 'once-and-once-only' };
    const [first, second] = [await studio.post({ text: 'time' }, key), await studio.post({ text: ' time', size: 224 }, key)];
    expect(((await second.json()) as JobView).id).toBe(((await first.json()) as JobView).id);
    expect(await problemOf(await studio.post({ text: 'other' }, key))).toMatchObject({ status: 409, code: 'idempotency_conflict' });
    expect((await studio.post({ text: 'time' }, { 'Idempotency-Key': 'x'.repeat(201) })).status).toBe(400);
  });

  it('refuses more jobs than the queue holds, and says when to come again', async () => {
    let response = await studio.post({ text: 'one more' });
    for (let posted = 0; posted <= queueLimit && response.status === 201; posted++)
      response = await studio.post({ text: 'one more' });
    expect(response.headers.get('retry-after')).toMatch(/^\d+$/);
    expect(await problemOf(response)).toMatchObject({
      status: 429,
      code: 'queue_full',
      message: expect.stringContaining('200') as string,
    });
  });
});

describe('POST /api/stories', () => {
  let studio: TestStudio;
  beforeAll(async () => {
    studio = await startStudio();
    void studio.compute.holdAt(0);
  });
  afterAll(() => studio.close());
  const post = (body: unknown) =>
    studio.get('/api/stories', { method: 'POST', headers: { 'Content-Type': 'application/json' }, body: JSON.stringify(body) });
  const stored = async () => ((await (await studio.get('/api/jobs?limit=100')).json()) as { jobs: JobView[] }).jobs;

  it('queues a job a line, in order, alike in everything but the text', async () => {
    const response = await post({ lines: ['dawn ', '明月 | stars:0.5'], seed: 7, size: '320x224', negative: 'people' });
    expect(response.status).toBe(201);
    const { jobIds } = (await response.json()) as { jobIds: string[] };
    const jobs = await Promise.all(jobIds.map((id) => studio.job(id)));
    expect(jobs.map(({ position }) => position)).toEqual([0, 1]);
    expect(jobs.map(({ job }) => job.text)).toEqual(['dawn', '明月 | stars:0.5']);
    const asked = { seed: 7, width: 320, height: 224, negative: ['people'] };
    for (const [i, text] of ['dawn', '明月 | stars:0.5'].entries())
      expect(jobs[i].job).toEqual((await studio.imagine({ ...asked, text })).job);
  });

  it.each([
    ['no lines', {}, /lines is missing: the lines must be a list of texts/],
    ['an empty list', { lines: [] }, /lines is \[\]: a story has at least one line/],
    ['too many lines', { lines: Array.from({ length: 65 }, () => 'a') }, /a story has at most 64 lines/],
    ['a text', { lines: 'a' }, /lines is "a": the lines must be a list of texts/],
    ['an empty line', { lines: ['a', ' '] }, /lines\.1 is "": the text is empty/],
    ['a mistake in a line', { lines: ['a', 'cat:11'] }, /lines\.1 is "cat:11": the weight 11 is not .* \(at position 4\)/],
    ['a text beside the lines', { lines: ['a'], text: 'b' }, /"text" is not a field here/],
    ['a field that is none', { lines: ['a'], steps: 0 }, /steps is 0: .*at least 1/],
    [
      'fields that do not fit together',
      { lines: ['a', 'b'], tries: 2 },
      /^tries belongs to the method vqgan: set it, or leave tries out$/,
    ],
    ['two sizes', { lines: ['a'], size: 64, width: 64 }, /either size or width/],
    ['more sets than steps', { lines: ['a', 'a^b'], steps: 1 }, /2 prompts in series do not fit into 1 steps/],
    ['an unknown model', { lines: ['a'], model: 'dall-e' }, /no model "dall-e"/],
  ])('answers %s with 400 and a sentence, and stores nothing', async (_name, body, sentence) => {
    const before = (await stored()).length;
    const problem = await problemOf(await post(body));
    expect(problem.status).toBe(400);
    expect(problem.message).toMatch(sentence);
    expect(await stored()).toHaveLength(before);
  });

  it('tells where in which line a mistake is', async () => {
    expect((await problemOf(await post({ lines: ['a', 'cat:11'] }))).issues).toMatchObject([{ path: 'lines.1', position: 4 }]);
  });

  it('queues all of the lines or none', async () => {
    for (let free = queueLimit - (await stored()).length; free > 3; free -= 50)
      await post({ lines: Array.from({ length: Math.min(50, free - 3) }, () => 'a') });
    expect(await problemOf(await post({ lines: ['a', 'b', 'c', 'd'] }))).toMatchObject({
      status: 429,
      message: expect.stringMatching(/room for 3, not for 4/) as string,
    });
    expect((await post({ lines: ['a', 'b', 'c'] })).status).toBe(201);
  });
});

describe('the API over finished jobs', () => {
  let studio: TestStudio;
  const jobs: JobView[] = [];
  beforeAll(async () => {
    studio = await startStudio();
    for (const text of ['nature/.. "x"', '梦 dream', 'science']) {
      const { id } = await studio.imagine({ text, size: '64x80', steps: 2, seed: 7 });
      jobs.push(await studio.until(id, 'succeeded'));
    }
    const { id } = await studio.imagine({ text: 'fail at 1', size: 64 });
    jobs.push(await studio.until(id, 'failed'));
  });
  afterAll(() => studio.close());

  it('lists jobs newest first, by status and by page', async () => {
    const idsAt = async (query: string) => {
      const page = (await (await studio.get(`/api/jobs?${query}`)).json()) as { jobs: JobView[]; next: string | null };
      return { ids: page.jobs.map(({ id }) => id), next: page.next };
    };
    const newestFirst = jobs.map(({ id }) => id).reverse();
    expect(await idsAt('')).toEqual({ ids: newestFirst, next: null });
    expect((await idsAt('status=failed')).ids).toEqual([jobs[3].id]);
    expect((await idsAt('status=failed,succeeded')).ids).toEqual(newestFirst);
    expect((await idsAt('status=queued')).ids).toEqual([]);
    const first = await idsAt('limit=3');
    expect(first.ids).toEqual(newestFirst.slice(0, 3));
    expect(await idsAt(`limit=3&cursor=${first.next}`)).toEqual({ ids: newestFirst.slice(3), next: null });
  });

  it.each([
    'status=done',
    'cursor=abc',
    'cursor=-1',
    'limit=0',
    'limit=101',
    'limit=1.5',
    'status=failed&status=queued',
    'colour=blue',
  ])('refuses the query %s', async (query) => {
    expect(await problemOf(await studio.get(`/api/jobs?${query}`))).toMatchObject({ status: 400, code: 'invalid_request' });
  });

  it('says what made a result and how it went', async () => {
    const result = await studio.result(jobs[1].resultId!);
    expect(result).toMatchObject({
      jobId: jobs[1].id,
      width: 64,
      height: 80,
      device: 'scripted',
      job: { text: '梦 dream', seed: 7 },
    });
    expect(result.curve.map(({ step }) => step)).toEqual([1, 2]);
    const page = (await (await studio.get('/api/results')).json()) as { results: { id: string }[] };
    expect(page.results.map(({ id }) => id)).toEqual([2, 1, 0].map((index) => jobs[index].resultId));
  });

  it('serves the picture for good, with what made it inside', async () => {
    const { imageUrl, imageId, model } = await studio.result(jobs[1].resultId!);
    const response = await studio.get(imageUrl);
    expect(response.headers.get('content-type')).toBe('image/png');
    expect(response.headers.get('cache-control')).toContain('immutable');
    expect(response.headers.get('x-content-type-options')).toBe('nosniff');
    const png = Buffer.from(await response.arrayBuffer());
    expect(await sharp(png).metadata()).toMatchObject({ width: 64, height: 80, format: 'png' });
    const texts = readPngText(png);
    expect(texts.get('parameters')).toMatch(/^梦 dream\nSteps: 2, Seed: 7, Size: 64x80, Model: brivl-nano/);
    expect(JSON.parse(texts.get('reverie')!)).toEqual({ job: jobs[1].job, model, seed: 7 });
    const again = await rawRequest(studio.url + imageUrl, { headers: { 'If-None-Match': response.headers.get('etag')! } });
    expect(again.status).toBe(304);
    expect(Buffer.from(await (await studio.get(`/api/images/${imageId}`)).arrayBuffer()).equals(png)).toBe(true);
  });

  it('names a download after its text, safely', async () => {
    const name = async (index: number) =>
      (await studio.get(`/api/results/${jobs[index].resultId}/image.png?download=1`)).headers.get('content-disposition');
    expect(await name(0)).toBe('attachment; filename="reverie nature x seed 7.png"');
    expect(await name(1)).toContain(`filename*=UTF-8''reverie%20${encodeURIComponent('梦')}%20dream%20seed%207.png`);
  });

  it('deletes a result and its picture; the job stays', async () => {
    const { id, imageUrl, imageId } = await studio.result(jobs[0].resultId!);
    expect((await studio.get(`/api/results/${id}`, { method: 'DELETE' })).status).toBe(204);
    for (const gone of [`/api/results/${id}`, imageUrl, `/api/images/${imageId}`])
      expect((await studio.get(gone)).status).toBe(404);
    expect((await studio.get(`/api/results/${id}`, { method: 'DELETE' })).status).toBe(404);
    expect(await studio.job(jobs[0].id)).toMatchObject({ status: 'succeeded', resultId: null });
  });

  it('keeps what the picture does to its neurons; without a text there is no cos, live and afterwards', async () => {
    const neurons = [{ unit: 'LLP-5', weight: 2 }, { unit: 'block7.1/ch-3@centre' }];
    const { id } = await studio.imagine({ neurons, size: 64, steps: 3, copies: 2 });
    const watched = await studio.watch(id);
    const done = await studio.until(id, 'succeeded');
    expect([done.cos, done.secondOpinion]).toEqual([null, null]);
    const result = await studio.result(done.resultId!);
    expect(result).toMatchObject({ cos: null, job: { text: '' } });
    expect(result.neurons).toEqual([
      { unit: 'LLP-5', layer: 'LLP', channel: 5, activation: 1.5, percentile: 90 },
      { unit: 'block7.1/ch-3@centre', layer: 'block7.1', channel: 3, activation: 1.5, percentile: 90 },
    ]);
    expect(result.curve.map(({ cos, percentile }) => [cos, percentile])).toEqual([[null, 30], [null, 60], [null, 90]]); // prettier-ignore
    await expect.poll(() => watched.frames.at(-1)?.mime).toBe('image/png');
    expect(watched.frames.at(-1)).toMatchObject({ cos: null, percentile: 90 });
    const again = await studio.watch(id);
    await expect.poll(() => again.frames.at(-1) ?? again.snapshots.at(-1)?.frame).toMatchObject({ cos: null, percentile: 90 });
    expect((await studio.get(`/api/results/${done.resultId}`, { method: 'DELETE' })).ok).toBe(true);
  });

  it('does not cancel what has finished', async () => {
    const problem = await problemOf(await studio.get(`/api/jobs/${jobs[2].id}`, { method: 'DELETE' }));
    expect(problem).toMatchObject({ status: 409, code: 'already_finished' });
    expect((await studio.job(jobs[2].id)).status).toBe('succeeded');
  });

  it.each([
    ['GET', '/api/jobs/nobody', 404],
    ['DELETE', '/api/jobs/nobody', 404],
    ['GET', '/api/results/..%2f..%2freverie.db', 404],
    ['GET', '/api/images/..%2f..%2freverie.db', 404],
    ['GET', '/api/images/%E0%A4%A', 400],
    ['GET', '/api/nothing', 404],
    ['PUT', '/api/jobs', 405],
    ['POST', '/somewhere', 405],
  ])('%s %s is %i with a sentence', async (method, route, status) => {
    const problem = await problemOf(await studio.get(route, { method }));
    expect(problem.status).toBe(status);
    expect(problem.message.length).toBeGreaterThan(10);
  });

  it('never answers an id or a query with a fault of its own', async () => {
    const any = fc
      .oneof(fc.string({ unit: 'grapheme', maxLength: 40 }), fc.constantFrom('\0', 'a\0b', '../..', '%00', '\u2028'))
      .map(encodeURIComponent);
    await fc.assert(
      fc.asyncProperty(any, any, async (id, value) => {
        for (const route of [`/api/jobs/${id}`, `/api/results/${id}/image.png?download=${value}`, `/api/images/${id}`, `/${id}`])
          expect((await studio.get(route)).status).toBeLessThan(id === '' || route === `/${id}` ? 504 : 500);
        for (const query of [`status=${value}`, `cursor=${value}`, `limit=${value}`, `${value}=${id}`])
          expect((await studio.get(`/api/jobs?${query}`)).status).toBeLessThan(500);
      }),
      { numRuns: 30 },
    );
  });

  it('tells models and device', async () => {
    const answer = (await (await studio.get('/api/models')).json()) as { models: { name: string }[] };
    expect(answer).toMatchObject({ device: { device: 'scripted' }, models: [{ name: 'brivl-nano' }, { name: 'brivl-absent' }] });
  });

  it('finds concepts of a text and of a picture, and embeds a text', async () => {
    const text = (await (await studio.get(`/api/concepts?text=${encodeURIComponent('自然')}&top=4`)).json()) as {
      concepts: unknown[];
    };
    expect(text.concepts).toHaveLength(4);
    const body = await picture(10, 10).jpeg().toBuffer();
    const seen = await studio.get('/api/concepts?top=2', { method: 'POST', headers: { 'Content-Type': 'image/jpeg' }, body });
    expect(((await seen.json()) as { concepts: unknown[] }).concepts).toHaveLength(2);
    const embedded = (await (await studio.get('/api/embed?text=nature')).json()) as { embedding: number[] };
    expect(embedded.embedding).toEqual([0.5, 0.5, 0.5, 0.5]);
    for (const query of ['text=', 'top=5', 'text=a&top=0', 'text=a&top=x', 'text=a&model=none', `text=${'a'.repeat(501)}`])
      expect((await studio.get(`/api/concepts?${query}`)).status).toBe(400);
  });

  it('tells a refusal of compute from its end', async () => {
    expect(await problemOf(await studio.get('/api/embed?text=refuse'))).toMatchObject({
      status: 400,
      message: 'the scripted compute refuses this text',
    });
    const ended = await studio.get('/api/embed?text=crash');
    expect(ended.headers.get('retry-after')).toBe('5');
    expect(await problemOf(ended)).toMatchObject({ status: 503, code: 'compute_restarting' });
  });

  it('counts for Prometheus', async () => {
    const text = await (await studio.get('/metrics')).text();
    expect(text).toContain('reverie_jobs{status="succeeded"} 4\n');
    expect(text).toContain('reverie_jobs{status="failed"} 1\n');
    expect(text).toMatch(/^reverie_steps_total (9|10)$/m);
    expect(text).toMatch(/^reverie_http_requests_total\{method="POST",route="\/api\/jobs",status="201"\} 5$/m);
  });

  it('describes every route that it serves', async () => {
    const description = (await (await studio.get('/api/openapi.json')).json()) as {
      openapi: string;
      paths: Record<string, Record<string, { requestBody?: unknown; responses: Record<string, unknown> }>>;
    };
    expect(description.openapi).toBe('3.1.0');
    expect(Object.keys(description.paths)).toEqual(
      expect.arrayContaining(['/api/jobs', '/api/jobs/{id}', '/api/results', '/api/results/{id}', '/api/models', '/api/images']),
    );
    const { properties, required } = (
      description.paths['/api/jobs']['post'].requestBody as {
        content: Record<string, { schema: { properties: Record<string, unknown>; required: string[] } }>;
      }
    ).content['application/json'].schema;
    expect(Object.keys(properties)).toEqual(expect.arrayContaining(['text', 'size', 'width', 'steps', 'init']));
    // Not even the text, where there are neurons.
    expect(required).toBeUndefined();
  });
});

describe('pictures that a VQGAN drew', () => {
  let studio: TestStudio;
  let id: string;
  beforeAll(async () => {
    studio = await startStudio({ compute: new ScriptedCompute({ models: ['brivl-nano', 'vqgan-nano'] }) });
    const job = await studio.imagine({ text: 'nature', method: 'vqgan', size: '96x64', steps: 2 });
    id = (await studio.until(job.id, 'succeeded')).resultId!;
  });
  afterAll(() => studio.close());
  const sizeAndFirst = async (response: Response) => {
    const { data, info } = await sharp(Buffer.from(await response.arrayBuffer()))
      .raw()
      .toBuffer({ resolveWithObject: true });
    return [info.width, info.height, data[0], data[1]];
  };

  it('tell what drew them, in the result and in the file', async () => {
    const { generator, imageUrl, job } = await studio.result(id);
    expect(generator).toEqual({ name: 'vqgan-nano', hash: expect.stringMatching(/^[0-9a-f]{64}$/) as string });
    const texts = readPngText(Buffer.from(await (await studio.get(imageUrl)).arrayBuffer()));
    expect(texts.get('parameters')).toContain(
      `Method: vqgan, Generator: vqgan-nano, Generator hash: ${generator!.hash.slice(0, 10)}`,
    );
    expect(JSON.parse(texts.get('reverie')!)).toMatchObject({ job, generator });
  });

  it('keep their tokens', async () => {
    const tokens = (await (await studio.get(`/api/results/${id}/tokens`)).json()) as { codes: number[] };
    expect(tokens).toMatchObject({ rows: 8, columns: 12, codebook: 4096 });
    expect(tokens.codes).toHaveLength(96);
    expect(Math.max(...tokens.codes)).toBeGreaterThan(255);
    const { results } = (await (await studio.get('/api/results')).json()) as { results: object[] };
    expect('tokens' in results[0]).toBe(false);
  });

  it('keep the picture before quantization', async () => {
    const { unquantizedUrl, imageUrl } = await studio.result(id);
    const [before, after] = await Promise.all([unquantizedUrl!, imageUrl].map(async (url) => sizeAndFirst(await studio.get(url))));
    expect([before.slice(0, 2), after.slice(0, 2)]).toEqual([
      [96, 64],
      [96, 64],
    ]);
    expect(before.slice(2)).not.toEqual(after.slice(2));
  });

  it('lose both with the result', async () => {
    const { unquantizedUrl } = await studio.result(id);
    const stored = async () => (await readdir(path.join(studio.dataDir, 'blobs'), { recursive: true, withFileTypes: true })).filter((entry) => entry.isFile()).length; // prettier-ignore
    expect(await stored()).toBe(2);
    await studio.get(`/api/results/${id}`, { method: 'DELETE' });
    for (const gone of [unquantizedUrl!, `/api/results/${id}/tokens`]) expect((await studio.get(gone)).status).toBe(404);
    expect(await stored()).toBe(0);
  });

  it('are told from the others', async () => {
    const job = await studio.imagine({ text: 'nature', size: 64, steps: 1 });
    const { resultId } = await studio.until(job.id, 'succeeded');
    expect(await studio.result(resultId!)).toMatchObject({ generator: null, unquantizedUrl: null });
    for (const route of ['tokens', 'unquantized.png'])
      expect(await problemOf(await studio.get(`/api/results/${resultId}/${route}`))).toMatchObject({
        status: 404,
        message: expect.stringContaining('its method is feavis') as string,
      });
  });
});

describe('uploads', () => {
  let studio: TestStudio;
  beforeAll(async () => {
    studio = await startStudio();
  });
  afterAll(() => studio.close());
  const upload = (body: Uint8Array | string, type: string) =>
    studio.get('/api/images', {
      method: 'POST',
      headers: { 'Content-Type': type },
      body: typeof body === 'string' ? body : Uint8Array.from(body),
    });

  it.each(['png', 'jpeg', 'webp'] as const)(
    'keeps a %s as a PNG without its metadata, from which a job can begin',
    async (format) => {
      const bytes = await picture(100, 60).withExif({ IFD0: { Copyright: 'secret' } }).toFormat(format).toBuffer(); // prettier-ignore
      const response = await upload(bytes, `image/${format}`);
      expect(response.status).toBe(201);
      const { id, width, height } = (await response.json()) as { id: string; width: number; height: number };
      expect([width, height]).toEqual([100, 60]);
      const stored = await sharp(Buffer.from(await (await studio.get(`/api/images/${id}`)).arrayBuffer())).metadata();
      expect(stored).toMatchObject({ format: 'png', width: 100 });
      expect(stored.exif).toBeUndefined();
      const job = await studio.imagine({ text: 'castle', size: 64, steps: 1, init: id });
      expect((await studio.until(job.id, 'succeeded', 'failed')).status).toBe('succeeded');
    },
  );

  it('makes large pictures smaller', async () => {
    const response = await upload(await picture(4000, 1000).png().toBuffer(), 'image/png');
    expect(await response.json()).toMatchObject({ width: 2048, height: 512 });
  });

  it.each([
    ['an SVG', Buffer.from('<svg xmlns="http://www.w3.org/2000/svg" width="9" height="9"/>'), 'image/png', 400],
    ['an SVG by its own name', Buffer.from('<svg xmlns="http://www.w3.org/2000/svg"/>'), 'image/svg+xml', 415],
    ['text', Buffer.from('not a picture'), 'image/png', 400],
    ['nothing', Buffer.alloc(0), 'image/png', 400],
    ['more than 20 MiB', Buffer.alloc(20 * 1024 * 1024 + 1), 'image/png', 413],
  ])('refuses %s', async (_name, body, type, status) => {
    expect((await upload(body, type)).status).toBe(status);
  });

  it('refuses half a file, a GIF and more pixels than it decodes', async () => {
    const whole = await picture(300, 300).png({ compressionLevel: 0 }).toBuffer();
    expect((await upload(whole.subarray(0, whole.length / 2), 'image/png')).status).toBe(400);
    const gif = Buffer.from('R0lGODlhAQABAIAAAAAAAP///yH5BAEAAAAALAAAAAABAAEAAAIBRAA7', 'base64');
    expect((await upload(gif, 'image/png')).status).toBe(400);
    const bomb = await picture(9000, 9000).png().toBuffer();
    expect(await problemOf(await upload(bomb, 'image/png'))).toMatchObject({
      status: 400,
      message: expect.stringContaining('64 million pixels') as string,
    });
  });
});

describe('the guard', () => {
  let studio: TestStudio;
  afterEach(() => studio.close());
  const job = { method: 'POST', body: '{"text":"a","size":64,"steps":1}' };
  const json = { 'Content-Type': 'application/json' };

  it('does not answer under a foreign name', async () => {
    studio = await startStudio({ hosts: ['reverie.example'] });
    const port = new URL(studio.url).port;
    const status = async (Host: string) => (await rawRequest(`${studio.url}/api/models`, { headers: { Host } })).status;
    for (const host of [`localhost:${port}`, `127.0.0.1:${port}`, `[::1]:${port}`, 'reverie.example', 'Reverie.Example:80'])
      expect([host, await status(host)]).toEqual([host, 200]);
    for (const host of ['evil.example', 'localhost.evil.example', '10.0.0.1', 'localhost@evil.example', '"'])
      expect([host, await status(host)]).toEqual([host, 403]);
  });

  it('takes no orders from other sites', async () => {
    studio = await startStudio();
    const status = async (headers: Record<string, string>) =>
      (await rawRequest(`${studio.url}/api/jobs`, { ...job, headers: { ...json, ...headers } })).status;
    for (const headers of [{}, { Origin: studio.url }] as Record<string, string>[]) expect(await status(headers)).toBe(201);
    for (const headers of [
      { Origin: 'https://evil.example' },
      { Origin: 'null' },
      { Origin: 'http://127.0.0.1:1' },
      { 'Sec-Fetch-Site': 'cross-site' },
    ] as Record<string, string>[])
      expect([headers, await status(headers)]).toEqual([headers, 403]);
    const { jobs } = (await (await studio.get('/api/jobs')).json()) as { jobs: unknown[] };
    expect(jobs).toHaveLength(2);
  });

  it('asks for the token where there is one, in a header or in the cookie of /?token=', async () => {
    studio = await startStudio({ token: 'a very secret word' });
    const status = async (headers: Record<string, string>) => (await studio.get('/api/models', { headers })).status;
    expect(await status({})).toBe(401);
    expect(await status({ Authorization: 'Bearer wrong' })).toBe(401);
    expect(await status({ Authorization: 'Bearer a very secret word' })).toBe(200);
    expect(await status({ Cookie: 'reverie_token=a very secret word' })).toBe(401);
    expect((await studio.get('/healthz')).status).toBe(200);
    expect((await studio.get('/metrics')).status).toBe(401);
    expect((await studio.get('/?token=wrong', { redirect: 'manual' })).status).toBe(401);

    const opened = await studio.get('/?token=a%20very%20secret%20word', { redirect: 'manual' });
    expect([opened.status, opened.headers.get('location')]).toEqual([303, '/']);
    const cookie = opened.headers.get('set-cookie')!;
    expect(cookie).toMatch(/HttpOnly.*SameSite=Lax/);
    expect(cookie).not.toContain('secret');
    expect(await status({ Cookie: `other=1; ${cookie.split(';')[0]}` })).toBe(200);
  });

  it('does not listen for other machines without a token', async () => {
    studio = await startStudio();
    await expect(startStudio({ host: '0.0.0.0' })).rejects.toThrow(/HOST 0.0.0.0 .* set REVERIE_TOKEN/);
    await expect(startStudio({ token: '' })).rejects.toThrow(/REVERIE_TOKEN is empty/);
    const open = await startStudio({ host: '0.0.0.0', token: 'secret' });
    const local = open.url.replace('0.0.0.0', '127.0.0.1');
    expect((await fetch(`${local}/api/models`)).status).toBe(401);
    await open.close();
  });

  it('says so when the port is taken', async () => {
    studio = await startStudio();
    const port = Number(new URL(studio.url).port);
    await expect(startStudio({ port })).rejects.toThrow(`port ${port} on 127.0.0.1 is in use`);
  });

  it('sends the headers that keep a page to itself', async () => {
    studio = await startStudio();
    const { headers } = await studio.get('/api/models');
    expect(headers.get('content-security-policy')).toContain(
      "default-src 'self'; img-src 'self' blob: data:; style-src 'self' 'unsafe-inline'",
    );
    expect(headers.get('x-content-type-options')).toBe('nosniff');
    expect(headers.get('x-powered-by')).toBeNull();
    expect(headers.get('access-control-allow-origin')).toBeNull();
  });

  it("lets other sites frame a neuron's page in its form for frames, and nothing else", async () => {
    studio = await startStudio();
    const framable = async (path: string) =>
      (await studio.get(path)).headers.get('content-security-policy')?.includes('frame-ancestors *');
    expect(await framable('/neurons/brivl-nano/LLP/108?embed=true')).toBe(true);
    expect(await framable('/neurons/any/block7.1%2Fx/3?embed=true')).toBe(true);
    for (const path of [
      ...[
        '/neurons/brivl-nano/LLP/108',
        '/neurons/brivl-nano/LLP/108?embed=false',
        '/neurons/brivl-nano/LLP/108?embed=true&embed=true',
      ],
      ...['/neurons/brivl-nano/LLP?embed=true', '/?embed=true', '/gallery?embed=true', '/api/models?embed=true'],
    ])
      expect([path, await framable(path)]).toEqual([path, false]);
  });
});

describe('the page', () => {
  it('is served for every path of its own, its hashed assets for good', async () => {
    const pageFolder = await temporaryFolder();
    await mkdir(path.join(pageFolder, 'assets'));
    await writeFile(path.join(pageFolder, 'index.html'), '<!doctype html><title>Reverie</title>');
    await writeFile(path.join(pageFolder, 'assets/page-abc123.js'), 'export {}');
    const studio = await startStudio({ pageFolder });
    for (const route of ['/', '/gallery', '/results/abc']) {
      const response = await studio.get(route);
      expect(await response.text()).toContain('<title>Reverie</title>');
      expect(response.headers.get('cache-control')).toBe('no-cache');
    }
    // A unit's page asks for the unit's numbers while its script is on the way; nothing else of an address gets into a header.
    const linked = async (route: string) => (await studio.get(route)).headers.get('link');
    expect(await linked('/neurons/brivl-nano/block7.1/33')).toContain('</api/neurons/block7.1/33?model=brivl-nano>; rel=preload');
    for (const route of ['/neurons/brivl-nano/LLP', '/neurons/a%3E/LLP/1%3E', '/neurons/a%22/b;c/1', '/gallery'])
      expect([route, await linked(route)]).toEqual([route, null]);
    expect((await studio.get('/assets/page-abc123.js')).headers.get('cache-control')).toContain('immutable');
    for (const route of ['/assets/gone.js', '/..%2f..%2fpackage.json']) expect((await studio.get(route)).status).toBe(404);
    await studio.close();
    await rm(pageFolder, { recursive: true });
  });

  it('says how to build it where it is not built', async () => {
    const studio = await startStudio({ pageFolder: '/nowhere', compute: new ScriptedCompute() });
    expect(await problemOf(await studio.get('/'))).toMatchObject({
      status: 503,
      message: expect.stringContaining('npm start') as string,
    });
    await studio.close();
  });
});
