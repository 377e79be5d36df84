import fc from 'fast-check';
import { afterAll, describe, expect, it } from 'vitest';
import { operators } from '../../models/graph/ops/index.js';
import type { Attributes } from '../../models/graph/operator.js';
import { int64, sizeOf } from '../../models/graph/tensor.js';
import { bools, checkOperator, exactly, floats, ints, titleOf, worst, type Case, type Input } from './agreement.js';
import { run } from './session.js';
import { differentiate, Graph, simplify } from '../../models/graph/index.js';
import { twins } from './twins.js';

const of = (op: string, inputs: Case['inputs'], attributes: Attributes = {}, outputs = 1): Case => ({
  op,
  inputs,
  attributes,
  outputs,
});

const unary: Case[] = [
  ...[
    'Relu',
    'LeakyRelu',
    'HardSigmoid',
    'HardSwish',
    'Elu',
    'Selu',
    'Softplus',
    'Identity',
    'Neg',
    'Abs',
    'Sign',
    'Floor',
    'Ceil',
    'Round',
  ],
  ...['Exp', 'Sin', 'Cos', 'Tanh', 'Sigmoid', 'Erf'],
].flatMap((op) => [of(op, [floats([2, 3, 4], 'distinct')]), of(op, [floats([], 'distinct')])]);

const activations: Case[] = [
  ...unary,
  ...['Sqrt', 'Reciprocal', 'Log'].map((op) => of(op, [floats([3, 5], 'positive')])),
  of('Round', [exactly([-2.5, -1.5, -0.5, 0.5, 1.5, 2.5, 3.5, 2.4999, -0.7])]),
  of('Erf', [exactly([-5, -3.2, -1, -1e-3, 0, 1e-3, 0.5, 2.9, 3.1, 6])]),
  of('Softplus', [exactly([-100, -20, 0, 20, 100])]),
  of('Reciprocal', [exactly([-2, 0.25, 8])]),
  of('LeakyRelu', [floats([7])], { alpha: 0.3 }),
  of('LeakyRelu', [floats([7])], { alpha: -0.5 }),
  of('Elu', [floats([9])], { alpha: 0.7 }),
  of('HardSigmoid', [floats([40])], { alpha: 0.9, beta: 0.2 }),
  of('Clip', [floats([60], 'distinct'), null, null]),
  of('Clip', [floats([60], 'distinct'), exactly([0], []), exactly([6], [])]),
  of('Clip', [floats([200], 'distinct'), exactly([0], []), exactly([2], [])]),
  of('Clip', [floats([60], 'distinct'), exactly([-0.5], []), exactly([0.7], [])]),
  of('Clip', [floats([60], 'distinct'), exactly([0.3], [])]),
  of('Clip', [floats([60], 'distinct'), null, exactly([0], [])]),
  of('Clip', [floats([60], 'distinct'), null, exactly([-0.21], [])]),
  of('Clip', [floats([60], 'distinct'), exactly([-1e-3], []), exactly([1e-3], [])]),
  of('Not', [bools([2, 3])]),
  of('Cast', [floats([8])], { to: 1 }),
  of('Cast', [exactly([-2.7, -0.2, 0, 0.2, 2.7])], { to: 7 }),
  of('Cast', [exactly([-2.7, -0.2, 0, 0.2, 2.7])], { to: 9 }),
  of('Cast', [bools([5])], { to: 1 }),
  of('Cast', [ints([3, -4])], { to: 1 }),
  of('Softmax', [floats([2, 3, 4])]),
  of('Softmax', [floats([2, 3, 4])], { axis: 1 }),
  of('Softmax', [floats([5])], { axis: -1 }),
  of('LogSoftmax', [floats([2, 3, 4])], { axis: 0 }),
  of('LogSoftmax', [floats([3, 4])], { axis: -1 }),
];

const pairs: [number[], number[]][] = [
  [
    [2, 3],
    [2, 3],
  ],
  [[2, 3, 4], [4]],
  [[4], [2, 3, 4]],
  [
    [2, 1, 4],
    [3, 1],
  ],
  [[], [2, 2]],
  [[1], []],
  [
    [2, 1, 1],
    [1, 1, 3],
  ],
];

const binary: Case[] = [
  ...pairs.flatMap(([a, b]) => [
    ...['Add', 'Sub', 'Mul'].map((op) => of(op, [floats(a), floats(b)])),
    ...['Div', 'Pow'].map((op) => of(op, [floats(a, 'positive'), floats(b, 'positive')])),
    ...['Min', 'Max', 'Greater', 'Less', 'GreaterOrEqual', 'LessOrEqual'].map((op) => of(op, [floats(a), floats(b)])),
    of('Where', [bools(a), floats(b), floats(a)]),
  ]),
  of('Pow', [floats([6]), exactly([2], [])]),
  of('Pow', [floats([6]), exactly([3], [])]),
  of('Pow', [floats([6], 'positive'), exactly([-0.5], [])]),
  of('Pow', [exactly([0, 0, 2]), floats([3], 'positive')]),
  of('Div', [floats([2, 3]), floats([2, 3], 'positive')]),
  of('Div', [ints([7, -7, 9]), ints([2, 2, -4])]),
  of('Mod', [ints([7, -7, 7, -7]), ints([3, 3, -3, -3])]),
  of('Mod', [ints([7, -7, 7, -7]), ints([3, 3, -3, -3])], { fmod: 1 }),
  of('Mod', [exactly([5.5, -5.5]), exactly([2, 2])], { fmod: 1 }),
  of('Min', [floats([2, 3]), floats([3]), floats([2, 1])]),
  of('Max', [floats([4]), floats([]), floats([3, 1])]),
  of('Max', [floats([4])]),
  of('Equal', [ints([1, 2, 3]), ints([1, 3, 3])]),
  of('Equal', [exactly([1, 2, 3]), exactly([1, 2.5, 3])]),
  of('And', [bools([2, 3]), bools([3])]),
  of('Or', [bools([2, 3]), bools([2, 1])]),
  of('Where', [bools([3, 1]), floats([2, 1, 4]), floats([4])]),
  of('Where', [bools([2]), exactly([1, 2]), floats([2])]),
];

