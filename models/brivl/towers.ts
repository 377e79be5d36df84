import type { Graph, Value } from '../graph/index.js';
import { scoped, type Weights } from '../weights/weights.js';
import type { ImageTowerConfig, TextTowerConfig } from './config.js';
import { efficientNet, efficientNets, layersOf, layoutOf, llpLayer } from './efficientnet.js';
import { multiScalePatches } from './mspp.js';
import { bert, encoderLayer, linear, normalize } from './transformer.js';
import { siteName, UnknownUnitError, type Layer, type Site } from './units.js';

/** What an image tower sees, from the map to the joint space. */
export interface ImageTower {
  /** The last map before pooling, [N, C, h, w]: its channels are the LLP neurons. */
  llp: Value;
  /** Every layer with units, by its name (units.ts), LLP among them: a map [N, C, h, w], or tokens [N, T, C] of an attention layer. */
  layers: ReadonlyMap<string, Value>;
  /** Before the L2 norm, [N, E]: its length says how sure the tower is. */
  projected: Value;
  /** [N, E], L2-normalised. */
  embedding: Value;
}

/**
 * @param pictures [N, 3, H, W] in [0, 1], H and W multiples of the network's stride (its own size, unless one knows why).
 * @param weights from `imgencoder.` on.
 * @param layout the backbone, if it is none of the named ones.
 */
export function imageTower(
  g: Graph,
  pictures: Value,
  weights: Weights,
  config: ImageTowerConfig,
  layout = layoutOf(efficientNets[config.backbone]),
): ImageTower {
  const { mean, std } = config.input;
  const perChannel = (values: number[]) => g.floats(values, [1, 3, 1, 1]);
  const normal = g.add(g.mul(pictures, perChannel(std.map((s) => 1 / s))), perChannel(mean.map((m, i) => -m / std[i])));
  const layers = g.within('image', () => efficientNet(g, normal, scoped(weights, 'backbone.'), layout));
  const llp = layers.get(llpLayer)!;
  const learnable = scoped(weights, 'learnable.');
  const pooled = g.within('image/head', () => {
    if (config.pooling === 'mean') return g.reduceMean(llp, [2, 3]);
    const { grids, roi, conv } = config.mspp!;
    const patches = multiScalePatches(g, llp, grids, roi);
    const tokens = conv ? pointwise(g, patches, learnable, 'max_pool.0') : patches;
    const attended = attentionLayers(
      g,
      config.tokenNorm ? normalize(g, tokens) : tokens,
      scoped(learnable, 'imgAtt.'),
      config.attention,
      null,
      (i, tokens) => layers.set(attentionLayer(i), tokens),
    );
    return g.reduceMean(attended, [1]);
  });
  const projected = fullyConnected(g, pooled, learnable, 'imgFC', config.fc);
  return { llp, layers, projected, embedding: normalize(g, projected) };
}

/**
 * What a layer's channels answer: their means over the map or over the tokens, or their values at a spot. The centre of an even number of rows
 * is the one after the middle.
 *
 * @returns [N, C]
 * @throws UnknownUnitError for a spot that the layer has not
 */
export function channelsAt(g: Graph, { layers }: Pick<ImageTower, 'layers'>, site: Site): Value {
  const { layer, spot } = site;
  const map = layers.get(layer)!;
  const [n, , h, w] = map.shape;
  if (map.shape.length === 3) {
    if (spot === 'mean') return g.reduceMean(map, [1]);
    throw new UnknownUnitError(
      `${siteName(site)} is no place: ${layer} has tokens of many sizes in the place of a map: leave the @ out`,
    );
  }
  if (spot === 'mean') return g.reduceMean(map, [2, 3]);
  const { y, x } = spot === 'centre' ? { y: Math.floor(h / 2), x: Math.floor(w / 2) } : spot;
  if (y >= h || x >= w)
    throw new UnknownUnitError(`${siteName(site)} is no place: the rows of ${layer} are 0 to ${h - 1}, its columns 0 to ${w - 1}`);
  return g.reshape(g.slice(g.slice(map, 2, y, y + 1), 3, x, x + 1), [n, map.shape[1]]);
}

const attentionLayer = (index: number) => `attention${index + 1}`;

