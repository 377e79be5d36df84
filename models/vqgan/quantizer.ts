import type { Graph, Value } from '../graph/index.js';
import type { Weights } from '../weights/weights.js';

/** A latent map by the codes that stand for it. */
export interface Quantized {
  /** [N, h, w], int64: rows of the codebook. */
  codes: Value;
  /** [N, embedDim, h, w]: those rows. No gradient flows to what they were chosen by. */
  quantized: Value;
}

/**
 * The nearest code of every position, by |e|^2 - 2 z.e (|z|^2 is the same for all); the first of equals.
 *
 * @param z [N, embedDim, h, w]
 * @param codebook [codes, embedDim]
 * @returns also `straightThrough`, the values of `quantized` with their gradient handed to z as it is (van den Oord et al. 2017)
 */
export function quantize(g: Graph, z: Value, codebook: Value): Quantized & { straightThrough: Value } {
  const [n, dimensions, height, width] = z.shape;
  const positions = g.reshape(g.transpose(z, [0, 2, 3, 1]), [n * height * width, dimensions]);
  const squares = g.op('ReduceSumSquare', [codebook, g.ints([1])], { keepdims: 0 });
  const nearness = g.op('Gemm', [positions, codebook, squares], { alpha: 2, beta: -1, transB: 1 });
  const codes = g.reshape(g.op('ArgMax', [nearness], { axis: 1, keepdims: 0 }), [n, height, width]);
  const quantized = lookUp(g, codes, codebook);
  return { codes, quantized, straightThrough: g.withGradient(quantized, z, (gradient) => gradient) };
}

/**
 * The codes that a Gumbel quantizer finds likeliest, without its noise.
 *
 * @param h [N, embedDim, h, w] from the encoder
 * @param weights `quantize.proj.weight` [codes, embedDim, 1, 1] and its bias
 * @param codebook [codes, embedDim]
 */
export function likeliest(g: Graph, h: Value, weights: Weights, codebook: Value): Quantized {
  const [projection, bias] = ['weight', 'bias'].map((part) => weights.constant(g, `quantize.proj.${part}`));
  const logits = g.op('Conv', [h, projection, bias], { kernel_shape: [1, 1] });
  const codes = g.op('ArgMax', [logits], { axis: 1, keepdims: 0 });
  return { codes, quantized: lookUp(g, codes, codebook) };
}

/** The rows of the codebook as a map: [N, h, w] -> [N, embedDim, h, w]. */
export const lookUp = (g: Graph, codes: Value, codebook: Value): Value =>
  g.transpose(g.op('Gather', [codebook, codes], { axis: 0 }), [0, 3, 1, 2]);
