import type { Concept, Notice } from '../../server/jobs/job.js';
import { api } from './api.js';
import { sentenceOf } from './failure.js';

const pause = 220;

/** What the text calls up, asked while it is being written: a moment after the last key, and only for the last text. */
class FirstThought {
  text = $state('');
  concepts: Concept[] = $state.raw([]);
  notices: Notice[] = $state.raw([]);
  error: string | null = $state(null);

  #timer: ReturnType<typeof setTimeout> | undefined;
  #asking: AbortController | null = null;

  /** Call on every change of the text. */
  of(text: string): void {
    const line = text.trim();
    clearTimeout(this.#timer);
    this.#asking?.abort();
    if (line === '') {
      Object.assign(this, { text: '', concepts: [], notices: [], error: null });
      return;
    }
    if (line !== this.text || this.error !== null) this.#timer = setTimeout(() => void this.#ask(line), pause);
  }

  async #ask(text: string): Promise<void> {
    const asking = new AbortController();
    this.#asking = asking;
    try {
      const { concepts, notices } = await api.conceptsOf(text, 5, asking.signal);
      if (!asking.signal.aborted) Object.assign(this, { text, concepts, notices: notices ?? [], error: null });
    } catch (error) {
      if (!asking.signal.aborted) Object.assign(this, { text, concepts: [], notices: [], error: sentenceOf(error) });
    }
  }
}

export const firstThought = new FirstThought();