/** The layers that an image tower has, in its order. */
export function imageLayers(config: ImageTowerConfig, layout = layoutOf(efficientNets[config.backbone])): Layer[] {
  const channels = config.mspp?.conv ? config.embed : config.feature;
  const attended = config.pooling === 'mean' ? 0 : config.attention.layers;
  return [...layersOf(layout), ...Array.from({ length: attended }, (_, i) => ({ name: attentionLayer(i), channels }))];
}

/** A 1x1 convolution over tokens: its kernel [O, I, 1, 1] is a matrix. */
function pointwise(g: Graph, tokens: Value, weights: Weights, name: string): Value {
  const kernel = weights.constant(g, `${name}.weight`);
  const matrix = g.transpose(g.reshape(kernel, kernel.shape.slice(0, 2)), [1, 0]);
  return g.add(g.matMul(tokens, matrix), weights.constant(g, `${name}.bias`));
}

function attentionLayers(
  g: Graph,
  x: Value,
  weights: Weights,
  attention: { layers: number; heads: number },
  bias: Value | null,
  each?: (index: number, tokens: Value) => void,
): Value {
  let y = x;
  for (let i = 0; i < attention.layers; i++) {
    y = encoderLayer(g, y, scoped(weights, `layers.${i}.`), attention.heads, bias);
    each?.(i, y);
  }
  return y;
}

function fullyConnected(g: Graph, x: Value, weights: Weights, name: string, kind: 'linear' | 'mlp'): Value {
  const first = linear(g, x, weights, `${name}.fc1`);
  return kind === 'linear' ? first : linear(g, g.op('Relu', [first]), weights, `${name}.fc2`);
}

/**
 * @param words [N, T, H], rows of the word table.
 * @param mask [N, T], 1 for a token and 0 for padding.
 * @param weights from `textencoder.` on.
 * @param concepts prototypes to recall, [K, E], L2-normalised; asked for when the tower recalls.
 * @returns [N, E], L2-normalised
 */
export function textTower(g: Graph, words: Value, mask: Value, weights: Weights, config: TextTowerConfig, concepts?: Value): Value {
  const [n, t] = mask.shape;
  const hide = g.scale(g.sub(mask, g.scalar(1)), 1e9);
  const bias = g.reshape(hide, [n, 1, 1, t]);
  const { backbone } = config;
  const hidden = g.within('text', () =>
    bert(g, words, scoped(weights, 'backbone.bert.'), backbone, config.paddingMask ? bias : null),
  );
  const learnable = scoped(weights, 'learnable.');
  const tokens = config.tokenNorm ? normalize(g, hidden) : hidden;
  const attended = attentionLayers(g, tokens, scoped(learnable, 'textAtt.'), config.attention, bias);
  const column = g.reshape(mask, [n, t, 1]);
  const mean = g.div(g.reduceSum(g.mul(attended, column), [1]), g.reduceSum(column, [1]));
  const pooled = config.pooledNorm ? normalize(g, mean) : mean;
  const said = normalize(g, fullyConnected(g, pooled, learnable, 'textFC', config.fc));
  if (!config.recall) return said;
  if (!concepts) throw new Error('a text tower that recalls needs its concepts');
  const { share, sharpness } = config.recall;
  const mixture = recalled(g, said, concepts, learnable, sharpness);
  return normalize(g, g.add(g.scale(said, 1 - share), g.scale(mixture, share)));
}

/**
 * The mixture of known concepts that an embedding calls up, L2-normalised: softmax attention over their prototypes (a Hopfield layer, Ramsauer et
 * al. 2021). It lies where pictures do; what a linear map says of a text does not.
 *
 * @param said [N, E], L2-normalised
 * @param concepts [K, E], L2-normalised rows
 * @param weights with `recall.weight` [E, E]: makes the values of the attention from its keys. Neighbours share most of what they are, so a sum
 * of the prototypes themselves would call up all that is like them.
 */
function recalled(g: Graph, said: Value, concepts: Value, weights: Weights, sharpness: number): Value {
  const shares = g.op('Softmax', [g.scale(g.matMul(said, g.transpose(concepts, [1, 0])), sharpness)], { axis: 1 });
  return normalize(g, g.matMul(g.matMul(shares, concepts), weights.constant(g, 'recall.weight')));
}
