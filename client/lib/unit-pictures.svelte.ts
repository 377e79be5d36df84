import type { JobRequest } from '../../server/jobs/job.js';
import { api } from './api.js';
import { draft } from './draft.svelte.js';
import { sentenceOf } from './failure.js';
import { gallery } from './gallery.svelte.js';
import { Imagination } from './imagination.svelte.js';
import { recall, remember } from './memory.js';
import { unitName } from './neurons.js';

export const techniques = ['feavis', 'maco', 'diversity'] as const;
export type Technique = (typeof techniques)[number];

/** What each technique asks for beside the neuron. */
const settingsOf: Record<Technique, Partial<JobRequest>> = {
  feavis: {},
  maco: { parameters: 'maco' },
  diversity: { copies: 4, diversity: 1 },
};

export interface Subject {
  model: string;
  layer: string;
  channel: number;
}

/** Ids of results and, while they run, of jobs, newest first. */
type Made = [key: string, kind: 'job' | 'result', id: string][];
const isMade = (value: unknown): value is Made =>
  Array.isArray(value) &&
  value.every((row) => Array.isArray(row) && row.length === 3 && row.every((cell) => typeof cell === 'string'));
const mostMade = 300;

const keyOf = ({ model, layer, channel }: Subject, technique: Technique) => `${model} ${layer} ${channel} ${technique}`;

/** The pictures that were imagined of one unit, the latest of each technique; a job that still runs is watched. */
export class UnitPictures {
  technique: Technique = $state('feavis');
  pictures: Partial<Record<Technique, Imagination>> = $state.raw({});
  error: string | null = $state(null);
  posting = $state(false);

  shown: Imagination | null = $derived(this.pictures[this.technique] ?? null);

  #left = false;

  constructor(readonly subject: Subject) {
    for (const technique of techniques) void this.#recall(technique);
  }

  /** Starts a job of the neuron alone. */
  async imagine(): Promise<void> {
    if (this.posting || this.shown?.unfinished) return;
    const { technique, subject } = this;
    this.posting = true;
    this.error = null;
    try {
      const request: JobRequest = {
        ...{ text: '', model: subject.model, neurons: [{ unit: unitName(subject.layer, subject.channel) }] },
        ...{ seed: draft.seed, ...settingsOf[technique] },
      };
      this.#take(technique, new Imagination(await api.createJob(request)));
      if (!draft.seedKept) draft.rollSeed();
    } catch (error) {
      this.error = sentenceOf(error);
    } finally {
      this.posting = false;
    }
  }

  /** The page is left; jobs go on. */
  leave(): void {
    this.#left = true;
    for (const picture of Object.values(this.pictures)) picture.leave();
  }

  #take(technique: Technique, picture: Imagination): void {
    this.pictures[technique]?.leave();
    this.pictures = { ...this.pictures, [technique]: picture };
    const keep = (kind: 'job' | 'result', id: string) => {
      const key = keyOf(this.subject, technique);
      const others = (recall('unit-pictures', isMade) ?? []).filter(([other]) => other !== key);
      remember('unit-pictures', [[key, kind, id], ...others].slice(0, mostMade));
    };
    if (!picture.result) keep('job', picture.id);
    // What was still on its way when the page was left is remembered, and not watched.
    if (this.#left) picture.leave();
    if (picture.result || this.#left) return;
    picture.onResult = ({ result }) => {
      gallery.arrived(result);
      if (result) keep('result', result.id);
    };
  }

  /** What was imagined before may be gone from the server: then there is nothing. */
  async #recall(technique: Technique): Promise<void> {
    const made = (recall('unit-pictures', isMade) ?? []).find(([key]) => key === keyOf(this.subject, technique));
    if (!made) return;
    const [, kind, id] = made;
    try {
      const picture = kind === 'job' ? new Imagination(await api.job(id)) : Imagination.of(await api.result(id));
      if (this.pictures[technique] || this.#left) picture.leave();
      else this.#take(technique, picture);
    } catch {
      // the sheet's picture stands in its place
    }
  }
}
