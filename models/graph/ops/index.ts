import type { Operator } from '../operator.js';
import * as activation from './activation.js';
import * as convolution from './convolution.js';
import * as elementwise from './elementwise.js';
import * as indexing from './indexing.js';
import * as layout from './layout.js';
import * as matmul from './matmul.js';
import * as normalization from './normalization.js';
import * as pooling from './pooling.js';
import * as reduction from './reduction.js';
import * as resize from './resize.js';
import * as softmax from './softmax.js';

const isOperator = (value: unknown): value is Operator => typeof value === 'object' && value !== null && 'infer' in value;

/** The graph language: every operator by its ONNX name. A family of operators is one file, each with its shape and gradient rule. */
export const operators: Readonly<Record<string, Operator>> = Object.fromEntries(
  [activation, convolution, elementwise, indexing, layout, matmul, normalization, pooling, reduction, resize, softmax]
    .flatMap((family) => Object.entries(family as Record<string, unknown>))
    .filter((entry): entry is [string, Operator] => isOperator(entry[1])),
);
