import { spawn, type ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import { rm } from 'node:fs/promises';
import path from 'node:path';
import Libsql from 'libsql';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { repositoryRoot } from '../../server/root.js';
import { ScriptedCompute } from './scripted-compute.js';
import { startStudio, temporaryFolder, type TestStudio } from './studio.js';

let dataDir: string;
beforeEach(async () => {
  dataDir = await temporaryFolder();
});
const victims: ChildProcess[] = [];
afterEach(async () => {
  for (const victim of victims.splice(0)) victim.kill('SIGKILL');
  await rm(dataDir, { recursive: true, force: true });
});

const request = { text: 'a castle in the clouds', size: 64, steps: 20, seed: 3 };
const png = async (studio: TestStudio, resultId: string) =>
  Buffer.from(await (await studio.get(`/api/results/${resultId}/image.png`)).arrayBuffer());

/** The bytes of the job when nothing happens to it. */
async function undisturbed(): Promise<Buffer> {
  const studio = await startStudio();
  const { id } = await studio.imagine(request);
  const { resultId } = await studio.until(id, 'succeeded');
  const bytes = await png(studio, resultId!);
  await studio.close();
  return bytes;
}

describe('a job', () => {
  it('gives the same bytes twice', async () => {
    expect((await undisturbed()).equals(await undisturbed())).toBe(true);
  });

  it('goes on over a proper stop of the server from the very step, to the same bytes', async () => {
    const first = await startStudio({ dataDir, keepData: true });
    const reached = first.compute.holdAt(7);
    const { id } = await first.imagine(request);
    await reached;
    await first.close();
    expect(first.compute.isClosed()).toBe(true);

    const second = await startStudio({ dataDir });
    const { resultId } = await second.until(id, 'succeeded');
    expect(second.compute.begun).toEqual([{ jobId: id, text: request.text, from: 7 }]);
    expect((await png(second, resultId!)).equals(await undisturbed())).toBe(true);
    await second.close();
  });

  it('goes on once after a crash of compute, from its checkpoint, while the server answers', async () => {
    const studio = await startStudio({ dataDir });
    const { id } = await studio.imagine({ ...request, text: 'crash once at 13' });
    const next = await studio.imagine({ ...request, steps: 1 });
    const { resultId } = await studio.until(id, 'succeeded');
    expect(studio.compute.begun.filter(({ jobId }) => jobId === id).map(({ from }) => from)).toEqual([0, 10]);
    expect(resultId).not.toBeNull();
    await studio.until(next.id, 'succeeded');
    expect(await (await studio.get('/metrics')).text()).toContain('reverie_compute_restarts_total 1\n');
    await studio.close();
  });

  it('that crashes compute again fails with a sentence, and the next one runs', async () => {
    const studio = await startStudio({ dataDir });
    const bad = await studio.imagine({ ...request, text: 'crash at 13' });
    const good = await studio.imagine(request);
    const { error, resultId } = await studio.until(bad.id, 'failed');
    expect(error).toMatch(/ended at step 12 of 20 .*SIGSEGV.*try a smaller picture/);
    expect(resultId).toBeNull();
    expect((await studio.until(good.id, 'succeeded')).error).toBeNull();
    await studio.close();
  });

  it('that is canceled while compute crashes is canceled', async () => {
    const studio = await startStudio({ dataDir });
    const reached = studio.compute.holdAt(2);
    const { id } = await studio.imagine(request);
    await reached;
    const canceled = studio.get(`/api/jobs/${id}`, { method: 'DELETE' });
    studio.compute.crash();
    await canceled;
    expect((await studio.until(id, 'canceled', 'succeeded', 'failed')).status).toBe('canceled');
    await studio.close();
  });
});

/** A server with a scripted compute in a process of its own, so that it can be killed. */
async function startVictim(): Promise<{ url: string; process: ChildProcess }> {
  const victim = spawn(process.execPath, ['--import', 'tsx', path.join(repositoryRoot, 'test/server/victim.ts'), dataDir], {
    cwd: repositoryRoot,
    stdio: ['ignore', 'pipe', 'inherit'],
  });
  victims.push(victim);
  let said = '';
  for await (const part of victim.stdout.setEncoding('utf8') as AsyncIterable<string>) {
    said += part;
    const url = /http:\S+/.exec(said)?.[0];
    if (url && said.endsWith('\n')) return { url, process: victim };
  }
  throw new Error(`the victim did not start: ${said}`);
}

describe('a server that is killed', () => {
  /** Step of the newest checkpoint that is on the disk. */
  const keptStep = (): unknown => {
    const database = new Libsql(path.join(dataDir, 'reverie.db'), { readonly: true, timeout: 1000 });
    const row = database.prepare('select step from checkpoints').get() as { step: number } | undefined;
    database.close();
    return row?.step;
  };
  const kill = async ({ process: victim }: { process: ChildProcess }) => {
    victim.kill('SIGKILL');
    await once(victim, 'exit');
  };

  it('goes on with its job from the last checkpoint at the next start, to the same bytes', async () => {
    const victim = await startVictim();
    const response = await fetch(`${victim.url}/api/jobs`, {
      method: 'POST',
      headers: { 'Content-Type': 'application/json' },
      body: JSON.stringify(request),
    });
    const { id } = (await response.json()) as { id: string };
    // The victim holds every job at step 12: its last checkpoint is that of step 10.
    while (keptStep() !== 10) await new Promise((resolve) => setTimeout(resolve, 5));
    await kill(victim);

    const studio = await startStudio({ dataDir });
    const { resultId, status } = await studio.until(id, 'succeeded', 'failed');
    expect(status).toBe('succeeded');
    expect(studio.compute.begun).toEqual([{ jobId: id, text: request.text, from: 10 }]);
    expect((await png(studio, resultId!)).equals(await undisturbed())).toBe(true);
    await studio.close();
  });

  it('three times by the same job does not start it a fourth time', async () => {
    let id = '';
    for (let time = 0; time < 3; time++) {
      const victim = await startVictim();
      if (time === 0) {
        const body = JSON.stringify(request);
        const response = await fetch(`${victim.url}/api/jobs`, {
          method: 'POST',
          headers: { 'Content-Type': 'application/json' },
          body,
        });
        id = ((await response.json()) as { id: string }).id;
      }
      while (((await (await fetch(`${victim.url}/api/jobs/${id}`)).json()) as { step: number }).step < 12);
      await kill(victim);
    }
    const studio = await startStudio({ dataDir, compute: new ScriptedCompute() });
    const view = await studio.job(id);
    expect(view.status).toBe('failed');
    expect(view.error).toMatch(/the server ended 3 times while this job ran/);
    const { id: other } = await studio.imagine({ text: 'other', size: 64, steps: 1 });
    await studio.until(other, 'succeeded');
    expect(studio.compute.begun.map(({ jobId }) => jobId)).toEqual([other]);
    await studio.close();
  });
});
