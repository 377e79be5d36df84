import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import sharp from 'sharp';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import type { Requests } from '../../server/compute/protocol.js';
import type { ErrorBody } from '../../server/jobs/job.js';
import * as views from '../../server/http/neuron-views.js';
import type { IndexView, LayerView, UnitView } from '../../server/neurons/view.js';
import type { Looker } from '../../server/neurons/see.js';
import { sessionsInMemory } from '../imagination/fake.js';
import { ScriptedCompute } from '../server/scripted-compute.js';
import { startStudio, type TestStudio } from '../server/studio.js';
import { fakeLooker } from './eyes.js';

const sessions = sessionsInMemory();

/** Jobs are scripted; what indexes ask goes to the fake model. */
class SeeingCompute extends ScriptedCompute {
  batches = 0;
  private readonly looker: Looker = fakeLooker(sessions);

  override async request<K extends keyof Requests>(
    kind: K,
    ask: Requests[K]['ask'],
    ...more: never[]
  ): Promise<Requests[K]['answer']> {
    const answers: Partial<{ [Kind in keyof Requests]: (ask: Requests[Kind]['ask']) => Promise<Requests[Kind]['answer']> }> = {
      eye: ({ model }) => this.looker.eye(model),
      meaning: ({ model, layer }) => this.looker.meaning(model, layer),
      products: ({ a, b }) => this.looker.products(a, b),
      statistics: ({ model, layer }) => this.looker.statistics(model, layer),
      see: (ask) => {
        this.batches += 1;
        return this.looker.see(ask);
      },
    };
    return answers[kind]?.(ask) ?? super.request(kind, ask, ...more);
  }
}

let studio: TestStudio;
const compute = new SeeingCompute();
beforeAll(async () => {
  studio = await startStudio({ compute });
});
afterAll(async () => {
  await studio.close();
  await sessions.release();
});

const json = async <T>(route: string, init?: RequestInit) => (await (await studio.get(route, init)).json()) as T;
const problemOf = async (route: string, init?: RequestInit) => {
  const response = await studio.get(route, init);
  return { status: response.status, ...((await response.json()) as ErrorBody).error };
};
const post = (body: unknown): RequestInit => ({
  method: 'POST',
  headers: { 'Content-Type': 'application/json' },
  body: JSON.stringify(body),
});
async function untilDone(route: string): Promise<LayerView> {
  for (;;) {
    const view = await json<LayerView>(route);
    if (view.index.state !== 'running') return view;
    await new Promise((resolve) => setTimeout(resolve, 30));
  }
}

describe('the first visit', () => {
  it('waits with its index for the jobs that draw, then makes it behind the page', async () => {
    const held = compute.holdAt(2);
    const job = await studio.imagine({ text: 'nature', size: 64, steps: 4 });
    await held;
    const first = await json<LayerView>('/api/neurons');
    expect(first).toMatchObject({ model: 'brivl-nano', layer: 'LLP', index: { state: 'running', done: 0 } });
    expect(first.layers).toEqual([{ name: 'stem', channels: 8 }, { name: 'LLP', channels: 16 }]); // prettier-ignore
    expect(first.units).toHaveLength(16);
    expect(first.units[5]).toMatchObject({ channel: 5, label: null, words: [], mean: null, x: null });
    await new Promise((resolve) => setTimeout(resolve, 300));
    expect(compute.batches).toBe(0);
    const unknown = await json<UnitView>('/api/neurons/LLP/3');
    expect(views.unitView.parse(unknown)).toEqual(unknown);
    expect(unknown).toMatchObject({ unit: 'LLP-3', index: { state: 'running' }, statistics: null, examples: null, words: [] });
    compute.letGo();
    await studio.until(job.id, 'succeeded');

    const done = await untilDone('/api/neurons?model=brivl-nano&layer=LLP');
    expect(views.layerView.parse(done)).toEqual(done);
    expect(done.index).toMatchObject({ state: 'done', unreadable: 0 });
    expect(done.index.done).toBe(done.index.images);
    for (const unit of done.units) {
      expect(unit.words).toHaveLength(3);
      expect(unit.example).toMatch(/^\/api\/photographs\/[\w-]+\.jpg$/);
      expect(unit.x! >= 0 && unit.x! <= 1 && unit.y! >= 0 && unit.y! <= 1).toBe(true);
    }
    const { batches } = compute;
    await json('/api/neurons');
    expect(compute.batches).toBe(batches);
  });
});

