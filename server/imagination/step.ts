import { differentiate, Graph, simplify, type Target, type Value } from '../../models/graph/index.js';
import type { Eye } from '../../models/brivl/model.js';
import { neurons, objectives, totalVariation, weighted, type ObjectiveName } from './objectives.js';
import { optimizers, type OptimizerName } from './optimizers.js';
import { parametrizations, type Canvas, type ParametrizationName } from './parameters.js';
import { cutViews, viewInputs } from './views.js';

/** Everything that decides the shape of a step's graph: equal specs share one session. */
export interface StepSpec {
  canvas: Canvas;
  parameters: ParametrizationName;
  views: number;
  objective: ObjectiveName;
  optimizer: OptimizerName;
  texts: number;
  totalVariation: number;
  neurons: boolean;
  target: Target;
}

/**
 * One step of imagination as one graph: draw the picture, cut views, look, measure, differentiate, move.
 *
 * Inputs: `parameters`, `slot0`..., `rows`, `columns`, `noise`, `brightness` (views.ts), `texts` [K, E], `weights` [K],
 * `neurons` [C] if asked for, and the optimizer's scalars `scalar0`....
 * Outputs: `parameters'`, `slot0'`..., `loss`, `cos` (mean over views, first text), `preview` [H, W, 3] uint8: the picture before the move.
 */
export function stepGraph(spec: StepSpec, eye: Eye): Graph {
  const g = new Graph();
  const { canvas, views } = spec;
  const parametrization = parametrizations[spec.parameters];
  const optimizer = optimizers[spec.optimizer];
  const shape = parametrization.shape(canvas);
  const parameters = g.input('parameters', shape);
  const slots = Array.from({ length: optimizer.slots }, (_, i) => g.input(`slot${i}`, shape));
  const inputs = viewInputs(g, views, eye.size, canvas);
  const texts = g.input('texts', [spec.texts, eye.embed]);
  const weights = g.input('weights', [spec.texts]);
  const scalars = optimizer.scalars(1, 1).map((_, i) => g.input(`scalar${i}`, []));

  const picture = g.within('draw', () => parametrization.draw(g, parameters, canvas));
  const crops = g.within('views', () => cutViews(g, picture, inputs));
  const seen = eye.look(g, crops);
  const loss = g.within('objective', () => {
    const parts = [weighted(g, objectives[spec.objective](g, seen, texts), weights)];
    if (spec.totalVariation > 0) parts.push(g.scale(totalVariation(g, picture), spec.totalVariation));
    if (spec.neurons) parts.push(neurons(g, seen, g.input('neurons', [eye.channels])));
    return parts.reduce((a, b) => g.add(a, b));
  });
  const [gradient] = differentiate(g, loss, [parameters], { target: spec.target });
  const moved = g.within('move', () => optimizer.update(g, parameters, gradient, slots, scalars));

  g.output("parameters'", moved.parameters);
  moved.slots.forEach((slot, i) => g.output(`slot${i}'`, slot));
  g.output('loss', loss);
  const first = g.slice(texts, 0, 0, 1);
  g.output('cos', g.reduceMean(g.matMul(seen.embedding, g.transpose(first, [1, 0])), [0, 1]));
  g.output('preview', toBytes(g, picture));
  return simplify(g);
}

/** The picture alone, as it is shown: `parameters` -> `preview` [H, W, 3] uint8. */
export function drawGraph(canvas: Canvas, name: ParametrizationName): Graph {
  const g = new Graph();
  const parametrization = parametrizations[name];
  const parameters = g.input('parameters', parametrization.shape(canvas));
  g.output('preview', toBytes(g, parametrization.draw(g, parameters, canvas)));
  return simplify(g);
}

/** [3, H, W] in [0, 1] -> [H, W, 3] bytes, rounded to nearest. */
function toBytes(g: Graph, picture: Value): Value {
  const scaled = g.add(g.scale(g.transpose(picture, [1, 2, 0]), 255), g.scalar(0.5));
  return g.op('Cast', [g.op('Clip', [scaled, g.scalar(0), g.scalar(255)])], { to: 2 });
}
