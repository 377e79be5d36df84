import type { Graph, Value } from '../graph.js';
import { intAttribute, type Operator } from '../operator.js';
import { broadcastShapes, sizeOf } from '../tensor.js';

const swapLast = (g: Graph, x: Value): Value => {
  const rank = x.shape.length;
  return g.transpose(x, [...x.shape.map((_, i) => i).slice(0, rank - 2), rank - 1, rank - 2]);
};

/** numpy's matmul: leading axes broadcast; a vector on the left is a row, on the right a column. */
export const MatMul: Operator = {
  attributes: {},
  infer: ({ inputs: [a, b] }) => {
    const left = a!.shape.length === 1 ? [1, ...a!.shape] : a!.shape;
    const right = b!.shape.length === 1 ? [...b!.shape, 1] : b!.shape;
    const [m, k] = left.slice(-2);
    const [k2, n] = right.slice(-2);
    if (k !== k2) throw new Error(`inner sizes ${k} and ${k2} differ`);
    const lead = broadcastShapes(left.slice(0, -2), right.slice(0, -2));
    return [{ dtype: a!.dtype, shape: [...lead, ...(a!.shape.length > 1 ? [m] : []), ...(b!.shape.length > 1 ? [n] : [])] }];
  },
  gradient: ({ g, inputs: [a, b], outputs: [y], outputGradients: [dy], wanted }) => {
    const left = a!.shape.length === 1 ? g.reshape(a!, [1, ...a!.shape]) : a!;
    const right = b!.shape.length === 1 ? g.reshape(b!, [...b!.shape, 1]) : b!;
    const lead = y.shape.slice(0, y.shape.length - (a!.shape.length > 1 ? 1 : 0) - (b!.shape.length > 1 ? 1 : 0));
    const full = g.reshape(dy!, [...lead, left.shape[left.shape.length - 2], right.shape[right.shape.length - 1]]);
    const back = (gradient: Value, matrix: Value, original: Value) =>
      g.reshape(g.unbroadcast(gradient, matrix.shape), original.shape);
    const shared = right.shape.length === 2 && left.shape.length > 2;
    const rightGradient = () => {
      if (!shared) return g.matMul(swapLast(g, left), full);
      // One matrix used for every leading index: fold those into the rows, so that the sum over them is the product itself.
      const rows = (v: Value) => g.reshape(v, [sizeOf(v.shape.slice(0, -1)), v.shape[v.shape.length - 1]]);
      return g.matMul(swapLast(g, rows(left)), rows(full));
    };
    return [
      wanted[0] ? back(g.matMul(full, swapLast(g, right)), left, a!) : null,
      wanted[1] ? back(rightGradient(), right, b!) : null,
    ];
  },
};

/** alpha op(A) op(B) + beta C. */
export const Gemm: Operator = {
  attributes: { alpha: 'float', beta: 'float', transA: 'int', transB: 'int' },
  infer: ({ inputs: [a, b], attributes }) => {
    const [m, k] = intAttribute(attributes, 'transA', 0) ? a!.shape.slice().reverse() : a!.shape;
    const [k2, n] = intAttribute(attributes, 'transB', 0) ? b!.shape.slice().reverse() : b!.shape;
    if (k !== k2) throw new Error(`inner sizes ${k} and ${k2} differ`);
    return [{ dtype: a!.dtype, shape: [m, n] }];
  },
  gradient: ({ g, node, inputs: [a, b, c], outputGradients: [dy], wanted }) => {
    const { attributes } = node;
    const alpha = (attributes.alpha as number | undefined) ?? 1;
    const beta = (attributes.beta as number | undefined) ?? 1;
    const transA = intAttribute(attributes, 'transA', 0);
    const transB = intAttribute(attributes, 'transB', 0);
    const gemm = (x: Value, y: Value, tx: number, ty: number) => g.op('Gemm', [x, y], { alpha, transA: tx, transB: ty });
    return [
      wanted[0] ? (transA ? gemm(b!, dy!, transB, 1) : gemm(dy!, b!, 0, transB ? 0 : 1)) : null,
      wanted[1] ? (transB ? gemm(dy!, a!, 1, transA) : gemm(a!, dy!, transA ? 0 : 1, 0)) : null,
      c && wanted[2] ? g.unbroadcast(g.scale(dy!, beta), c.shape) : null,
    ];
  },
};

interface Equation {
  terms: string[];
  output: string;
}

function parse(equation: string): Equation {
  const [left, right] = equation.replace(/\s/g, '').split('->');
  const terms = left.split(',');
  if (left.includes('.')) throw new Error(`einsum ${equation}: an ellipsis is not supported, name the axes`);
  for (const term of terms)
    if (new Set(term).size !== term.length) throw new Error(`einsum ${equation}: a diagonal (${term}) is not supported`);
  const once = [...new Set(left.replace(/,/g, ''))].filter((letter) => left.split(letter).length === 2).sort();
  return { terms, output: right ?? once.join('') };
}

export const Einsum: Operator = {
  attributes: { equation: 'string' },
  infer: ({ inputs, attributes }) => {
    const { terms, output } = parse(attributes.equation as string);
    const sizes = new Map<string, number>();
    terms.forEach((term, i) =>
      [...term].forEach((letter, axis) => {
        const n = inputs[i]!.shape[axis];
        if (sizes.has(letter) && sizes.get(letter) !== n) throw new Error(`axis ${letter} has sizes ${sizes.get(letter)} and ${n}`);
        sizes.set(letter, n);
      }),
    );
    return [{ dtype: inputs[0]!.dtype, shape: [...output].map((letter) => sizes.get(letter)!) }];
  },
  gradient: ({ g, node, inputs, outputGradients: [dy], wanted }) => {
    const { terms, output } = parse(node.attributes.equation as string);
    return inputs.map((x, i) => {
      if (!wanted[i]) return null;
      const others = terms.filter((_, j) => j !== i);
      const available = new Set([output, ...others].join(''));
      // An axis that only this operand has was summed over: its gradient is the same all along it.
      const found = [...terms[i]].filter((letter) => available.has(letter)).join('');
      const gradient = g.op('Einsum', [dy!, ...inputs.filter((_, j) => j !== i)], {
        equation: `${[output, ...others].join(',')}->${found}`,
      });
      if (found === terms[i]) return gradient;
      const spread = x!.shape.map((n, axis) => (available.has(terms[i][axis]) ? n : 1));
      return g.op('Expand', [g.reshape(gradient, spread), g.ints(x!.shape)]);
    });
  },
};