const reductionOps = [
  'ReduceSum',
  'ReduceMean',
  'ReduceSumSquare',
  'ReduceL1',
  'ReduceL2',
  'ReduceLogSumExp',
  'ReduceProd',
  'ReduceMax',
  'ReduceMin',
];
const reductions: Case[] = reductionOps.flatMap((op) => [
  of(op, [floats([2, 3, 4], 'distinct'), ints([1])]),
  of(op, [floats([2, 3, 4], 'distinct'), ints([-1, 0])], { keepdims: 0 }),
  of(op, [floats([2, 3], 'distinct')]),
  of(op, [floats([2, 3], 'distinct')], { keepdims: 0 }),
  of(op, [floats([2, 3], 'distinct'), ints([0])], { noop_with_empty_axes: 1 }),
]);

const arrangement: Case[] = [
  of('Reshape', [floats([2, 3, 4]), ints([4, -1])]),
  of('Reshape', [floats([2, 3, 4]), ints([0, 0, 2, 2])]),
  of('Reshape', [floats([1]), ints([], [0])]),
  of('Flatten', [floats([2, 3, 4])]),
  of('Flatten', [floats([2, 3, 4])], { axis: 0 }),
  of('Flatten', [floats([2, 3, 4])], { axis: -1 }),
  of('Squeeze', [floats([1, 3, 1, 2])]),
  of('Squeeze', [floats([1, 3, 1, 2]), ints([-2])]),
  of('Unsqueeze', [floats([2, 3]), ints([0, -1])]),
  of('Unsqueeze', [floats([2, 3]), ints([3, 1])]),
  of('Transpose', [floats([2, 3, 4])]),
  of('Transpose', [floats([2, 3, 4])], { perm: [1, 2, 0] }),
  of('Transpose', [floats([2, 3, 4, 2])], { perm: [3, 0, 2, 1] }),
  of('Slice', [floats([5, 6]), ints([1]), ints([4])]),
  of('Slice', [floats([5, 6]), ints([1, -4]), ints([4, 1000]), ints([0, -1])]),
  of('Slice', [floats([5, 7]), ints([0, 1]), ints([5, 7]), ints([0, 1]), ints([2, 3])]),
  of('Slice', [floats([5, 7]), ints([-1]), ints([-1000]), ints([1]), ints([-1])]),
  of('Slice', [floats([5, 7]), ints([5, 4]), ints([0, -5]), ints([1, 0]), ints([-2, -3])]),
  of('Slice', [floats([4, 7]), ints([2]), ints([3]), ints([1]), ints([5])]),
  of('Slice', [floats([4, 7]), ints([2]), ints([1]), ints([1]), ints([-2])]),
  of('Concat', [floats([2, 3]), floats([2, 1]), floats([2, 4])], { axis: 1 }),
  of('Concat', [floats([2, 3]), exactly([1, 2, 3], [1, 3])], { axis: -2 }),
  of('Concat', [floats([2, 3])], { axis: 0 }),
  of('Split', [floats([6, 2])], { axis: 0, num_outputs: 3 }, 3),
  of('Split', [floats([2, 7])], { axis: -1, num_outputs: 3 }, 3),
  of('Split', [floats([2, 6]), ints([1, 5])], { axis: 1 }, 2),
  { ...of('Split', [floats([2, 6]), ints([1, 2, 3])], { axis: 1 }, 3), differentiated: 2 },
  of('Pad', [floats([2, 3]), ints([1, 0, 2, 3])]),
  of('Pad', [floats([2, 3]), ints([1, 2, 0, 1]), exactly([2.5], [])]),
  of('Pad', [floats([4, 5]), ints([-1, 1, -1, -2])]),
  of('Pad', [floats([2, 3, 4]), ints([1, 2]), null, ints([-1])]),
  of('Pad', [floats([4, 5]), ints([2, 1, 3, 4])], { mode: 'reflect' }),
  of('Pad', [floats([1, 2, 5]), ints([0, 1, 4, 0, 1, 4])], { mode: 'reflect' }),
  of('Pad', [floats([4, 5]), ints([2, 1, 6, 4])], { mode: 'edge' }),
  of('Pad', [floats([2, 4, 5]), ints([0, 2, 0, 0, 0, 3])], { mode: 'edge' }),
  of('Expand', [floats([3, 1]), ints([2, 1, 4])]),
  of('Expand', [floats([2, 3]), ints([1])]),
  of('Expand', [floats([]), ints([2, 3])]),
  of('Tile', [floats([2, 3]), ints([2, 1])]),
  of('Tile', [floats([1, 2, 2]), ints([3, 2, 2])]),
  of('DepthToSpace', [floats([2, 8, 2, 3])], { blocksize: 2 }),
  of('DepthToSpace', [floats([1, 8, 3, 2])], { blocksize: 2, mode: 'CRD' }),
  of('DepthToSpace', [floats([1, 9, 2, 2])], { blocksize: 3, mode: 'DCR' }),
  of('SpaceToDepth', [floats([2, 3, 4, 6])], { blocksize: 2 }),
  of('Shape', [floats([2, 3, 4])]),
  of('Shape', [floats([2, 3, 4])], { start: 1 }),
  of('Shape', [floats([2, 3, 4])], { start: -2, end: -1 }),
  of('ConstantOfShape', [ints([2, 3])]),
  of('ConstantOfShape', [ints([2])], { value: int64([7]) }),
  of('Range', [ints([1], []), ints([10], []), ints([3], [])]),
  of('Range', [ints([5], []), ints([-1], []), ints([-2], [])]),
];

