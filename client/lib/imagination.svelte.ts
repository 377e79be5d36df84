import type { Concept, CurvePoint, JobStatus, JobView, ResultView } from '../../server/jobs/job.js';
import type { Frame } from '../../server/live/events.js';
import { api } from './api.js';
import { nearest, withMoment, type Moment } from './film.js';
import { sentenceOf } from './failure.js';
import { live, type Watcher } from './live.svelte.js';
import { changedCells, unpacked, type TokenGrid } from './tokens.js';

const running: readonly JobStatus[] = ['queued', 'running', 'canceling'];

/** One imagination as it is watched: a job, its film so far, its curve and, at the end, its result. */
export class Imagination implements Watcher {
  readonly id: string;

  view: JobView = $state.raw(undefined!);
  film: Moment[] = $state.raw([]);
  curve: CurvePoint[] = $state.raw([]);
  result: ResultView | null = $state.raw(null);
  error: string | null = $state(null);
  stepsPerSecond = $state(0);
  secondsLeft: number | null = $state(null);
  /** The step that is looked at while scrubbing; null is now. */
  scrubbed: number | null = $state(null);

  unfinished: boolean = $derived(running.includes(this.view.status));
  /** Jobs that run before this one, by the live queue or, before that has been told, by the job itself. */
  before: number = $derived.by(() => {
    const at = live.queue.waiting.indexOf(this.view.id);
    return at === -1 ? this.view.position : at + (live.queue.running === null ? 0 : 1);
  });
  latest: Moment | null = $derived(this.film.at(-1) ?? null);
  shown: Moment | null = $derived(this.scrubbed === null ? this.latest : nearest(this.film, this.scrubbed));
  concepts: Concept[] = $derived(this.shown?.concepts ?? []);
  tokens: TokenGrid | null = $derived(this.shown?.tokens ?? null);
  /** The cells whose code is another than in the frame before. */
  changedTokens: number[] = $derived.by(() => {
    if (!this.shown?.tokens) return [];
    return changedCells(this.film[this.film.indexOf(this.shown) - 1]?.tokens ?? null, this.shown.tokens);
  });
  /** Where this imagination is found again: the result's own address once there is one. */
  path: string = $derived(this.view.resultId === null ? `/jobs/${this.view.id}` : `/results/${this.view.resultId}`);

  /** Called once when there is a result. */
  onResult: (imagination: Imagination) => void = () => {};

  constructor(view: JobView, result: ResultView | null = null) {
    this.id = view.id;
    this.view = view;
    this.error = view.error;
    if (result) this.#settle(result);
    else if (view.resultId !== null) void this.#load(view.resultId);
    else if (running.includes(view.status)) live.watch(this);
  }

  /** A finished one, from its result alone. */
  static of(result: ResultView): Imagination {
    const { id, job, jobId, textConcepts, notices, cos, secondOpinion, createdAt } = result;
    return new Imagination(
      {
        ...{ id: jobId, status: 'succeeded', job, step: job.steps, steps: job.steps, cos, secondOpinion, textConcepts, notices },
        ...{ error: null, resultId: id, position: 0, createdAt, startedAt: null, finishedAt: createdAt },
      },
      result,
    );
  }

  snapshot(view: JobView, frame?: Frame, curve: CurvePoint[] = []): void {
    this.view = view;
    this.error = view.error;
    // What was missed while nobody watched; told before the frame, whose point may be its last.
    if (curve.length > this.curve.length) this.curve = curve;
    if (frame) this.frame(frame, false);
    if (view.resultId !== null) void this.#load(view.resultId);
    else if (!this.unfinished) live.unwatch(this);
  }

  frame(frame: Frame, measures = true): void {
    const { percentile } = frame;
    const point: CurvePoint = { step: frame.step, cos: frame.cos, secondOpinion: frame.secondOpinion, percentile };
    this.film = withMoment(this.film, {
      step: frame.step,
      picture: new Blob([frame.data as BlobPart], { type: frame.mime }),
      cos: frame.cos,
      secondOpinion: frame.secondOpinion ?? this.latest?.secondOpinion ?? null,
      concepts: frame.concepts ?? this.latest?.concepts ?? [],
      tokens: frame.tokens ? unpacked(frame.tokens) : null,
      percentile: percentile ?? null,
    });
    if ((this.curve.at(-1)?.step ?? -1) < frame.step) this.curve = [...this.curve, point];
    if (measures || this.stepsPerSecond === 0) {
      this.stepsPerSecond = frame.stepsPerSecond;
      this.secondsLeft = frame.secondsLeft;
    }
    const status = this.view.status === 'queued' ? 'running' : this.view.status;
    this.view = { ...this.view, status, step: frame.step, steps: frame.steps, cos: frame.cos, position: 0 };
  }

  done(resultId: string): void {
    void this.#load(resultId);
  }

  failed(error: string, canceled: boolean): void {
    live.unwatch(this);
    this.view = { ...this.view, status: canceled ? 'canceled' : 'failed', error: canceled ? null : error };
    this.error = canceled ? null : error;
  }

  lost(error: string): void {
    this.failed(error, false);
  }

  /** Asks the server to stop. What has formed so far stays on the stage. */
  async cancel(): Promise<void> {
    const { status } = this.view;
    if (!this.unfinished || status === 'canceling') return;
    this.view = { ...this.view, status: 'canceling' };
    try {
      await api.cancelJob(this.id);
    } catch (error) {
      this.error = sentenceOf(error);
      // It goes on, and can be asked again.
      if (this.view.status === 'canceling') this.view = { ...this.view, status };
    }
  }

  /** A frame back (-1) or on (1) along the film; past the last it is now again. */
  scrub(direction: -1 | 1): void {
    const at = this.shown === null ? -1 : this.film.indexOf(this.shown);
    const next = this.film[at + direction];
    if (next) this.scrubbed = next === this.latest ? null : next.step;
  }

  /** No longer of interest: the socket forgets it, the job goes on. */
  leave(): void {
    live.unwatch(this);
  }

  async #load(resultId: string): Promise<void> {
    live.unwatch(this);
    if (this.result?.id === resultId) return;
    try {
      this.#settle(await api.result(resultId));
    } catch (error) {
      this.error = sentenceOf(error);
      this.view = { ...this.view, status: 'succeeded', resultId };
    }
  }

  #settle(result: ResultView): void {
    if (this.result?.id === result.id) return;
    this.result = result;
    this.curve = result.curve;
    this.view = {
      ...this.view,
      status: 'succeeded',
      resultId: result.id,
      step: result.job.steps,
      cos: result.cos,
      secondOpinion: result.secondOpinion,
    };
    void this.#lastMoment(result);
    this.onResult(this);
  }

  /** The stored picture and its tokens end the film; the last live frame is the same bytes, so where it came nothing is fetched. */
  async #lastMoment(result: ResultView): Promise<void> {
    const step = result.job.steps;
    const last = this.latest?.step === step && this.latest.picture.type === 'image/png' ? this.latest : null;
    try {
      const picture = last?.picture ?? (await api.picture(result.imageUrl));
      const tokens = last?.tokens ?? (result.generator === null ? null : await api.tokens(result.id));
      const { cos, secondOpinion, pictureConcepts: concepts } = result;
      const percentile = result.neurons[0]?.percentile ?? null;
      this.film = withMoment(this.film, { step, picture, cos, secondOpinion, concepts, tokens, percentile });
    } catch (error) {
      this.error = sentenceOf(error);
    }
  }
}
