import { execFile, spawn } from 'node:child_process';
import { createHash } from 'node:crypto';
import { once } from 'node:events';
import path from 'node:path';
import { createInterface } from 'node:readline';
import { promisify } from 'node:util';
import sharp from 'sharp';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { startCompute } from '../../server/compute/process.js';
import { BadRequest, ComputeCrash, type Compute, type Progress } from '../../server/compute/protocol.js';
import { jobRequest, type JobRequest } from '../../server/jobs/job.js';
import { repositoryRoot } from '../../server/root.js';

const small = (request: Partial<JobRequest> = {}) => jobRequest.parse({ text: 'nature', size: 64, views: 2, steps: 4, ...request });

/** Direct children of this process that run the compute child. */
async function children(parent = process.pid): Promise<number[]> {
  const { stdout } = await promisify(execFile)('ps', ['-eo', 'pid=,ppid=,args=']);
  return stdout
    .split('\n')
    .map((line) => line.trim().split(/\s+/))
    .filter(([, ppid, ...args]) => Number(ppid) === parent && args.join(' ').includes('compute/child'))
    .map(([pid]) => Number(pid));
}

const isAlive = (pid: number) => {
  try {
    process.kill(pid, 0);
    return true;
  } catch {
    return false;
  }
};

async function untilDead(pid: number) {
  while (isAlive(pid)) await new Promise((resolve) => setTimeout(resolve, 20));
}

/** Runs a job and keeps what it told. */
async function imagine(compute: Compute, jobId: string, request: Partial<JobRequest> = {}, more: { checkpoint?: Uint8Array } = {}) {
  const told: Progress[] = [];
  const answer = await compute.request('imagine', { jobId, job: small(request), ...more }, (progress) => told.push(progress));
  return { answer, told };
}

const steps = (told: Progress[]) => told.flatMap((progress) => (progress.kind === 'step' ? [progress] : []));
const digest = (bytes: Uint8Array) => createHash('sha256').update(bytes).digest('hex');

