import { recall, remember } from './memory.js';

/** What a key can do. The words for each are in the dictionaries under `keyOf`. */
export type Action =
  | 'imagine'
  | 'several'
  | 'cancel'
  | 'history'
  | 'line'
  | 'dice'
  | 'seed'
  | 'lock'
  | 'picture'
  | 'scrub'
  | 'now'
  | 'more'
  | 'method'
  | 'tokens'
  | 'before'
  | 'relevance'
  | 'download'
  | 'share'
  | 'continueFrom'
  | 'unitStep'
  | 'unitRandom'
  | 'heat'
  | 'map'
  | 'zoom'
  | 'pageImagine'
  | 'pageNeurons'
  | 'pageGallery'
  | 'pageCompare'
  | 'pageModels'
  | 'theme'
  | 'language'
  | 'keys';

interface Binding {
  action: Action;
  /** As `KeyboardEvent.key` says them. */
  keys: readonly string[];
  /** As the list shows them. */
  shown: string;
  /** `line`: handled by the prompt field itself. `anywhere`: also while writing. The rest only while no text field is in use. */
  where: 'line' | 'anywhere' | 'outside';
}

/** Every key of the page, in the order in which `?` lists them. */
export const keyboard: readonly Binding[] = [
  { action: 'imagine', keys: ['Enter'], shown: 'Enter', where: 'line' },
  { action: 'several', keys: ['Enter'], shown: 'Shift Enter', where: 'line' },
  { action: 'history', keys: ['ArrowUp', 'ArrowDown'], shown: '↑ ↓', where: 'line' },
  { action: 'cancel', keys: ['Escape'], shown: 'Esc', where: 'anywhere' },
  { action: 'line', keys: ['/'], shown: '/', where: 'outside' },
  { action: 'dice', keys: ['r'], shown: 'R', where: 'outside' },
  { action: 'seed', keys: ['s'], shown: 'S', where: 'outside' },
  { action: 'lock', keys: ['l'], shown: 'L', where: 'outside' },
  { action: 'picture', keys: ['1', '2', '3', '4'], shown: '1 – 4', where: 'outside' },
  { action: 'scrub', keys: ['ArrowLeft', 'ArrowRight'], shown: '← →', where: 'outside' },
  { action: 'now', keys: ['End'], shown: 'End', where: 'outside' },
  { action: 'more', keys: [','], shown: ',', where: 'outside' },
  { action: 'method', keys: ['v'], shown: 'V', where: 'outside' },
  { action: 'tokens', keys: ['k'], shown: 'K', where: 'outside' },
  { action: 'before', keys: ['b'], shown: 'B', where: 'outside' },
  { action: 'relevance', keys: ['h'], shown: 'H', where: 'outside' },
  { action: 'download', keys: ['d'], shown: 'D', where: 'outside' },
  { action: 'share', keys: ['u'], shown: 'U', where: 'outside' },
  { action: 'continueFrom', keys: ['f'], shown: 'F', where: 'outside' },
  { action: 'unitStep', keys: ['ArrowLeft', 'ArrowRight'], shown: '← →', where: 'outside' },
  { action: 'unitRandom', keys: ['r'], shown: 'R', where: 'outside' },
  { action: 'heat', keys: ['h'], shown: 'H', where: 'outside' },
  { action: 'map', keys: ['v'], shown: 'V', where: 'outside' },
  { action: 'zoom', keys: ['+', '=', '-', '0'], shown: '+ − 0', where: 'outside' },
  { action: 'pageImagine', keys: ['i'], shown: 'I', where: 'outside' },
  { action: 'pageNeurons', keys: ['n'], shown: 'N', where: 'outside' },
  { action: 'pageGallery', keys: ['g'], shown: 'G', where: 'outside' },
  { action: 'pageCompare', keys: ['c'], shown: 'C', where: 'outside' },
  { action: 'pageModels', keys: ['m'], shown: 'M', where: 'outside' },
  { action: 'theme', keys: ['t'], shown: 'T', where: 'outside' },
  { action: 'language', keys: ['y'], shown: 'Y', where: 'outside' },
  { action: 'keys', keys: ['?'], shown: '?', where: 'outside' },
];

/** The label of an action's key, for buttons that show it. */
export function keyFor(action: Action): string {
  return keyboard.find((binding) => binding.action === action)?.shown ?? '';
}

/** What the page can do now, by action; pages add theirs while they are open. */
type Deeds = Partial<Record<Action, (event: KeyboardEvent) => void>>;

const takesText = (target: EventTarget | null): boolean =>
  target instanceof HTMLElement &&
  (target.isContentEditable || target.matches('textarea, select, input:not([type=checkbox], [type=radio], [type=file])'));

/** Keys with which a group of radio buttons is walked. */
const walksChoices = ({ key, target }: KeyboardEvent): boolean =>
  key.startsWith('Arrow') && target instanceof HTMLElement && target.matches('input[type=radio]');

/** The keyboard: one listener, the map above, and what the open page does with each action. */
class Keys {
  /** Whether single letters act (WCAG 2.1.4: they can be turned off). */
  single: boolean = $state(recall('single-keys', (value) => typeof value === 'boolean') ?? true);

  #deeds: Deeds[] = [];

  /** Adds deeds; returns what takes them away again, as an effect wants it. */
  offer(deeds: Deeds): () => void {
    this.#deeds = [deeds, ...this.#deeds];
    return () => (this.#deeds = this.#deeds.filter((others) => others !== deeds));
  }

  setSingle(on: boolean): void {
    this.single = on;
    remember('single-keys', on);
  }

  pressed(event: KeyboardEvent): void {
    if (event.defaultPrevented || event.isComposing || event.ctrlKey || event.metaKey || event.altKey) return;
    const key = event.key.length === 1 ? event.key.toLowerCase() : event.key;
    // A key may mean different things on different pages: the first of its actions that the open page offers.
    for (const { action, where } of keyboard.filter(({ keys, where }) => where !== 'line' && keys.includes(key))) {
      if (where === 'outside' && (takesText(event.target) || walksChoices(event))) continue;
      // An open dialog has the keyboard to itself; the browser closes it with Esc.
      if (action !== 'keys' && event.target instanceof Element && event.target.closest('dialog') !== null) continue;
      if (event.key.length === 1 && event.key !== '?' && !this.single) continue;
      const deed = this.#deeds.find((deeds) => deeds[action])?.[action];
      if (!deed) continue;
      event.preventDefault();
      return deed(event);
    }
  }
}

export const keys = new Keys();
