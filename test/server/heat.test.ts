import sharp from 'sharp';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import type { FiringView } from '../../server/http/heat-routes.js';
import type { ErrorBody } from '../../server/jobs/job.js';
import { startStudio, type TestStudio } from './studio.js';

let studio: TestStudio;
let id: string;
let body: Buffer;

beforeAll(async () => {
  studio = await startStudio();
  body = await sharp({ create: { width: 8, height: 8, channels: 3, background: '#a33' } })
    .png()
    .toBuffer();
  id = ((await (await send('/api/images')).json()) as { id: string }).id;
});
afterAll(() => studio.close());

const send = (path: string, type = 'image/png', content: Uint8Array = body) =>
  studio.get(path, { method: 'POST', headers: { 'Content-Type': type }, body: Uint8Array.from(content) });

const json = async (answer: Promise<Response>): Promise<{ status: number; body: unknown }> => {
  const response = await answer;
  return { status: response.status, body: await response.json() };
};

const sentence = async (answer: Promise<Response>): Promise<[number, string]> => {
  const { status, body } = await json(answer);
  return [status, (body as ErrorBody).error.message];
};

describe('heat maps', () => {
  it('of a picture that is sent, and of one that the studio has', async () => {
    const sent = await json(send('/api/neurons/heat?channel=108'));
    expect(sent).toEqual({ status: 200, body: { rows: 1, columns: 2, values: [108, 0], activation: 54, percentile: 50 } });
    expect(await json(studio.get(`/api/neurons/LLP/108/heat?image=${id}`))).toEqual(sent);
    expect(await json(studio.get(`/api/neurons/block7.1/3/heat?image=${id}`))).toMatchObject({ body: { values: [3, 0] } });
  });

  it('of a result', async () => {
    const { id: jobId } = await studio.imagine({ text: 'heat', steps: 2 });
    const { resultId } = await studio.until(jobId, 'succeeded');
    expect((await studio.get(`/api/neurons/LLP/7/heat?result=${resultId}`)).status).toBe(200);
    expect(await json(studio.get(`/api/relevance?text=sun&result=${resultId}`))).toMatchObject({
      status: 200,
      body: { text: 'sun', cos: 0.5 },
    });
  });

  it('refuse what is not there, with the way out', async () => {
    expect(await sentence(send('/api/neurons/heat?channel=1280'))).toEqual([404, 'brivl-nano has no neuron LLP-1280: its neurons are LLP-0 to LLP-1279']); // prettier-ignore
    expect(await sentence(studio.get(`/api/neurons/layer9/0/heat?image=${id}`))).toEqual([404, expect.stringContaining('no layer "layer9"')]); // prettier-ignore
    expect(await sentence(studio.get('/api/neurons/LLP/0/heat'))).toEqual([400, expect.stringContaining('name one picture')]);
    expect(await sentence(studio.get(`/api/neurons/LLP/0/heat?image=${id}&result=x`))).toEqual([400, expect.stringContaining('name one picture')]); // prettier-ignore
    expect(await sentence(studio.get('/api/neurons/LLP/0/heat?result=none'))).toEqual([
      404,
      expect.stringContaining('no result "none"'),
    ]);
    expect(await sentence(studio.get('/api/neurons/LLP/0/heat?image=../../etc'))).toEqual([
      400,
      expect.stringContaining('an image is'),
    ]);
    expect(await sentence(studio.get(`/api/neurons/LLP/0/heat?image=${'0'.repeat(64)}`))).toEqual([
      404,
      expect.stringContaining('no picture'),
    ]);
    expect(await sentence(send('/api/neurons/heat?channel=1&model=nobody'))).toEqual([
      400,
      expect.stringContaining('no model "nobody"'),
    ]);
    expect(await sentence(send('/api/neurons/heat?channel=-1'))).toEqual([400, expect.stringContaining('the channel must be')]);
    expect(await sentence(send('/api/neurons/heat?channel=1', 'image/png', Buffer.from('noise')))).toEqual([400, expect.stringContaining('cannot be read')]); // prettier-ignore
    expect((await send('/api/neurons/heat?channel=1', 'text/plain')).status).toBe(415);
  });
});

describe('the neurons that a picture drives', () => {
  it('are as many as were asked for', async () => {
    const found = (await json(send('/api/neurons/test?top=3'))).body as FiringView;
    expect(found).toMatchObject({ model: 'brivl-nano', layer: 'LLP', rows: 1, columns: 2 });
    expect(found.units.map(({ channel }) => channel)).toEqual([0, 1, 2]);
    expect(await sentence(send('/api/neurons/test?top=201'))).toEqual([400, expect.stringContaining('at most 200')]);
  });
});

describe('relevance to a text', () => {
  it('of a result is to what it is about, when no text is told', async () => {
    const { id: jobId } = await studio.imagine({ text: 'dawn ^ people:-1 | noon:2', steps: 2 });
    const { resultId } = await studio.until(jobId, 'succeeded');
    expect(await json(studio.get(`/api/relevance?result=${resultId}`))).toMatchObject({ status: 200, body: { text: 'noon' } });
  });

  it('of a picture that is sent', async () => {
    expect(await json(send('/api/relevance?text=sun'))).toMatchObject({
      status: 200,
      body: { rows: 1, columns: 2, values: [1, -1] },
    });
    expect(await sentence(send('/api/relevance?text='))).toEqual([400, expect.stringContaining('text')]);
    expect(await sentence(studio.get(`/api/relevance?image=${id}`))).toEqual([400, expect.stringContaining('text is missing')]);
  });
});

it('the API describes them', async () => {
  const { paths } = (await (await studio.get('/api/openapi.json')).json()) as { paths: Record<string, Record<string, object>> };
  expect(Object.keys(paths['/api/neurons/{layer}/{channel}/heat'])).toEqual(['get']);
  expect(Object.keys(paths['/api/relevance']).sort()).toEqual(['get', 'post']);
  expect(JSON.stringify(paths['/api/neurons/test'].post)).toMatch(/"percentile"/);
});
