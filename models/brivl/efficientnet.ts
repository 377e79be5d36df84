import type { Graph, Tensor, Value } from '../graph/index.js';
import { swish } from '../graph/ops/activation.js';
import { windowOf } from '../graph/ops/convolution.js';
import { scoped, type Weights } from '../weights/weights.js';
import type { Layer } from './units.js';

/** One stage of blocks: (repeats, kernel, stride of the first, expansion, output channels), before scaling. */
type Stage = readonly [repeats: number, kernel: number, stride: number, expand: number, out: number];

/** EfficientNet-B0's stages (Tan & Le 2019, table 1); every other size scales them. */
const stages: readonly Stage[] = [
  [1, 3, 1, 1, 16],
  [2, 3, 2, 6, 24],
  [2, 5, 2, 6, 40],
  [3, 3, 2, 6, 80],
  [3, 5, 1, 6, 112],
  [4, 5, 2, 6, 192],
  [1, 3, 1, 6, 320],
];

export interface EfficientNetConfig {
  width: number;
  depth: number;
  /** Lite: stem and head unscaled, first and last stage not repeated, ReLU6, no squeeze-excite. */
  lite: boolean;
}

export const efficientNets = {
  'efficientnet-lite0': { width: 1, depth: 1, lite: true },
  'efficientnet-lite2': { width: 1.1, depth: 1.2, lite: true },
  'efficientnet-b0': { width: 1, depth: 1, lite: false },
  'efficientnet-b5': { width: 1.6, depth: 2.2, lite: false },
  'efficientnet-b7': { width: 2, depth: 3.1, lite: false },
} as const satisfies Record<string, EfficientNetConfig>;

export type EfficientNetName = keyof typeof efficientNets;

export interface Block {
  name: string;
  kernel: number;
  stride: number;
  expand: number;
  in: number;
  out: number;
}

/** Scaled channel counts are whole multiples of 8 that lose at most 10% (Tan & Le's `round_filters`). */
function scaleChannels(channels: number, width: number): number {
  const scaled = channels * width;
  const rounded = Math.max(8, Math.floor((scaled + 4) / 8) * 8);
  return rounded < 0.9 * scaled ? rounded + 8 : rounded;
}

/** A network laid out: stem and head channels and the list of blocks, named as timm names them (`blocks.stage.index`). */
export interface EfficientNetLayout {
  stem: number;
  head: number;
  blocks: Block[];
  lite: boolean;
}

export function layoutOf({ width, depth, lite }: EfficientNetConfig): EfficientNetLayout {
  const stem = lite ? 32 : scaleChannels(32, width);
  const head = lite ? 1280 : scaleChannels(1280, width);
  const blocks: Block[] = [];
  let channels = stem;
  stages.forEach(([repeats, kernel, stride, expand, out], stage) => {
    const fixed = lite && (stage === 0 || stage === stages.length - 1);
    const count = fixed ? repeats : Math.ceil(repeats * depth);
    for (let i = 0; i < count; i++) {
      const to = scaleChannels(out, width);
      blocks.push({ name: `blocks.${stage}.${i}`, kernel, stride: i ? 1 : stride, expand, in: channels, out: to });
      channels = to;
    }
  });
  return { stem, head, blocks, lite };
}

/** TensorFlow's SAME padding of a square kernel over a map: the odd pixel goes to the end. */
const samePadding = (x: Value, kernel: number, stride: number) =>
  windowOf({ auto_pad: 'SAME_UPPER', strides: [stride, stride] }, x.shape.slice(2), [kernel, kernel]);

const batchNormEpsilon = 1e-3;

/**
 * The network up to its last map, which the project calls LLP ("last layer before pooling").
 *
 * @param x [N, 3, H, W], already normalised.
 * @param weights timm's names; a convolution with a `.bias` has its BatchNorm folded in, one without is folded here.
 * @returns the map of every layer by its name, in the order of the network, each [N, channels, h, w]; the last is the LLP,
 * [N, head channels, ceil(H/32), ceil(W/32)]
 */
