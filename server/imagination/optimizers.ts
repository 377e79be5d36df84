import type { Graph, Value } from '../../models/graph/index.js';

/**
 * An optimizer as pure functions over graph values. What changes from step to step but not with the data (bias corrections, the
 * learning rate) is computed outside and comes in as `scalars`, so that one graph serves every step.
 */
export interface Optimizer {
  /** How many tensors of the parameters' shape it remembers, all zero at first. */
  slots: number;
  /** Learning rate of spectra and pixels when the job names none: phases and latent maps live on other scales. */
  defaultRate: number;
  /** Numbers for step t = 1, 2, ...; the learning rate is among them. */
  scalars(t: number, rate: number): number[];
  update(
    g: Graph,
    parameters: Value,
    gradient: Value,
    slots: readonly Value[],
    scalars: readonly Value[],
  ): { parameters: Value; slots: Value[] };
}

const beta1 = 0.9;
const beta2 = 0.999;
const epsilon = 1e-8;

const moments = (g: Graph, gradient: Value, [m, v]: readonly Value[]) => ({
  m: g.add(g.scale(m, beta1), g.scale(gradient, 1 - beta1)),
  v: g.add(g.scale(v, beta2), g.scale(g.mul(gradient, gradient), 1 - beta2)),
});

const descend = (g: Graph, parameters: Value, first: Value, second: Value, rate: Value): Value =>
  g.sub(parameters, g.mul(rate, g.div(first, g.add(g.op('Sqrt', [second]), g.scalar(epsilon)))));

/** Adam (Kingma & Ba 2015). */
const adam: Optimizer = {
  slots: 2,
  defaultRate: 0.05,
  scalars: (t, rate) => [rate, 1 / (1 - beta1 ** t), 1 / (1 - beta2 ** t)],
  update(g, parameters, gradient, slots, [rate, c1, c2]) {
    const { m, v } = moments(g, gradient, slots);
    return { parameters: descend(g, parameters, g.mul(m, c1), g.mul(v, c2), rate), slots: [m, v] };
  },
};

/** NAdam (Dozat 2016) with a constant momentum: the first moment looks one step ahead. */
const nadam: Optimizer = {
  slots: 2,
  defaultRate: 0.05,
  scalars: (t, rate) => [rate, beta1 / (1 - beta1 ** (t + 1)), (1 - beta1) / (1 - beta1 ** t), 1 / (1 - beta2 ** t)],
  update(g, parameters, gradient, slots, [rate, ahead, now, c2]) {
    const { m, v } = moments(g, gradient, slots);
    const first = g.add(g.mul(m, ahead), g.mul(gradient, now));
    return { parameters: descend(g, parameters, first, g.mul(v, c2), rate), slots: [m, v] };
  },
};

/** Gradient descent with momentum .9 on the gradient over its root mean square, so that rates mean the same for every objective. */
const sgd: Optimizer = {
  slots: 1,
  defaultRate: 0.05,
  scalars: (_, rate) => [rate],
  update(g, parameters, gradient, [velocity], [rate]) {
    const axes = gradient.shape.map((_, i) => i);
    const size = g.op('Sqrt', [g.add(g.reduceMean(g.mul(gradient, gradient), axes, true), g.scalar(1e-20))]);
    const next = g.add(g.scale(velocity, beta1), g.scale(g.div(gradient, size), 1 - beta1));
    return { parameters: g.sub(parameters, g.mul(rate, next)), slots: [next] };
  },
};

export const optimizers = { adam, nadam, sgd } as const;
export type OptimizerName = keyof typeof optimizers;

/** What part of the learning rate step t of `steps` uses. */
export const schedules = {
  constant: () => 1,
  /** Half a cosine from 1 down to 0. */
  cosine: (t: number, steps: number) => (1 + Math.cos((Math.PI * (t - 1)) / steps)) / 2,
  /** A tenth of the steps up, then the half cosine. */
  'warmup-cosine': (t: number, steps: number) => {
    const warm = Math.max(1, Math.round(steps / 10));
    return t <= warm ? t / warm : (1 + Math.cos((Math.PI * (t - warm)) / (steps - warm + 1))) / 2;
  },
} as const;
export type ScheduleName = keyof typeof schedules;

/**
 * The stretch of `restarts + 1` equal stretches (to one step) in which a step lies. The optimizer begins each anew, its schedule too (warm
 * restarts). Prompts in series share the steps alike.
 *
 * @param step moves that have been made, less than `steps`
 * @returns which stretch it is, the step that it began at, and its length
 */
export function stretchOf(step: number, steps: number, restarts: number): { index: number; begin: number; length: number } {
  const starts = Array.from({ length: restarts + 2 }, (_, i) => Math.round((i * steps) / (restarts + 1)));
  const next = Math.max(
    1,
    starts.findIndex((start) => start > step),
  );
  return { index: next - 1, begin: starts[next - 1], length: starts[next] - starts[next - 1] };
}

/** The exponential moving sum (1 - decay) sum of decay^(n - i) x_i over x_0 ... x_n, of one more. Null is the sum of none. */
export function remember(sum: Float32Array | null, values: Float32Array, decay: number): Float32Array {
  return values.map((value, i) => decay * (sum?.[i] ?? 0) + (1 - decay) * value);
}

/** The weighted mean that such a sum of `count` arrays stands for: Adam's bias correction. */
export function meanOf(sum: Float32Array, count: number, decay: number): Float32Array {
  const whole = 1 - decay ** count;
  return sum.map((value) => value / whole);
}
