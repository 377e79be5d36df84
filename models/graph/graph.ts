import { operators } from './ops/index.js';
import type { Attributes, InferContext } from './operator.js';
import { float32, int64, numbers, sameShape, type DType, type Shape, type Tensor } from './tensor.js';

/** An edge of the graph: a tensor known by type and static shape. Compared by identity. */
export interface Value {
  readonly name: string;
  readonly dtype: DType;
  readonly shape: Shape;
}

export interface Node {
  readonly op: string;
  readonly name: string;
  readonly inputs: readonly (Value | null)[];
  readonly outputs: readonly Value[];
  readonly attributes: Attributes;
}

/** Bytes of a weight file that a constant refers to without reading them: little-endian, row-major. */
export interface FileBytes {
  readonly file: string;
  readonly offset: number;
  readonly length: number;
}

export interface Constant {
  readonly value: Value;
  /** The tensor, read from its file at the first call where it is held by reference. */
  tensor(): Tensor;
  readonly source: FileBytes | null;
}

/** A gradient that a node has in place of its operator's: the node counts as a function of `by`, and `rule` is its vector-Jacobian product. */
export interface OwnGradient {
  readonly by: Value;
  readonly rule: (gradient: Value) => Value;
}

/**
 * A dataflow graph in the ONNX language (opset 18), built forwards: a node's inputs exist before it, so `nodes` is in
 * topological order. Types and shapes are inferred as nodes are added, so a mistake is an error at its own line.
 */
export class Graph {
  readonly inputs: Value[] = [];
  readonly outputs: { name: string; value: Value }[] = [];
  readonly nodes: Node[] = [];
  readonly constants = new Map<Value, Constant>();
  readonly producers = new Map<Value, Node>();
  readonly ownGradients = new Map<Node, OwnGradient>();
  #names = new Map<string, number>();
  #scope = '';
  #small = new Map<string, Value>();

