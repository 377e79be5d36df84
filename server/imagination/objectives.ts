import type { Graph, Value } from '../../models/graph/index.js';
import { channelsAt, type ImageTower } from '../../models/brivl/towers.js';
import type { Site } from '../../models/brivl/units.js';

/**
 * How far views are from texts, one number a view and text, smaller is nearer.
 *
 * @param seen the image tower's outputs for V views.
 * @param texts [K, E], L2-normalised.
 * @param cosPower of dot-cos
 * @returns [V, K]
 */
export type Objective = (g: Graph, seen: ImageTower, texts: Value, cosPower?: number) => Value;

const cosines = (g: Graph, { embedding }: ImageTower, texts: Value): Value => g.matMul(embedding, g.transpose(texts, [1, 0]));

/** -cos, the paper's. */
const cos: Objective = (g, seen, texts) => g.neg(cosines(g, seen, texts));

/**
 * -(dot max(.1, cos)^p), lucid's direction objective with cos power p: it asks for a strong answer as well as a right one. With 0 only strength
 * counts, with more than 1 (the default) mostly the direction.
 */
const dotCos: Objective = (g, seen, texts, cosPower = 1) => {
  const dot = g.matMul(seen.projected, g.transpose(texts, [1, 0]));
  if (cosPower === 0) return g.neg(dot);
  const floored = g.op('Max', [cosines(g, seen, texts), g.scalar(0.1)]);
  return g.neg(g.mul(dot, cosPower === 1 ? floored : g.op('Pow', [floored, g.scalar(cosPower)])));
};

/** Half the squared angle, theta^2 / 2 = 2 arcsin(|u - v| / 2)^2: VQGAN+CLIP's prompt loss. */
const spherical: Objective = (g, seen, texts) => {
  // theta^2 / 2 = x (1 + x/6 + 2 x^2/45 + ...), x = 1 - cos: three terms are within 1.9% up to a right angle, and have no pole at 0.
  const x = g.sub(g.scalar(1), cosines(g, seen, texts));
  const series = g.add(g.scalar(1), g.mul(x, g.add(g.scalar(1 / 6), g.scale(x, 2 / 45))));
  return g.mul(x, series);
};

export const objectives = { cos, 'dot-cos': dotCos, spherical } as const;
export type ObjectiveName = keyof typeof objectives;

/**
 * The weighted mean over views and texts. Weights of negative texts are negative; -(dot max(.1, cos)) of a text that is already far has
 * almost no pull, so pushing away stops by itself.
 *
 * @param weights [K]
 * @returns a single number
 */
export function weighted(g: Graph, losses: Value, weights: Value): Value {
  const [views] = losses.shape;
  return g.scale(g.reduceSum(g.mul(losses, weights), [0, 1]), 1 / views);
}

/**
 * Which views a text still moves: 1, or 0 where it stops, a mask that no gradient flows through.
 *
 * @param stops [K]: a text moves the views whose cosine to it, times its weight, is below (texts.ts)
 * @returns [V, K]
 */
export function unstopped(g: Graph, seen: ImageTower, texts: Value, weights: Value, stops: Value): Value {
  return g.op('Cast', [g.op('Less', [g.mul(cosines(g, seen, texts), weights), stops])], { to: 1 });
}

/** Mean absolute difference of neighbours of a picture [3, H, W] in both directions: total variation, anisotropic. */
export function totalVariation(g: Graph, picture: Value): Value {
  const [, h, w] = picture.shape;
  const along = (axis: number, n: number) => {
    const difference = g.sub(g.slice(picture, axis, 1, n), g.slice(picture, axis, 0, n - 1));
    return g.reduceMean(g.op('Abs', [difference]), [0, 1, 2]);
  };
  return g.add(along(1, h), along(2, w));
}

/**
 * What the channels of a site answer, on average over views, each times its weight, negated: part of the loss.
 *
 * @param weights [C]; a weight of w standard deviations is w / deviation of the channel.
 */
export function neurons(g: Graph, seen: ImageTower, site: Site, weights: Value): Value {
  const answers = channelsAt(g, seen, site);
  return g.scale(g.reduceSum(g.mul(answers, weights), [0, 1]), -1 / answers.shape[0]);
}

/**
 * How alike copies are: the mean cosine of the Gram matrices of a layer over all pairs, 0 to 1 where no activation is negative (lucid's
 * `diversity`, after style transfer: which channels go together, wherever they are). Views are dealt to the copies in turns.
 *
 * @param map [V, C, h, w], or tokens [V, T, C]; V a multiple of `copies`, of which there are at least two
 * @returns a single number
 */
export function likeness(g: Graph, map: Value, copies: number): Value {
  const [views, ...rest] = map.shape;
  const turns = views / copies;
  const isMap = rest.length === 3;
  const [channels, places] = isMap ? [rest[0], rest[1] * rest[2]] : [rest[1], rest[0]];
  const dealt = isMap
    ? g.transpose(g.reshape(map, [turns, copies, channels, places]), [1, 0, 3, 2])
    : g.transpose(g.reshape(map, [turns, copies, places, channels]), [1, 0, 2, 3]);
  const seen = turns * places;
  // Copies' features, a place a row: X [copies, seen, channels]. <A'A, B'B> is |A B'|^2, so the smaller of the two products is made.
  const products =
    channels <= seen ? productsOfGrams(g, g.reshape(dealt, [copies, seen, channels])) : productsOfPlaces(g, g.reshape(dealt, [copies * seen, channels]), copies); // prettier-ignore
  const identity = Float32Array.from({ length: copies * copies }, (_, i) => +(i % (copies + 1) === 0));
  const own = g.reduceSum(g.mul(products, g.floats(identity, [copies, copies])), [1]);
  const norms = g.op('Sqrt', [g.add(own, g.scalar(1e-12))]);
  const cosines = g.div(products, g.mul(g.reshape(norms, [copies, 1]), g.reshape(norms, [1, copies])));
  const others = g.floats(
    identity.map((same) => (1 - same) / (copies * (copies - 1))),
    [copies, copies],
  );
  return g.reduceSum(g.mul(cosines, others), [0, 1]);
}

/** Inner products [copies, copies] of X'X, of X [copies, seen, channels], each X over the root of its size. */
function productsOfGrams(g: Graph, x: Value): Value {
  const [copies, seen, channels] = x.shape;
  const scaled = g.scale(x, 1 / Math.sqrt(seen * channels));
  const grams = g.reshape(g.matMul(g.transpose(scaled, [0, 2, 1]), scaled), [copies, channels * channels]);
  return g.matMul(grams, g.transpose(grams, [1, 0]));
}

/** The same, of X [copies x seen, channels]: sums of squares of the blocks of X X'. */
function productsOfPlaces(g: Graph, x: Value, copies: number): Value {
  const [rows, channels] = x.shape;
  const seen = rows / copies;
  const scaled = g.scale(x, 1 / Math.sqrt(seen * channels));
  const each = g.matMul(scaled, g.transpose(scaled, [1, 0]));
  return g.reduceSum(g.reshape(g.mul(each, each), [copies, seen, copies, seen]), [1, 3]);
}

/** Mean squared distance of parameters from where they are held: MSE regularization (shared reference, vqgan.md, "Strong recipe"). */
export function distance(g: Graph, parameters: Value, anchor: Value): Value {
  const difference = g.sub(parameters, anchor);
  return g.reduceMean(
    g.mul(difference, difference),
    difference.shape.map((_, i) => i),
  );
}