const indexing: Case[] = [
  of('Gather', [floats([4, 3]), ints([0, 2, 2, -1])]),
  of('Gather', [floats([2, 4, 3]), ints([1, -1, 0, 1, 3, 1], [2, 3])], { axis: 1 }),
  of('Gather', [floats([2, 3, 4]), ints([2, -4], [2, 1])], { axis: -1 }),
  of('Gather', [floats([5, 2]), ints([3], [])]),
  of('Gather', [floats([5, 2]), exactly([3, -2], [2], 'int32')], { axis: 0 }),
  of('GatherND', [floats([3, 4, 2]), ints([0, 1, 2, 3, 0, 1], [3, 2])]),
  of('GatherND', [floats([3, 4]), ints([2, 2, 0], [3, 1])]),
  of('GatherND', [floats([3, 4]), ints([-1, 2, 0, -3], [2, 1, 2])]),
  of('ScatterND', [floats([4, 2]), ints([1, 1, 3], [3, 1]), floats([3, 2])], { reduction: 'add' }),
  of('ArgMax', [floats([3, 4], 'distinct')], { axis: 1 }),
  of('ArgMax', [exactly([1, 3, 3, 2, 2, 2], [2, 3])], { axis: -1, keepdims: 0 }),
  of('ArgMin', [exactly([1, 3, 1, 2, 2, 2], [2, 3])], { axis: -1, select_last_index: 1 }),
];

const products: Case[] = [
  of('MatMul', [floats([3, 4]), floats([4, 2])]),
  of('MatMul', [floats([4]), floats([4])]),
  of('MatMul', [floats([4]), floats([4, 2])]),
  of('MatMul', [floats([3, 4]), floats([4])]),
  of('MatMul', [floats([2, 3, 4]), floats([4])]),
  of('MatMul', [floats([4]), floats([2, 4, 3])]),
  of('MatMul', [floats([2, 3, 4]), floats([4, 5])]),
  of('MatMul', [floats([3, 4]), floats([2, 4, 5])]),
  of('MatMul', [floats([2, 1, 3, 4]), floats([5, 4, 2])]),
  of('MatMul', [floats([1, 3, 4]), floats([2, 4, 2])]),
  ...[0, 1].flatMap((transA) =>
    [0, 1].map((transB) =>
      of('Gemm', [floats(transA ? [4, 3] : [3, 4]), floats(transB ? [2, 4] : [4, 2]), floats([2])], {
        transA,
        transB,
        alpha: 0.5,
        beta: -2,
      }),
    ),
  ),
  of('Gemm', [floats([3, 4]), floats([4, 2])]),
  of('Gemm', [floats([3, 4]), floats([4, 2]), floats([3, 1])], { beta: 0.5 }),
  of('Gemm', [floats([3, 4]), floats([4, 2]), floats([])]),
  of('Gemm', [floats([3, 4]), floats([4, 2]), floats([3, 2])], { alpha: 2 }),
  ...[
    ['ij,jk->ik', [2, 3], [3, 4]],
    ['bij,bjk->bik', [2, 3, 4], [2, 4, 2]],
    ['bhid,bhjd->bhij', [1, 2, 3, 4], [1, 2, 2, 4]],
    ['ij,kj->ik', [2, 3], [4, 3]],
    ['ij,jk', [2, 3], [3, 4]],
    ['i,j->ij', [2], [3]],
    ['ij,ij->', [2, 3], [2, 3]],
    ['ij,jk->k', [2, 3], [3, 4]],
    ['ij,kl->il', [2, 3], [2, 4]],
    ['nchw,ohc->nwo', [2, 2, 3, 2], [2, 3, 2]],
  ].map(([equation, a, b]) => of('Einsum', [floats(a as number[]), floats(b as number[])], { equation: equation as string })),
  of('Einsum', [floats([2, 3])], { equation: 'ij->ji' }),
  of('Einsum', [floats([2, 3, 4])], { equation: 'ijk->j' }),
  of('Einsum', [floats([2, 3])], { equation: 'ij->' }),
  of('Einsum', [floats([2, 3]), floats([3, 2]), floats([2])], { equation: 'ij,jk,k->i' }),
];

