import { io } from 'socket.io-client';
import { afterEach, describe, expect, it } from 'vitest';
import type { Tokens } from '../../server/imagination/generator.js';
import type { Answer, DeviceState, QueueState } from '../../server/live/events.js';
import { ScriptedCompute } from './scripted-compute.js';
import { rawRequest, startStudio, type TestStudio } from './studio.js';

let studio: TestStudio;
afterEach(() => studio.close());

const stored = async (id: string) => Buffer.from(await (await studio.get(`/api/results/${id}/image.png`)).arrayBuffer());

describe('watching a job', () => {
  it('gets at least 20 frames with rising steps, the last of which is the stored PNG, and then done', async () => {
    studio = await startStudio();
    const reached = studio.compute.holdAt(0);
    const job = await studio.imagine({ text: 'nature', size: 64 });
    await reached;
    const watched = await studio.watch(job.id);
    studio.compute.letGo();
    await watched.ended;

    expect(watched.frames.length).toBeGreaterThanOrEqual(20);
    const steps = watched.frames.map(({ step }) => step);
    expect(steps).toEqual([...new Set(steps)].sort((a, b) => a - b));
    const last = watched.frames.at(-1)!;
    expect(last).toMatchObject({ jobId: job.id, step: 120, steps: 120, mime: 'image/png' });
    expect(watched.frames.slice(0, -1).every(({ mime }) => mime === 'image/webp')).toBe(true);
    expect(Buffer.from(last.data).equals(await stored(watched.done[0].resultId))).toBe(true);
    expect(watched.order.at(-1)).toBe('done');
    expect(watched.order.lastIndexOf('frame')).toBeLessThan(watched.order.indexOf('done'));
  });

  it('gives who joins late the newest frame at once', async () => {
    studio = await startStudio();
    const reached = studio.compute.holdAt(60);
    const job = await studio.imagine({ text: '时间', size: 64 });
    await reached;
    // The frame of a step is encoded beside the next one: look until it is there.
    for (;;) {
      const { snapshots } = await studio.watch(job.id);
      const { job: view, frame } = snapshots[0];
      expect(view).toMatchObject({ id: job.id, status: 'running', step: 60, textConcepts: [{ word: '时间 0' }, {}, {}] });
      if (frame?.step === 60) break;
    }
  });

  it('gets the tokens with the frames of a VQGAN, and with no others', async () => {
    studio = await startStudio({ compute: new ScriptedCompute({ models: ['brivl-nano', 'vqgan-nano'] }) });
    const reached = studio.compute.holdAt(0);
    const job = await studio.imagine({ text: 'nature', method: 'vqgan', size: '96x64', steps: 6 });
    const other = await studio.imagine({ text: 'nature', size: 64, steps: 2 });
    await reached;
    const [watched, without] = [await studio.watch(job.id), await studio.watch(other.id)];
    studio.compute.letGo();
    await Promise.all([watched.ended, without.ended]);
    const { codes } = (await (await studio.get(`/api/results/${watched.done[0].resultId}/tokens`)).json()) as Tokens;
    for (const { tokens } of watched.frames) expect(tokens).toMatchObject({ rows: 8, columns: 12, codebook: 4096 });
    const sent = Buffer.from(watched.frames.at(-1)!.tokens!.codes);
    expect(codes.map((_, i) => sent.readUInt16LE(2 * i))).toEqual(codes);
    expect(without.frames.some((frame) => 'tokens' in frame)).toBe(false);
    // Who comes later gets them with the stored picture.
    const late = (await studio.watch(job.id)).snapshots[0].frame!;
    expect(Buffer.from(late.tokens!.codes).equals(sent)).toBe(true);
  });

  it('gives who joins after the end the stored PNG', async () => {
    studio = await startStudio();
    const { id } = await studio.imagine({ text: 'castle', size: 64, steps: 3 });
    const { resultId } = await studio.until(id, 'succeeded');
    const { snapshots } = await studio.watch(id);
    expect(snapshots[0].job.resultId).toBe(resultId);
    expect(snapshots[0].frame).toMatchObject({ step: 3, mime: 'image/png' });
    expect(Buffer.from(snapshots[0].frame!.data).equals(await stored(resultId!))).toBe(true);
  });

  it('tells of a failure in words and of a cancel', async () => {
    studio = await startStudio();
    const reached = studio.compute.holdAt(2);
    const failing = await studio.imagine({ text: 'fail at 4', size: 64 });
    const canceled = await studio.imagine({ text: 'never mind', size: 64 });
    await reached;
    const [first, second] = [await studio.watch(failing.id), await studio.watch(canceled.id)];
    await studio.get(`/api/jobs/${canceled.id}`, { method: 'DELETE' });
    await second.ended;
    expect(second.failed).toEqual([{ jobId: canceled.id, error: expect.any(String) as string, canceled: true }]);
    studio.compute.letGo();
    await first.ended;
    expect(first.failed).toEqual([{ jobId: failing.id, error: 'the scripted job failed as it was told', canceled: false }]);
  });

  it('sends no frames to who does not watch, nor after unwatch', async () => {
    studio = await startStudio();
    const reached = studio.compute.holdAt(1);
    const job = await studio.imagine({ text: 'dream', size: 64 });
    await reached;
    const other = studio.socket();
    let frames = 0;
    other.on('frame', () => frames++);
    await other.emitWithAck('watch', { jobId: job.id });
    await other.emitWithAck('unwatch', { jobId: job.id });
    frames = 0;
    studio.compute.letGo();
    await (await studio.watch(job.id)).ended.catch(() => undefined);
    await studio.until(job.id, 'succeeded');
    await other.emitWithAck('unwatch', { jobId: job.id });
    expect(frames).toBe(0);
  });

  it('refuses messages of another shape and unknown jobs in words', async () => {
    studio = await startStudio();
    const socket = studio.socket();
    for (const message of [undefined, 'x', { jobId: 5 }, { jobId: 'x', more: 1 }, { jobId: 'x'.repeat(65) }]) {
      const answer = (await socket.emitWithAck('watch', message)) as Answer;
      expect(answer).toMatchObject({ ok: false, error: expect.stringContaining('jobId') as string });
    }
    expect(await socket.emitWithAck('watch', { jobId: 'nobody' })).toEqual({ ok: false, error: 'there is no job "nobody"' });
    (socket as { emit: (...message: unknown[]) => void }).emit('watch');
    (socket as { emit: (...message: unknown[]) => void }).emit('watch', { jobId: 'nobody' }, 'not a function');
    expect(await socket.emitWithAck('unwatch', { jobId: 'nobody' })).toEqual({ ok: true });
  });
});

