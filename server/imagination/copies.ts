import type { Graph, Value } from '../../models/graph/index.js';
import type { Canvas, Drawn, Parametrization } from './parameters.js';

/** Copies of a picture side by side on one canvas, row by row; the last row may be short. */
export interface Sheet extends Canvas {
  copies: number;
  columns: number;
  rows: number;
  /** Of one copy. */
  tile: Canvas;
}

/** @param tile of each copy, in pixels */
export function sheetOf({ width, height, copies = 1 }: Canvas & { copies?: number }): Sheet {
  const columns = Math.ceil(Math.sqrt(copies));
  const rows = Math.ceil(copies / columns);
  return { copies, columns, rows, tile: { width, height }, width: columns * width, height: rows * height };
}

/** A row of the sheet's drawings, each [..., h, w], together; what the last row lacks is `blank`. */
function laidOut(g: Graph, drawings: readonly Value[], { columns, rows }: Sheet, blank: Value): Value {
  const axis = blank.shape.length - 1;
  const all = Array.from({ length: columns * rows }, (_, i) => drawings[i] ?? blank);
  const row = (r: number) => g.concat(all.slice(r * columns, (r + 1) * columns), axis);
  return g.concat(
    Array.from({ length: rows }, (_, r) => row(r)),
    axis - 1,
  );
}

/** The grey of what the sheet has no copy for. */
const grey = 0.5;

/**
 * Copies that share nothing: parameters [copies, ...] of a parametrization, drawn as a sheet; its canvas is the sheet's. Tokens of places
 * without a copy are 0.
 */
export function copied(base: Parametrization, sheet: Sheet): Parametrization {
  const { copies, tile } = sheet;
  if (copies === 1) return base;
  const each = (g: Graph, parameters: Value): Value[] =>
    Array.from({ length: copies }, (_, i) => g.reshape(g.slice(parameters, 0, i, i + 1), base.shape(tile)));
  const { bound } = base;
  return {
    key: `${base.key}-${copies}`,
    shape: () => [copies, ...base.shape(tile)],
    draw(g, parameters) {
      const drawn = base.drawAll
        ? base.drawAll(g, g.reshape(parameters, [copies, ...base.shape(tile)]), tile)
        : each(g, parameters).map((one) => base.draw(g, one, tile));
      const { width, height } = tile;
      const blank = g.floats(new Float32Array(3 * width * height).fill(grey), [3, height, width], 'blank');
      const pictures = drawn.map(({ picture }) => picture);
      return {
        picture: laidOut(g, pictures, sheet, blank),
        tiles: pictures,
        ...(drawn[0].codes && { codes: codesOf(g, drawn, sheet) }),
      };
    },
    ...(bound && {
      bound: (g, parameters) =>
        g.reshape(
          g.concat(
            each(g, parameters).map((one) => bound(g, one)),
            0,
          ),
          [copies, ...base.shape(tile)],
        ),
    }),
  };
}

function codesOf(g: Graph, drawn: readonly Drawn[], sheet: Sheet): Value {
  const codes = drawn.map((one) => one.codes!);
  const [h, w] = codes[0].shape;
  const nothing = g.constant({ dtype: 'int32', shape: [h, w], data: new Int32Array(h * w) }, 'blank');
  return laidOut(g, codes, sheet, nothing);
}

/** The pictures of a sheet, in order. @param pixels [H, W, 3] bytes of the sheet */
export function copiesIn(pixels: Uint8Array, { copies, columns, width, tile }: Sheet): Uint8Array[] {
  if (copies === 1) return [pixels];
  return Array.from({ length: copies }, (_, i) => {
    const [top, left] = [Math.floor(i / columns) * tile.height, (i % columns) * tile.width];
    const out = new Uint8Array(3 * tile.width * tile.height);
    for (let y = 0; y < tile.height; y++) {
      const from = 3 * ((top + y) * width + left);
      out.set(pixels.subarray(from, from + 3 * tile.width), 3 * y * tile.width);
    }
    return out;
  });
}