const normalizations: Case[] = [
  of('LayerNormalization', [floats([2, 3, 8]), floats([8]), floats([8])]),
  of('LayerNormalization', [floats([2, 3, 8]), floats([8])], { epsilon: 1e-3 }),
  { ...of('LayerNormalization', [floats([2, 3, 4]), floats([3, 4]), floats([3, 4])], { axis: -2 }, 3), differentiated: 1 },
  { ...of('LayerNormalization', [floats([3, 6]), floats([6]), floats([6])], { axis: 1, epsilon: 0.1 }, 3), differentiated: 1 },
  of('LayerNormalization', [floats([2, 2, 6]), floats([1]), floats([6])]),
  of('InstanceNormalization', [floats([2, 3, 4, 5]), floats([3]), floats([3])]),
  of('InstanceNormalization', [floats([2, 2, 7]), floats([2]), floats([2])], { epsilon: 0.01 }),
  of('BatchNormalization', [
    floats([2, 3, 2, 2]),
    floats([3]),
    floats([3]),
    floats([3], 'any', true),
    floats([3], 'positive', true),
  ]),
  of('BatchNormalization', [floats([4, 3]), floats([3]), floats([3]), floats([3], 'any', true), floats([3], 'positive', true)], {
    epsilon: 0.1,
  }),
];

/** Input, weights, bias and attributes of a convolution: groups from the weights' shape. */
const conv = (x: number[], w: number[], attributes: Attributes = {}, bias = true): Case =>
  of('Conv', [floats(x), floats(w), ...(bias ? [floats([w[0]])] : [])], { ...attributes, group: x[1] / w[1] });

const convolutions: Case[] = [
  conv([2, 3, 5, 6], [4, 3, 3, 3]),
  conv([1, 3, 5, 5], [2, 3, 1, 1], {}, false),
  conv([1, 2, 5, 6], [3, 2, 3, 3], { pads: [1, 1, 1, 1] }),
  conv([1, 2, 5, 6], [3, 2, 3, 2], { pads: [0, 1, 2, 0] }),
  conv([1, 2, 4, 4], [2, 2, 2, 2], { pads: [3, 2, 4, 3] }),
  conv([1, 2, 4, 4], [2, 2, 1, 1], { pads: [2, 0, 1, 2] }),
  conv([1, 2, 7, 8], [2, 2, 3, 3], { dilations: [2, 2] }),
  conv([1, 2, 7, 8], [2, 2, 3, 2], { dilations: [2, 3], pads: [2, 3, 1, 0] }),
  conv([1, 4, 5, 5], [6, 2, 3, 3], { pads: [1, 1, 1, 1] }),
  conv([2, 4, 5, 5], [4, 1, 3, 3], { pads: [1, 1, 1, 1] }),
  conv([1, 3, 5, 5], [6, 1, 3, 3], { pads: [1, 1, 1, 1] }),
  conv([1, 2, 8, 7], [3, 2, 3, 3], { strides: [2, 2] }),
  conv([1, 2, 8, 7], [3, 2, 3, 3], { strides: [2, 2], pads: [0, 0, 1, 1] }),
  conv([1, 2, 8, 7], [3, 2, 3, 3], { strides: [2, 2], auto_pad: 'SAME_UPPER' }),
  conv([1, 2, 7, 8], [3, 2, 4, 3], { strides: [2, 3], auto_pad: 'SAME_LOWER' }),
  conv([1, 2, 9, 9], [2, 2, 3, 3], { strides: [3, 2], dilations: [2, 1], pads: [2, 1, 2, 1] }),
  conv([1, 2, 7, 7], [2, 2, 1, 1], { strides: [2, 2] }),
  conv([1, 2, 7, 7], [2, 2, 2, 2], { strides: [3, 3], pads: [0, 0, 1, 1] }),
  conv([1, 2, 4, 4], [2, 2, 2, 2], { strides: [2, 2], pads: [3, 3, 3, 3] }),
  conv([1, 4, 8, 8], [4, 2, 3, 3], { strides: [2, 2], pads: [1, 1, 1, 1] }),
  conv([1, 3, 8, 7], [3, 1, 3, 3], { strides: [2, 2], auto_pad: 'SAME_UPPER' }),
  conv([1, 3, 8, 7], [3, 1, 5, 5], { strides: [2, 2], auto_pad: 'SAME_UPPER' }),
  conv([2, 2, 9, 8], [2, 1, 3, 3], { strides: [2, 2], pads: [1, 1, 1, 1] }),
  conv([1, 2, 9, 8], [2, 1, 3, 5], { strides: [2, 2], pads: [0, 2, 1, 1] }),
  conv([1, 2, 9, 8], [2, 1, 3, 3], { strides: [2, 1], pads: [1, 1, 1, 1] }),
  conv([1, 2, 9, 8], [4, 1, 3, 3], { strides: [2, 2], pads: [1, 1, 1, 1] }),
  conv([1, 2, 9, 9], [2, 1, 3, 3], { strides: [3, 3], pads: [1, 1, 0, 0] }),
  conv([1, 2, 8, 8], [2, 1, 2, 2], { strides: [3, 3] }),
  conv([1, 2, 5, 5], [2, 1, 3, 3], { strides: [2, 2], pads: [4, 4, 4, 4] }),
  conv([1, 2, 9, 9], [2, 1, 3, 3], { strides: [2, 2], dilations: [2, 2], pads: [2, 2, 2, 2] }),
  conv([2, 2, 9], [3, 2, 3], { pads: [1, 1] }),
  conv([1, 2, 9], [3, 2, 4], { strides: [2], pads: [0, 2] }),
  conv([1, 3, 9], [3, 1, 3], { strides: [2], pads: [1, 1] }),
  conv([1, 1, 3, 4, 3], [2, 1, 2, 2, 2], { strides: [1, 2, 1], pads: [0, 1, 0, 1, 0, 0] }),
];

