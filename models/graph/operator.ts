import type { Graph, Node, Value } from './graph.js';
import type { DType, Shape, Tensor } from './tensor.js';

export type AttributeKind = 'int' | 'float' | 'string' | 'ints' | 'floats' | 'tensor';
export type AttributeValue = number | string | readonly number[] | Tensor;
export type Attributes = Readonly<Record<string, AttributeValue | undefined>>;

/** What a shape rule sees: input values (null where an optional input is absent), attributes, and inputs that are constants. */
export interface InferContext {
  readonly inputs: readonly (Value | null)[];
  readonly attributes: Attributes;
  readonly outputCount: number;
  /** The tensor behind an input if it is a constant, else null. */
  constant(input: number): Tensor | null;
  /** The same as numbers; an error naming the operator when the input is not constant, since shapes here are static. */
  integers(input: number): number[];
}

export interface TypeAndShape {
  readonly dtype: DType;
  readonly shape: Shape;
}

/** What a gradient rule sees. It adds nodes to `g` and returns one value (or null for none) per input. */
export interface GradientContext {
  readonly g: Graph;
  readonly node: Node;
  readonly inputs: readonly (Value | null)[];
  readonly outputs: readonly Value[];
  /** Gradients of the outputs; null where an output does not reach the objective. At least one is there. */
  readonly outputGradients: readonly (Value | null)[];
  /** Whether a gradient of the input is needed; a rule skips work for those that are not. */
  readonly wanted: readonly boolean[];
  readonly target: Target;
  integers(input: number): number[];
}

/** Which kernels the graph is emitted for: some gradients have one best form on CPUs and another on GPUs. */
export type Target = 'cpu' | 'gpu';

export interface Operator {
  readonly attributes: Readonly<Record<string, AttributeKind>>;
  infer(context: InferContext): TypeAndShape[];
  /** 'none': piecewise constant or integer valued, the gradient is zero. Absent: differentiating through it is an error. */
  readonly gradient?: 'none' | ((context: GradientContext) => (Value | null)[]);
  /** Values for constant inputs, used by the simplifier; absent where folding does not pay. */
  evaluate?(inputs: readonly (Tensor | null)[], attributes: Attributes, outputs: readonly TypeAndShape[]): Tensor[];
}

export const intAttribute = (attributes: Attributes, name: string, otherwise: number): number => {
  const value = attributes[name];
  return typeof value === 'number' ? value : otherwise;
};

export const intsAttribute = (attributes: Attributes, name: string, otherwise: readonly number[]): readonly number[] => {
  const value = attributes[name];
  return Array.isArray(value) ? (value as readonly number[]) : otherwise;
};

/** A possibly negative axis as an index from 0. */
export function normalizeAxis(axis: number, rank: number): number {
  const index = axis < 0 ? axis + rank : axis;
  if (index < 0 || index >= Math.max(rank, 1)) throw new Error(`axis ${axis} is outside a tensor of rank ${rank}`);
  return index;
}
