import { randomBytes } from 'node:crypto';
import { ComputeCrash } from '../compute/protocol.js';
import type { Checkpoint, Compute, ImagineAnswer, Progress } from '../compute/protocol.js';
import type { Frame, QueueState } from '../live/events.js';
import {
  abandonedJobs,
  checkpointOf,
  dropCheckpoint,
  findJob,
  insertJob,
  keepCheckpoint,
  queuedIds,
  updateJob,
} from '../store/jobs.js';
import type { JobRecord } from '../store/jobs.js';
import { pictureFile, plainFile } from '../store/picture.js';
import { results } from '../store/schema.js';
import type { Store } from '../store/store.js';
import { packed, startFrames } from './frames.js';
import type { CurvePoint, Job, JobView } from './job.js';

/** What a job does that others should know of. Of a job's frames the one marked `isLast` must arrive; of the others the newest will do. */
export type JobEvent =
  | { kind: 'changed'; job: JobView }
  | { kind: 'frame'; frame: Frame; isLast: boolean }
  | { kind: 'done'; jobId: string; resultId: string }
  | { kind: 'failed'; jobId: string; error: string; canceled: boolean }
  | { kind: 'queue'; state: QueueState };

/** One job runs at a time, the lowest position first. Job states: queued -> running -> succeeded | failed, or -> canceling -> canceled. */
export interface Scheduler {
  /** Puts a valid job at the end of the queue. */
  create(job: Job, idempotencyKey?: string): JobView;
  /** Cancels one job and touches no other; a running one stops between steps. A finished job stays as it is. */
  cancel(jobId: string): JobView | undefined;
  find(jobId: string): JobView | undefined;
  views(records: JobRecord[]): JobView[];
  queue(): QueueState;
  /** The newest frame of the running job. */
  latestFrame(jobId: string): Frame | undefined;
  /** The running job's curve since this process took it up; a finished job's is in its result. */
  curve(jobId: string): CurvePoint[] | undefined;
  /** Since the process started. */
  counts(): { steps: number; computeCrashes: number };
  onEvent(listener: (event: JobEvent) => void): void;
  /** Stops the running job between two steps, keeps its checkpoint and puts it back at the head of the queue. */
  stop(): Promise<void>;
}

/** A job that ended the server this often is not started again: it would do so at every start. */
export const attemptLimit = 3;
/** A job that ends the compute process is tried once more, from its checkpoint. */
const crashLimit = 2;
/** How long `stop` waits for a step to end, in milliseconds. */
const stopLimit = 10_000;

interface Running {
  id: string;
  job: Job;
  step: number;
  cos: number | null;
  secondOpinion: number | null;
  frame?: Frame;
  curve: CurvePoint[];
  /** Compute has the job, so it is compute that must be told of a cancel. */
  isHandedOver: boolean;
  ended: Promise<void>;
}

