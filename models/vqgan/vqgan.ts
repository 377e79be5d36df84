import type { Graph, Tensor, Value } from '../graph/index.js';
import { swish } from '../graph/ops/activation.js';
import { interleave } from '../graph/ops/layout.js';
import { groupNorm } from '../graph/ops/normalization.js';
import { scoped, type Weights } from '../weights/weights.js';
import type { VqganConfig } from './config.js';
import { decoderLevels, encoderLevels, type Level } from './layout.js';

/**
 * The network of taming-transformers (Esser, Rombach & Ommer 2020, "Taming Transformers for High-Resolution Image Synthesis"), from
 * the facts in shared reference vqgan.md. Weights go by the names of the official state dict.
 */

/**
 * Pictures to latent maps, before they are quantized.
 *
 * @param pictures [N, 3, H, W] in [0, 1]; H and W multiples of `config.downsampling`, f.
 * @returns [N, embedDim, H/f, W/f]
 */
export function encoder(g: Graph, pictures: Value, weights: Weights, config: VqganConfig): Value {
  const [, , height, width] = pictures.shape;
  const f = config.downsampling;
  if (height % f || width % f) throw new Error(`a picture of ${width} x ${height} has sides that are no multiples of ${f}`);
  const part = scoped(weights, 'encoder.');
  return g.within('encoder', () => {
    const x = conv(g, g.sub(g.scale(pictures, 2), g.scalar(1)), part, 'conv_in');
    const lowest = encoderLevels(config).reduce(
      (v, level) => levelOf(g, v, part, level, config, (y, scope) => conv(g, y, scope, 'downsample.conv', halving)),
      x,
    );
    const h = swish(g, norm(g, middle(g, lowest, part, config), part, 'norm_out', config.groups));
    return conv(g, conv(g, h, part, 'conv_out'), weights, 'quant_conv');
  });
}

/**
 * Latent maps to pictures.
 *
 * @param z [N, embedDim, h, w], quantized or not.
 * @returns [N, 3, f h, f w], where [0, 1] is black to white; not clamped (see `clampToPicture`).
 */
export function decoder(g: Graph, z: Value, weights: Weights, config: VqganConfig): Value {
  const part = scoped(weights, 'decoder.');
  return g.within('decoder', () => {
    const x = conv(g, conv(g, z, weights, 'post_quant_conv'), part, 'conv_in');
    const highest = decoderLevels(config).reduce(
      (v, level) => levelOf(g, v, part, level, config, (y, scope) => doubledConv(g, y, scope, 'upsample.conv')),
      middle(g, x, part, config),
    );
    const h = swish(g, norm(g, highest, part, 'norm_out', config.groups));
    return g.scale(g.add(conv(g, h, part, 'conv_out'), g.scalar(1)), 0.5);
  });
}

/**
 * Clamps to [0, 1] with the gradient of VQGAN+CLIP's `clamp_with_grad`: of a number outside, only what would push it further out is
 * dropped (gradient times excess below 0: a step against it would grow the excess).
 */
export function clampToPicture(g: Graph, x: Value): Value {
  const clamped = g.op('Clip', [x, g.scalar(0), g.scalar(1)]);
  return g.withGradient(clamped, x, (gradient) => {
    const inward = g.op('GreaterOrEqual', [g.mul(gradient, g.sub(x, clamped)), g.scalar(0)]);
    return g.op('Where', [inward, gradient, g.scalar(0)]);
  });
}

function levelOf(
  g: Graph,
  x: Value,
  weights: Weights,
  level: Level,
  { groups }: VqganConfig,
  resample: (v: Value, scope: Weights) => Value,
): Value {
  const scope = scoped(weights, `${level.name}.`);
  return g.within(level.name, () => {
    const y = level.blocks.reduce((v, { name }, i) => {
      const h = residualBlock(g, v, scope, name, groups);
      return level.attention ? attentionBlock(g, h, scope, `attn.${i}`, groups) : h;
    }, x);
    return level.resamples ? resample(y, scope) : y;
  });
}

function middle(g: Graph, x: Value, weights: Weights, { groups, middleAttention }: VqganConfig): Value {
  const scope = scoped(weights, 'mid.');
  return g.within('mid', () => {
    const h = residualBlock(g, x, scope, 'block_1', groups);
    const mixed = middleAttention ? attentionBlock(g, h, scope, 'attn_1', groups) : h;
    return residualBlock(g, mixed, scope, 'block_2', groups);
  });
}

