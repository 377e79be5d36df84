import { createHash } from 'node:crypto';
import sharp from 'sharp';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import type { Requests } from '../../server/compute/protocol.js';
import { compareLimits, type ClassificationView, type LabelSetView, type SimilarityView } from '../../server/compare/requests.js';
import type { ErrorBody } from '../../server/jobs/job.js';
import { ScriptedCompute } from './scripted-compute.js';
import { startStudio, type TestStudio } from './studio.js';

/** A direction for anything, from its hash: equal things have equal ones. */
const direction = (of: string | Uint8Array): Float32Array => {
  const bytes = createHash('sha256').update(of).digest().subarray(0, 4);
  const raw = [...bytes].map((byte) => byte - 127.5);
  const length = Math.hypot(...raw);
  return Float32Array.from(raw, (value) => value / length);
};

class EmbeddingCompute extends ScriptedCompute {
  readonly texts: string[] = [];
  pictures = 0;
  /** Texts wait for it, while there is one. */
  waiting: Promise<void> | undefined;

  override async request<K extends keyof Requests>(kind: K, ask: Requests[K]['ask']): Promise<Requests[K]['answer']> {
    if (kind === 'embedText') {
      const { model, text } = ask as Requests['embedText']['ask'];
      this.texts.push(text);
      await this.waiting;
      return { model, embedding: direction(text), notices: [] } as Requests[K]['answer'];
    }
    if (kind === 'embedImage') {
      const { model, image } = ask as Requests['embedImage']['ask'];
      this.pictures += 1;
      return { model, embedding: direction(image) } as Requests[K]['answer'];
    }
    return super.request(kind, ask);
  }
}

let studio: TestStudio;
const compute = new EmbeddingCompute();
/** Ids of three uploaded pictures and what the compute is shown for each. */
const ids: string[] = [];
const stored: Buffer[] = [];

beforeAll(async () => {
  studio = await startStudio({ compute });
  for (const background of ['#f00', '#0f0', '#00f']) {
    const body = await sharp({ create: { width: 8, height: 8, channels: 3, background } })
      .png()
      .toBuffer();
    const answer = await studio.get('/api/images', { method: 'POST', headers: { 'Content-Type': 'image/png' }, body: Uint8Array.from(body) }); // prettier-ignore
    const { id } = (await answer.json()) as { id: string };
    ids.push(id);
    stored.push(Buffer.from(await (await studio.get(`/api/images/${id}`)).arrayBuffer()));
  }
});
afterAll(() => studio.close());

const post = (path: string, body: unknown, signal?: AbortSignal) =>
  studio.get(path, {
    method: 'POST',
    headers: { 'Content-Type': 'application/json' },
    body: typeof body === 'string' ? body : JSON.stringify(body),
    signal,
  });
const problemOf = async (response: Response) => ({ status: response.status, ...((await response.json()) as ErrorBody).error });
const dot = (a: Float32Array, b: Float32Array) => a.reduce((sum, value, k) => sum + value * b[k], 0);

