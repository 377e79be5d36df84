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
  /** Share of the views that see as much of the canvas as a square can, whatever `side` says. */
  whole?: number;
  /** Turns of a view, uniform in +- `degrees`, and tilts out of its plane: how much nearer one edge is than its middle, uniform in +- `tilt`. */
  warp?: { degrees: number; tilt: number };
  /** Changes of a view's colours: saturation times 1 +- `saturation`, hues turned by +- `hue` of the circle. */
  colour?: { saturation: number; hue: number };
  /** Share of the views in which a rectangle is black, of .1 to .4 of the area and of sides 1 : 3 to 3 : 1 (kornia's RandomErasing). */
  erased?: number;
}

/** What a plan asks of a step's graph beside the crops. */
export type ViewKind = 'warp' | 'colour' | 'erased';

export const kindsOf = (plan: ViewPlan): ViewKind[] =>
  (['warp', 'colour', 'erased'] as const).filter((kind) => plan[kind] !== undefined);

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
  /** [V, S, S, 2]: where each pixel of a view comes from, -1 to 1, and where it goes; [V, 1, S, S]: by how much its surroundings shrink there. */
  warp?: { from: Value; to: Value; shrink: Value };
  /** [V, 3, 3] */
  colour?: Value;
  /** [V, 1, S, S], 1 or 0. */
  kept?: Value;
}

export function viewInputs(
  g: Graph,
  views: number,
  side: number,
  { width, height }: Canvas,
  kinds: readonly ViewKind[] = [],
): ViewInputs {
  const has = (kind: ViewKind) => kinds.includes(kind);
  return {
    ...(has('warp') && {
      warp: {
        from: g.input('warpFrom', [views, side, side, 2]),
        to: g.input('warpTo', [views, side, side, 2]),
        shrink: g.input('warpShrink', [views, 1, side, side]),
      },
    }),
    ...(has('colour') && { colour: g.input('colour', [views, 3, 3]) }),
    ...(has('erased') && { kept: g.input('kept', [views, 1, side, side]) }),
    rows: g.input('rows', [views * side, height]),
    columns: g.input('columns', [views, width, side]),
    noise: g.input('noise', [views, 3, side, side]),
    brightness: g.input('brightness', [views, 1, 1, 1]),
  };
}

/** Random resized crops as products A_y X A_x^T: any size, antialiased, differentiable without a scatter. [V, 3, S, S]. */
export function cutViews(g: Graph, picture: Value, { rows, columns, noise, brightness, warp, colour, kept }: ViewInputs): Value {
  const [views, width, side] = columns.shape;
  // All views' rows in one product: [V S, H] x [3, H, W].
  const tall = g.reshape(g.matMul(rows, picture), [3, views, side, width]);
  const crops = g.transpose(g.matMul(tall, columns), [1, 0, 2, 3]);
  const turned = warp ? warped(g, crops, warp) : crops;
  const coloured = colour ? g.reshape(g.matMul(colour, g.reshape(turned, [views, 3, side * side])), crops.shape) : turned;
  const seen = g.add(g.add(coloured, noise), brightness);
  return kept ? g.mul(seen, kept) : seen;
}

/**
 * Turns and tilts views where a matrix for rows and one for columns cannot. The gradient is sampled the other way, through the inverse map, times how
 * much that shrinks: for smooth maps near the identity what the exact one, a scatter, would give, but for what interpolation loses.
 */
function warped(g: Graph, crops: Value, { from, to, shrink }: NonNullable<ViewInputs['warp']>): Value {
  const sample = (x: Value, grid: Value, padding: 'border' | 'zeros') =>
    g.op('GridSample', [x, grid], { mode: 'bilinear', padding_mode: padding, align_corners: 0 });
  return g.withGradient(sample(crops, from, 'border'), crops, (gradient) => g.mul(sample(gradient, to, 'zeros'), shrink));
}

/** Numbers for the inputs that `viewInputs` makes, by their names. */
export type ViewFeeds = Record<'rows' | 'columns' | 'noise' | 'brightness', Float32Array> & Record<string, Float32Array>;

