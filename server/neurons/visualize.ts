import { differentiate, Graph, simplify, sizeOf, type Target, type Value } from '../../models/graph/index.js';
import type { Eye, ImageModel } from '../../models/brivl/model.js';
import { percentile, type ChannelStatistics } from '../../models/brivl/statistics.js';
import { channelsAt, type ImageTower } from '../../models/brivl/towers.js';
import { lookAt } from '../imagination/look.js';
import { totalVariation } from '../imagination/objectives.js';
import { optimizers, schedules } from '../imagination/optimizers.js';
import { parametrizations, type Canvas, type FreeParametrization, type ParametrizationName } from '../imagination/parameters.js';
import { Random } from '../imagination/random.js';
import type { Sessions } from '../imagination/sessions.js';
import { cutViews, viewInputs, ViewSampler, type ViewPlan } from '../imagination/views.js';

/** How units are drawn. */
export interface Drawing {
  parameters: ParametrizationName;
  /** Side of a picture in pixels. */
  canvas: number;
  /** Side of its views in pixels, a multiple of the eye's stride. Less than the eye's own size saves time; what is drawn is judged at that. */
  look: number;
  views: number;
  steps: number;
  /** Adam's learning rate at its height. */
  rate: number;
  /** Least side of a crop over the picture's; the greatest is 1. */
  crop: number;
  /** Weight of the total variation beside an answer in deviations. */
  totalVariation: number;
  /** Pictures that share a run of the step's graph. */
  batch: number;
  seed: number;
}

export const atlasDrawing: Drawing = {
  parameters: 'fourier',
  canvas: 128,
  look: 128,
  views: 2,
  steps: 64,
  rate: 0.15,
  crop: 0.25,
  totalVariation: 50,
  batch: 4,
  seed: 1,
};

/** A picture that drives a unit, and how much, looked at as any picture is: whole, at the eye's own size. */
export interface DrawnUnit {
  channel: number;
  /** [canvas, canvas, 3] bytes */
  pixels: Uint8Array;
  activation: number;
  /** The share of the bundled photographs, 0 to 100, that drive it less. */
  percentile: number;
  /** The place of the unit among all of its layer when each is measured in deviations from its mean over the photographs: 1 is the first. */
  rank: number;
}

/** A layer to draw units of. */
export interface DrawnLayer {
  model: Pick<ImageModel, 'hash' | 'eye'>;
  layer: string;
  statistics: ChannelStatistics;
}

/** How much of a gradient is let through a ReLU where it is silent: a unit that is dead at the start could not be woken without. */
const leak = 0.1;

/** The least that an impure answer counts: lucid's floor of its direction objective. */
const leastPurity = 0.1;

/**
 * A layer as it would be with leaky ReLUs: what went into one, `leak` times, where it is below 0. Layers that no ReLU made are themselves.
 */
function leaky(g: Graph, { layers }: ImageTower, layer: string): Value {
  const map = layers.get(layer)!;
  const made = g.producers.get(map);
  if (made?.op !== 'Relu' && made?.op !== 'Clip') return map;
  return g.add(map, g.scale(g.op('Clip', [made.inputs[0], null, g.scalar(0)]), leak));
}

/**
 * One step of several drawings: draw each, look at all through the same views, ask each for its own channel, move.
 *
 * The answer that is asked for is z max(.1, purity), with z the channel's deviations above its mean and purity the share of z in the length of all
 * channels': lucid's direction objective (shared reference, feature-visualization.md, "Objectives"), but for the length, which is that of fourth
 * powers. So it is mostly the strongest rivals that are held down, which is what the rank of a unit is about.
 *
 * Inputs: `parameters`, `slot0`... [B, ...]; `asked` [B, C], 1 at each picture's channel; `means` and `scales` [C], of the channels over photographs,
 * scales 1 over the deviations; the views' (views.ts), which all pictures share; the optimizer's scalars.
 * Outputs: `parameters'`, `slot0'`..., and `answers` [B], in deviations, over the views before the move.
 */
