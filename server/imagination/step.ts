import { differentiate, Graph, simplify, type Target, type Value } from '../../models/graph/index.js';
import type { Eye } from '../../models/brivl/model.js';
import { distance, neurons, objectives, totalVariation, unstopped, weighted, type ObjectiveName } from './objectives.js';
import { optimizers, type OptimizerName } from './optimizers.js';
import type { Canvas, Parametrization } from './parameters.js';
import { cutViews, viewInputs } from './views.js';

/** What decides a step's graph, beside parametrization and eye: equal specs share one session. */
export interface StepSpec {
  canvas: Canvas;
  /** Views in one run of the graph. */
  views: number;
  /** Runs whose gradients are averaged before a move: with less views in each they take less memory. */
  runs: number;
  objective: ObjectiveName;
  optimizer: OptimizerName;
  texts: number;
  /** Whether there are texts that stop. */
  stops: boolean;
  totalVariation: number;
  neurons: boolean;
  /** What the parameters are held near. */
  anchor: 'zero' | 'start' | null;
  target: Target;
}

/**
 * One step of imagination as one graph: draw the picture, cut views, look, measure, differentiate, move.
 *
 * Inputs: `parameters`, `slot0`..., `rows`, `columns`, `noise`, `brightness` (views.ts), `texts` [K, E], `weights` [K],
 * `stops` [K] if some stop (objectives.ts), `neurons` [C] if asked for, `anchorWeight` (and `start`, of the parameters' shape) if there is
 * an anchor, and the optimizer's scalars `scalar0`....
 * Outputs: `parameters'`, `slot0'`..., `loss`, `cos` (mean over views, first text), `preview` [H, W, 3] uint8: the picture before the move,
 * and `codes` [h, w] int32 if it has tokens.
 *
 * With several runs to a move there is an input `gradient`, the sum over the runs before (0 for the first), and an output `gradient'`, the sum
 * with this one's; the move is the one that this sum over all runs asks for, so only the last run's counts.
 */
export function stepGraph(spec: StepSpec, eye: Eye, parametrization: Parametrization): Graph {
  const g = new Graph();
  const { canvas, views } = spec;
  const optimizer = optimizers[spec.optimizer];
  const shape = parametrization.shape(canvas);
  const parameters = g.input('parameters', shape);
  const slots = Array.from({ length: optimizer.slots }, (_, i) => g.input(`slot${i}`, shape));
  const inputs = viewInputs(g, views, eye.size, canvas);
  const texts = g.input('texts', [spec.texts, eye.embed]);
  const weights = g.input('weights', [spec.texts]);
  const scalars = optimizer.scalars(1, 1).map((_, i) => g.input(`scalar${i}`, []));

  const { picture, codes } = g.within('draw', () => parametrization.draw(g, parameters, canvas));
  const crops = g.within('views', () => cutViews(g, picture, inputs));
  const seen = eye.look(g, crops);
  const loss = g.within('objective', () => {
    const each = objectives[spec.objective](g, seen, texts);
    const moving = spec.stops ? g.mul(each, unstopped(g, seen, texts, weights, g.input('stops', [spec.texts]))) : each;
    const parts = [weighted(g, moving, weights)];
    if (spec.totalVariation > 0) parts.push(g.scale(totalVariation(g, picture), spec.totalVariation));
    if (spec.neurons) parts.push(neurons(g, seen, g.input('neurons', [eye.channels])));
    if (spec.anchor) {
      const anchor = spec.anchor === 'start' ? g.input('start', shape) : g.scalar(0);
      parts.push(g.mul(distance(g, parameters, anchor), g.input('anchorWeight', [])));
    }
    return parts.reduce((a, b) => g.add(a, b));
  });
  const [own] = differentiate(g, loss, [parameters], { target: spec.target });
  const gradient = spec.runs > 1 ? g.add(g.input('gradient', shape), own) : own;
  const moved = g.within('move', () => {
    const { parameters: free, slots: kept } = optimizer.update(g, parameters, g.scale(gradient, 1 / spec.runs), slots, scalars);
    return { parameters: parametrization.bound?.(g, free) ?? free, slots: kept };
  });

  if (spec.runs > 1) g.output("gradient'", gradient);
  g.output("parameters'", moved.parameters);
  moved.slots.forEach((slot, i) => g.output(`slot${i}'`, slot));
  g.output('loss', loss);
  const first = g.slice(texts, 0, 0, 1);
  g.output('cos', g.reduceMean(g.matMul(seen.embedding, g.transpose(first, [1, 0])), [0, 1]));
  g.output('preview', toBytes(g, picture));
  if (codes) g.output('codes', codes);
  return simplify(g);
}

/** The picture alone, as it is shown: `parameters` -> `preview` [H, W, 3] uint8, and `codes` as in `stepGraph`. */
export function drawGraph(canvas: Canvas, parametrization: Parametrization): Graph {
  const g = new Graph();
  const { picture, codes } = parametrization.draw(g, g.input('parameters', parametrization.shape(canvas)), canvas);
  g.output('preview', toBytes(g, picture));
  if (codes) g.output('codes', codes);
  return simplify(g);
}

/** [3, H, W] in [0, 1] -> [H, W, 3] bytes, rounded to nearest. */
function toBytes(g: Graph, picture: Value): Value {
  const scaled = g.add(g.scale(g.transpose(picture, [1, 2, 0]), 255), g.scalar(0.5));
  return g.op('Cast', [g.op('Clip', [scaled, g.scalar(0), g.scalar(255)])], { to: 2 });
}
