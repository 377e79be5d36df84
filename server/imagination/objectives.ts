import type { Graph, Value } from '../../models/graph/index.js';
import type { ImageTower } from '../../models/brivl/towers.js';

/**
 * How far views are from texts, one number a view and text, smaller is nearer.
 *
 * @param seen the image tower's outputs for V views.
 * @param texts [K, E], L2-normalised.
 * @returns [V, K]
 */
export type Objective = (g: Graph, seen: ImageTower, texts: Value) => Value;

const cosines = (g: Graph, { embedding }: ImageTower, texts: Value): Value => g.matMul(embedding, g.transpose(texts, [1, 0]));

/** -cos, the paper's. */
const cos: Objective = (g, seen, texts) => g.neg(cosines(g, seen, texts));

/** -(dot max(.1, cos)), lucid's direction objective with cos power 1: it asks for a strong answer as well as a right one. */
const dotCos: Objective = (g, seen, texts) => {
  const dot = g.matMul(seen.projected, g.transpose(texts, [1, 0]));
  return g.neg(g.mul(dot, g.op('Max', [cosines(g, seen, texts), g.scalar(0.1)])));
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
 * Mean activation of LLP channels over views and positions, each times its weight, negated: part of the loss.
 *
 * @param weights [C]; a weight of w standard deviations is w / deviation of the channel.
 */
export function neurons(g: Graph, { llp }: ImageTower, weights: Value): Value {
  const [views] = llp.shape;
  const channels = g.reduceMean(llp, [2, 3]);
  return g.scale(g.reduceSum(g.mul(channels, weights), [0, 1]), -1 / views);
}

/** Mean squared distance of parameters from where they are held: MSE regularization (shared reference, vqgan.md, "Strong recipe"). */
export function distance(g: Graph, parameters: Value, anchor: Value): Value {
  const difference = g.sub(parameters, anchor);
  return g.reduceMean(
    g.mul(difference, difference),
    difference.shape.map((_, i) => i),
  );
}
