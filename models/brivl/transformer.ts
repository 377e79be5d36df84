import type { Graph, Value } from '../graph/index.js';
import { gelu } from '../graph/ops/activation.js';
import { scoped, type Weights } from '../weights/weights.js';

/** x W^T + b with PyTorch's [out, in] weights; any leading axes. */
export function linear(g: Graph, x: Value, weights: Weights, name: string): Value {
  const w = g.transpose(weights.constant(g, `${name}.weight`), [1, 0]);
  const y = g.matMul(x, w);
  return weights.has(`${name}.bias`) ? g.add(y, weights.constant(g, `${name}.bias`)) : y;
}

export function layerNorm(g: Graph, x: Value, weights: Weights, name: string, epsilon: number): Value {
  const inputs = [x, weights.constant(g, `${name}.weight`), weights.constant(g, `${name}.bias`)];
  // Three outputs: the gradient takes mean and deviation from here.
  return g.apply('LayerNormalization', inputs, { axis: -1, epsilon }, 3)[0];
}

/** x / |x| along the last axis. The 1e-24 keeps a zero vector at zero. */
export function normalize(g: Graph, x: Value): Value {
  const square = g.reduceSum(g.mul(x, x), [x.shape.length - 1], true);
  return g.div(x, g.op('Sqrt', [g.add(square, g.scalar(1e-24))]));
}

/**
 * Scaled dot-product attention over projected queries, keys and values.
 *
 * @param q,k,v [N, T, D]
 * @param bias added to the scores, broadcast to [N, heads, T, T]: a large negative number hides a key.
 */
export function attend(g: Graph, q: Value, k: Value, v: Value, heads: number, bias: Value | null): Value {
  const [n, t, d] = q.shape;
  const split = (x: Value, perm: number[]) => g.transpose(g.reshape(x, [n, t, heads, d / heads]), perm);
  const scores = g.scale(g.matMul(split(q, [0, 2, 1, 3]), split(k, [0, 2, 3, 1])), 1 / Math.sqrt(d / heads));
  const weights = g.op('Softmax', [bias ? g.add(scores, bias) : scores], { axis: -1 });
  return g.reshape(g.transpose(g.matMul(weights, split(v, [0, 2, 1, 3])), [0, 2, 1, 3]), [n, t, d]);
}

/** PyTorch's TransformerEncoderLayer, post-norm, ReLU, eps 1e-5: the layers of `imgAtt` and `textAtt`. */
export function encoderLayer(g: Graph, x: Value, weights: Weights, heads: number, bias: Value | null): Value {
  const d = x.shape[2];
  const projection = g.add(
    g.matMul(x, g.transpose(weights.constant(g, 'self_attn.in_proj_weight'), [1, 0])),
    weights.constant(g, 'self_attn.in_proj_bias'),
  );
  const [q, k, v] = [0, 1, 2].map((i) => g.slice(projection, 2, i * d, (i + 1) * d));
  const attended = linear(g, attend(g, q, k, v, heads, bias), weights, 'self_attn.out_proj');
  const first = layerNorm(g, g.add(x, attended), weights, 'norm1', 1e-5);
  const hidden = linear(g, g.op('Relu', [linear(g, first, weights, 'linear1')]), weights, 'linear2');
  return layerNorm(g, g.add(first, hidden), weights, 'norm2', 1e-5);
}

export interface BertConfig {
  layers: number;
  heads: number;
  layerNormEps: number;
}

/**
 * A BERT encoder after its word table.
 *
 * @param words [N, T, H] rows of the word table: looking them up outside keeps the vocabulary out of the session.
 * @param bias see `attend`; null for towers that attend to padding too.
 * @param weights Hugging Face names from `embeddings.` and `encoder.` on.
 * @returns [N, T, H]
 */
export function bert(g: Graph, words: Value, weights: Weights, config: BertConfig, bias: Value | null): Value {
  const [, t, h] = words.shape;
  const positions = weights.rows(
    'embeddings.position_embeddings.weight',
    Array.from({ length: t }, (_, i) => i),
  );
  const type = weights.rows('embeddings.token_type_embeddings.weight', [0]);
  const sum = g.add(words, g.constant({ ...positions, shape: [1, t, h] }));
  const embedded = layerNorm(
    g,
    g.add(sum, g.constant({ ...type, shape: [1, 1, h] })),
    weights,
    'embeddings.LayerNorm',
    config.layerNormEps,
  );
  let x = embedded;
  for (let i = 0; i < config.layers; i++) {
    const layer = scoped(weights, `encoder.layer.${i}.`);
    const [q, k, v] = ['query', 'key', 'value'].map((part) => linear(g, x, layer, `attention.self.${part}`));
    const attended = linear(g, attend(g, q, k, v, config.heads, bias), layer, 'attention.output.dense');
    const middle = layerNorm(g, g.add(x, attended), layer, 'attention.output.LayerNorm', config.layerNormEps);
    const hidden = linear(g, gelu(g, linear(g, middle, layer, 'intermediate.dense')), layer, 'output.dense');
    x = layerNorm(g, g.add(middle, hidden), layer, 'output.LayerNorm', config.layerNormEps);
  }
  return x;
}
