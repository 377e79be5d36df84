import type { ConceptEntry } from '../../models/brivl/model.js';
import type { ChannelStatistics } from '../../models/brivl/statistics.js';
import type { Layer } from '../../models/brivl/units.js';
import type { Tokens } from '../imagination/generator.js';
import type { Firing, Heat, Relevance } from '../imagination/heat.js';
import type { Imagined } from '../imagination/imagine.js';
import type { Concept, Job, Notice } from '../jobs/job.js';
import type { DeviceState } from '../live/events.js';
import type { EyeView, Meaning, SeeAsk, Seen } from '../neurons/see.js';
import type { Rows } from '../neurons/vectors.js';

/** An opaque state from which a run goes on to the same bytes: parameters, optimizer moments, generator, step, curve. */
export type Checkpoint = Uint8Array;

/** What can be asked of the compute process; one answer each, by `id`. */
export interface Requests {
  hello: { ask: { device: string }; answer: { device: DeviceState; models: ModelView[] } };
  imagine: { ask: ImagineAsk; answer: ImagineAnswer };
  embedText: { ask: { model: string; text: string }; answer: { model: string; embedding: Float32Array; notices: Notice[] } };
  embedImage: { ask: { model: string; image: Uint8Array }; answer: { model: string; embedding: Float32Array } };
  conceptsOfText: {
    ask: { model: string; text: string; top: number; more?: boolean };
    answer: { concepts: Concept[]; notices: Notice[] };
  };
  conceptsOfImage: { ask: { model: string; image: Uint8Array; top: number; more?: boolean }; answer: { concepts: Concept[] } };
  heat: { ask: { model: string; layer: string; channel: number; image: Uint8Array }; answer: Heat };
  firing: { ask: { model: string; layer: string; top: number; image: Uint8Array }; answer: Firing };
  relevance: { ask: { model: string; text: string; image: Uint8Array }; answer: Relevance & { notices: Notice[] } };
  conceptNames: { ask: { model: string }; answer: { names: readonly ConceptEntry[] } };
  eye: { ask: { model: string }; answer: EyeView };
  see: { ask: SeeAsk; answer: Seen };
  meaning: { ask: { model: string; layer: string }; answer: Meaning };
  products: { ask: { a: Rows; b: Rows }; answer: Float32Array };
  statistics: { ask: { model: string; layer: string }; answer: ChannelStatistics };
}

export interface ImagineAsk {
  jobId: string;
  job: Job;
  /** Encoded image file (PNG, JPEG, WebP) to start from, when `job.init` is set. */
  init?: Uint8Array;
  checkpoint?: Checkpoint;
}

/** `pixels` are [height, width, 3]: the stored PNG is encoded from exactly these. */
export interface ImagineAnswer extends Imagined {
  device: string;
  modelHash: string;
}

/** What a running job says unasked. `step` carries pixels only when the last frame was taken (latest wins). */
export type Progress =
  | { kind: 'begun'; jobId: string; textConcepts: Concept[]; notices: Notice[] }
  | {
      kind: 'step';
      jobId: string;
      step: number;
      steps: number;
      /** Null without a text. */
      cos: number | null;
      secondOpinion?: number;
      /** Of the first neuron. */
      percentile?: number;
      concepts?: Concept[];
      stepsPerSecond: number;
      secondsLeft: number;
      pixels: Uint8Array;
      width: number;
      height: number;
      /** What the pixels were drawn from, with vqgan. */
      tokens?: Tokens;
    }
  | { kind: 'checkpoint'; jobId: string; step: number; checkpoint: Checkpoint };

/** A model as the Models page lists it. */
export interface ModelView {
  name: string;
  /** Encoders read texts too; eyes only see pictures. */
  kind: 'encoder' | 'eye' | 'generator';
  description: string;
  hash: string;
  parameters: number;
  bytes: number;
  inputSize: number;
  embed: number;
  channels: number;
  /** With units that can be named; none of a generator. */
  layers: readonly Layer[];
  ready: boolean;
}

export type ToChild =
  { [K in keyof Requests]: { id: number; kind: K; ask: Requests[K]['ask'] } }[keyof Requests] | { kind: 'cancel'; jobId: string };

export type FromChild =
  | { kind: 'answer'; id: number; answer: Requests[keyof Requests]['answer'] }
  | { kind: 'error'; id: number; code: 'bad-request' | 'failed'; message: string }
  | { kind: 'progress'; progress: Progress };

/** The compute process as the server sees it: typed requests, progress, cancel. A crash rejects what was pending and a new child starts. */
export interface Compute {
  request<K extends keyof Requests>(
    kind: K,
    ask: Requests[K]['ask'],
    onProgress?: (progress: Progress) => void,
  ): Promise<Requests[K]['answer']>;
  cancel(jobId: string): void;
  close(): Promise<void>;
}

/** The compute process ended while it was working; what it did is lost but for the last checkpoint. */
export class ComputeCrash extends Error {}

/** The compute process refused: the request's own fault. */
export class BadRequest extends Error {}
