import { rm } from 'node:fs/promises';
import fc from 'fast-check';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { job, jobRequest, type JobStatus } from '../../server/jobs/job.js';
import { startFrames } from '../../server/jobs/frames.js';
import { startScheduler, type JobEvent, type Scheduler } from '../../server/jobs/scheduler.js';
import type { Frame } from '../../server/live/events.js';
import { openStore, type Store } from '../../server/store/store.js';
import { ScriptedCompute } from './scripted-compute.js';
import { temporaryFolder } from './studio.js';

const order = (text: string, steps = 3) => job.parse({ text, width: 64, height: 64, steps });

/** A queue over a scripted compute, without a server around it. */
async function openQueue() {
  const folder = await temporaryFolder();
  const store: Store = await openStore(folder);
  const compute = new ScriptedCompute();
  const scheduler: Scheduler = startScheduler(store, compute);
  const events: JobEvent[] = [];
  scheduler.onEvent((event) => events.push(event));
  const statusOf = (id: string) => scheduler.find(id)!.status;
  return {
    scheduler,
    compute,
    events,
    statusOf,
    async idle() {
      while (scheduler.queue().running !== null || scheduler.queue().waiting.length > 0)
        await new Promise((resolve) => setImmediate(resolve));
    },
    async close() {
      compute.letGo();
      await scheduler.stop();
      await store.close();
      await rm(folder, { recursive: true });
    },
  };
}

describe('a request', () => {
  it('names the same job however it is written', () => {
    const written = [
      { text: 'nature', size: '320x224', negative: 'people' },
      { negative: ['people'], height: 224, width: 320, text: ' nature', seed: 1 },
    ].map((request) => JSON.stringify(jobRequest.parse(request)));
    expect(written[0]).toBe(written[1]);
    expect(jobRequest.parse(JSON.parse(written[0]))).toEqual(JSON.parse(written[0]));
  });
});

describe('the queue', () => {
  let queue: Awaited<ReturnType<typeof openQueue>>;
  beforeEach(async () => {
    queue = await openQueue();
  });
  afterEach(() => queue.close());

  it('runs one job at a time, in the order in which they came', async () => {
    const ids = ['a', 'b', 'c'].map((text) => queue.scheduler.create(order(text)).id);
    expect(ids.map((id) => queue.scheduler.find(id)!.position)).toEqual([0, 1, 2]);
    await queue.idle();
    expect(queue.compute.begun.map(({ text }) => text)).toEqual(['a', 'b', 'c']);
    expect(ids.map(queue.statusOf)).toEqual(['succeeded', 'succeeded', 'succeeded']);
    const running = queue.events.flatMap((event) => (event.kind === 'queue' ? [event.state.running] : []));
    expect(running.filter((id, index) => id !== running[index - 1] && id !== null)).toEqual(ids);
  });

  it('cancels a waiting job and never the running one', async () => {
    const reached = queue.compute.holdAt(1);
    const [running, waiting, last] = ['running', 'waiting', 'last'].map((text) => queue.scheduler.create(order(text)).id);
    await reached;
    expect(queue.scheduler.cancel(waiting)?.status).toBe('canceled');
    expect(queue.statusOf(running)).toBe('running');
    queue.compute.letGo();
    await queue.idle();
    expect([running, waiting, last].map(queue.statusOf)).toEqual(['succeeded', 'canceled', 'succeeded']);
    expect(queue.compute.begun.map(({ jobId }) => jobId)).toEqual([running, last]);
  });

  it('cancels the running job between steps and goes on with the next', async () => {
    const reached = queue.compute.holdAt(1);
    const [running, next] = ['running', 'next'].map((text) => queue.scheduler.create(order(text)).id);
    await reached;
    expect(queue.scheduler.cancel(running)?.status).toBe('canceling');
    expect(queue.scheduler.cancel(running)?.status).toBe('canceling');
    await queue.idle();
    expect([running, next].map(queue.statusOf)).toEqual(['canceled', 'succeeded']);
    expect(queue.events.filter((event) => event.kind === 'failed')).toEqual([
      { kind: 'failed', jobId: running, error: 'the job was canceled', canceled: true },
    ]);
    expect(queue.scheduler.find(running)).toMatchObject({ resultId: null, finishedAt: expect.any(Number) as number });
  });

  it('cancels a job that was only just started, before compute has it', async () => {
    const { id } = queue.scheduler.create(order('a'));
    expect(queue.scheduler.cancel(id)?.status).toBe('canceling');
    await queue.idle();
    expect(queue.statusOf(id)).toBe('canceled');
  });

  it('leaves finished jobs and unknown ones alone', async () => {
    const { id } = queue.scheduler.create(order('a'));
    await queue.idle();
    expect(queue.scheduler.cancel(id)?.status).toBe('succeeded');
    expect(queue.scheduler.cancel('nobody')).toBeUndefined();
  });
});