const convTranspose = (x: number[], w: number[], attributes: Attributes = {}, group = 1): Case =>
  of('ConvTranspose', [floats(x), floats(w), floats([w[1] * group])], { ...attributes, group });

const transposed: Case[] = [
  convTranspose([2, 3, 4, 5], [3, 2, 3, 3]),
  convTranspose([1, 2, 4, 5], [2, 3, 3, 3], { strides: [2, 2], pads: [1, 1, 1, 1], output_padding: [1, 1] }),
  convTranspose([1, 2, 4, 5], [2, 3, 4, 4], { strides: [2, 2], pads: [1, 1, 1, 1] }),
  convTranspose([1, 2, 4, 5], [2, 3, 3, 2], { strides: [2, 3], pads: [0, 1, 2, 0] }),
  convTranspose([1, 2, 4, 4], [2, 2, 3, 3], { dilations: [2, 1], pads: [1, 0, 1, 0] }),
  convTranspose([1, 4, 3, 3], [4, 2, 3, 3], { strides: [2, 2], pads: [1, 1, 1, 1] }, 2),
  convTranspose([1, 3, 3, 3], [3, 1, 2, 2], { strides: [2, 2] }, 3),
  convTranspose([2, 2, 5], [2, 3, 4], { strides: [2], pads: [1, 1] }),
];

const pools: Case[] = [
  ...(['AveragePool', 'MaxPool'] as const).flatMap((op) =>
    (
      [
        [[2, 2, 4, 6], { kernel_shape: [2, 2], strides: [2, 2] }],
        [[1, 2, 5, 6], { kernel_shape: [3, 3], strides: [1, 1], pads: [1, 1, 1, 1] }],
        [[1, 2, 7, 6], { kernel_shape: [3, 3], strides: [2, 2] }],
        [[1, 2, 7, 6], { kernel_shape: [3, 2], strides: [2, 1], pads: [0, 1, 1, 0] }],
        [[1, 2, 6, 7], { kernel_shape: [3, 3], strides: [2, 2], ceil_mode: 1 }],
        [[1, 2, 6, 7], { kernel_shape: [3, 3], strides: [2, 2], pads: [1, 1, 1, 1], ceil_mode: 1 }],
        [[1, 1, 5, 5], { kernel_shape: [2, 2], strides: [3, 3], pads: [1, 1, 1, 1], ceil_mode: 1 }],
        [[1, 2, 7, 6], { kernel_shape: [3, 3], strides: [2, 2], auto_pad: 'SAME_UPPER' }],
        [[1, 2, 5, 5], { kernel_shape: [5, 5] }],
        [[2, 2, 9], { kernel_shape: [3], strides: [2], pads: [1, 0] }],
        [[1, 1, 4, 4, 4], { kernel_shape: [2, 2, 2], strides: [2, 2, 2] }],
      ] as [number[], Attributes][]
    ).map(([shape, attributes]) => of(op, [floats(shape, 'distinct')], attributes)),
  ),
  of('AveragePool', [floats([1, 2, 5, 6])], { kernel_shape: [3, 3], pads: [1, 1, 1, 1], count_include_pad: 1 }),
  of('AveragePool', [floats([1, 2, 6, 7])], {
    kernel_shape: [3, 3],
    strides: [2, 2],
    pads: [1, 1, 1, 1],
    ceil_mode: 1,
    count_include_pad: 1,
  }),
  of('MaxPool', [floats([1, 2, 8, 8], 'distinct')], { kernel_shape: [3, 3], dilations: [2, 2], strides: [1, 2] }),
  of('GlobalAveragePool', [floats([2, 3, 4, 5])]),
  of('GlobalAveragePool', [floats([2, 3, 5])]),
  of('GlobalMaxPool', [floats([2, 3, 4, 5], 'distinct')]),
];

const coordinateModes = ['half_pixel', 'align_corners', 'asymmetric', 'pytorch_half_pixel'];
const sizesOf = [
  [8, 10],
  [3, 2],
  [7, 4],
  [1, 5],
];
const resize = (x: number[], sizes: number[], attributes: Attributes): Case =>
  of('Resize', [floats(x), null, null, ints([...x.slice(0, 2), ...sizes])], attributes);

const resizes: Case[] = [
  ...coordinateModes.flatMap((coordinate_transformation_mode) =>
    ['nearest', 'linear', 'cubic'].flatMap((mode) =>
      sizesOf.map((sizes) => resize([1, 2, 4, 5], sizes, { mode, coordinate_transformation_mode })),
    ),
  ),
  ...['linear', 'cubic'].flatMap((mode) =>
    [
      [3, 5],
      [4, 7],
      [11, 3],
    ].map((sizes) => resize([1, 2, 9, 10], sizes, { mode, antialias: 1 })),
  ),
  ...['floor', 'ceil', 'round_prefer_ceil', 'round_prefer_floor'].flatMap((nearest_mode) => [
    resize([1, 1, 4, 6], [6, 3], { mode: 'nearest', nearest_mode, coordinate_transformation_mode: 'asymmetric' }),
    resize([1, 1, 4, 6], [7, 9], { mode: 'nearest', nearest_mode }),
  ]),
  of('Resize', [floats([1, 2, 3, 4]), null, exactly([1, 1, 2, 2])], {
    mode: 'nearest',
    coordinate_transformation_mode: 'asymmetric',
    nearest_mode: 'floor',
  }),
  of('Resize', [floats([1, 2, 3, 4]), null, exactly([1, 1, 3, 2])], { mode: 'nearest' }),
  of('Resize', [floats([1, 2, 3, 4]), null, exactly([1, 1, 1.7, 2.6])], { mode: 'linear' }),
  of('Resize', [floats([1, 2, 5, 4]), null, exactly([1, 1, 0.7, 0.6])], { mode: 'cubic' }),
  of('Resize', [floats([1, 2, 5, 4]), null, exactly([1, 1, 0.7, 0.6])], {
    mode: 'linear',
    coordinate_transformation_mode: 'half_pixel_symmetric',
  }),
  of('Resize', [floats([1, 2, 3, 4]), null, null, ints([6, 7])], { mode: 'linear', axes: [2, 3] }),
  resize([1, 2, 4, 5], [7, 3], { mode: 'cubic', cubic_coeff_a: -0.5, exclude_outside: 1 }),
];