/** GroupNorm, swish, 3x3, GroupNorm, swish, 3x3, plus the input, through a 1x1 convolution where the number of channels changes. */
function residualBlock(g: Graph, x: Value, weights: Weights, name: string, groups: number): Value {
  const scope = scoped(weights, `${name}.`);
  return g.within(name, () => {
    const h = conv(g, swish(g, norm(g, x, scope, 'norm1', groups)), scope, 'conv1');
    const y = conv(g, swish(g, norm(g, h, scope, 'norm2', groups)), scope, 'conv2');
    return g.add(scope.has('nin_shortcut.weight') ? conv(g, x, scope, 'nin_shortcut') : x, y);
  });
}

/** One head over all positions, added to the input. */
function attentionBlock(g: Graph, x: Value, weights: Weights, name: string, groups: number): Value {
  const scope = scoped(weights, `${name}.`);
  const [n, channels, height, width] = x.shape;
  return g.within(name, () => {
    const normal = norm(g, x, scope, 'norm', groups);
    const [q, k, v] = ['q', 'k', 'v'].map((part) => g.reshape(conv(g, normal, scope, part), [n, channels, height * width]));
    // [N, queries, keys]
    const scores = g.scale(g.matMul(g.transpose(q, [0, 2, 1]), k), channels ** -0.5);
    const mixed = g.matMul(v, g.transpose(g.op('Softmax', [scores], { axis: -1 }), [0, 2, 1]));
    return g.add(x, conv(g, g.reshape(mixed, x.shape), scope, 'proj_out'));
  });
}

const norm = (g: Graph, x: Value, weights: Weights, name: string, groups: number): Value =>
  groupNorm(g, x, groups, weights.constant(g, `${name}.weight`), weights.constant(g, `${name}.bias`), 1e-6);

/**
 * Each pixel as a block of 2 x 2, then a 3x3 convolution, for 4/9 of the multiplications: at most four of the nine pixels under the kernel
 * differ, so the even and odd rows and columns of the result are four 2x2 convolutions of the small map. The gradient is one strided
 * convolution.
 */
function doubledConv(g: Graph, x: Value, weights: Weights, name: string): Value {
  const kernel = weights.tensor(`${name}.weight`);
  const bias = weights.constant(g, `${name}.bias`);
  const [out, into] = kernel.shape;
  const taps = boxed(kernel);
  const phases = [0, 1].flatMap((row) =>
    [0, 1].map((column) => {
      const own = Float32Array.from({ length: out * into * 4 }, (_, i) => {
        const [filter, y, z] = [i >> 2, (i >> 1) & 1, i & 1];
        return taps[filter * 16 + (row + 2 * y) * 4 + column + 2 * z];
      });
      const attributes = { kernel_shape: [2, 2], pads: [1 - row, 1 - column, row, column] };
      return g.op('Conv', [x, g.floats(own, [out, into, 2, 2], 'phase'), bias], attributes);
    }),
  );
  const y = interleave(g, phases, 2);
  return g.withGradient(y, x, (gradient) => {
    const flipped = new Float32Array(taps.length);
    for (let filter = 0; filter < out * into; filter++) {
      const swapped = (filter % into) * out + Math.floor(filter / into);
      for (let k = 0; k < 16; k++) flipped[swapped * 16 + k] = taps[filter * 16 + 15 - k];
    }
    const back = g.floats(flipped, [into, out, 4, 4], 'flipped');
    return g.op('Conv', [gradient, back], { kernel_shape: [4, 4], strides: [2, 2], pads: [1, 1, 1, 1] });
  });
}

/** A 3x3 kernel [O, I, 3, 3] convolved with a block of ones, [O, I, 4, 4]: what it is to the pixels before they are doubled. */
function boxed({ shape: [out, into], data }: Tensor): Float32Array {
  const sums = new Float32Array(out * into * 16);
  for (let filter = 0; filter < out * into; filter++)
    for (let k = 0; k < 9; k++)
      for (const shift of [0, 1, 4, 5])
        sums[filter * 16 + Math.floor(k / 3) * 4 + (k % 3) + shift] += data[filter * 9 + k] as number;
  return sums;
}

/** taming pads a row below and a column to the right before its strided convolution. */
const halving = { strides: [2, 2], pads: [0, 0, 1, 1] };

/** With bias; the map keeps its size unless told otherwise. */
function conv(g: Graph, x: Value, weights: Weights, name: string, window?: typeof halving): Value {
  const kernel = weights.constant(g, `${name}.weight`);
  const [, , ...sides] = kernel.shape;
  const same = sides.map((k) => (k - 1) / 2);
  return g.op('Conv', [x, kernel, weights.constant(g, `${name}.bias`)], {
    kernel_shape: sides,
    pads: [...same, ...same],
    ...window,
  });
}
