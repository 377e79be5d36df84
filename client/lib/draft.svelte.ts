import type { Job, JobRequest } from '../../server/jobs/job.js';
import { machine } from './machine.svelte.js';
import { recall, remember } from './memory.js';
import { changesOf, defaults, fieldsOf, mostSeed, recalledSettings, settingsOf, type Settings } from './settings.js';

export interface Start {
  /** The id of an uploaded image or of a result's image. */
  imageId: string;
  /** A file's name, or null for a picture that was imagined here. */
  name: string | null;
  picture: Blob | null;
}

const isDraft = (value: unknown): value is Partial<Draft> =>
  typeof value === 'object' && value !== null && 'text' in value && typeof value.text === 'string';
const isHistory = (value: unknown): value is string[] => Array.isArray(value) && value.every((text) => typeof text === 'string');

/** What the next Enter will ask for. Kept in the browser, so that no text is ever lost; an init image lives as long as the page. */
class Draft {
  text = $state('');
  seed = $state(1);
  seedKept = $state(false);
  count: number = $state(1);
  settings: Settings = $state(structuredClone(defaults));
  start: Start | null = $state.raw(null);

  /** Earlier texts, newest first. */
  history: string[] = $state.raw(recall('history', isHistory) ?? []);

  /** How many settings of the chosen method differ from the defaults. */
  changes: number = $derived(Object.keys(changesOf(this.settings)).length);

  /** The VQGAN that would draw: the one that is set, or what there is in its place. */
  generator: string = $derived.by(() => {
    const { generator } = this.settings.vqgan;
    return machine.generators.includes(generator) ? generator : (machine.generators[0] ?? generator);
  });

  #recalled = -1;
  #unsent = '';

  constructor() {
    const kept = recall('draft', isDraft);
    if (kept) {
      this.text = kept.text ?? '';
      this.seed = kept.seed ?? 1;
      this.seedKept = kept.seedKept ?? false;
      this.count = kept.count ?? 1;
      this.settings = structuredClone(recalledSettings(kept.settings ?? {}));
    }
  }

  /** Called from an effect: reads everything that is kept, so that it runs again on each change. */
  keep(): void {
    const { text, seed, seedKept, count } = this;
    remember('draft', { text, seed, seedKept, count, settings: $state.snapshot(this.settings) });
  }

  /** The requests of one Enter: the same but for consecutive seeds. */
  requests(count: number): JobRequest[] {
    const settings = $state.snapshot(this.settings);
    const request: JobRequest = {
      ...fieldsOf({ ...settings, vqgan: { ...settings.vqgan, generator: this.generator } }, this.start !== null),
      text: this.text,
      ...(this.start === null ? {} : { init: this.start.imageId }),
    };
    return Array.from({ length: count }, (_, index) => ({ ...request, seed: (this.seed + index) % (mostSeed + 1) }));
  }

  /** After an Enter: the text goes into the history; a seed that is not kept moves past those used. */
  sent(count: number, text = this.text): void {
    this.#remember(text);
    if (!this.seedKept) this.seed = (this.seed + count) % (mostSeed + 1);
  }

  rollSeed(): void {
    // Four digits can be remembered and told to a friend; any seed up to 2^32 can be typed.
    this.seed = Math.floor(Math.random() * 10_000);
  }

  /** Takes over what a job was asked with. A text that was never sent goes to the history, where ArrowUp finds it. */
  adopt(job: Job): void {
    if (this.text.trim() !== '' && this.text !== job.text) this.#remember(this.text);
    this.text = job.text;
    this.settings = structuredClone(settingsOf(job, $state.snapshot(this.settings)));
  }

  /** Walks the history: 1 to older texts, -1 back towards what was being written. False at either end. */
  recallText(direction: 1 | -1): boolean {
    const next = this.#recalled + direction;
    const older = next === -1 ? this.#unsent : this.history[next];
    if (next < -1 || older === undefined) return false;
    if (this.#recalled === -1) this.#unsent = this.text;
    this.#recalled = next;
    this.text = older;
    return true;
  }

  /** Typing starts a new walk. */
  typed(): void {
    this.#recalled = -1;
  }

  resetSettings(): void {
    this.settings = { ...structuredClone(defaults), method: this.settings.method };
  }

  #remember(text: string): void {
    const line = text.trim();
    if (line === '') return;
    this.history = [line, ...this.history.filter((earlier) => earlier !== line)].slice(0, 100);
    this.#recalled = -1;
    remember('history', this.history);
  }
}

export const draft = new Draft();