export function efficientNet(g: Graph, x: Value, weights: Weights, layout: EfficientNetLayout): Map<string, Value> {
  const { blocks, lite } = layout;
  let last = activate(g, convolution(g, x, folded(weights, 'conv_stem', 'bn1'), { stride: 2 }), lite);
  const maps = new Map([['stem', last]]);
  for (const block of blocks) {
    last = g.within(block.name, () => mobileBlock(g, last, scoped(weights, `${block.name}.`), block, lite));
    maps.set(layerOf(block), last);
  }
  return maps.set(llpLayer, activate(g, convolution(g, last, folded(weights, 'conv_head', 'bn2')), lite));
}

/** "Last layer before pooling", the paper's name of the layer whose channels it calls neurons. */
export const llpLayer = 'LLP';

/** `blocks.6.1` is block7.2: stages and their blocks count from 1, as in the paper's table. */
const layerOf = ({ name }: Block): string =>
  `block${name
    .split('.')
    .slice(1)
    .map((n) => Number(n) + 1)
    .join('.')}`;

/** The layers that `efficientNet` has, in its order, with their numbers of channels. */
export const layersOf = ({ stem, head, blocks }: EfficientNetLayout): Layer[] => [
  { name: 'stem', channels: stem },
  ...blocks.map((block) => ({ name: layerOf(block), channels: block.out })),
  { name: llpLayer, channels: head },
];

const activate = (g: Graph, v: Value, lite: boolean): Value => (lite ? g.op('Clip', [v, g.scalar(0), g.scalar(6)]) : swish(g, v));

/** Expand (1x1), depthwise, squeeze-excite, project (1x1); the first stage does not expand and names its projection differently. */
function mobileBlock(g: Graph, x: Value, weights: Weights, block: Block, lite: boolean): Value {
  const separable = block.expand === 1;
  const expand = separable ? null : folded(weights, 'conv_pw', 'bn1');
  const depthwise = folded(weights, 'conv_dw', separable ? 'bn1' : 'bn2');
  const project = separable ? folded(weights, 'conv_pw', 'bn2') : folded(weights, 'conv_pwl', 'bn3');
  const halves = block.stride === 2 && x.shape[2] % 2 === 0 && x.shape[3] % 2 === 0;
  const widen = (v: Value) => (expand ? activate(g, convolution(g, v, expand), lite) : v);
  const filtered =
    halves && expand ? (b: Bias) => phases(g, x, widen, depthwise, b) : (b: Bias) => depthwiseOf(g, widen(x), depthwise, b, block);
  const out = lite
    ? projectCentred(g, filtered, project)
    : convolution(g, gate(g, activate(g, filtered(unshifted), lite), scoped(weights, 'se.')), project);
  return block.stride === 1 && block.in === block.out ? g.add(out, x) : out;
}

type Bias = (bias: number) => number;

const unshifted: Bias = (bias) => bias;

/**
 * ReLU6 and projection, with the ReLU6 about its centre: Clip(v - 3, -3, 3). Its gradient needs one mask instead of two, and the
 * projection takes the 3 back.
 */
function projectCentred(g: Graph, filtered: (shift: Bias) => Value, { kernel, bias }: Filter): Value {
  const centred = g.op('Clip', [filtered((b) => b - 3), g.scalar(-3), g.scalar(3)]);
  return convolution(g, centred, { kernel, bias: bias.map((b, o) => b + 3 * sumOfFilter(kernel, o)) });
}

const depthwiseOf = (g: Graph, x: Value, { kernel, bias }: Filter, shift: Bias, { stride }: Block): Value =>
  convolution(g, x, { kernel, bias: bias.map(shift) }, { stride, group: x.shape[1] });

/**
 * A widening 1x1 convolution and a depthwise one of stride 2, computed on the four phases of the picture (even and odd rows and columns)
 * apart. The 1x1 convolution does not mind; the strided filter becomes the sum of four unstrided ones, one per phase. The same
 * arithmetic forwards, and backwards no map of the widened size has to be interleaved: only the narrow input is.
 */
