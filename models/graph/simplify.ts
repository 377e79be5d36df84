import { Graph, type Node, type Value } from './graph.js';
import { operators } from './ops/index.js';
import { shapeTensor } from './ops/layout.js';
import { intsAttribute, type Attributes } from './operator.js';
import { sameShape, type Tensor } from './tensor.js';

/**
 * An equal graph with less in it: work on constants is done now, equal nodes are one, nodes that change nothing (Identity,
 * Reshape to the same shape, x + 0, ...) are gone, chains of Transpose and of Reshape are one, and what no output needs is left out.
 * Inputs and outputs keep their names and order; unused inputs stay.
 */
export function simplify(graph: Graph): Graph {
  const out = new Graph();
  const at = new Map<Value, Value>();
  const live = liveNodes(graph);
  const known = new Map<string, readonly Value[]>();
  const ids = new Map<Value, number>();
  const id = (v: Value | null) => {
    if (!v) return '-';
    if (!ids.has(v)) ids.set(v, ids.size);
    return ids.get(v)!;
  };
  for (const input of graph.inputs) at.set(input, out.input(input.name, input.shape, input.dtype));
  const resolve = (value: Value): Value => {
    const done = at.get(value);
    if (done) return done;
    const constant = graph.constants.get(value);
    if (!constant) throw new Error(`the value ${value.name} is used before it is made`);
    const copy = constant.source
      ? out.reference(value.name, value.dtype, value.shape, constant.source, () => constant.tensor())
      : out.constant(constant.tensor(), value.name);
    at.set(value, copy);
    return copy;
  };
  for (const node of graph.nodes) {
    if (!live.has(node)) continue;
    const merged = merge(out, { ...node, inputs: node.inputs.map((v) => (v ? resolve(v) : null)) });
    const { op, inputs, attributes, outputs } = merged;
    const folded = fold(out, merged);
    const same = folded ? null : alias(out, merged);
    let results: readonly Value[];
    if (folded) results = folded.map((tensor, i) => out.constant(tensor, outputs[i].name));
    else if (same) results = [same];
    else {
      const key = `${op}(${inputs.map(id).join()})${attributeKey(attributes)}:${outputs.length}`;
      results = known.get(key) ?? out.apply(op, inputs, attributes, outputs.length, node.name);
      known.set(key, results);
    }
    node.outputs.forEach((v, i) => at.set(v, results[i]));
  }
  for (const { name, value } of graph.outputs) out.output(name, resolve(value));
  return withoutDeadNodes(out);
}

function liveNodes(graph: Graph): Set<Node> {
  const live = new Set<Node>();
  const needed = new Set(graph.outputs.map((o) => o.value));
  for (const node of graph.nodes.slice().reverse()) {
    if (!node.outputs.some((v) => needed.has(v))) continue;
    live.add(node);
    for (const input of node.inputs) if (input) needed.add(input);
  }
  return live;
}

/** Merged chains and folded constants leave their first parts without use. */
function withoutDeadNodes(graph: Graph): Graph {
  const live = liveNodes(graph);
  const used = new Set(graph.nodes.filter((n) => live.has(n)).flatMap((n) => n.inputs));
  for (const { value } of graph.outputs) used.add(value);
  const dead = graph.nodes.filter((n) => !live.has(n));
  for (const node of dead) for (const v of node.outputs) graph.producers.delete(v);
  graph.nodes.splice(0, graph.nodes.length, ...graph.nodes.filter((n) => live.has(n)));
  for (const value of [...graph.constants.keys()]) if (!used.has(value)) graph.constants.delete(value);
  return graph;
}

function fold(graph: Graph, { op, inputs, attributes, outputs }: Node): Tensor[] | null {
  if (op === 'Shape') return [shapeTensor(inputs[0]!, attributes)];
  const { evaluate } = operators[op];
  if (!evaluate || inputs.some((v) => v && !graph.constants.has(v))) return null;
  return evaluate(
    inputs.map((v) => (v ? graph.constants.get(v)!.tensor() : null)),
    attributes,
    outputs,
  );
}

/** The value that a node merely repeats, if it does. */
function alias(g: Graph, { op, inputs, attributes, outputs }: Node): Value | null {
  const [a, b] = inputs;
  const y = outputs[0];
  const whole = (v: Value | null) => (v && v.dtype === y.dtype && sameShape(v.shape, y.shape) ? v : null);
  switch (op) {
    case 'Identity':
      return a;
    case 'Cast':
    case 'Reshape':
    case 'Flatten':
    case 'Squeeze':
    case 'Unsqueeze':
    case 'Expand':
    case 'Tile':
      return whole(a);
    case 'Slice':
      // Equal shapes with unit steps take everything; a step of -1 would reverse.
      return !inputs[4] || g.integers(inputs[4], 'steps').every((s) => s === 1) ? whole(a) : null;
    case 'Pad':
      return g.integers(b, 'pads').every((p) => p === 0) ? whole(a) : null;
    case 'Concat':
      return inputs.length === 1 ? a : null;
    case 'Transpose':
      return permutation(attributes, y).every((p, i) => p === i) ? a : null;
    case 'Add':
      return g.isScalar(b, 0) ? whole(a) : g.isScalar(a, 0) ? whole(b) : null;
    case 'Sub':
      return g.isScalar(b, 0) ? whole(a) : null;
    case 'Mul':
      return g.isScalar(b, 1) ? whole(a) : g.isScalar(a, 1) ? whole(b) : null;
    case 'Div':
      return g.isScalar(b, 1) ? whole(a) : null;
    case 'Pow':
      return g.isScalar(b, 1) ? whole(a) : null;
    case 'Neg': {
      const before = g.producers.get(a!);
      return before?.op === 'Neg' ? before.inputs[0] : null;
    }
    default:
      return null;
  }
}

const permutation = (attributes: Attributes, { shape }: Value): readonly number[] =>
  intsAttribute(attributes, 'perm', shape.map((_, i) => i).reverse());

const reshapes = ['Reshape', 'Flatten', 'Squeeze', 'Unsqueeze'];

/** Transpose of a Transpose is one; a Reshape does not care what shape came before. */
function merge(g: Graph, node: Node): Node {
  const { op, inputs, attributes, outputs } = node;
  const before = inputs[0] && g.producers.get(inputs[0]);
  if (op === 'Transpose' && before?.op === 'Transpose') {
    const first = permutation(before.attributes, before.outputs[0]);
    return { ...node, inputs: before.inputs, attributes: { perm: permutation(attributes, outputs[0]).map((p) => first[p]) } };
  }
  if (reshapes.includes(op) && before && reshapes.includes(before.op))
    return { ...node, op: 'Reshape', inputs: [before.inputs[0], g.ints(outputs[0].shape)], attributes: {} };
  return node;
}

const attributeKey = (attributes: Attributes): string =>
  Object.keys(attributes)
    .sort()
    .map((key) => {
      const value = attributes[key];
      return `${key}=${typeof value === 'object' && 'data' in value ? `${value.dtype}${value.shape.join()}${value.data.join()}` : String(value)}`;
    })
    .join(';');