/** The views of one of several equal runs. */
export function viewsOfRun(views: ViewFeeds, run: number, runs: number): ViewFeeds {
  const part = (all: Float32Array) => all.subarray((run * all.length) / runs, ((run + 1) * all.length) / runs);
  return Object.fromEntries(Object.entries(views).map(([name, all]) => [name, part(all)])) as ViewFeeds;
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
    const more = this.#more();
    for (let v = 0; v < views; v++) {
      const isWhole = plan.whole !== undefined && random.uniform() < plan.whole;
      const size = (isWhole ? 1 : plan.side(random)) * Math.min(tile.width, tile.height);
      const top = plan.centre(random) * (tile.height - size);
      const left = plan.centre(random) * (tile.width - size);
      const copy = v % copies;
      const [y, x] = [Math.floor(copy / across) * tile.height, (copy % across) * tile.width];
      resample(side, tile.height, top, size, (o, i, weight) => (rows[(v * side + o) * height + y + i] = weight));
      resample(side, tile.width, left, size, (o, i, weight) => (columns[(v * width + x + i) * side + o] = weight));
      brightness[v] = random.uniform(-plan.brightness, plan.brightness);
      if (plan.warp) this.#warp(v, more, plan.warp, random);
      if (plan.colour) more.colour.set(colourMatrix(plan.colour, random), v * 9);
      if (plan.erased !== undefined && random.uniform() < plan.erased) this.#erase(v, more.kept, random);
    }
    const start = random.below(tapeSlack);
    return { rows, columns, brightness, noise: this.#tape.subarray(start, start + this.#size), ...more };
  }

  #more(): Record<string, Float32Array> {
    const { views, side, plan } = this;
    const pixels = views * side * side;
    return {
      ...(plan.warp && {
        warpFrom: new Float32Array(2 * pixels),
        warpTo: new Float32Array(2 * pixels),
        warpShrink: new Float32Array(pixels),
      }),
      ...(plan.colour && { colour: new Float32Array(9 * views) }),
      ...(plan.erased !== undefined && { kept: new Float32Array(pixels).fill(1) }),
    };
  }

  /** A turn and a tilt as a homography of the plane, and its inverse. */
  #warp(
    v: number,
    { warpFrom, warpTo, warpShrink }: Record<string, Float32Array>,
    { degrees, tilt }: NonNullable<ViewPlan['warp']>,
    random: Random,
  ): void {
    const { side } = this;
    const angle = (random.uniform(-degrees, degrees) * Math.PI) / 180;
    const [p, q] = [random.uniform(-tilt, tilt), random.uniform(-tilt, tilt)];
    const [cos, sin] = [Math.cos(angle), Math.sin(angle)];
    // (x, y) -> R (x, y) / (1 + p x + q y); turned back, that is (x, y) -> R' (x, y) / (1 - (p, q) R' (x, y)).
    for (let at = 0, i = v * side * side; at < side * side; at++, i++) {
      const x = (2 * (at % side) + 1) / side - 1;
      const y = (2 * Math.floor(at / side) + 1) / side - 1;
      const near = 1 + p * x + q * y;
      warpFrom[2 * i] = (cos * x - sin * y) / near;
      warpFrom[2 * i + 1] = (sin * x + cos * y) / near;
      const [a, b] = [cos * x + sin * y, cos * y - sin * x];
      const far = 1 - p * a - q * b;
      warpTo[2 * i] = a / far;
      warpTo[2 * i + 1] = b / far;
      warpShrink[i] = 1 / (far * far * far);
    }
  }

  #erase(v: number, kept: Float32Array, random: Random): void {
    const { side } = this;
    const area = random.uniform(0.1, 0.4) * side * side;
    const slender = Math.exp(random.uniform(-Math.log(3), Math.log(3)));
    const [width, height] = [Math.sqrt(area * slender), Math.sqrt(area / slender)].map((n) => Math.min(side, Math.round(n)));
    const [left, top] = [random.below(side - width + 1), random.below(side - height + 1)];
    for (let y = top; y < top + height; y++) kept.fill(0, (v * side + y) * side + left, (v * side + y) * side + left + width);
  }
}

/** Saturation and hue as one matrix over red, green and blue: the plane of greys stays, what is across it is turned and stretched. */
function colourMatrix({ saturation, hue }: NonNullable<ViewPlan['colour']>, random: Random): Float32Array {
  const stretch = 1 + random.uniform(-saturation, saturation);
  const turn = 2 * Math.PI * random.uniform(-hue, hue);
  const [cos, sin] = [stretch * Math.cos(turn), (stretch * Math.sin(turn)) / Math.sqrt(3)];
  // Rodrigues' rotation about the grey axis.
  return Float32Array.from({ length: 9 }, (_, i) => {
    const [row, column] = [Math.floor(i / 3), i % 3];
    const cross = row === column ? 0 : (column - row + 3) % 3 === 1 ? -sin : sin;
    return 1 / 3 + cos * (row === column ? 2 / 3 : -1 / 3) + cross;
  });
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