  input(name: string, shape: Shape, dtype: DType = 'float32'): Value {
    const value: Value = { name: this.#unique(name), dtype, shape };
    if (value.name !== name) throw new Error(`the graph already has a value named ${name}`);
    this.inputs.push(value);
    return value;
  }

  output(name: string, value: Value): void {
    if (this.outputs.some((output) => output.name === name)) throw new Error(`the graph already has an output named ${name}`);
    this.outputs.push({ name, value });
  }

  /** A constant tensor. Small equal ones are one value. */
  constant(tensor: Tensor, name = 'const'): Value {
    const key =
      tensor.data.length <= 16 ? `${tensor.dtype}[${tensor.shape.join()}]${tensor.data.join()}${signsOfZero(tensor)}` : null;
    const known = key === null ? undefined : this.#small.get(key);
    if (known && this.constants.has(known)) return known;
    const value: Value = { name: this.#unique(name), dtype: tensor.dtype, shape: tensor.shape };
    this.constants.set(value, { value, tensor: () => tensor, source: null });
    if (key !== null) this.#small.set(key, value);
    return value;
  }

  /** A constant held by reference; `read` is called only if something folds over it. */
  reference(name: string, dtype: DType, shape: Shape, source: FileBytes, read: () => Tensor): Value {
    const value: Value = { name: this.#unique(name), dtype, shape };
    let loaded: Tensor | null = null;
    this.constants.set(value, { value, tensor: () => (loaded ??= read()), source });
    return value;
  }

  scalar(value: number): Value {
    return this.constant(float32([value], []), 'scalar');
  }

  floats(values: ArrayLike<number>, shape?: Shape, name?: string): Value {
    return this.constant(float32(values, shape), name);
  }

  ints(values: readonly number[]): Value {
    return this.constant(int64(values), 'ints');
  }

  /** Names made inside `body` start with `name/`, so that errors and profiles say where a node belongs. */
  within<T>(name: string, body: () => T): T {
    const outer = this.#scope;
    this.#scope = `${outer}${name}/`;
    try {
      return body();
    } finally {
      this.#scope = outer;
    }
  }

  /** Adds a node and returns its outputs. Throws with the node's name when types or shapes do not fit. */
  apply(op: string, inputs: readonly (Value | null)[], attributes: Attributes = {}, outputCount = 1, name?: string): Value[] {
    const nodeName = this.#unique(name ?? `${this.#scope}${op}`);
    const operator = operators[op];
    if (!operator) throw new Error(`node ${nodeName}: the operator ${op} is not in the graph language yet (models/graph/ops)`);
    const given = Object.fromEntries(Object.entries(attributes).filter(([, value]) => value !== undefined));
    for (const key of Object.keys(given))
      if (!(key in operator.attributes)) throw new Error(`node ${nodeName}: ${op} has no attribute ${key}`);
    const context: InferContext = {
      inputs,
      attributes: given,
      outputCount,
      constant: (i) => (inputs[i] ? (this.constants.get(inputs[i])?.tensor() ?? null) : null),
      integers: (i) => this.integers(inputs[i], `input ${i} of ${op}`),
    };
    let types;
    try {
      types = operator.infer(context);
      if (types.length < outputCount)
        throw new Error(`it has ${types.length} output${types.length > 1 ? 's' : ''} here, not ${outputCount}`);
      for (const { shape } of types)
        if (!shape.every((n) => Number.isSafeInteger(n) && n >= 0))
          throw new Error(`it would have the shape [${shape.join(', ')}]`);
    } catch (error) {
      const shapes = inputs.map((v) => (v ? `${v.dtype}[${v.shape.join(', ')}]` : 'none')).join(', ');
      throw new Error(`node ${nodeName} (${op} of ${shapes}): ${(error as Error).message}`, { cause: error });
    }
    const outputs = types.map((type, i): Value => ({ name: this.#unique(i ? `${nodeName}:${i}` : `${nodeName}:out`), ...type }));
    const node: Node = { op, name: nodeName, inputs, outputs, attributes: given };
    this.nodes.push(node);
    for (const output of outputs) this.producers.set(output, node);
    return outputs;
  }

  op(op: string, inputs: readonly (Value | null)[], attributes: Attributes = {}): Value {
    return this.apply(op, inputs, attributes)[0];
  }

  /**
   * The value of `y` with a gradient of its own: to `differentiate` it is a function of `by` alone, whose gradient (of `by`'s shape) `rule`
   * makes from the value's own. Straight-through estimators are this. A simplified graph has forgotten it.
   */
  withGradient(y: Value, by: Value, rule: OwnGradient['rule']): Value {
    const value = this.op('Identity', [y]);
    this.ownGradients.set(this.producers.get(value)!, { by, rule });
    return value;
  }

  /** The elements of a constant as numbers; an error says what must be constant. */
  integers(value: Value | null | undefined, what: string): number[] {
    const constant = value && this.constants.get(value);
    if (!constant) throw new Error(`${what} must be a constant: shapes are static here`);
    return numbers(constant.tensor());
  }

  isScalar(value: Value | null | undefined, number: number): boolean {
    if (!value || !this.constants.has(value) || value.shape.some((n) => n !== 1)) return false;
    return numbers(this.constants.get(value)!.tensor())[0] === number;
  }

  add(a: Value, b: Value): Value {
    return this.op('Add', [a, b]);
  }
  sub(a: Value, b: Value): Value {
    return this.op('Sub', [a, b]);
  }
  mul(a: Value, b: Value): Value {
    return this.op('Mul', [a, b]);
  }
  div(a: Value, b: Value): Value {
    return this.op('Div', [a, b]);
  }
  neg(a: Value): Value {
    return this.op('Neg', [a]);
  }
  scale(a: Value, factor: number): Value {
    return factor === 1 ? a : this.mul(a, this.scalar(factor));
  }
  matMul(a: Value, b: Value): Value {
    return this.op('MatMul', [a, b]);
  }
  reshape(a: Value, shape: Shape): Value {
    return sameShape(a.shape, shape) ? a : this.op('Reshape', [a, this.ints(shape)]);
  }
  transpose(a: Value, perm: readonly number[]): Value {
    return perm.every((p, i) => p === i) ? a : this.op('Transpose', [a], { perm });
  }
  reduceSum(a: Value, axes: readonly number[], keepdims = false): Value {
    return this.op('ReduceSum', [a, this.ints(axes)], { keepdims: keepdims ? 1 : 0 });
  }
  reduceMean(a: Value, axes: readonly number[], keepdims = false): Value {
    return this.op('ReduceMean', [a, this.ints(axes)], { keepdims: keepdims ? 1 : 0 });
  }
  /** Elements from `start` (inclusive) to `end` (exclusive) along one axis. */
  slice(a: Value, axis: number, start: number, end: number): Value {
    return this.op('Slice', [a, this.ints([start]), this.ints([end]), this.ints([axis])]);
  }
  concat(values: readonly Value[], axis: number): Value {
    return values.length === 1 ? values[0] : this.op('Concat', values, { axis });
  }
  /** Sums a gradient back to the shape that was broadcast to it. */
  unbroadcast(gradient: Value, shape: Shape): Value {
    if (sameShape(gradient.shape, shape)) return gradient;
    const lead = gradient.shape.length - shape.length;
    const axes = gradient.shape.map((_, i) => i).filter((i) => i < lead || (shape[i - lead] === 1 && gradient.shape[i] !== 1));
    return this.reshape(axes.length ? this.reduceSum(gradient, axes, true) : gradient, shape);
  }

  #unique(name: string): string {
    const count = this.#names.get(name) ?? 0;
    this.#names.set(name, count + 1);
    return count ? this.#unique(`${name}.${count}`) : name;
  }
}

/** -0 and 0 print alike but are different constants. */
function signsOfZero(tensor: Tensor): string {
  if (tensor.dtype !== 'float32') return '';
  return Array.from(tensor.data as Float32Array, (v) => (Object.is(v, -0) ? '-' : '')).join(';');
}
