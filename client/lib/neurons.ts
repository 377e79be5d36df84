import type { Firing, Heat } from '../../server/imagination/heat.js';
import type { Concept } from '../../server/jobs/job.js';
import type { AtlasView } from '../../server/neurons/atlas.js';
import type { ExampleView, LayerView, UnitSummary, UnitView } from '../../server/neurons/view.js';

// What the server says of units, and how the page orders, finds and names them.

export type { AtlasView, ExampleView, LayerView, UnitSummary, UnitView };
export type Credit = NonNullable<ExampleView['credit']>;
/** A channel's map over a picture, rows x columns, row by row. */
export type ActivationMap = NonNullable<ExampleView['map']>;
export type HeatView = Heat;
export type TestView = Firing & { model: string; layer: string };

type ChannelWord = Pick<Concept, 'word' | 'zh'>;

/** As the server names the kinds of examples (server/neurons/finish.ts), from those that drive a unit most. */
export const strips = ['top', 'upper', 'middle', 'lower', 'least'] as const satisfies (keyof NonNullable<UnitView['examples']>)[];
export type Strip = (typeof strips)[number];

/** Where in the explorer one is; a channel of null is the layer. */
export interface UnitPlace {
  model: string;
  layer: string;
  channel: number | null;
}

export const firstLayer: UnitPlace = { model: 'brivl-nano', layer: 'LLP', channel: null };

/** The stable address of a layer or a unit. */
export function pathOfUnit({ model, layer, channel }: UnitPlace): string {
  return `/neurons/${encodeURIComponent(model)}/${encodeURIComponent(layer)}${channel === null ? '' : `/${channel}`}`;
}

/** The address read back; what is no unit is the layer, what is no layer the first one. */
export function unitOfPath(path: string): UnitPlace {
  const [, , ...parts] = path.split('/');
  const [model, layer, channel] = parts.map(decoded);
  if (!model) return firstLayer;
  if (!layer) return { ...firstLayer, model };
  return { model, layer, channel: channel && /^\d{1,6}$/.test(channel) ? Number(channel) : null };
}

function decoded(part: string): string | null {
  try {
    return decodeURIComponent(part);
  } catch {
    return null;
  }
}

/** As jobs and the command line write a unit (models/brivl/units.ts). */
export const unitName = (layer: string, channel: number): string => (layer === 'LLP' ? `LLP-${channel}` : `${layer}/ch-${channel}`);

/** A word in the page's language first; null where there is none in the other. */
export function inBoth({ word, zh }: ChannelWord, language: 'en' | 'zh'): [string, string | null] {
  if (zh === null) return [word, null];
  return language === 'zh' ? [zh, word] : [word, zh];
}

export const titleOf = ({ title }: Credit, language: 'en' | 'zh'): string => title[language];

export const orders = ['channel', 'label', 'density', 'clarity', 'polysemanticity', 'redundancy', 'max'] as const;
export type Order = (typeof orders)[number];

/** A measure as a tile shows it. */
export function measureOf(order: Exclude<Order, 'channel' | 'label'>, value: number): string {
  if (order === 'density') return percent(value);
  return value.toFixed(2).replace(/^(-?)0\./, '$1.');
}

/** 0.0034 -> "0.3%", 0.42 -> "42%". */
export function percent(share: number): string {
  const value = share * 100;
  return `${value > 0 && value < 9.95 ? value.toFixed(1) : value.toFixed(0)}%`;
}

/** An activation: two digits, three where it is small. */
export const activation = (value: number): string => value.toFixed(Math.abs(value) < 0.1 ? 3 : 2);

/** Chinese by pinyin where the machine knows it; numbers inside words by their size. */
const collators = {
  en: new Intl.Collator('en', { numeric: true, sensitivity: 'base' }),
  zh: new Intl.Collator('zh-Hans-CN', { numeric: true, sensitivity: 'base' }),
};

/**
 * The units in an order, a new array: by number and label from the beginning of the alphabet, by measures from the largest. Units that
 * lack what is sorted by come last; equal ones stay in the order of their numbers.
 */
export function inOrder(units: readonly UnitSummary[], order: Order, language: 'en' | 'zh'): UnitSummary[] {
  const byNumber = [...units].sort((a, b) => a.channel - b.channel);
  if (order === 'channel') return byNumber;
  const known = byNumber.filter((unit) => unit[order] !== null);
  const unknown = byNumber.filter((unit) => unit[order] === null);
  if (order !== 'label') return [...known.sort((a, b) => b[order]! - a[order]!), ...unknown];
  const { compare } = collators[language];
  const name = ({ label }: UnitSummary) => inBoth(label!, language)[0];
  return [...known.sort((a, b) => compare(name(a), name(b))), ...unknown];
}

/** The channel that a query names: `108`, `LLP-108`, `block7.1/ch-33`; null when it is a word or names another layer. */
export function channelOfQuery(query: string, layer: string): number | null {
  const text = query.trim();
  const written = /^(?:#|ch-?)?(\d{1,6})$/i.exec(text) ?? /^(.+?)(?:-|\/ch-)(\d{1,6})$/i.exec(text);
  if (!written) return null;
  if (written.length === 2) return Number(written[1]);
  return written[1].toLowerCase() === layer.toLowerCase() ? Number(written[2]) : null;
}

const folded = (text: string) => text.normalize('NFKC').toLowerCase().trim();

/** How well a word answers a query: 3 the word itself, 2 it begins a word with it, 1 it is somewhere in Chinese; 0 not. */
function answers(word: string, query: string): number {
  if (word === query) return 3;
  if (word.startsWith(query) || word.includes(` ${query}`) || word.includes(`-${query}`)) return 2;
  // Words are not set apart in Chinese, so there the query may be anywhere.
  return /\p{Script=Han}/u.test(query) && word.includes(query) ? 1 : 0;
}

/**
 * The units that a word finds, in either language, in the order given but those whose label says it before those whose further words
 * do. An empty query finds all.
 */
export function found(units: readonly UnitSummary[], query: string): UnitSummary[] {
  const asked = folded(query);
  if (asked === '') return [...units];
  const rank = ({ label, words }: UnitSummary): number => {
    const best = (words: readonly ChannelWord[]) =>
      Math.max(0, ...words.flatMap(({ word, zh }) => [answers(folded(word), asked), zh === null ? 0 : answers(folded(zh), asked)]));
    const byLabel = label === null ? 0 : best([label]);
    return byLabel > 0 ? 3 + byLabel : best(words);
  };
  return units
    .map((unit) => ({ unit, rank: rank(unit) }))
    .filter(({ rank }) => rank > 0)
    .sort((a, b) => b.rank - a.rank)
    .map(({ unit }) => unit);
}

/** The largest value of several maps: one light for all of them, so that pictures that drive a unit less are seen to. */
export function ceilingOf(maps: readonly (ActivationMap | null | undefined)[]): number {
  let most = 0;
  for (const map of maps) for (const value of map?.values ?? []) if (value > most) most = value;
  return most;
}