export function startScheduler(store: Store, compute: Compute): Scheduler {
  const listeners: ((event: JobEvent) => void)[] = [];
  const counters = { steps: 0, computeCrashes: 0 };
  let running: Running | undefined;
  let isStopping = false;

  const emit = (event: JobEvent) => {
    for (const listener of listeners) listener(event);
  };
  const queue = (): QueueState => ({ running: running?.id ?? null, waiting: queuedIds(store) });
  const views = (records: JobRecord[]): JobView[] => {
    const { waiting } = queue();
    const ahead = running ? 1 : 0;
    return records.map((record) =>
      jobView(record, record.id === running?.id ? running : undefined, ahead + waiting.indexOf(record.id)),
    );
  };
  const find = (id: string) => {
    const record = findJob(store, id);
    return record && views([record])[0];
  };
  const tell = (id: string) => {
    const job = find(id);
    if (job) emit({ kind: 'changed', job });
  };
  const change = (id: string, to: Parameters<typeof updateJob>[2]) => {
    updateJob(store, id, to);
    tell(id);
  };
  const endCanceled = (id: string) => {
    change(id, { status: 'canceled', finishedAt: Date.now() });
    emit({ kind: 'failed', jobId: id, error: 'the job was canceled', canceled: true });
  };
  const endFailed = (id: string, error: string) => {
    change(id, { status: 'failed', error, finishedAt: Date.now() });
    emit({ kind: 'failed', jobId: id, error, canceled: false });
  };

  /** Starts the next job when none runs. */
  const pump = () => {
    if (running || isStopping) return;
    const id = queuedIds(store)[0];
    const record = id === undefined ? undefined : findJob(store, id);
    if (!record) return;
    const mine: Running = {
      id: record.id,
      job: record.job,
      step: record.step,
      cos: record.cos,
      secondOpinion: record.secondOpinion,
      curve: [],
      isHandedOver: false,
      ended: Promise.resolve(),
    };
    const report = (error: unknown) => {
      console.error(`job ${mine.id}: ${sentence(error)}`);
    };
    running = mine;
    change(mine.id, { status: 'running', attempt: record.attempt + 1, startedAt: record.startedAt ?? Date.now() });
    emit({ kind: 'queue', state: queue() });
    mine.ended = run(mine)
      .catch((error: unknown) => {
        endFailed(mine.id, sentence(error));
      })
      .catch(report)
      .then(() => leave(mine.id))
      .catch(report);
  };

  /** Makes room for the next job. */
  const leave = async (id: string) => {
    running = undefined;
    const status = findJob(store, id)?.status;
    emit({ kind: 'queue', state: queue() });
    pump();
    if (status !== 'queued') await dropCheckpoint(store, id);
  };

  const run = async (mine: Running): Promise<void> => {
    const { id, job } = mine;
    const checkpoints = startCheckpoints(store, id);
    const frames = startFrames(id, (frame) => {
      mine.frame = frame;
      emit({ kind: 'frame', frame, isLast: false });
    });
    const listen = (progress: Progress) => {
      if (progress.jobId !== id || running !== mine) return;
      if (progress.kind === 'begun') change(id, { textConcepts: progress.textConcepts, notices: progress.notices });
      else if (progress.kind === 'checkpoint') checkpoints.keep(progress.step, progress.checkpoint);
      else {
        counters.steps += Math.max(0, progress.step - mine.step);
        mine.step = progress.step;
        mine.cos = progress.cos;
        mine.secondOpinion = progress.secondOpinion ?? mine.secondOpinion;
        const { step, cos, secondOpinion, percentile } = progress;
        mine.curve.push({
          step,
          cos,
          ...(secondOpinion !== undefined && { secondOpinion }),
          ...(percentile !== undefined && { percentile }),
        });
        // The picture of the last step comes as the stored PNG.
        if (progress.pixels.length > 0 && progress.step < progress.steps) frames.offer(progress);
      }
    };

    let answer: ImagineAnswer;
    try {
      const checkpoint = checkpointOf(store, id);
      const ask = {
        jobId: id,
        job,
        ...(job.init && { init: await store.blobs.read(job.init) }),
        ...(checkpoint && { checkpoint: await store.blobs.read(checkpoint.blob) }),
      };
      if (isStopping || statusOf(id) !== 'running') throw new Error('stopped before the first step');
      const pending = compute.request('imagine', ask, listen);
      mine.isHandedOver = true;
      answer = await pending;
    } catch (error) {
      await Promise.all([frames.close(), checkpoints.settled()]);
      endUnanswered(mine, error);
      return;
    }

    await Promise.all([frames.close(), checkpoints.settled()]);
    if (statusOf(id) === 'canceling') endCanceled(id);
    else if (!answer.canceled) await finish(mine, answer);
    else if (isStopping) putBack(id);
    else endFailed(id, 'the compute process stopped the job without being asked to: start it again');
  };

  const statusOf = (id: string) => findJob(store, id)?.status;

  /** Back to the head of the queue (its position is unchanged), as if it had not been started. */
  const putBack = (id: string) => {
    const record = findJob(store, id);
    change(id, { status: 'queued', attempt: Math.max(0, (record?.attempt ?? 1) - 1), step: checkpointOf(store, id)?.step ?? 0 });
  };

  const endUnanswered = (mine: Running, error: unknown) => {
    const { id } = mine;
    const record = findJob(store, id);
    if (!record) return;
    const isCrash = error instanceof ComputeCrash;
    if (isCrash) counters.computeCrashes += 1;
    if (record.status === 'canceling') endCanceled(id);
    else if (isStopping) putBack(id);
    else if (!isCrash) endFailed(id, sentence(error));
    else if (record.crashes + 1 < crashLimit && record.attempt < attemptLimit)
      change(id, { status: 'queued', crashes: record.crashes + 1, step: checkpointOf(store, id)?.step ?? 0 });
    else {
      updateJob(store, id, { crashes: record.crashes + 1 });
      endFailed(
        id,
        `the compute process ended at step ${mine.step} of ${mine.job.steps} (${sentence(error)}): try a smaller picture, fewer views or another device`,
      );
    }
  };

  const finish = async (mine: Running, answer: ImagineAnswer): Promise<void> => {
    const { id, job } = mine;
    const model = { name: job.model, hash: answer.modelHash };
    const { unquantized, generator } = answer;
    const png = await pictureFile(answer, job, model, generator);
    const files = [png, ...(unquantized ? [await plainFile({ ...answer, pixels: unquantized })] : [])];
    const resultId = newId();
    const { pictures, isKept } = await store.blobs.putAll(files, 'image/png', (pictures) => {
      const record = findJob(store, id);
      if (record?.status !== 'running') return { pictures, isKept: false };
      store.db
        .insert(results)
        .values({
          id: resultId,
          jobId: id,
          job,
          modelName: model.name,
          modelHash: model.hash,
          generatorName: generator?.name,
          generatorHash: generator?.hash,
          tokens: answer.tokens,
          unquantized: pictures.at(1),
          device: answer.device,
          width: answer.width,
          height: answer.height,
          cos: answer.cos,
          secondOpinion: answer.secondOpinion,
          textConcepts: record.textConcepts,
          pictureConcepts: answer.pictureConcepts,
          secondOpinionConcepts: answer.secondOpinionConcepts,
          neurons: answer.neurons,
          curve: answer.curve,
          seconds: answer.seconds,
          notices: answer.notices,
          image: pictures[0],
          createdAt: Date.now(),
        })
        .run();
      updateJob(store, id, {
        status: 'succeeded',
        step: job.steps,
        cos: answer.cos,
        secondOpinion: answer.secondOpinion,
        notices: answer.notices,
        finishedAt: Date.now(),
      });
      return { pictures, isKept: true };
    });
    if (!isKept) {
      for (const picture of pictures) await store.blobs.release(picture);
      endCanceled(id);
      return;
    }
    mine.step = job.steps;
    mine.cos = answer.cos;
    mine.secondOpinion = answer.secondOpinion;
    mine.frame = lastFrame(id, job, answer, png);
    emit({ kind: 'frame', frame: mine.frame, isLast: true });
    tell(id);
    emit({ kind: 'done', jobId: id, resultId });
  };

  recoverAbandoned(store);
  // The first job starts when whoever started the scheduler has had the chance to listen.
  setImmediate(pump);

  return {
    find,
    views,
    queue,
    latestFrame: (id) => (running?.id === id ? running.frame : undefined),
    curve: (id) => (running?.id === id ? running.curve : undefined),
    counts: () => ({ ...counters }),
    onEvent: (listener) => {
      listeners.push(listener);
    },
    create(job, idempotencyKey) {
      const record = insertJob(store, { id: newId(), job, idempotencyKey: idempotencyKey ?? null });
      emit({ kind: 'queue', state: queue() });
      pump();
      return views([findJob(store, record.id) ?? record])[0];
    },
    cancel(id) {
      const record = findJob(store, id);
      if (record?.status === 'queued') {
        endCanceled(id);
        emit({ kind: 'queue', state: queue() });
        void dropCheckpoint(store, id);
      } else if (record?.status === 'running') {
        change(id, { status: 'canceling' });
        if (running?.id === id && running.isHandedOver) compute.cancel(id);
      }
      return find(id);
    },
    async stop() {
      isStopping = true;
      if (!running) return;
      if (running.isHandedOver) compute.cancel(running.id);
      await Promise.race([running.ended, new Promise((resolve) => setTimeout(resolve, stopLimit).unref())]);
    },
  };
}