export function drawingStep(eye: Eye, layer: string, drawing: Drawing, target: Target): Graph {
  const g = new Graph();
  const { batch, views, look } = drawing;
  const canvas = canvasOf(drawing);
  const parametrization: FreeParametrization = parametrizations[drawing.parameters];
  const optimizer = optimizers.adam;
  const shape = [batch, ...parametrization.shape(canvas)];
  const parameters = g.input('parameters', shape);
  const slots = Array.from({ length: optimizer.slots }, (_, i) => g.input(`slot${i}`, shape));
  const inputs = viewInputs(g, views, look, canvas);
  const scalars = optimizer.scalars(1, 1).map((_, i) => g.input(`scalar${i}`, []));

  const pictures = g.within('draw', () => picturesOf(g, parameters, parametrization, canvas));
  const crops = g.within('views', () => pictures.map((picture) => cutViews(g, picture, inputs)));
  const seen = eye.look(g, g.concat(crops, 0));
  const { answers, loss } = g.within('objective', () => {
    const channels = channelsAt(g, seen, { layer, spot: 'mean' }).shape[1];
    const [means, scales] = [g.input('means', [channels]), g.input('scales', [channels])];
    const asked = g.input('asked', [batch, channels]);
    const standing = (tower: Pick<ImageTower, 'layers'>) => {
      const each = g.reshape(channelsAt(g, tower, { layer, spot: 'mean' }), [batch, views, channels]);
      return g.mul(g.sub(g.reduceMean(each, [1]), means), scales);
    };
    const all = standing(seen);
    const own = g.reduceSum(g.mul(standing({ layers: new Map([[layer, leaky(g, seen, layer)]]) }), asked), [1]);
    const squares = g.mul(all, all);
    const length = g.op('Sqrt', [g.op('Sqrt', [g.add(g.reduceSum(g.mul(squares, squares), [1]), g.scalar(1e-6))])]);
    const purity = g.op('Max', [g.div(own, length), g.scalar(leastPurity)]);
    const wanted = g.reduceSum(g.mul(own, purity), [0]);
    const rough = pictures.map((picture) => totalVariation(g, picture)).reduce((a, b) => g.add(a, b));
    return { answers: own, loss: g.sub(g.scale(rough, drawing.totalVariation), wanted) };
  });
  const [gradient] = differentiate(g, loss, [parameters], { target });
  const moved = g.within('move', () => optimizer.update(g, parameters, gradient, slots, scalars));
  g.output("parameters'", moved.parameters);
  moved.slots.forEach((slot, i) => g.output(`slot${i}'`, slot));
  g.output('answers', answers);
  return simplify(g);
}

const canvasOf = ({ canvas }: Drawing): Canvas => ({ width: canvas, height: canvas });

/** [B, ...] -> B pictures [3, H, W]. */
function picturesOf(g: Graph, parameters: Value, parametrization: FreeParametrization, canvas: Canvas): Value[] {
  const [batch, ...shape] = parameters.shape;
  return Array.from(
    { length: batch },
    (_, i) => parametrization.draw(g, g.reshape(g.slice(parameters, 0, i, i + 1), shape), canvas).picture,
  );
}

/** `parameters` [B, ...] -> `pictures` [B, H, W, 3] uint8. */
function picturesGraph(drawing: Drawing): Graph {
  const g = new Graph();
  const canvas = canvasOf(drawing);
  const parametrization: FreeParametrization = parametrizations[drawing.parameters];
  const parameters = g.input('parameters', [drawing.batch, ...parametrization.shape(canvas)]);
  const pictures = picturesOf(g, parameters, parametrization, canvas).map((p) => g.reshape(p, [1, ...p.shape]));
  const bytes = g.add(g.scale(g.transpose(g.concat(pictures, 0), [0, 2, 3, 1]), 255), g.scalar(0.5));
  g.output('pictures', g.op('Cast', [g.op('Clip', [bytes, g.scalar(0), g.scalar(255)])], { to: 2 }));
  return simplify(g);
}

/** Crops as for imagining; their centres are pressed against the borders more often, which would otherwise be seen least and stay grey. */
const planOf = ({ crop }: Drawing): ViewPlan => ({
  side: (random) => random.uniform(crop, 1),
  centre: (random) => Math.min(1, Math.max(0, random.uniform(-0.25, 1.25))),
  noise: 0.05,
  brightness: 0.1,
});