describe('a unit', () => {
  it('is told whole, as it is described', async () => {
    const unit = await json<UnitView>('/api/neurons/LLP/3');
    expect(views.unitView.parse(unit)).toEqual(unit);
    expect(unit).toMatchObject({ unit: 'LLP-3', layer: 'LLP', channel: 3 });
    const picture = await studio.get(unit.examples!.top[0].url);
    expect(picture.headers.get('content-type')).toBe('image/jpeg');
    expect((await sharp(Buffer.from(await picture.arrayBuffer())).metadata()).width).toBe(256);
  });

  it.each([
    ['/api/neurons/LLP/16', 404, /no neuron LLP-16: its neurons are LLP-0 to LLP-15/],
    ['/api/neurons/block9/1', 404, /no layer "block9": its layers are stem, LLP/],
    ['/api/neurons/LLP/x', 400, /a channel is a number from 0/],
    ['/api/neurons?layer=nothing', 404, /no layer "nothing"/],
    ['/api/neurons?model=../x', 400, /a model is named by/],
    ['/api/photographs/nobody.jpg', 404, /there is no photograph "nobody.jpg"/],
    ['/api/photographs/..%2f..%2fpackage.json', 404, /there is no photograph/],
    ['/api/photographs/photographs.json', 404, /there is no photograph/],
    ['/api/neurons/examples/1', 404, /there is no example 1/],
    ['/api/neurons/examples/..%2fa', 400, /an example is a number/],
    ['/api/neurons/atlas/brivl-nano/stem.webp', 404, /there is no sheet/],
    ['/api/neurons/atlas/brivl-nano/..%2f..%2fx.webp', 404, /there is no sheet/],
    ['/api/neurons/atlas/brivl-nano/stem/1.webp', 404, /there is no picture of channel 1 of "stem"/],
    ['/api/neurons/atlas/brivl-nano/LLP/x.webp', 400, /a channel is a number from 0/],
  ])('%s: %d', async (route, status, sentence) => {
    const problem = await problemOf(route);
    expect([problem.status, problem.message]).toEqual([status, expect.stringMatching(sentence)]);
  });
});

describe('indexes', () => {
  it('are begun, listed and stopped, and go on', async () => {
    const held = compute.holdAt(1);
    const job = await studio.imagine({ text: 'time', size: 64, steps: 2 });
    await held;
    const started = await json<IndexView>('/api/neurons/indexes', post({ layers: ['stem', 'stem'] }));
    expect(views.indexView.parse(started)).toEqual(started);
    expect(started).toMatchObject({ layers: ['stem'], source: 'bundled', state: 'running' });
    const again = await json<IndexView>('/api/neurons/indexes', post({ layers: ['stem'] }));
    expect(again.id).toBe(started.id);
    const stopped = await studio.get(`/api/neurons/indexes/${started.id}`, { method: 'DELETE' });
    expect(stopped.status).toBe(202);
    const state = async () =>
      (await json<{ indexes: IndexView[] }>('/api/neurons/indexes')).indexes.find(({ id }) => id === started.id)!.state;
    while ((await state()) !== 'stopped') await new Promise((resolve) => setTimeout(resolve, 20));
    expect((await problemOf(`/api/neurons/indexes/${started.id}`, { method: 'DELETE' })).status).toBe(409);
    // A visit does not begin what somebody stopped.
    expect((await json<LayerView>('/api/neurons?layer=stem')).index.state).toBe('stopped');
    compute.letGo();
    await studio.until(job.id, 'succeeded');
    await json('/api/neurons/indexes', post({ layers: ['stem'] }));
    expect((await untilDone('/api/neurons?layer=stem')).index.state).toBe('done');
    expect((await json<UnitView>('/api/neurons/stem/7')).unit).toBe('stem/ch-7');
  });

  it.each([
    [{ folder: '/etc' }, 400, /folders are indexed on the command line: reverie index DIR/],
    [{ layers: [] }, 400, /no layers/],
    [{ layers: ['block9'] }, 404, /no layer "block9"/],
  ])('refuse %j', async (body, status, sentence) => {
    const problem = await problemOf('/api/neurons/indexes', post(body));
    expect([problem.status, problem.message]).toEqual([status, expect.stringMatching(sentence)]);
  });

  it('go on in the next server when one ends in the middle', async () => {
    const dataDir = await mkdtemp(path.join(tmpdir(), 'reverie-next-'));
    const first = await startStudio({ compute: new SeeingCompute(), dataDir, keepData: true });
    await first.get('/api/neurons');
    await new Promise((resolve) => setTimeout(resolve, 250));
    // One that was stopped here is left alone here, and taken up by the next process.
    const index = post({ layers: ['stem'] });
    const { id } = (await (await first.get('/api/neurons/indexes', index)).json()) as IndexView;
    await first.get(`/api/neurons/indexes/${id}`, { method: 'DELETE' });
    const stem = async (of: TestStudio) => ((await (await of.get('/api/neurons?layer=stem')).json()) as LayerView).index;
    while ((await stem(first)).state === 'running') await new Promise((resolve) => setTimeout(resolve, 30));
    expect(await stem(first)).toMatchObject({ id, state: 'stopped' });
    await first.close();
    const second = await startStudio({ compute: new SeeingCompute(), dataDir, keepData: true });
    const state = async () => ((await (await second.get('/api/neurons')).json()) as LayerView).index.state;
    while ((await state()) === 'running') await new Promise((resolve) => setTimeout(resolve, 30));
    expect(await state()).toBe('done');
    expect(await stem(second)).toMatchObject({ id, state: 'running' });
    while ((await stem(second)).state === 'running') await new Promise((resolve) => setTimeout(resolve, 30));
    expect((await stem(second)).state).toBe('done');
    await second.close();
    await rm(dataDir, { recursive: true });
  });
});