describe('the compute process', () => {
  let compute: Compute;
  beforeAll(async () => {
    compute = await startCompute({ device: 'cpu' });
    await compute.request('hello', { device: 'cpu' });
  });
  afterAll(() => compute.close());

  it('tells its device and its models', async () => {
    const { device, models } = await compute.request('hello', { device: 'cpu' });
    expect(device).toEqual({ device: 'cpu', available: ['cpu'], notice: null });
    expect(models[0]).toMatchObject({
      name: 'brivl-nano',
      kind: 'encoder',
      inputSize: 224,
      channels: 1280,
      embed: 384,
      ready: true,
    });
    expect(models[0].hash).toMatch(/^[0-9a-f]{16}$/);
  });

  it('embeds a text and names the concepts nearest to it', async () => {
    const { embedding, notices } = await compute.request('embedText', { model: 'brivl-nano', text: 'volcano' });
    expect(embedding).toHaveLength(384);
    expect(Math.hypot(...embedding)).toBeCloseTo(1, 5);
    expect(notices).toEqual([]);
    const { concepts } = await compute.request('conceptsOfText', { model: 'brivl-nano', text: 'volcano', top: 3 });
    expect(concepts).toHaveLength(3);
    expect(concepts[0].word).toBe('volcano');
    expect(concepts[0].score).toBeGreaterThan(concepts[1].score);
  });

  it('embeds a picture and names the concepts nearest to it', async () => {
    const image = await sharp({ create: { width: 40, height: 30, channels: 3, background: '#2a6' } }).png().toBuffer(); // prettier-ignore
    const { embedding } = await compute.request('embedImage', { model: 'brivl-nano', image });
    expect(Math.hypot(...embedding)).toBeCloseTo(1, 5);
    const { concepts } = await compute.request('conceptsOfImage', { model: 'brivl-nano', image, top: 2 });
    expect(concepts).toHaveLength(2);
    expect(concepts[0].score).toBeCloseTo(
      (await compute.request('conceptsOfImage', { model: 'brivl-nano', image, top: 1 })).concepts[0].score,
      6,
    );
  });

  it('imagines: begins, tells each step from 0 on, and answers with the picture', async () => {
    const { answer, told } = await imagine(compute, 'a');
    expect(told[0]).toMatchObject({ kind: 'begun', jobId: 'a', notices: [] });
    expect(told[0].kind === 'begun' && told[0].textConcepts).toHaveLength(5);
    expect(steps(told).map(({ step }) => step)).toEqual([0, 1, 2, 3]);
    for (const { pixels, width, height, cos, steps: total, jobId } of steps(told)) {
      expect([pixels.length, width, height, total, jobId]).toEqual([64 * 64 * 3, 64, 64, 4, 'a']);
      expect(Math.abs(cos!)).toBeLessThanOrEqual(1);
    }
    expect(steps(told)[0]).toMatchObject({ secondOpinion: expect.any(Number) as number, concepts: expect.any(Array) as unknown[] });
    expect(answer).toMatchObject({ canceled: false, width: 64, height: 64, device: 'cpu', notices: [], neurons: [] });
    expect(answer.curve.map(({ step }) => step)).toEqual([0, 1, 2, 3]);
    expect(answer.pictureConcepts).toHaveLength(10);
    expect(answer.secondOpinionConcepts).toHaveLength(10);
  });

  it('gives the same bytes for the same job, and others for another seed', async () => {
    const [one, two, other] = [await imagine(compute, 'b'), await imagine(compute, 'c'), await imagine(compute, 'd', { seed: 2 })];
    expect(digest(two.answer.pixels)).toBe(digest(one.answer.pixels));
    expect(two.answer.curve).toEqual(one.answer.curve);
    expect(two.answer.cos).toBe(one.answer.cos);
    expect(digest(other.answer.pixels)).not.toBe(digest(one.answer.pixels));
  });

  it('stops between steps when canceled, with a checkpoint from which the same picture comes', async () => {
    const told: Progress[] = [];
    const job = small({ steps: 6, seed: 3 });
    const answer = await compute.request('imagine', { jobId: 'e', job }, (progress) => {
      told.push(progress);
      if (progress.kind === 'step' && progress.step === 1) compute.cancel('e');
    });
    expect(answer.canceled).toBe(true);
    expect(steps(told).length).toBeLessThan(6);
    const last = told.findLast((progress) => progress.kind === 'checkpoint');
    expect(last?.step).toBe(steps(told).length);

    const resumed = await imagine(compute, 'e', { steps: 6, seed: 3 }, { checkpoint: last?.checkpoint });
    expect(steps(resumed.told)[0].step).toBe(last?.step);
    expect(resumed.answer.canceled).toBe(false);
    const whole = await imagine(compute, 'f', { steps: 6, seed: 3 });
    expect(digest(resumed.answer.pixels)).toBe(digest(whole.answer.pixels));
    expect(resumed.answer.curve).toEqual(whole.answer.curve);
  });

  it('does not stop a job that was canceled before it was asked for', async () => {
    compute.cancel('g');
    expect((await imagine(compute, 'g', { steps: 1 })).answer.canceled).toBe(false);
  });

  it('tells each of two jobs at a time only its own progress', async () => {
    const [one, two] = await Promise.all([imagine(compute, 'h', { steps: 2 }), imagine(compute, 'i', { steps: 3, seed: 2 })]);
    expect(new Set(one.told.map(({ jobId }) => jobId))).toEqual(new Set(['h']));
    expect(steps(two.told).map(({ step }) => step)).toEqual([0, 1, 2]);
    expect(digest(two.answer.pixels)).toBe(digest((await imagine(compute, 'j', { steps: 3, seed: 2 })).answer.pixels));
  });

  it('reads asked neurons off the finished picture, and drives them', async () => {
    const [{ answer: free }, { answer: driven }] = [
      await imagine(compute, 'k', { steps: 4, neurons: [{ unit: 'LLP-108', weight: 0 }] }),
      await imagine(compute, 'l', { steps: 4, neurons: [{ unit: 'LLP-108', weight: 20 }] }),
    ];
    expect(free.neurons).toEqual([
      {
        ...{ unit: 'LLP-108', layer: 'LLP', channel: 108 },
        ...{ activation: expect.any(Number) as number, percentile: expect.any(Number) as number },
      },
    ]);
    expect(driven.neurons[0].activation).toBeGreaterThan(free.neurons[0].activation);
    expect(driven.neurons[0].percentile).toBeGreaterThanOrEqual(free.neurons[0].percentile!);
  });

  it('refuses what is wrong in the request, and goes on', async () => {
    const refused = async (promise: Promise<unknown>) => {
      const error: unknown = await promise.then(
        () => null,
        (reason: unknown) => reason,
      );
      expect(error).toBeInstanceOf(BadRequest);
      return (error as Error).message;
    };
    expect(await refused(compute.request('embedText', { model: 'nobody', text: 'a' }))).toBe(
      'there is no model nobody: there is brivl-nano',
    );
    expect(await refused(imagine(compute, 'm', { model: 'nobody' }))).toMatch(/no model nobody/);
    expect(await refused(imagine(compute, 'n', { neurons: [{ unit: 'LLP-1280', weight: 1 }] }))).toMatch(/LLP-0 to LLP-1279/);
    expect(await refused(compute.request('embedImage', { model: 'brivl-nano', image: Buffer.from('no picture') }))).toMatch(
      /give a PNG/,
    );
    const damaged = imagine(compute, 'o', {}, { checkpoint: Buffer.from('no checkpoint') });
    await expect(damaged).rejects.toThrow(/start the job anew/);
    await expect(damaged).rejects.not.toBeInstanceOf(BadRequest);
    expect((await imagine(compute, 'p', { steps: 1 })).answer.canceled).toBe(false);
  });

  it('answers a killed child with ComputeCrash, and the next request with a new child', async () => {
    const [pid] = await children();
    const crashed = compute.request('imagine', { jobId: 'q', job: small({ steps: 2000 }) }, (progress) => {
      if (progress.kind === 'step' && progress.step === 1) process.kill(pid, 'SIGKILL');
    });
    await expect(crashed).rejects.toBeInstanceOf(ComputeCrash);
    await expect(crashed).rejects.toThrow('the compute process was ended by SIGKILL');
    compute.cancel('q');
    expect((await imagine(compute, 'r', { steps: 1 })).answer.device).toBe('cpu');
    expect(await children()).not.toContain(pid);
    expect(await children()).toHaveLength(1);
  });

  it('ends the child when it is closed, and then takes nothing more', async () => {
    const [pid] = await children();
    await compute.close();
    expect(isAlive(pid)).toBe(false);
    await expect(compute.request('hello', { device: 'cpu' })).rejects.toThrow('the compute process is closed');
    await compute.close();
  });
});

it('says so when the device is none', async () => {
  const compute = await startCompute({ device: 'abacus' });
  try {
    const hello = compute.request('hello', { device: 'abacus' });
    await expect(hello).rejects.toBeInstanceOf(BadRequest);
    await expect(hello).rejects.toThrow('there is no device abacus: choose auto, cuda, dml, coreml, webgpu, cpu');
  } finally {
    await compute.close();
  }
});

it('ends with its parent, however that ended', async () => {
  const parent = spawn(process.execPath, ['--import', 'tsx', path.join(repositoryRoot, 'test/compute/parent.ts')], {
    cwd: repositoryRoot,
    stdio: ['ignore', 'pipe', 'pipe'],
  });
  let complaints = '';
  parent.stderr.setEncoding('utf8').on('data', (text: string) => (complaints += text));
  const lines = createInterface({ input: parent.stdout })[Symbol.asyncIterator]();
  expect((await lines.next()).value).toBe('working');
  const [child] = await children(parent.pid);
  expect(isAlive(child)).toBe(true);
  parent.kill('SIGKILL');
  // The child holds the same stderr: it is closed when both have ended.
  await once(parent, 'close');
  await untilDead(child);
  expect(complaints).toBe('');
});