/**
 * Draws what drives units of a layer, up to `drawing.batch` of them at a time. Each is drawn as it would be alone, from one seed, start and views:
 * who its neighbours are does not matter.
 */
export async function drawUnits(
  sessions: Sessions,
  of: DrawnLayer,
  channels: readonly number[],
  drawing: Drawing,
): Promise<DrawnUnit[]> {
  const pictures = await drawPictures(sessions, of, channels, drawing);
  const drawn: DrawnUnit[] = [];
  for (const [i, channel] of channels.entries()) drawn.push(await judged(sessions, of, channel, pictures[i], canvasOf(drawing)));
  return drawn;
}

async function drawPictures(
  sessions: Sessions,
  { model, layer, statistics }: DrawnLayer,
  channels: readonly number[],
  drawing: Drawing,
): Promise<Uint8Array[]> {
  const { batch, steps, seed } = drawing;
  if (channels.length > batch) throw new Error(`${channels.length} channels do not fit a batch of ${batch}`);
  const canvas = canvasOf(drawing);
  const parametrization: FreeParametrization = parametrizations[drawing.parameters];
  const { seed: _, steps: __, ...shaping } = drawing;
  const key = `${model.hash}:${layer}:${JSON.stringify(shaping)}`;
  const stepper = await sessions.runner(`drawing:${key}`, () => drawingStep(model.eye, layer, drawing, sessions.target));
  const random = new Random(seed);
  const start = parametrization.init(canvas, random);
  const size = batch * sizeOf(parametrization.shape(canvas));
  let parameters = Float32Array.from({ length: size }, (_, i) => start[i % start.length]);
  let slots = Array.from({ length: optimizers.adam.slots }, () => new Float32Array(size));
  const all = statistics.means.length;
  const asked = new Float32Array(batch * all);
  channels.forEach((channel, i) => (asked[i * all + channel] = 1));
  const told = { asked, means: statistics.means, scales: scalesOf(statistics) };
  const sampler = new ViewSampler(planOf(drawing), canvas, drawing.views, drawing.look, new Random(seed ^ 0x5eed));
  for (let t = 1; t <= steps; t++) {
    const scalars = optimizers.adam.scalars(t, drawing.rate * schedules['warmup-cosine'](t, steps));
    const out = await stepper.run({
      parameters,
      ...Object.fromEntries(slots.map((slot, i) => [`slot${i}`, slot])),
      ...Object.fromEntries(scalars.map((value, i) => [`scalar${i}`, Float32Array.of(value)])),
      ...told,
      ...sampler.sample(random),
    });
    parameters = out["parameters'"] as Float32Array<ArrayBuffer>;
    slots = slots.map((_, i) => out[`slot${i}'`] as Float32Array<ArrayBuffer>);
  }
  const drawer = await sessions.runner(`drawn:${drawing.parameters}:${batch}:${drawing.canvas}`, () => picturesGraph(drawing));
  const pictures = (await drawer.run({ parameters })).pictures as Uint8Array;
  const bytes = pictures.length / batch;
  return channels.map((_, i) => pictures.slice(i * bytes, (i + 1) * bytes));
}

/** 1 over the deviations. A channel that no photograph moved has none: it counts as it is. */
const scalesOf = ({ deviations }: ChannelStatistics) => deviations.map((deviation) => (deviation > 0 ? 1 / deviation : 1));

async function judged(
  sessions: Sessions,
  { model, layer, statistics }: DrawnLayer,
  channel: number,
  pixels: Uint8Array,
  canvas: Canvas,
): Promise<DrawnUnit> {
  const { answers } = await lookAt(sessions, model.hash, model.eye, pixels, canvas, [{ layer, spot: 'mean' }]);
  const [readings] = answers;
  const scales = scalesOf(statistics);
  const z = readings.map((reading, c) => (reading - statistics.means[c]) * scales[c]);
  const activation = readings[channel];
  return {
    channel,
    pixels,
    activation,
    percentile: percentile(statistics.quantiles, channel, activation),
    rank: 1 + z.filter((other) => other > z[channel]).length,
  };
}
