/** The geometry of the grid of units: how many tiles a row, which rows are in the page. Lengths are CSS pixels. */

export interface Grid {
  columns: number;
  rows: number;
  /** Of a tile, without the gap. */
  side: number;
  gap: number;
  /** Rows that are in the page at any time. */
  slots: number;
  /** Of all rows. */
  height: number;
}

/** Most tiles in the page at a time. The bar is 200; the rest is for the strips of other units. */
export const mostTiles = 190;

/**
 * The grid of `count` tiles that fills `width` and shows through a window of `windowHeight`: tiles are at least `least` wide, and wider
 * where the window would otherwise show more than `mostTiles` of them with a row to spare on either side.
 */
export function gridOf({
  width,
  windowHeight,
  count,
  least,
  gap = 6,
}: {
  width: number;
  windowHeight: number;
  count: number;
  least: number;
  gap?: number;
}): Grid {
  const slotsOf = (columns: number) => {
    const pitch = (width + gap) / columns;
    // A window that lies between two rows shows a part of each; one more above and one below are ready.
    return Math.ceil(Math.max(0, windowHeight) / pitch) + 3;
  };
  let columns = Math.max(1, Math.floor((width + gap) / (least + gap)));
  while (columns > 1 && columns * slotsOf(columns) > mostTiles) columns--;
  const rows = Math.ceil(count / columns);
  const pitch = (width + gap) / columns;
  const slots = Math.min(rows, Math.max(1, Math.min(slotsOf(columns), Math.floor(mostTiles / columns))));
  return { columns, rows, side: Math.max(0, pitch - gap), gap, slots, height: Math.max(0, rows * pitch - gap) };
}

/** The first row in the page when `above` pixels of the grid are over the window's upper edge. */
export function firstRow({ rows, slots, side, gap }: Grid, above: number): number {
  const row = Math.floor(above / (side + gap)) - 1;
  return Math.max(0, Math.min(rows - slots, row));
}

/**
 * Which row each slot shows: the rows from `first` on, each in slot `row % slots`, so that scrolling by a row changes one slot and leaves
 * the others as they are.
 */
export function rowsOfSlots(first: number, slots: number): number[] {
  return Array.from({ length: slots }, (_, slot) => first + ((((slot - first) % slots) + slots) % slots));
}

/** How far the page must scroll (negative is up) for a row to be whole in the window between `top` and `bottom`; 0 when it is. */
export function scrollTo({ side, gap }: Grid, row: number, window: { top: number; bottom: number }): number {
  const upper = row * (side + gap);
  if (upper < window.top) return upper - window.top;
  return Math.max(0, upper + side - window.bottom);
}

/** Where a key leads from the tile at `index`; null for a key that leads nowhere. A page is the rows in sight. */
export function walked(key: string, index: number, { columns, slots }: Grid, count: number): number | null {
  const page = columns * Math.max(1, slots - 3);
  const steps: Record<string, number> = {
    ...{ ArrowLeft: -1, ArrowRight: 1, ArrowUp: -columns, ArrowDown: columns },
    ...{ PageUp: -page, PageDown: page, Home: -Infinity, End: Infinity },
  };
  const step = steps[key];
  if (step === undefined || count === 0) return null;
  // Up from the first row and down from the last stay: the column is kept.
  if (Math.abs(step) === columns && (index + step < 0 || index + step >= count))
    return step > 0 && Math.floor(index / columns) < Math.floor((count - 1) / columns) ? count - 1 : index;
  return Math.max(0, Math.min(count - 1, index + step));
}

/** Where a channel lies on an atlas that is drawn with tiles of `side` pixels, as `background-position` says it. */
export function spriteAt(channel: number, columns: number, side: number): string {
  return `${-(channel % columns) * side}px ${-Math.floor(channel / columns) * side}px`;
}