describe('POST /api/similarity', () => {
  it('answers pictures x texts, and remembers what it has embedded', async () => {
    const texts = [' nature ', '时间', 'nature'];
    const response = await post('/api/similarity', { images: ids, texts });
    expect(response.status).toBe(200);
    const view = (await response.json()) as SimilarityView;
    expect(view).toMatchObject({ model: 'brivl-nano', images: ids, texts: ['nature', '时间', 'nature'], notices: [] });
    for (const [i, picture] of stored.entries())
      for (const [j, text] of view.texts.entries())
        expect(view.matrix[i][j]).toBeCloseTo(dot(direction(picture), direction(text)), 5);
    const [texts1, pictures1] = [compute.texts.length, compute.pictures];
    expect([texts1, pictures1]).toEqual([2, 3]);
    await post('/api/similarity', { images: [ids[2], ids[0]], texts: ['nature', 'new'] });
    expect([compute.texts.slice(texts1), compute.pictures]).toEqual([['new'], 3]);
  });

  it('puts texts into the template', async () => {
    const view = (await (await post('/api/similarity', { images: ids.slice(0, 1), texts: ['a {} $&'], template: '一张{}的图' })).json()) as SimilarityView; // prettier-ignore
    expect(view.matrix[0][0]).toBeCloseTo(dot(direction(stored[0]), direction('一张a {} $&的图')), 5);
  });

  it('takes the picture of a result', async () => {
    const job = await studio.imagine({ text: 'nature', size: 64, steps: 1 });
    const { resultId } = await studio.until(job.id, 'succeeded', 'failed');
    const { imageId } = await studio.result(resultId!);
    expect((await post('/api/similarity', { images: [imageId], texts: ['nature'] })).status).toBe(200);
  });

  const id = '0'.repeat(64);
  it.each([
    ['nothing', {}, /images is missing/],
    ['no images', { images: [], texts: ['a'] }, /no images: give/],
    ['no texts', { images: [id], texts: [] }, /no texts: give/],
    ['too many images', { images: Array(compareLimits.images + 1).fill(id), texts: ['a'] }, /at most 64 images/],
    ['too many texts', { images: [id], texts: Array(compareLimits.texts + 1).fill('a') }, /at most 64 texts/],
    [
      'a path as an image',
      { images: ['../../etc/passwd'], texts: ['a'] },
      /images\.0 is "\.\.\/\.\.\/etc\/passwd": .*POST \/api\/images/,
    ],
    ['an image that nobody uploaded', { images: [id], texts: ['a'] }, /no picture 000000000000\.\.\.: upload it/],
    ['an empty text', { images: [id], texts: ['a', ' '] }, /texts\.1 is "": .*empty/],
    ['a long text', { images: [id], texts: ['a'.repeat(501)] }, /at most 500/],
    ['a template without {}', { images: [id], texts: ['a'], template: 'a photo' }, /a template has \{\} once/],
    ['an unknown model', { images: [id], texts: ['a'], model: 'nobody' }, /no model "nobody"/],
    ['an unknown field', { images: [id], texts: ['a'], top: 3 }, /"top" is not a field/],
    ['half a body', '{"images":', /not JSON/],
  ])('answers %s with 400 and a sentence', async (_name, body, sentence) => {
    const problem = await problemOf(await post('/api/similarity', body));
    expect(problem.status).toBe(400);
    expect(problem.message).toMatch(sentence);
  });
});

describe('POST /api/classify', () => {
  const classify = async (body: object) =>
    (await (await post('/api/classify', { images: ids, ...body })).json()) as ClassificationView;

  it('ranks labels of its own under the templates of the language', async () => {
    const { images, model } = await classify({ labels: ['cat', 'dog', 'bird'], top: 2 });
    expect([model, images.map(({ id }) => id)]).toEqual(['brivl-nano', ids]);
    for (const [i, { top }] of images.entries()) {
      const scored = ['cat', 'dog', 'bird'].map((label) => ({ label, score: dot(direction(stored[i]), direction(`a photo of ${label}`)) })); // prettier-ignore
      scored.sort((a, b) => b.score - a.score);
      expect(top.map(({ label }) => label)).toEqual(scored.slice(0, 2).map(({ label }) => label));
      expect(top[0].score).toBeCloseTo(scored[0].score, 5);
    }
  });

  it('takes bundled sets with their templates, or others', async () => {
    const before = compute.texts.length;
    const { images } = await classify({ labels: 'aid', language: 'zh' });
    expect(images[0].top).toHaveLength(5);
    expect(compute.texts.slice(before)).toContain('这是一张关于机场的卫星图');
    expect(compute.texts.length - before).toBe(60);
    await classify({ labels: 'uc-merced', templates: ['{}', 'a map of {}'] });
    expect(compute.texts.slice(before + 60)).toEqual(expect.arrayContaining(['airplane', 'a map of airplane']));
    expect((await classify({ labels: 'concepts', language: 'zh' })).images[0].top).toEqual([
      { label: '火山', score: expect.any(Number) as number },
    ]);
  });

  it.each([
    ['an unknown set', { labels: 'nothing' }, /no labels "nothing": choose one of aid, uc-merced, concepts/],
    ['a path as a set', { labels: '../labels/aid' }, /no labels/],
    ['a set of every object', { labels: '__proto__' }, /no labels/],
    ['one label', { labels: ['one'] }, /labels is \["one"\]: |at least 2 labels/],
    ['too many labels', { labels: Array.from({ length: 201 }, (_, i) => `label ${i}`) }, /at most 200|labels/],
    ['another language', { labels: ['a', 'b'], language: 'fr' }, /language must be en or zh/],
    ['no top', { labels: ['a', 'b'], top: 0 }, /top must be at least 1/],
    ['no templates', { labels: ['a', 'b'], templates: [] }, /no templates/],
    ['too many templates', { labels: ['a', 'b'], templates: Array(9).fill('{}') }, /at most 8 templates/],
  ])('answers %s with 400 and a sentence', async (_name, body, sentence) => {
    const problem = await problemOf(await post('/api/classify', { images: ids, ...body }));
    expect(problem.status).toBe(400);
    expect(problem.message).toMatch(sentence);
  });
});

