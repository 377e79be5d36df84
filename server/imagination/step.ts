import { differentiate, Graph, simplify, type Target, type Value } from '../../models/graph/index.js';
import type { Eye } from '../../models/brivl/model.js';
import { channelsAt } from '../../models/brivl/towers.js';
import type { Site } from '../../models/brivl/units.js';
import { distance, likeness, neurons, objectives, totalVariation, unstopped, weighted, type ObjectiveName } from './objectives.js';
import { optimizers, type OptimizerName } from './optimizers.js';
import type { Canvas, Parametrization } from './parameters.js';
import { cutViews, viewInputs, type ViewKind } from './views.js';

/** What decides a step's graph, beside parametrization and eye: equal specs share one session. */
export interface StepSpec {
  canvas: Canvas;
  /** Views in one run of the graph. */
  views: number;
  /** What is done to them beside cutting. */
  kinds: readonly ViewKind[];
  /** Runs whose gradients are averaged before a move: with less views in each they take less memory. */
  runs: number;
  objective: ObjectiveName;
  /** Of dot-cos; 1 when left out. */
  cosPower?: number;
  optimizer: OptimizerName;
  /** May be 0. */
  texts: number;
  /** Whether the first text is what the picture is about. */
  isAbout: boolean;
  /** Whether there are texts that stop. */
  stops: boolean;
  totalVariation: number;
  /** Where the neurons are that pull, each site once. */
  neurons: readonly Site[];
  /** Copies that are held apart: views are dealt to them in turns. */
  diversity: { copies: number; weight: number; layer: string } | null;
  /** What the parameters are held near. */
  anchor: 'zero' | 'start' | null;
  target: Target;
}

/**
 * One step of imagination as one graph: draw the picture, cut views, look, measure, differentiate, move.
 *
 * Inputs: `parameters`, `slot0`..., `rows`, `columns`, `noise`, `brightness` (views.ts), `texts` [K, E] and `weights` [K] if there are texts,
 * `stops` [K] if some stop (objectives.ts), weights `neurons0` [C]... of the channels of each site, `anchorWeight` (and `start`, of the
 * parameters' shape) if there is an anchor, and the optimizer's scalars `scalar0`....
 * Outputs: `parameters'`, `slot0'`..., `loss`, `cos` (mean over views, first text) if the picture is about a text, `answers0` [1, C]: what the
 * channels of the first site answered (mean over views), `preview` [H, W, 3] uint8: the picture before the move, and `codes` [h, w] int32 if it
 * has tokens.
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
  const inputs = viewInputs(g, views, eye.size, canvas, spec.kinds);
  const said =
    spec.texts > 0 ? { texts: g.input('texts', [spec.texts, eye.embed]), weights: g.input('weights', [spec.texts]) } : null;
  const scalars = optimizer.scalars(1, 1).map((_, i) => g.input(`scalar${i}`, []));

  const { picture, codes, tiles = [picture] } = g.within('draw', () => parametrization.draw(g, parameters, canvas));
  const crops = g.within('views', () => cutViews(g, picture, inputs));
  const seen = eye.look(g, crops);
  const loss = g.within('objective', () => {
    const parts = [];
    if (said) {
      const { texts, weights } = said;
      const each = objectives[spec.objective](g, seen, texts, spec.cosPower);
      const moving = spec.stops ? g.mul(each, unstopped(g, seen, texts, weights, g.input('stops', [spec.texts]))) : each;
      parts.push(weighted(g, moving, weights));
    }
    if (spec.totalVariation > 0) {
      // Of each copy by itself: the seams of a sheet are no roughness.
      const each = tiles.map((tile) => totalVariation(g, tile));
      parts.push(
        g.scale(
          each.reduce((a, b) => g.add(a, b)),
          spec.totalVariation / each.length,
        ),
      );
    }
    spec.neurons.forEach((site, i) => {
      const { channels } = eye.layers.find(({ name }) => name === site.layer)!;
      parts.push(neurons(g, seen, site, g.input(`neurons${i}`, [channels])));
    });
    if (spec.diversity) {
      const { copies, weight, layer } = spec.diversity;
      parts.push(g.scale(likeness(g, seen.layers.get(layer)!, copies), weight));
    }
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
  if (said && spec.isAbout) {
    const first = g.slice(said.texts, 0, 0, 1);
    g.output('cos', g.reduceMean(g.matMul(seen.embedding, g.transpose(first, [1, 0])), [0, 1]));
  }
  if (spec.neurons.length > 0) g.output('answers0', g.reduceMean(channelsAt(g, seen, spec.neurons[0]), [0], true));
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
