import type { Graph, Value } from '../../models/graph/index.js';
import { sheetOf, type Sheet } from './copies.js';
import type { Canvas, ParametrizationName } from './parameters.js';
import type { Random } from './random.js';

/** How the picture is looked at: ranges that each view is drawn from. */
export interface ViewPlan {
  /** Side of a square crop over the canvas's short side. */
  side(random: Random): number;
  /** Centre of the crop over the room that is left, 0 to 1. */
  centre(random: Random): number;
  /** Standard deviation of the noise on each view, in picture units (0 to 1). */
  noise: number;
  /** Brightness shift of a view, uniform in +- this. */
  brightness: number;
}

/**
 * Crops of U(.25, 1) of the canvas, N(0, .05) noise, U(-.1, .1) brightness. Smaller crops than the U(.4, 1) of the first trials: what is drawn is
 * recognised by the second opinion more often (test/measurements.md, "views").
 */
const cropped: ViewPlan = {
  side: (random) => random.uniform(0.25, 1),
  centre: (random) => random.uniform(),
  noise: 0.05,
  brightness: 0.1,
};

/** MACO's own crops: centre N(.5, .15), side N(.25, .1); half as large again here, since a network of 224 px sees little in a quarter. */
const centred: ViewPlan = {
  side: (random) => Math.min(1, Math.max(0.2, random.normal(0.5, 0.15))),
  centre: (random) => Math.min(1, Math.max(0, random.normal(0.5, 0.3))),
  noise: 0.08,
  brightness: 0.04,
};

export const viewPlans: Readonly<Record<ParametrizationName | 'vqgan', ViewPlan>> = {
  fourier: cropped,
  pixels: cropped,
  maco: centred,
  vqgan: cropped,
};

/** Inputs of a step that say how each view is cut out: see `cutViews`. */
export interface ViewInputs {
  /** [V * S, H], a resampling matrix per view, stacked. */
  rows: Value;
  /** [V, W, S], its counterpart along the width, transposed. */
  columns: Value;
  /** [V, 3, S, S], added to the views. */
  noise: Value;
  /** [V, 1, 1, 1], added too. */
  brightness: Value;
}

export function viewInputs(g: Graph, views: number, side: number, { width, height }: Canvas): ViewInputs {
  return {
    rows: g.input('rows', [views * side, height]),
    columns: g.input('columns', [views, width, side]),
    noise: g.input('noise', [views, 3, side, side]),
    brightness: g.input('brightness', [views, 1, 1, 1]),
  };
}

/** Random resized crops as products A_y X A_x^T: any size, antialiased, differentiable without a scatter. [V, 3, S, S]. */
export function cutViews(g: Graph, picture: Value, { rows, columns, noise, brightness }: ViewInputs): Value {
  const [views, width, side] = columns.shape;
  // All views' rows in one product: [V S, H] x [3, H, W].
  const tall = g.reshape(g.matMul(rows, picture), [3, views, side, width]);
  const crops = g.transpose(g.matMul(tall, columns), [1, 0, 2, 3]);
  return g.add(g.add(crops, noise), brightness);
}

export interface ViewFeeds {
  rows: Float32Array;
  columns: Float32Array;
  noise: Float32Array;
  brightness: Float32Array;
}

/** The views of one of several equal runs. */
export function viewsOfRun(views: ViewFeeds, run: number, runs: number): ViewFeeds {
  const part = (all: Float32Array) => all.subarray((run * all.length) / runs, ((run + 1) * all.length) / runs);
  return { rows: part(views.rows), columns: part(views.columns), noise: part(views.noise), brightness: part(views.brightness) };
}

/**
 * Draws the random numbers of each step. Noise comes from one long tape made at the start and read from a random place in each step: making
 * a million normal numbers a step would cost a tenth of it. Of a sheet each view sees one copy and nothing of its neighbours, view v copy
 * v % copies.
 */
export class ViewSampler {
  readonly #tape: Float32Array;
  readonly #size: number;
  readonly #sheet: Sheet;

  constructor(
    private readonly plan: ViewPlan,
    canvas: Canvas | Sheet,
    private readonly views: number,
    private readonly side: number,
    seed: Random,
  ) {
    this.#sheet = 'tile' in canvas ? canvas : sheetOf(canvas);
    this.#size = views * 3 * side * side;
    const tape = new Float32Array(this.#size + tapeSlack);
    for (let i = 0; i < tape.length; i++) tape[i] = seed.normal(0, plan.noise);
    this.#tape = tape;
  }

  sample(random: Random): ViewFeeds {
    const { views, side, plan } = this;
    const { width, height, tile, copies, columns: across } = this.#sheet;
    const rows = new Float32Array(views * side * height);
    const columns = new Float32Array(views * width * side);
    const brightness = new Float32Array(views);
    for (let v = 0; v < views; v++) {
      const size = plan.side(random) * Math.min(tile.width, tile.height);
      const top = plan.centre(random) * (tile.height - size);
      const left = plan.centre(random) * (tile.width - size);
      const copy = v % copies;
      const [y, x] = [Math.floor(copy / across) * tile.height, (copy % across) * tile.width];
      resample(side, tile.height, top, size, (o, i, weight) => (rows[(v * side + o) * height + y + i] = weight));
      resample(side, tile.width, left, size, (o, i, weight) => (columns[(v * width + x + i) * side + o] = weight));
      brightness[v] = random.uniform(-plan.brightness, plan.brightness);
    }
    const start = random.below(tapeSlack);
    return { rows, columns, brightness, noise: this.#tape.subarray(start, start + this.#size) };
  }
}

/** How many starting places the noise tape has. */
const tapeSlack = 1 << 16;

/** Bilinear weights, antialiased when shrinking, for `side` samples of the stretch [start, start + size) of n pixels. */
export function resample(
  side: number,
  n: number,
  start: number,
  size: number,
  put: (o: number, i: number, weight: number) => void,
): void {
  const step = size / side;
  const reach = Math.max(1, step);
  for (let o = 0; o < side; o++) {
    const centre = start + (o + 0.5) * step - 0.5;
    const first = Math.max(0, Math.floor(centre - reach) + 1);
    const last = Math.min(n - 1, Math.ceil(centre + reach) - 1);
    let total = 0;
    for (let i = first; i <= last; i++) total += Math.max(0, 1 - Math.abs(i - centre) / reach);
    for (let i = first; i <= last; i++) put(o, i, Math.max(0, 1 - Math.abs(i - centre) / reach) / total);
  }
}