/** After a start without a proper end: what ran goes on from its checkpoint, unless it has ended the server too often. */
function recoverAbandoned(store: Store): void {
  for (const { id, status, attempt, job } of abandonedJobs(store)) {
    const step = checkpointOf(store, id)?.step ?? 0;
    if (status === 'canceling') updateJob(store, id, { status: 'canceled', finishedAt: Date.now() });
    else if (attempt < attemptLimit) updateJob(store, id, { status: 'queued', step });
    else
      updateJob(store, id, {
        status: 'failed',
        finishedAt: Date.now(),
        error: `the server ended ${attempt} times while this job ran (last kept at step ${step} of ${job.steps}), so it is not started again: try a smaller picture or fewer views`,
      });
    if (status === 'canceling' || attempt >= attemptLimit) void dropCheckpoint(store, id);
  }
}

/** Keeps a job's newest checkpoint: one write at a time, and of those that wait only the newest. */
function startCheckpoints(store: Store, jobId: string) {
  let waiting: { step: number; bytes: Checkpoint } | undefined;
  let writing: Promise<void> | undefined;
  const drain = async () => {
    while (waiting) {
      const { step, bytes } = waiting;
      waiting = undefined;
      try {
        await keepCheckpoint(store, jobId, step, bytes);
      } catch (error) {
        // The job can still end well; it only could not go on from here.
        console.error(`checkpoint of job ${jobId} at step ${step} was not kept: ${sentence(error)}`);
      }
    }
    writing = undefined;
  };
  return {
    keep(step: number, bytes: Checkpoint) {
      waiting = { step, bytes };
      writing ??= drain();
    },
    async settled() {
      await writing;
    },
  };
}