const gridSamples: Case[] = ['zeros', 'border'].flatMap((padding_mode) =>
  [
    [4, 6],
    [3, 2],
  ].map((sides) =>
    of('GridSample', [floats([2, 3, 5, 4]), floats([2, ...sides, 2])], { mode: 'bilinear', padding_mode, align_corners: 0 }),
  ),
);

const groups = {
  activations,
  binary,
  reductions,
  arrangement,
  indexing,
  products,
  normalizations,
  convolutions,
  'transposed convolutions': transposed,
  pools,
  resizes,
  'samples at grids': gridSamples,
};

describe.each(Object.entries(groups))('%s', (_, cases) => {
  it.each(cases.map((c) => [titleOf(c), c] as const))('%s', (_title, c) => checkOperator(c));
});

it('every operator of the language has cases and a twin', () => {
  const covered = new Set(Object.values(groups).flatMap((cases) => cases.map((c) => c.op)));
  expect(Object.keys(operators).filter((op) => !covered.has(op) || !(op in twins))).toEqual([]);
});

describe('random shapes', () => {
  const size = (max: number) => fc.integer({ min: 1, max });
  const shape = (minRank: number, maxRank: number, max = 4) => fc.array(size(max), { minLength: minRank, maxLength: maxRank });
  const hold = async (cases: fc.Arbitrary<Case>, numRuns = 15) => {
    await fc.assert(fc.asyncProperty(cases, checkOperator), { numRuns, seed: Number(process.env.FAST_CHECK_SEED ?? 4) });
  };
  /** Two or more shapes that broadcast: one full shape, each copy with some axes 1 and some leading axes dropped. */
  const broadcastable = (count: number) =>
    shape(1, 4).chain((full) =>
      fc.tuple(
        ...Array.from({ length: count }, () =>
          fc
            .tuple(fc.array(fc.boolean(), { minLength: full.length, maxLength: full.length }), fc.nat({ max: full.length }))
            .map(([ones, drop]) => full.map((n, i) => (ones[i] ? 1 : n)).slice(drop)),
        ),
      ),
    );

  it('broadcasting', () =>
    hold(
      fc
        .tuple(fc.constantFrom('Add', 'Sub', 'Mul', 'Div', 'Pow', 'Min', 'Max', 'Where'), broadcastable(3))
        .map(([op, [a, b, c]]) =>
          op === 'Where'
            ? of(op, [bools(a), floats(b), floats(c)])
            : of(
                op,
                (op === 'Min' || op === 'Max' ? [a, b, c] : [a, b]).map((s) =>
                  floats(s, op === 'Div' || op === 'Pow' ? 'positive' : 'any'),
                ),
              ),
        ),
      40,
    ));

  it('reductions', () =>
    hold(
      shape(1, 4).chain((x) =>
        fc
          .tuple(
            fc.constantFrom(...reductionOps),
            fc.subarray(
              x.map((_, i) => i),
              { minLength: 1 },
            ),
            fc.boolean(),
            fc.integer({ min: 0, max: 1 }),
          )
          .map(([op, axes, negative, keepdims]) =>
            of(op, [floats(x, 'distinct'), ints(axes.map((a) => (negative ? a - x.length : a)))], { keepdims }),
          ),
      ),
      30,
    ));

  it('slices', () =>
    hold(
      shape(1, 3, 6).chain((x) =>
        fc
          .tuple(
            ...x.map((n) =>
              fc.tuple(
                fc.integer({ min: -n - 2, max: n + 2 }),
                fc.integer({ min: -n - 2, max: n + 2 }),
                fc.constantFrom(-3, -2, -1, 1, 2, 3),
              ),
            ),
          )
          .map((parts) =>
            of('Slice', [
              floats(x),
              ints(parts.map((p) => p[0])),
              ints(parts.map((p) => p[1])),
              ints(x.map((_, i) => i)),
              ints(parts.map((p) => p[2])),
            ]),
          )
          .filter(
            (c) =>
              sizeOf(
                twins.Slice(
                  c.inputs.map((v) => ({
                    shape: v!.shape,
                    data: Float64Array.from(v!.values ?? new Float64Array(sizeOf(v!.shape))),
                  })),
                  {},
                  1,
                )[0].shape,
              ) > 0,
          ),
      ),
      30,
    ));

  it('pads', () =>
    hold(
      fc
        .tuple(fc.constantFrom('constant', 'reflect', 'edge'), shape(1, 3, 5))
        .chain(([mode, x]) =>
          fc
            .tuple(
              ...[...x, ...x].map((n) =>
                fc.integer({ min: mode === 'constant' ? -Math.floor((n - 1) / 2) : 0, max: mode === 'reflect' ? n - 1 : 3 }),
              ),
            )
            .map((pads) => of('Pad', [floats(x), ints(pads)], { mode })),
        ),
      25,
    ));

  it('transposes, concatenations and gathers', () =>
    hold(
      shape(2, 4).chain((x) =>
        fc.oneof(
          fc
            .shuffledSubarray(
              x.map((_, i) => i),
              { minLength: x.length, maxLength: x.length },
            )
            .map((perm) => of('Transpose', [floats(x)], { perm })),
          fc.tuple(fc.nat({ max: x.length - 1 }), fc.array(size(3), { minLength: 1, maxLength: 3 })).map(([axis, parts]) =>
            of(
              'Concat',
              parts.map((n) => floats(x.map((m, i) => (i === axis ? n : m)))),
              { axis: axis - x.length },
            ),
          ),
          fc
            .nat({ max: x.length - 1 })
            .chain((axis) =>
              fc
                .array(fc.integer({ min: -x[axis], max: x[axis] - 1 }), { minLength: 4, maxLength: 4 })
                .map((picks) => of('Gather', [floats(x), ints(picks, [2, 2])], { axis })),
            ),
        ),
      ),
      30,
    ));

  it('products', () =>
    hold(
      fc
        .tuple(size(3), size(4), size(4), broadcastable(2))
        .map(([m, k, n, [a, b]]) => of('MatMul', [floats([...a.slice(-2), m, k]), floats([...b.slice(-2), k, n])])),
      25,
    ));

  /** A window over spatial sizes that fits. */
  const window = (axes: number, pads: boolean) =>
    fc
      .tuple(
        ...Array.from({ length: axes }, () =>
          fc.record({
            n: fc.integer({ min: 3, max: 8 }),
            k: size(4),
            s: size(3),
            d: size(2),
            before: fc.nat({ max: 3 }),
            after: fc.nat({ max: 3 }),
          }),
        ),
      )
      .map((list) =>
        list.map((w) => (pads ? w : { ...w, before: Math.min(w.before, w.k - 1), after: Math.min(w.after, w.k - 1), d: 1 })),
      )
      .filter((list) => list.every((w) => w.n + w.before + w.after >= (w.k - 1) * w.d + 1));
  const attributesOf = (list: { k: number; s: number; d: number; before: number; after: number }[]): Attributes => ({
    strides: list.map((w) => w.s),
    dilations: list.map((w) => w.d),
    pads: [...list.map((w) => w.before), ...list.map((w) => w.after)],
  });

  it('convolutions', () =>
    hold(
      fc
        .tuple(
          fc.integer({ min: 1, max: 2 }).chain((axes) => window(axes, true)),
          size(2),
          size(3),
          size(2),
          size(2),
          fc.boolean(),
        )
        .map(([w, batch, group, inPerGroup, outPerGroup, square]) => {
          const list = square ? w.map((each) => ({ ...each, s: w[0].s, d: 1 })) : w;
          return conv(
            [batch, group * inPerGroup, ...list.map((a) => a.n)],
            [group * outPerGroup, inPerGroup, ...list.map((a) => a.k)],
            attributesOf(list),
          );
        }),
      60,
    ));

  it('transposed convolutions', () =>
    hold(
      fc
        .tuple(
          fc.integer({ min: 1, max: 2 }).chain((axes) => window(axes, true)),
          size(2),
          size(2),
          size(2),
        )
        .filter(([list]) => list.every((w) => (w.n - 1) * w.s + (w.k - 1) * w.d + 1 - w.before - w.after > 0))
        .map(([list, group, inPerGroup, outPerGroup]) =>
          convTranspose(
            [1, group * inPerGroup, ...list.map((a) => a.n)],
            [group * inPerGroup, outPerGroup, ...list.map((a) => a.k)],
            attributesOf(list),
            group,
          ),
        ),
      30,
    ));

  it('pools', () =>
    hold(
      fc
        .tuple(
          fc.constantFrom('AveragePool', 'MaxPool'),
          fc.integer({ min: 1, max: 2 }).chain((axes) => window(axes, false)),
          fc.integer({ min: 0, max: 1 }),
          fc.integer({ min: 0, max: 1 }),
        )
        .map(([op, list, ceil_mode, count_include_pad]) =>
          of(op, [floats([1, 2, ...list.map((a) => a.n)], 'distinct')], {
            ...attributesOf(list),
            dilations: undefined,
            kernel_shape: list.map((a) => a.k),
            ceil_mode,
            ...(op === 'AveragePool' ? { count_include_pad } : {}),
          }),
        ),
      40,
    ));

  it('resizes', () =>
    hold(
      fc
        .record({
          mode: fc.constantFrom('nearest', 'linear', 'cubic'),
          coordinate_transformation_mode: fc.constantFrom(...coordinateModes),
          from: fc.tuple(size(9), size(9)),
          to: fc.tuple(size(12), size(12)),
        })
        .map(({ mode, coordinate_transformation_mode, from, to }) =>
          resize([1, 1, ...from], to, { mode, coordinate_transformation_mode }),
        ),
      40,
    ));
});