describe('the queue, whatever people do', () => {
  type Act = { kind: 'create' } | { kind: 'create failing' } | { kind: 'cancel'; which: number } | { kind: 'wait' };
  const act: fc.Arbitrary<Act> = fc.oneof(
    { weight: 3, arbitrary: fc.constant({ kind: 'create' } as const) },
    { weight: 1, arbitrary: fc.constant({ kind: 'create failing' } as const) },
    { weight: 3, arbitrary: fc.record({ kind: fc.constant('cancel' as const), which: fc.nat(20) }) },
    { weight: 2, arbitrary: fc.constant({ kind: 'wait' } as const) },
  );
  const possible: Record<JobStatus, JobStatus[]> = {
    queued: ['running', 'canceled'],
    running: ['succeeded', 'failed', 'canceling'],
    canceling: ['canceled'],
    succeeded: [],
    failed: [],
    canceled: [],
  };

  it('starts jobs first come first served, moves only along the states, and ends every job as it was asked to', async () => {
    await fc.assert(
      fc.asyncProperty(fc.array(act, { maxLength: 20 }), async (acts) => {
        const queue = await openQueue();
        const ids: string[] = [];
        const isFailing = new Set<string>();
        const canceledWaiting = new Set<string>();
        const canceledAtAll = new Set<string>();
        for (const { kind, ...rest } of acts) {
          if (kind === 'wait') for (let turn = 0; turn < 8; turn++) await new Promise((resolve) => setImmediate(resolve));
          else if (kind === 'cancel') {
            const id = ids[(rest as { which: number }).which];
            if (id === undefined) continue;
            const before = ids.map(queue.statusOf);
            queue.scheduler.cancel(id);
            const after = ids.map(queue.statusOf);
            // Nobody else's job was touched.
            for (const [index, other] of ids.entries()) if (other !== id) expect(after[index]).toBe(before[index]);
            if (before[ids.indexOf(id)] === 'queued') canceledWaiting.add(id);
            if (['queued', 'running', 'canceling'].includes(before[ids.indexOf(id)])) canceledAtAll.add(id);
          } else {
            const { id } = queue.scheduler.create(order(kind === 'create' ? 'fine' : 'fail at 2'));
            ids.push(id);
            if (kind === 'create failing') isFailing.add(id);
          }
        }
        await queue.idle();

        const begun = queue.compute.begun.map(({ jobId }) => jobId);
        expect(begun).toEqual(ids.filter((id) => begun.includes(id)));
        for (const id of canceledWaiting) expect(begun).not.toContain(id);
        for (const id of ids)
          expect(queue.statusOf(id)).toBe(canceledAtAll.has(id) ? 'canceled' : isFailing.has(id) ? 'failed' : 'succeeded');
        for (const id of ids) {
          const states = [
            'queued',
            ...queue.events.flatMap((event) => (event.kind === 'changed' && event.job.id === id ? [event.job.status] : [])),
          ];
          const moves = states.filter((state, index) => state !== states[index - 1]) as JobStatus[];
          for (const [index, state] of moves.slice(1).entries()) expect(possible[moves[index]]).toContain(state);
          const ends = queue.events.filter((event) => (event.kind === 'done' || event.kind === 'failed') && event.jobId === id);
          expect(ends).toHaveLength(1);
        }
        await queue.close();
      }),
      { numRuns: 15 },
    );
  });
});

describe('frames', () => {
  const step = (number: number) => ({
    kind: 'step' as const,
    jobId: 'a',
    step: number,
    steps: 100,
    cos: 0,
    stepsPerSecond: 1,
    secondsLeft: 1,
    pixels: new Uint8Array(64 * 64 * 3),
    width: 64,
    height: 64,
  });

  it('skip to the newest picture while one is encoded, and lose none otherwise', async () => {
    const seen: Frame[] = [];
    const frames = startFrames('a', (frame) => seen.push(frame));
    for (const number of [1, 2, 3, 4]) frames.offer(step(number));
    await frames.close();
    expect(seen.map((frame) => frame.step)).toEqual([1, 4]);

    seen.length = 0;
    const unhurried = startFrames('a', (frame) => seen.push(frame));
    for (const number of [1, 2, 3]) {
      unhurried.offer(step(number));
      while (seen.length < number) await new Promise((resolve) => setImmediate(resolve));
    }
    await unhurried.close();
    expect(seen.map((frame) => frame.step)).toEqual([1, 2, 3]);
  });

  it('go on after one that could not be made, and end with close', async () => {
    const seen: Frame[] = [];
    const frames = startFrames('a', (frame) => seen.push(frame));
    frames.offer({ ...step(1), width: 0 });
    frames.offer(step(2));
    await frames.close();
    frames.offer(step(3));
    await frames.close();
    expect(seen.map((frame) => frame.step)).toEqual([2]);
  });
});
