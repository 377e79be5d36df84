import { fork, type ChildProcess } from 'node:child_process';
import { existsSync } from 'node:fs';
import { join } from 'node:path';
import { repositoryRoot, runsFromBuild } from '../root.js';
import { BadRequest, ComputeCrash, type Compute, type FromChild, type Progress, type Requests, type ToChild } from './protocol.js';

interface Pending {
  resolve(answer: never): void;
  reject(error: Error): void;
  onProgress?: (progress: Progress) => void;
  /** The job whose progress it is told. */
  jobId?: string;
}

export interface ComputeOptions {
  device: string;
  env?: Record<string, string>;
}

/**
 * Starts the process that owns the sessions. One that dies rejects what was pending with `ComputeCrash`, and the next request starts another:
 * native code that crashes or runs out of memory must not take the server along.
 */
export function startCompute({ device, env = {} }: ComputeOptions): Promise<Compute> {
  let child: ChildProcess | null = null;
  let nextId = 1;
  let closed = false;
  const pending = new Map<number, Pending>();

  const ensure = (): ChildProcess => {
    if (closed) throw new Error('the compute process is closed');
    child ??= spawn();
    return child;
  };

  const spawn = (): ChildProcess => {
    const built = join(repositoryRoot, 'dist/server/compute/child.js');
    // From source (tests, development) the child needs tsx as its parent does.
    const source = !runsFromBuild;
    const path = source ? join(repositoryRoot, 'server/compute/child.ts') : built;
    if (!existsSync(path)) throw new Error(`${path} is missing: run npm run build`);
    const forked = fork(path, [], {
      serialization: 'advanced',
      execArgv: source ? ['--import', 'tsx'] : [],
      env: { ...process.env, ...env },
    });
    const lose = (why: string) => {
      if (child === forked) child = null;
      const lost = [...pending.values()];
      pending.clear();
      for (const { reject } of lost) reject(new ComputeCrash(`the compute process ${why}`));
    };
    forked.on('message', receive);
    forked.on('exit', (code, signal) => lose(signal ? `was ended by ${signal}` : `ended with code ${code}`));
    // It could not be started, or a message could not be sent to one that is about to end.
    forked.on('error', (error) => forked.pid === undefined && lose(`could not be started: ${error.message}`));
    // The device is chosen once per process, before anything else is asked of it.
    forked.send({ id: 0, kind: 'hello', ask: { device } } satisfies ToChild);
    return forked;
  };

  const receive = (message: unknown) => {
    const told = message as FromChild;
    if (told.kind === 'progress') {
      for (const { jobId, onProgress } of pending.values()) if (jobId === told.progress.jobId) onProgress?.(told.progress);
      return;
    }
    const waiting = pending.get(told.id);
    if (!waiting) return;
    pending.delete(told.id);
    if (told.kind === 'answer') waiting.resolve(told.answer as never);
    else waiting.reject(told.code === 'bad-request' ? new BadRequest(told.message) : new Error(told.message));
  };

  const request = <K extends keyof Requests>(kind: K, ask: Requests[K]['ask'], onProgress?: (progress: Progress) => void) =>
    new Promise<Requests[K]['answer']>((resolve, reject) => {
      const target = ensure();
      const id = nextId++;
      pending.set(id, { resolve, reject, onProgress, jobId: 'jobId' in ask ? ask.jobId : undefined });
      target.send({ id, kind, ask }, (error) => {
        if (!error) return;
        pending.delete(id);
        reject(new ComputeCrash(`the compute process does not take messages: ${error.message}`));
      });
    });

  return Promise.resolve({
    request,
    cancel(jobId) {
      // A child that has just ended has nothing to cancel.
      child?.send({ kind: 'cancel', jobId } satisfies ToChild, () => undefined);
    },
    async close() {
      closed = true;
      const ending = child;
      if (!ending) return;
      await new Promise<void>((resolve) => {
        ending.once('exit', () => resolve());
        if (ending.connected) ending.disconnect();
        // A step in native code can take seconds; a process that hangs must not keep the server.
        setTimeout(() => ending.kill('SIGKILL'), 5000).unref();
      });
    },
  });
}