describe('connecting', () => {
  it('tells the queue and the device at once, and every change of the queue', async () => {
    studio = await startStudio();
    const socket = studio.socket();
    const queues: QueueState[] = [];
    const device = new Promise<DeviceState>((resolve) => socket.on('device', resolve));
    socket.on('queue', (state) => queues.push(state));
    expect(await device).toEqual({ device: 'scripted', available: ['scripted', 'cpu'], notice: null });
    expect(queues[0]).toEqual({ running: null, waiting: [] });

    const reached = studio.compute.holdAt(0);
    const first = await studio.imagine({ text: 'first', size: 64, steps: 2 });
    await reached;
    const second = await studio.imagine({ text: 'second', size: 64, steps: 2 });
    studio.compute.letGo();
    await studio.until(second.id, 'succeeded');
    await socket.emitWithAck('unwatch', { jobId: 'x' });
    expect(queues).toContainEqual({ running: first.id, waiting: [second.id] });
    expect(queues).toContainEqual({ running: second.id, waiting: [] });
    expect(queues.at(-1)).toEqual({ running: null, waiting: [] });
  });

  it.each([
    ['another site', { Origin: 'https://evil.example' }],
    ['a page without an origin', { Origin: 'null' }],
    ['a rebound name', { Host: 'evil.example' }],
  ])('is refused to %s, by websocket and by polling', async (_name, headers) => {
    studio = await startStudio();
    const socket = io(studio.url, { transports: ['websocket'], extraHeaders: headers, reconnection: false, forceNew: true });
    const outcome = await new Promise((resolve) => {
      socket.on('connect', () => resolve('connected'));
      socket.on('connect_error', () => resolve('refused'));
    });
    socket.disconnect();
    expect(outcome).toBe('refused');
    expect((await rawRequest(`${studio.url}/socket.io/?EIO=4&transport=polling`, { headers })).status).toBe(403);
  });
});
