import type { ClassificationView, ClassifyRequest, LabelSetView, SimilarityRequest, SimilarityView } from '../../server/compare/requests.js'; // prettier-ignore
import type { ResultView } from '../../server/jobs/job.js';
import { api } from './api.js';
import { titleOf } from './jobs.js';
import { sentenceOf } from './failure.js';
import { language, type LanguageCode } from './language.svelte.js';
import { recall, remember } from './memory.js';
import { Unreadable, withinCanvas } from './upload.js';

/** A picture that the server has. */
export interface Compared {
  id: string;
  name: string;
}

export const pictureUrl = (id: string) => `/api/images/${id}`;

/** Stands for the lines of the page in the choice of labels. */
export const ownLabels = 'own';

export type Mode = 'similarity' | 'classify';

type Question = { kind: 'similarity'; request: SimilarityRequest } | { kind: 'classify'; request: ClassifyRequest };

interface Kept {
  pictures: Compared[];
  lines: string;
  mode: Mode;
  labels: string;
  template: string;
}

const isKept = (value: unknown): value is Kept => {
  const { pictures, lines, mode, labels, template } = (value ?? {}) as Partial<Record<keyof Kept, unknown>>;
  return (
    Array.isArray(pictures) &&
    pictures.every((one: unknown) => {
      const { id, name } = (one ?? {}) as Partial<Compared>;
      return typeof id === 'string' && /^[0-9a-f]{64}$/.test(id) && typeof name === 'string';
    }) &&
    (mode === 'similarity' || mode === 'classify') &&
    [lines, labels, template].every((text) => typeof text === 'string')
  );
};

/** How long the texts must rest before they are asked about, in milliseconds. */
const restTime = 350;

/** The compare page's life: pictures, texts or labels, and the newest answer. Kept in the browser; the pictures themselves are the server's. */
class Comparison {
  pictures: Compared[] = $state.raw([]);
  lines = $state('');
  mode: Mode = $state('similarity');
  labels: string = $state(ownLabels);
  labelLanguage: LanguageCode = $state(language.code);
  template = $state('');

  sets: LabelSetView[] = $state.raw([]);
  similarity: SimilarityView | null = $state.raw(null);
  classification: ClassificationView | null = $state.raw(null);
  /** Why the last question has no answer. */
  error: string | null = $state(null);
  /** Which of the last files are not among the pictures, and why. */
  refused: string | null = $state(null);
  computing = $state(false);
  sending = $state(false);

  texts: string[] = $derived(
    this.lines
      .split('\n')
      .map((line) => line.trim())
      .filter((line) => line !== ''),
  );
  set: LabelSetView | null = $derived(this.sets.find(({ name }) => name === this.labels) ?? null);
  /** What the page would ask now; null while something is missing. */
  question: Question | null = $derived.by(() => {
    const images = this.pictures.map(({ id }) => id);
    const template = this.template.trim();
    if (images.length === 0) return null;
    if (this.mode === 'similarity') {
      if (this.texts.length === 0) return null;
      return { kind: 'similarity', request: { images, texts: this.texts, ...(template === '' ? {} : { template }) } };
    }
    const labels = this.labels === ownLabels ? this.texts : this.labels;
    if (labels.length < 2) return null;
    const templates = template === '' ? {} : { templates: [template] };
    return { kind: 'classify', request: { images, labels, language: this.labelLanguage, ...templates } };
  });

  constructor() {
    const kept = recall('comparison', isKept);
    if (kept) Object.assign(this, kept);
  }

  /** Called from an effect: reads everything that is kept, so that it runs again on each change. */
  keep(): void {
    const { pictures, lines, mode, labels, template } = this;
    remember('comparison', { pictures, lines, mode, labels, template } satisfies Kept);
  }

  /** Asks when the question has rested; returns what takes it back, as an effect wants it, so that a newer question cancels an older one. */
  ask(question: Question | null): (() => void) | undefined {
    if (!question) {
      this.error = null;
      this.computing = false;
      return undefined;
    }
    const canceled = new AbortController();
    const timer = setTimeout(() => void this.#answer(question, canceled.signal), restTime);
    return () => {
      clearTimeout(timer);
      canceled.abort();
    };
  }

  async #answer(question: Question, signal: AbortSignal): Promise<void> {
    this.computing = true;
    try {
      if (question.kind === 'similarity') this.similarity = await api.similarity(question.request, signal);
      else this.classification = await api.classify(question.request, signal);
      this.error = null;
    } catch (error) {
      if (signal.aborted) return;
      this.error = sentenceOf(error);
    } finally {
      // A canceled question is followed by another one, which computes.
      if (!signal.aborted) this.computing = false;
    }
  }

  async loadSets(): Promise<void> {
    if (this.sets.length > 0) return;
    try {
      ({ sets: this.sets } = await api.labelSets());
      if (this.labels !== ownLabels && this.set === null) this.labels = ownLabels;
    } catch (error) {
      this.error = sentenceOf(error);
    }
  }

  /** Pictures from the person's own machine, one after the other; those that are none are named. */
  async add(files: Iterable<File>): Promise<void> {
    this.refused = null;
    this.sending = true;
    const strangers: string[] = [];
    try {
      for (const file of files) {
        try {
          const { id } = await api.uploadImage(await withinCanvas(file));
          this.take([{ id, name: file.name.replace(/\.[^.]+$/, '') }]);
        } catch (error) {
          if (!(error instanceof Unreadable)) throw error;
          strangers.push(file.name);
        }
      }
      if (strangers.length > 0) this.refused = language.say.compare.notPictures(strangers.join(', '));
    } catch (error) {
      this.refused = sentenceOf(error);
    } finally {
      this.sending = false;
    }
  }

  take(pictures: readonly Compared[]): void {
    const known = new Set(this.pictures.map(({ id }) => id));
    this.pictures = [...this.pictures, ...pictures.filter(({ id }) => !known.has(id))];
  }

  remove(id: string): void {
    this.pictures = this.pictures.filter((picture) => picture.id !== id);
  }

  has(id: string): boolean {
    return this.pictures.some((picture) => picture.id === id);
  }
}

export const ofResult = ({ imageId, job }: ResultView): Compared => ({ id: imageId, name: titleOf(job) });

export const comparison = new Comparison();
