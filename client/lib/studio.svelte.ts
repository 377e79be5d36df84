import type { ResultView } from '../../server/jobs/job.js';
import { address } from './address.svelte.js';
import type { Place } from './places.js';
import { api, Refusal } from './api.js';
import { draft } from './draft.svelte.js';
import { sentenceOf } from './failure.js';
import { gallery } from './gallery.svelte.js';
import { Imagination } from './imagination.svelte.js';
import { language } from './language.svelte.js';
import { recall, remember } from './memory.js';
import { Unreadable, withinCanvas } from './upload.js';

const isRow = (value: unknown): value is string[] => Array.isArray(value) && value.every((id) => typeof id === 'string');

/**
 * The imagine page's life: a row of imaginations (those of the last Enter and what is still unfinished from before), and which of them
 * is on the stage. The address bar always names the one on the stage, so a refresh or another device finds it again.
 */
class Studio {
  row: Imagination[] = $state.raw([]);
  active: Imagination | null = $state.raw(null);
  /** Why the last thing asked for did not happen. */
  error: string | null = $state(null);
  posting = $state(false);
  opening = $state(false);
  sending = $state(false);

  /** Sends the draft, once for each of `count` consecutive seeds. On an error the text stays where it is. */
  async imagine(count: number = draft.count): Promise<void> {
    if (this.posting) return;
    this.error = null;
    if (draft.text.trim() === '' && draft.settings.neurons.length === 0) {
      this.error = language.say.emptyText;
      return;
    }
    this.posting = true;
    const requests = draft.requests(count);
    let sent = 0;
    try {
      for (const request of requests) {
        const imagination = this.#own(new Imagination(await api.createJob(request)));
        if (sent++ === 0) {
          this.#keepOnly(this.row.filter(({ unfinished }) => unfinished));
          this.show(imagination, true);
        }
        this.#add(imagination);
      }
    } catch (error) {
      this.error = sentenceOf(error);
    } finally {
      this.posting = false;
      if (sent > 0) draft.sent(sent);
    }
  }

  /** The same again, or with the next seed; a picture that was the start is the start again. */
  async repeat(result: ResultView, seed: 'same' | 'another'): Promise<void> {
    draft.adopt(result.job);
    draft.start = result.job.init === undefined ? null : { imageId: result.job.init, name: null, picture: null };
    if (seed === 'same') draft.seed = result.job.seed;
    else if (draft.seed === result.job.seed) draft.seed += 1;
    await this.imagine(1);
  }

  /** A picture from the person's own machine to begin from. Large ones are made as small as a canvas may be before they travel. */
  async startFrom(file: Blob, name: string): Promise<void> {
    this.error = null;
    this.sending = true;
    try {
      const picture = await withinCanvas(file);
      const { id } = await api.uploadImage(picture);
      draft.start = { imageId: id, name, picture };
    } catch (error) {
      this.error = error instanceof Unreadable ? language.say.notAPicture : sentenceOf(error);
    } finally {
      this.sending = false;
    }
  }

  continueFrom(imagination: Imagination): void {
    if (!imagination.result) return;
    draft.start = { imageId: imagination.result.imageId, name: null, picture: imagination.latest?.picture ?? null };
  }

  /** Puts one on the stage. `anew` makes it a step that the back button returns from. */
  show(imagination: Imagination, anew = false): void {
    this.active = imagination;
    this.error = null;
    if (anew) address.go(imagination.path);
    else address.rename(imagination.path);
  }

  /** Brings the stage to where the address leads: what is known is shown, the rest is fetched. */
  async arrive({ page, jobId, resultId }: Place): Promise<void> {
    if (page !== 'imagine') return;
    if (jobId === null && resultId === null) {
      this.active = null;
      this.#keepOnly(this.row.filter(({ unfinished }) => unfinished));
      return;
    }
    const known = this.row.find((one) => one.id === jobId || (resultId !== null && one.view.resultId === resultId));
    if (known) {
      if (known !== this.active) this.show(known);
      return;
    }
    this.opening = true;
    this.error = null;
    try {
      const imagination = resultId === null ? await this.#openJob(jobId!) : await this.#openResult(resultId);
      if (location.pathname !== (resultId === null ? `/jobs/${jobId}` : `/results/${resultId}`)) return imagination.leave();
      this.#keepOnly([]);
      this.#add(imagination);
      this.show(imagination);
      draft.adopt(imagination.view.job);
      await this.#reunite(imagination);
    } catch (error) {
      this.active = null;
      const gone = error instanceof Refusal && error.status === 404;
      this.error = gone ? (resultId === null ? language.say.jobLost : language.say.notFound) : sentenceOf(error);
    } finally {
      this.opening = false;
    }
  }

  async #openJob(id: string): Promise<Imagination> {
    return this.#own(new Imagination(await api.job(id)));
  }

  async #openResult(id: string): Promise<Imagination> {
    return this.#own(Imagination.of(await api.result(id)));
  }

  /** After a refresh: the other pictures of the same row come back too. */
  async #reunite(first: Imagination): Promise<void> {
    const ids = recall('row', isRow, 'tab') ?? [];
    if (!ids.includes(first.id)) return;
    const others = await Promise.all(ids.map(async (id) => (id === first.id ? first : this.#openJob(id).catch(() => null))));
    if (this.row.length === 1 && this.row[0] === first) this.row = others.filter((one) => one !== null);
  }

  #own(imagination: Imagination): Imagination {
    imagination.onResult = (done) => {
      gallery.arrived(done.result);
      if (this.active === done && address.place.page === 'imagine') address.rename(done.path);
    };
    return imagination;
  }

  #add(imagination: Imagination): void {
    this.row = [...this.row, imagination];
    remember(
      'row',
      this.row.map(({ id }) => id),
      'tab',
    );
  }

  #keepOnly(kept: Imagination[]): void {
    for (const one of this.row) if (!kept.includes(one)) one.leave();
    this.row = kept;
  }
}

export const studio = new Studio();
