import type { ResultView } from '../../server/jobs/job.js';
import { api } from './api.js';
import { sentenceOf } from './failure.js';

/** The finished pictures, newest first, a page at a time. */
class Gallery {
  results: ResultView[] = $state.raw([]);
  loaded = $state(false);
  loading = $state(false);
  error: string | null = $state(null);
  /** Where the next page begins; null on the last. */
  cursor: string | null = $state(null);
  more: boolean = $derived(!this.loaded || this.cursor !== null);

  /** From the top again. */
  async refresh(): Promise<void> {
    await this.#fetch(null);
  }

  async older(): Promise<void> {
    if (!this.loaded || this.cursor !== null) await this.#fetch(this.cursor);
  }

  arrived(result: ResultView | null): void {
    if (result && this.loaded && !this.results.some(({ id }) => id === result.id)) this.results = [result, ...this.results];
  }

  async remove(id: string): Promise<void> {
    this.error = null;
    try {
      await api.deleteResult(id);
      this.results = this.results.filter((result) => result.id !== id);
    } catch (error) {
      this.error = sentenceOf(error);
    }
  }

  async #fetch(cursor: string | null): Promise<void> {
    if (this.loading) return;
    this.loading = true;
    this.error = null;
    try {
      const page = await api.results(cursor);
      const before = cursor === null ? [] : this.results;
      const known = new Set(before.map(({ id }) => id));
      this.results = [...before, ...page.results.filter(({ id }) => !known.has(id))];
      this.cursor = page.next;
      this.loaded = true;
    } catch (error) {
      this.error = sentenceOf(error);
    } finally {
      this.loading = false;
    }
  }
}

export const gallery = new Gallery();
