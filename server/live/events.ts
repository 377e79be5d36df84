import type { Tokens } from '../imagination/generator.js';
import type { Concept, CurvePoint, JobView } from '../jobs/job.js';

/** Tokens on their way: two bytes a code, the low one first. */
export interface PackedTokens extends Omit<Tokens, 'codes'> {
  codes: Uint8Array;
}

/** A picture on its way. The last frame of a job is the stored PNG, byte for byte; earlier ones are WebP. */
export interface Frame {
  jobId: string;
  step: number;
  steps: number;
  /** Null without a text. */
  cos: number | null;
  secondOpinion?: number;
  /** Of the first neuron, over the views of the step; of the last frame, over the picture. */
  percentile?: number;
  /** What the picture calls up at this step (asked together with the second opinion, so not in every frame). */
  concepts?: Concept[];
  stepsPerSecond: number;
  secondsLeft: number;
  mime: 'image/webp' | 'image/png';
  data: Uint8Array;
  /** What the picture was drawn from, with vqgan. */
  tokens?: PackedTokens;
}

export interface QueueState {
  running: string | null;
  waiting: string[];
}

export interface DeviceState {
  device: string;
  /** Devices that answered the probe on this machine, best first. */
  available: string[];
  notice: string | null;
}

export type Answer = { ok: true } | { ok: false; error: string };

export interface ServerToClient {
  /** Answers `watch`, with the newest frame (of a finished job: the stored PNG), and comes again, without one, when the job's state changes. */
  /** To who begins to watch, and whenever the job's state changes; frame and curve so far only to who begins. */
  snapshot: (message: { job: JobView; frame?: Frame; curve?: CurvePoint[] }) => void;
  frame: (frame: Frame) => void;
  done: (message: { jobId: string; resultId: string }) => void;
  failed: (message: { jobId: string; error: string; canceled: boolean }) => void;
  /** On connecting and whenever the queue changes. */
  queue: (state: QueueState) => void;
  /** On connecting and when the compute process took another device. */
  device: (state: DeviceState) => void;
}

export interface ClientToServer {
  watch: (message: { jobId: string }, answer?: (answer: Answer) => void) => void;
  unwatch: (message: { jobId: string }, answer?: (answer: Answer) => void) => void;
}
