import { api, Refusal, Unreachable } from './api.js';
import { sentenceOf } from './failure.js';
import { language } from './language.svelte.js';
import { recall, remember } from './memory.js';
import {
  channelOfQuery,
  firstLayer,
  found,
  inOrder,
  orders,
  pathOfUnit,
  type LayerView,
  type Order,
  type UnitPlace,
  type UnitSummary,
  type UnitView,
} from './neurons.js';

const isOrder = (value: unknown): value is Order => orders.includes(value as Order);
const isMode = (value: unknown): value is 'grid' | 'map' => value === 'grid' || value === 'map';
const isPlace = (value: unknown): value is UnitPlace =>
  typeof value === 'object' && value !== null && 'model' in value && 'layer' in value && typeof value.layer === 'string';

/** How long to wait before asking how far the index is, in milliseconds. */
const pollEvery = 900;
/** And after no answer at all. */
export const retryAfter = 3000;
/** Units that are kept for a quick way back. */
const mostKept = 60;

/** The explorer's life: one layer at a time, how it is looked at, and the units that were opened. */
class Neurons {
  /** The last layer that there was: where `/neurons` leads. */
  last: UnitPlace = recall('neurons-place', isPlace) ?? firstLayer;
  place: UnitPlace = $state.raw(this.last);
  view: LayerView | null = $state.raw(null);
  error: string | null = $state(null);

  query = $state('');
  order: Order = $state(recall('neurons-order', isOrder) ?? 'channel');
  mode: 'grid' | 'map' = $state(recall('neurons-mode', isMode) ?? 'grid');
  /** The channel that the keys stand on. */
  current = $state(0);
  /** How far the grid was scrolled when it was left. */
  scrolled = 0;

  ordered: UnitSummary[] = $derived(this.view ? inOrder(this.view.units, this.order, language.code) : []);
  /** The channel that the query names, when the layer has it. */
  named: number | null = $derived.by(() => {
    const channel = this.view && channelOfQuery(this.query, this.view.layer);
    return channel !== null && channel < (this.view?.units.length ?? 0) ? channel : null;
  });
  /** A number leads to its unit among all; a word leaves those that it finds. */
  shown: UnitSummary[] = $derived(this.named === null ? found(this.ordered, this.query) : this.ordered);

  #asked: AbortController | null = null;
  #timer: ReturnType<typeof setTimeout> | undefined;
  #units = new Map<string, UnitView>();

  /** Goes to a layer; it is fetched unless it is there, and again and again while its index is being made. */
  open(model: string, layer: string): void {
    const isSame = model === this.place.model && layer === this.place.layer;
    // It is being asked for, or will be again.
    if (isSame && this.#asked !== null) return;
    if (!isSame) {
      this.current = 0;
      this.scrolled = 0;
      this.query = '';
      this.view = null;
    }
    this.place = { model, layer, channel: null };
    this.error = null;
    if (this.view === null || this.view.index.state !== 'done') void this.#load();
  }

  /** Nobody looks any more. */
  leave(): void {
    clearTimeout(this.#timer);
    this.#asked?.abort();
    this.#asked = null;
  }

  choose<Key extends 'order' | 'mode'>(key: Key, value: this[Key]): void {
    this[key] = value;
    remember(`neurons-${key}`, value);
  }

  /** What is known of a unit, from memory if it was there before. @throws Refusal | Unreachable */
  async unit(model: string, layer: string, channel: number, signal?: AbortSignal): Promise<UnitView> {
    const known = this.known(model, layer, channel);
    if (known) return known;
    const unit = await api.neuron(model, layer, channel, signal);
    // Before its index is done a unit is not yet what it will be.
    if (unit.index.state === 'done') this.#units.set(keyOf(model, layer, channel), unit);
    const [oldest] = this.#units.keys();
    if (this.#units.size > mostKept) this.#units.delete(oldest);
    return unit;
  }

  known(model: string, layer: string, channel: number): UnitView | null {
    return this.#units.get(keyOf(model, layer, channel)) ?? null;
  }

  async #load(): Promise<void> {
    this.leave();
    const asked = new AbortController();
    this.#asked = asked;
    const { place } = this;
    try {
      const view = await api.neurons(place.model, place.layer, asked.signal);
      if (this.#asked !== asked) return;
      this.view = view;
      this.error = null;
      // Only what there is: a bad link must not be where the page opens from now on.
      this.#arrived(place);
      if (view.index.state === 'running' || view.index.state === 'none') this.#again(pollEvery);
      else this.#asked = null;
    } catch (error) {
      if (this.#asked !== asked) return;
      this.error = sentenceOf(error);
      // What is shown stays while the server is away.
      if (error instanceof Unreachable) return this.#again(retryAfter);
      this.#asked = null;
      const isGone = error instanceof Refusal && (error.status === 400 || error.status === 404);
      if (isGone && pathOfUnit(place) === pathOfUnit(this.last)) this.#arrived(firstLayer);
    }
  }

  #again(after: number): void {
    this.#timer = setTimeout(() => void this.#load(), after);
  }

  #arrived(place: UnitPlace): void {
    this.last = place;
    remember('neurons-place', place);
  }
}

const keyOf = (model: string, layer: string, channel: number) => `${model} ${layer} ${channel}`;

export const neurons = new Neurons();
