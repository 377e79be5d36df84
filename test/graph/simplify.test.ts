import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { differentiate, Graph, numbers, simplify, type Value } from '../../models/graph/index.js';
import { operators } from '../../models/graph/ops/index.js';
import { grow, steps } from './dags.js';
import { relativeError, run } from './session.js';

const ops = (g: Graph): string[] => g.nodes.map((node) => node.op);

/** The simplified graph of `build`'s value, whose inputs x [2, 3] and y [2, 3] it gets. */
function simplified(build: (g: Graph, x: Value, y: Value) => Value): Graph {
  const g = new Graph();
  g.output('out', build(g, g.input('x', [2, 3]), g.input('y', [2, 3])));
  return simplify(g);
}

const reads = (g: Graph): string => g.outputs[0].value.name;

describe('simplify', () => {
  it('keeps the values of random graphs and of their gradients, never adds nodes, and has nothing to do twice', async () => {
    await fc.assert(
      fc.asyncProperty(steps, fc.boolean(), async (recipe, withGradient) => {
        const { g, feeds, last } = grow(recipe);
        if (withGradient && g.producers.has(last)) {
          const objective = g.reduceSum(
            last,
            last.shape.map((_, i) => i),
          );
          try {
            differentiate(g, objective, [g.inputs[0]]).forEach((d) => g.output('dx', d));
          } catch (error) {
            expect(String(error)).toContain('does not depend on x');
          }
        }
        const small = simplify(g);
        expect(small.nodes.length).toBeLessThanOrEqual(g.nodes.length);
        expect(small.inputs.map((v) => v.name)).toEqual(g.inputs.map((v) => v.name));
        const foldable = small.nodes.filter(
          (node) => operators[node.op].evaluate && node.inputs.every((v) => !v || small.constants.has(v)),
        );
        expect(foldable).toEqual([]);
        const again = simplify(small);
        expect(ops(again)).toEqual(ops(small));
        expect(again.constants.size).toBe(small.constants.size);
        const [before, after] = [await run(g, feeds), await run(small, feeds)];
        expect(Object.keys(after)).toEqual(Object.keys(before));
        for (const [name, { shape, data }] of Object.entries(before)) {
          expect(after[name].shape).toEqual(shape);
          expect(relativeError(after[name].data, data)).toBeLessThan(1e-5);
        }
      }),
      { numRuns: 100, seed: Number(process.env.FAST_CHECK_SEED ?? 4) },
    );
  });

  it('makes equal nodes one, however deep', () => {
    const g = simplified((g, x, y) => {
      const half = () => g.op('Tanh', [g.mul(g.add(x, y), g.floats([1, 2, 3]))]);
      return g.sub(half(), g.neg(half()));
    });
    expect(ops(g)).toEqual(['Add', 'Mul', 'Tanh', 'Neg', 'Sub']);
  });

  it('does not mix up nodes that differ in attributes, operands or order', () => {
    const g = simplified((g, x, y) => {
      const a = g.op('LeakyRelu', [x], { alpha: 0.1 });
      const b = g.op('LeakyRelu', [x], { alpha: 0.2 });
      return g.concat([a, b, g.sub(x, y), g.sub(y, x)], 0);
    });
    expect(ops(g)).toEqual(['LeakyRelu', 'LeakyRelu', 'Sub', 'Sub', 'Concat']);
  });

  it('does the work on constants now', () => {
    const g = simplified((g, x) => {
      const w = g.op('Transpose', [g.op('Reshape', [g.floats([1, 2, 3, 4, 5, 6]), g.ints([3, 2])])]);
      return g.add(x, g.op('Exp', [g.op('Sub', [w, g.op('ReduceMean', [w, g.ints([1])])])]));
    });
    expect(ops(g)).toEqual(['Add']);
    expect(g.constants.size).toBe(1);
    const [{ tensor }] = g.constants.values();
    const expected = [-2, 0, 2, -2, 0, 2].map(Math.exp);
    expect(relativeError(numbers(tensor()), expected)).toBeLessThan(1e-6);
  });

  it('an output that is constant stays an output', async () => {
    const g = simplified((g) => g.op('Exp', [g.floats([0, 1], [2, 1])]));
    expect(ops(g)).toEqual([]);
    const { out } = await run(g, { x: new Float32Array(6), y: new Float32Array(6) });
    expect(out).toEqual({ shape: [2, 1], data: [1, Math.fround(Math.E)] });
  });

  it.each<[string, (g: Graph, x: Value) => Value]>([
    ['Identity', (g, x) => g.op('Identity', [x])],
    ['x + 0', (g, x) => g.add(g.scalar(0), g.add(x, g.floats([0], [1, 1])))],
    ['x - 0', (g, x) => g.sub(x, g.scalar(0))],
    ['x * 1', (g, x) => g.mul(g.scalar(1), g.mul(x, g.scalar(1)))],
    ['x / 1', (g, x) => g.div(x, g.scalar(1))],
    ['x ^ 1', (g, x) => g.op('Pow', [x, g.scalar(1)])],
    ['--x', (g, x) => g.neg(g.neg(x))],
    ['Reshape to the same', (g, x) => g.op('Reshape', [x, g.ints([2, 3])])],
    ['Reshape there and back', (g, x) => g.reshape(g.reshape(g.op('Unsqueeze', [x, g.ints([0])]), [6]), [2, 3])],
    ['Unsqueeze, Squeeze', (g, x) => g.op('Squeeze', [g.op('Unsqueeze', [x, g.ints([1])])])],
    ['Transpose twice', (g, x) => g.op('Transpose', [g.op('Transpose', [x], { perm: [1, 0] })], { perm: [1, 0] })],
    ['Transpose twice by default', (g, x) => g.op('Transpose', [g.op('Transpose', [x])])],
    ['Slice of all', (g, x) => g.slice(x, 1, 0, 100)],
    ['Pad of nothing', (g, x) => g.op('Pad', [x, g.ints([0, 0, 0, 0])])],
    ['Concat of one', (g, x) => g.op('Concat', [x], { axis: 0 })],
    ['Cast to the same', (g, x) => g.op('Cast', [x], { to: 1 })],
    ['Expand to the same', (g, x) => g.op('Expand', [x, g.ints([2, 1])])],
    ['Tile once', (g, x) => g.op('Tile', [x, g.ints([1, 1])])],
  ])('%s is nothing', (_, build) => {
    const g = simplified(build);
    expect(ops(g)).toEqual([]);
    expect(reads(g)).toBe('x');
    expect(g.constants.size).toBe(0);
  });

  it.each<[string, (g: Graph, x: Value) => Value, string]>([
    ['x + 0 that broadcasts', (g, x) => g.add(x, g.floats([0], [1, 1, 1])), 'Add'],
    ['a reversing Slice', (g, x) => g.op('Slice', [x, g.ints([-1]), g.ints([-9]), g.ints([0]), g.ints([-1])]), 'Slice'],
    ['0 - x', (g, x) => g.sub(g.scalar(0), x), 'Sub'],
    ['1 / x', (g, x) => g.div(g.scalar(1), x), 'Div'],
    ['Cast', (g, x) => g.op('Cast', [x], { to: 10 }), 'Cast'],
  ])('%s is something', (_, build, op) => expect(ops(simplified(build))).toEqual([op]));

  it('chains of Transpose are one, chains of Reshape are one', () => {
    const transposes = simplified((g, x) => {
      const cube = g.op('Unsqueeze', [x, g.ints([0])]);
      const turn = (v: Value) => g.op('Transpose', [v], { perm: [1, 2, 0] });
      return turn(turn(cube));
    });
    expect(ops(transposes)).toEqual(['Unsqueeze', 'Transpose']);
    expect(transposes.nodes[1].attributes).toEqual({ perm: [2, 0, 1] });
    const reshapes = simplified((g, x) => g.op('Flatten', [g.op('Unsqueeze', [g.reshape(x, [3, 2]), g.ints([1])])], { axis: 2 }));
    expect(ops(reshapes)).toEqual(['Reshape']);
  });

  it('a value in the middle of a chain that is used elsewhere stays', () => {
    const g = simplified((g, x) => {
      const t = g.op('Transpose', [x], { perm: [1, 0] });
      return g.matMul(g.op('Transpose', [t], { perm: [1, 0] }), t);
    });
    expect(ops(g)).toEqual(['Transpose', 'MatMul']);
  });

  it('leaves out what no output needs, and keeps unused inputs', () => {
    const g = simplified((g, x, y) => {
      g.op('Exp', [g.mul(y, y)]);
      return g.neg(x);
    });
    expect(ops(g)).toEqual(['Neg']);
    expect(g.inputs.map((v) => v.name)).toEqual(['x', 'y']);
  });

  it('can be built on: a small constant that was left out can be made again', async () => {
    const g = simplified((g, x) => g.add(x, g.op('Neg', [g.scalar(5)])));
    g.output('more', g.mul(g.outputs[0].value, g.scalar(5)));
    const { more } = await run(g, { x: [0, 1, 2, 3, 4, 5], y: new Float32Array(6) });
    expect(more.data).toEqual([-25, -20, -15, -10, -5, 0]);
  });

  it('two outputs of one value, and outputs that are inputs, keep their names', async () => {
    const g = new Graph();
    const x = g.input('x', [2]);
    const y = g.neg(x);
    g.output('a', y);
    g.output('b', g.op('Identity', [y]));
    g.output('c', g.neg(y));
    const results = await run(simplify(g), { x: [1, 2] });
    expect(Object.fromEntries(Object.entries(results).map(([name, { data }]) => [name, data]))).toEqual({
      a: [-1, -2],
      b: [-1, -2],
      c: [1, 2],
    });
  });
});