it('GET /api/labels tells the bundled sets with their templates', async () => {
  const { sets } = (await (await studio.get('/api/labels')).json()) as { sets: LabelSetView[] };
  expect(sets.map(({ name, labels }) => [name, labels.length])).toEqual([
    ['aid', 30],
    ['uc-merced', 21],
    ['concepts', 1],
  ]);
  expect(sets[2]).toEqual({
    name: 'concepts',
    title: { en: '1 visual concepts', zh: '1 个视觉概念' },
    templates: { en: ['a photo of {}'], zh: ['这是一张关于{}的图'] },
    labels: [{ folder: 'n09472597', en: 'volcano', zh: '火山' }],
  });
  expect(sets[0].templates.en.length).toBeGreaterThan(1);
});

it('stops when nobody waits, and does a few comparisons at a time', async () => {
  let open = () => {};
  compute.waiting = new Promise((resolve) => (open = resolve));
  const before = compute.texts.length;
  const gone = new AbortController();
  const asks = Array.from({ length: compareLimits.atATime }, (_, i) =>
    post('/api/similarity', { images: ids, texts: Array.from({ length: 20 }, (_, j) => `${i} ${j}`) }, gone.signal).catch(
      () => null,
    ),
  );
  await expect.poll(() => compute.texts.length - before).toBe(compareLimits.atATime);
  const refused = await post('/api/similarity', { images: ids, texts: ['one more'] });
  expect(refused.headers.get('retry-after')).toBe('2');
  expect(await problemOf(refused)).toMatchObject({ status: 429, code: 'busy' });

  gone.abort();
  expect(await Promise.all(asks)).toEqual(asks.map(() => null));
  // The server hears of it in its own time.
  await new Promise((resolve) => setTimeout(resolve, 100));
  open();
  compute.waiting = undefined;
  await expect.poll(async () => (await post('/api/similarity', { images: ids, texts: ['after'] })).status).toBe(200);
  expect(compute.texts.length - before).toBeLessThan(compareLimits.atATime * 3);
});

it('the API describes them', async () => {
  const { paths } = (await (await studio.get('/api/openapi.json')).json()) as { paths: Record<string, Record<string, object>> };
  expect(Object.keys(paths['/api/similarity'])).toEqual(['post']);
  expect(Object.keys(paths['/api/classify'])).toEqual(['post']);
  expect(JSON.stringify(paths['/api/classify'].post)).toMatch(/"maxItems":64.*"templates"/);
  expect(Object.keys(paths['/api/labels'])).toEqual(['get']);
});