function jobView(record: JobRecord, live: Running | undefined, queued: number): JobView {
  const { id, status, job, textConcepts, notices, error, resultId, createdAt, startedAt, finishedAt } = record;
  const { step, cos, secondOpinion } = live ?? record;
  const position = status === 'queued' ? queued : 0;
  return { id, status, job, step, steps: job.steps, cos, secondOpinion, textConcepts, notices, error, resultId, position, createdAt, startedAt, finishedAt }; // prettier-ignore
}

function lastFrame(jobId: string, job: Job, answer: ImagineAnswer, png: Uint8Array): Frame {
  const percentile = answer.neurons.at(0)?.percentile ?? null;
  return {
    jobId,
    step: job.steps,
    steps: job.steps,
    cos: answer.cos,
    ...(answer.secondOpinion !== null && { secondOpinion: answer.secondOpinion }),
    ...(percentile !== null && { percentile }),
    concepts: answer.pictureConcepts,
    stepsPerSecond: answer.seconds > 0 ? job.steps / answer.seconds : 0,
    secondsLeft: 0,
    mime: 'image/png',
    data: png,
    ...(answer.tokens && { tokens: packed(answer.tokens) }),
  };
}

const sentence = (error: unknown) => (error instanceof Error ? error.message : String(error));

/** 96 random bits: nobody guesses another's. */
const newId = () => randomBytes(12).toString('hex');
