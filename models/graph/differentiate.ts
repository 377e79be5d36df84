import type { Graph, Node, Value } from './graph.js';
import { operators } from './ops/index.js';
import type { GradientContext, Target } from './operator.js';
import { sameShape } from './tensor.js';

export interface DifferentiateOptions {
  /** Gradient of the objective by `of`; a constant 1 when absent, and then `of` must have one element. */
  seed?: Value;
  /** 'cpu' emits forms that MLAS runs fast, 'gpu' those with the best GPU kernels. Default 'cpu'. */
  target?: Target;
}

/**
 * Reverse-mode automatic differentiation: adds to `graph` the nodes that compute d(of)/d(w) for each w in `wrt` and
 * returns those values, in that order, each of w's shape. Only paths from `wrt` to `of` are differentiated, so weights cost
 * nothing unless asked for. Throws when an operator on such a path has no rule, naming the node, its operator and the path,
 * and when `of` does not depend on w.
 */
export function differentiate(graph: Graph, of: Value, wrt: readonly Value[], options: DifferentiateOptions = {}): Value[] {
  const target = options.target ?? 'cpu';
  if (!options.seed && of.shape.some((n) => n !== 1))
    throw new Error(`${of.name} has shape [${of.shape.join(', ')}]: only a single number can be differentiated without a seed`);
  if (options.seed && !sameShape(options.seed.shape, of.shape))
    throw new Error(`the seed has shape [${options.seed.shape.join(', ')}], not [${of.shape.join(', ')}] as ${of.name} has`);
  const { reached, cameFrom } = reachable(graph, wrt);
  for (const w of wrt) if (w.dtype !== 'float32') throw new Error(`${w.name} is ${w.dtype}: gradients flow to float32 values only`);

  const pending = new Map<Value, Value[]>();
  const push = (value: Value, gradient: Value) => {
    const list = pending.get(value);
    if (list) list.push(gradient);
    else pending.set(value, [gradient]);
  };
  const seed = options.seed ?? graph.constant({ dtype: 'float32', shape: of.shape, data: new Float32Array([1]) }, 'seed');
  push(of, seed);

  // Nodes are in topological order, so by the time a node is met from the end all uses of its outputs have been summed.
  const summed = new Map<Value, Value>();
  const settle = (value: Value): Value | null => {
    const parts = pending.get(value);
    if (!parts) return summed.get(value) ?? null;
    pending.delete(value);
    const total = parts.reduce((a, b) => graph.add(a, b));
    summed.set(value, total);
    return total;
  };
  const kept = new Set(wrt);
  for (const node of graph.nodes.slice().reverse()) {
    const outputGradients = node.outputs.map((v) => (reached.has(v) ? settle(v) : null));
    if (outputGradients.every((g) => g === null)) continue;
    const inputs = inputsOf(graph, node);
    const wanted = inputs.map((v) => v !== null && reached.has(v));
    if (!wanted.some(Boolean)) continue;
    const own = graph.ownGradients.get(node);
    const rule = own ? ({ outputGradients: [dy] }: GradientContext) => [own.rule(dy!)] : operators[node.op].gradient;
    if (rule === 'none') continue;
    if (!rule) throw new Error(missingRule(node, cameFrom));
    const gradients = graph.within(`grad/${node.name}`, () =>
      rule({
        g: graph,
        node,
        inputs,
        outputs: node.outputs,
        outputGradients,
        wanted,
        target,
        integers: (i) => graph.integers(node.inputs[i], `input ${i} of ${node.name}`),
      }),
    );
    inputs.forEach((input, i) => {
      const gradient = gradients[i];
      if (!input || !wanted[i]) return;
      if (!gradient) throw new Error(missingRule(node, cameFrom, ` for its input ${i}`));
      if (!sameShape(gradient.shape, input.shape))
        throw new Error(
          `gradient rule of ${node.op} (${node.name}) gave [${gradient.shape.join(', ')}] for input ${i} of shape [${input.shape.join(', ')}]`,
        );
      push(input, gradient);
    });
    for (const output of node.outputs) if (!kept.has(output)) summed.delete(output);
  }
  return wrt.map((w) => {
    const gradient = settle(w);
    if (!gradient) throw new Error(`${of.name} does not depend on ${w.name} in a differentiable way`);
    return gradient;
  });
}

/** What a node depends on when it is differentiated. */
const inputsOf = (graph: Graph, node: Node): readonly (Value | null)[] => {
  const own = graph.ownGradients.get(node);
  return own ? [own.by] : node.inputs;
};

/** Values that depend on `sources`, and for each the node and input it came by (to tell a path in errors). */
function reachable(graph: Graph, sources: readonly Value[]) {
  const reached = new Set(sources);
  const cameFrom = new Map<Node, Value>();
  for (const node of graph.nodes) {
    const via = inputsOf(graph, node).find((v) => v !== null && reached.has(v));
    if (!via) continue;
    cameFrom.set(node, via);
    for (const output of node.outputs) if (output.dtype === 'float32' || output.dtype === 'float16') reached.add(output);
  }
  return {
    reached,
    cameFrom: { via: cameFrom, producers: graph.producers },
  };
}

function missingRule(node: Node, { via, producers }: { via: Map<Node, Value>; producers: Map<Value, Node> }, which = ''): string {
  const path: string[] = [];
  let at: Node | undefined = node;
  while (at) {
    path.unshift(`${at.name} (${at.op})`);
    const value: Value | undefined = via.get(at);
    const before: Node | undefined = value && producers.get(value);
    if (!before && value) path.unshift(value.name);
    at = before;
  }
  return `the operator ${node.op} of node ${node.name} has no gradient rule${which}; the path to it: ${path.join(' -> ')}`;
}