function phases(g: Graph, x: Value, widen: (v: Value) => Value, { kernel, bias }: Filter, shift: Bias): Value {
  const [wide, , k] = kernel.shape;
  const planes = g.apply('Split', [g.op('SpaceToDepth', [x], { blocksize: 2 })], { axis: 1, num_outputs: 4 }, 4);
  const [top, left] = samePadding(x, k, 2).before;
  let sum: Value | null = null;
  planes.forEach((plane, phase) => {
    const [rows, columns] = [tapsOf(Math.floor(phase / 2), k, top), tapsOf(phase % 2, k, left)];
    const data = new Float32Array(wide * rows.taps.length * columns.taps.length);
    let at = 0;
    for (let c = 0; c < wide; c++)
      for (const i of rows.taps) for (const j of columns.taps) data[at++] = kernel.data[(c * k + i) * k + j] as number;
    const kernelShape = [rows.taps.length, columns.taps.length];
    const part = g.op(
      'Conv',
      [widen(plane), g.floats(data, [wide, 1, ...kernelShape], 'phase'), sum ? null : g.floats(bias.map(shift))],
      { group: wide, kernel_shape: kernelShape, pads: [rows.before, columns.before, rows.after, columns.after] },
    );
    sum = sum ? g.add(part, sum) : part;
  });
  // A convolution of one tap, so that the activation after the sum can be fused with something.
  const ones = g.floats(new Float32Array(wide).fill(1), [wide, 1, 1, 1]);
  return g.op('Conv', [sum, ones], { group: wide, kernel_shape: [1, 1] });
}

/** The taps of a kernel of stride 2 that fall on a phase, and the padding that they need there. Tap i reads pixel 2 o + i - pad. */
function tapsOf(phase: number, k: number, pad: number): { taps: number[]; before: number; after: number } {
  const taps = Array.from({ length: k }, (_, i) => i).filter((i) => (i + pad) % 2 === phase);
  const offset = (i: number) => Math.floor((i - pad) / 2);
  return { taps, before: -offset(taps[0]), after: offset(taps[taps.length - 1]) };
}

/** Squeeze-excite: global mean -> conv -> SiLU -> conv -> sigmoid, times the map. */
function gate(g: Graph, x: Value, weights: Weights): Value {
  const constant = (name: string) => weights.constant(g, name);
  const mean = g.op('GlobalAveragePool', [x]);
  const squeezed = g.op('Conv', [mean, constant('conv_reduce.weight'), constant('conv_reduce.bias')]);
  const excited = g.op('Conv', [swish(g, squeezed), constant('conv_expand.weight'), constant('conv_expand.bias')]);
  return g.mul(x, g.op('Sigmoid', [excited]));
}

/** A convolution's numbers with its BatchNorm folded in: kernel [O, I/group, k, k] and bias [O]. */
interface Filter {
  kernel: Tensor;
  bias: Float32Array;
}

function folded(weights: Weights, name: string, norm: string): Filter {
  const kernel = weights.tensor(`${name}.weight`);
  const floats = (key: string) => weights.tensor(key).data as Float32Array;
  if (weights.has(`${name}.bias`)) return { kernel, bias: floats(`${name}.bias`) };
  const [scale, shift, mean, variance] = ['weight', 'bias', 'running_mean', 'running_var'].map((part) => floats(`${norm}.${part}`));
  const factor = scale.map((s, i) => s / Math.sqrt(variance[i] + batchNormEpsilon));
  const perChannel = kernel.data.length / factor.length;
  const data = (kernel.data as Float32Array).map((w, i) => w * factor[Math.floor(i / perChannel)]);
  return { kernel: { ...kernel, data }, bias: shift.map((b, i) => b - mean[i] * factor[i]) };
}

function sumOfFilter(kernel: Tensor, out: number): number {
  const size = kernel.data.length / kernel.shape[0];
  let sum = 0;
  for (let i = 0; i < size; i++) sum += kernel.data[out * size + i] as number;
  return sum;
}

/** SAME padding; stride and group as given. */
function convolution(g: Graph, x: Value, { kernel, bias }: Filter, { stride = 1, group = 1 } = {}): Value {
  const k = kernel.shape[2];
  const { before, after } = samePadding(x, k, stride);
  const attributes = { strides: [stride, stride], pads: [...before, ...after], group, kernel_shape: [k, k] };
  return g.op('Conv', [x, g.constant(kernel, 'kernel'), g.floats(bias, [bias.length], 'bias')], attributes);
}