describe('edges', () => {
  /** The gradient of sum(y * weights) at given inputs, all as constants of the test. */
  async function gradientOf(op: string, inputs: Input[], attributes: Attributes = {}): Promise<number[][]> {
    const g = new Graph();
    const values = inputs.map((x, i) =>
      x.dtype === 'float32' && !x.fixed
        ? g.input(`x${i}`, x.shape)
        : g.constant({ dtype: x.dtype, shape: x.shape, data: Float32Array.from(x.values!) }),
    );
    const y = g.op(op, values, attributes);
    const varied = values.filter((v) => g.inputs.includes(v));
    const weights = g.floats(
      Float32Array.from({ length: sizeOf(y.shape) }, (_, i) => i + 1),
      y.shape,
    );
    const total = g.reduceSum(
      g.mul(y, weights),
      y.shape.map((_, i) => i),
    );
    differentiate(g, total, varied).forEach((d, i) => g.output(`d${i}`, d));
    const results = await run(simplify(g), Object.fromEntries(inputs.map((x, i) => [`x${i}`, x.values!])));
    return varied.map((_, i) => results[`d${i}`].data);
  }

  it('corners of ReLU and Clip have gradient 0, as in PyTorch', async () => {
    expect(await gradientOf('Relu', [exactly([-0, 0, 1e-30, -1e-30, 1e30])])).toEqual([[0, 0, 3, 0, 5]]);
    const clip = [
      exactly([0, 6, 1e-30, Math.fround(6 - 5e-7), 6.5, -1]),
      { ...exactly([0], []), fixed: true },
      { ...exactly([6], []), fixed: true },
    ];
    expect(await gradientOf('Clip', clip)).toEqual([[0, 0, 3, 4, 0, 0]]);
  });

  it('huge values keep their masks', async () => {
    expect(await gradientOf('LeakyRelu', [exactly([-1e38, 1e38, 0])], { alpha: 0.5 })).toEqual([[0.5, 2, 1.5]]);
    expect(await gradientOf('Relu', [exactly([-3e38, 3e38])])).toEqual([[0, 2]]);
  });

  it('ties: MaxPool gives all to the first, Max and ReduceMax share', async () => {
    expect(await gradientOf('MaxPool', [exactly([1, 2, 2, 2, 2, 0], [1, 1, 2, 3])], { kernel_shape: [2, 2] })).toEqual([
      [0, 3, 0, 0, 0, 0],
    ]);
    expect(await gradientOf('Max', [exactly([1, 2, 3]), exactly([1, 5, 0])])).toEqual([
      [0.5, 0, 3],
      [0.5, 2, 0],
    ]);
    expect(await gradientOf('ReduceMax', [exactly([4, 4, 1, 4])])).toEqual([[1 / 3, 1 / 3, 0, 1 / 3].map(Math.fround)]);
  });

  it('slopes that are not finite numbers by formula are where mathematics has them', async () => {
    expect(await gradientOf('Pow', [exactly([0, 0, 3]), { ...exactly([2], []), fixed: true }])).toEqual([[0, 0, 18]]);
    expect(await gradientOf('ReduceProd', [exactly([2, 0, 3])])).toEqual([[0, 6, 0]]);
    expect(await gradientOf('ReduceL2', [exactly([0, 0])])).toEqual([[0, 0]]);
    expect(await gradientOf('Abs', [exactly([-3, 0, 3])])).toEqual([[-1, 0, 3]]);
  });

  it('errors of shapes name the node, the operator and the shapes', () => {
    const g = new Graph();
    const x = g.input('x', [2, 3]);
    const y = g.input('y', [4, 5]);
    expect(() => g.add(x, y)).toThrow('node Add (Add of float32[2, 3], float32[4, 5]): shapes [2, 3] and [4, 5] do not broadcast');
    expect(() => g.matMul(x, y)).toThrow(/node MatMul .*inner sizes 3 and 4 differ/);
    expect(() => g.op('Relu', [x], { alpha: 1 })).toThrow('Relu has no attribute alpha');
    expect(() => g.op('Loop', [x])).toThrow('the operator Loop is not in the graph language');
    expect(() => g.op('Transpose', [x], { perm: [0, 1, 2] })).toThrow('perm [0, 1, 2] does not fit rank 2');
    expect(() => g.op('Add', [x, null])).toThrow(/node Add.* \(Add of float32\[2, 3\], none\)/);
    expect(() => g.reshape(x, [4, 2])).toThrow('[2, 3] cannot take the shape [4, 2]');
    expect(() => g.reshape(x, [4, -1])).toThrow('it would have the shape [4, 1.5]');
    expect(() => g.apply('MaxPool', [g.input('z', [1, 1, 4, 4])], { kernel_shape: [2, 2] }, 2)).toThrow(/MaxPool.*1 output/);
    expect(() =>
      g.op('ConvTranspose', [g.input('u', [1, 1, 4, 4]), g.floats([1], [1, 1, 1, 1])], { auto_pad: 'SAME_UPPER' }),
    ).toThrow(/auto_pad/);
    expect(() => g.apply('Split', [x], { axis: 1 }, 3)).toThrow(/num_outputs/);
    expect(() => g.op('MaxPool', [g.input('v', [1, 1, 2, 2])], { kernel_shape: [5, 5] })).toThrow(/MaxPool/);
  });
});

afterAll(() =>
  console.info(
    Object.entries(worst)
      .map(([kind, { error, title }]) => `worst ${kind}: ${error.toExponential(1)} (${title})`)
      .join('\n'),
  ),
);
