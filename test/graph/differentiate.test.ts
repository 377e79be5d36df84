import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { differentiate, Graph, simplify, sizeOf, type Value } from '../../models/graph/index.js';
import { swish } from '../../models/graph/ops/activation.js';
import { interleave } from '../../models/graph/ops/layout.js';
import { groupNorm } from '../../models/graph/ops/normalization.js';
import { grow, interpret, steps } from './dags.js';
import { relativeError, run } from './session.js';

const sum = (g: Graph, x: Value): Value =>
  g.reduceSum(
    x,
    x.shape.map((_, i) => i),
  );

/** The gradients of one value by others, from ONNX Runtime. */
async function gradients(g: Graph, of: Value, wrt: Value[], feeds: Record<string, number[]>, seed?: Value): Promise<number[][]> {
  differentiate(g, of, wrt, { seed }).forEach((d, i) => {
    expect(d.shape).toEqual(wrt[i].shape);
    g.output(`d${i}`, d);
  });
  const results = await run(simplify(g), feeds);
  return wrt.map((_, i) => results[`d${i}`].data);
}

const close = (actual: number[], expected: number[]) => expect(relativeError(actual, expected)).toBeLessThan(1e-5);

/** Central differences of fourth order. */
function slopes(f: (x: Float64Array) => number, x: Float64Array, h: number): Float64Array {
  return x.map((_, i) => {
    const at = (step: number) => f(x.with(i, x[i] + step));
    return (8 * (at(h) - at(-h)) - (at(2 * h) - at(-2 * h))) / (12 * h);
  });
}

describe('differentiate', () => {
  it('adds up what comes back from every use of a value', async () => {
    const g = new Graph();
    const x = g.input('x', [3]);
    const y = g.add(g.add(g.mul(x, x), g.op('Sin', [x])), x);
    const at = [0.5, -1, 2];
    const [dx] = await gradients(g, sum(g, y), [x], { x: at });
    close(
      dx,
      at.map((v) => 2 * v + Math.cos(v) + 1),
    );
  });

  it('differentiates by several values at once, inner ones too, each for all its uses', async () => {
    const g = new Graph();
    const x = g.input('x', [2]);
    const h = g.op('Exp', [x]);
    const y = sum(g, g.add(g.mul(h, h), g.mul(h, x)));
    const at = [0.3, -0.4];
    const [dy, dh, dx, again] = await gradients(g, y, [y, h, x, h], { x: at });
    expect(dy).toEqual([1]);
    close(
      dh,
      at.map((v) => 2 * Math.exp(v) + v),
    );
    close(
      dx,
      at.map((v) => 2 * Math.exp(2 * v) + Math.exp(v) * v + Math.exp(v)),
    );
    expect(again).toEqual(dh);
  });

  it('follows a gradient of its own in place of the way a value was made', async () => {
    const g = new Graph();
    const x = g.input('x', [2]);
    const w = g.input('w', [2]);
    const h = g.mul(x, w);
    // The floor of h x, as if it were 3 h.
    const own = g.withGradient(g.op('Floor', [g.mul(h, x)]), h, (dy) => g.scale(dy, 3));
    const y = sum(g, g.mul(own, own));
    g.output('y', y);
    const [dx, dw, dh] = await gradients(g, y, [x, w, h], { x: [1.5, 2], w: [2, -1] });
    // floor(h x) = [4, -4], so d/dh = 2 [4, -4] 3.
    expect(dh).toEqual([24, -24]);
    expect(dx).toEqual([48, 24]);
    expect(dw).toEqual([36, -48]);
    expect(() =>
      differentiate(
        g,
        sum(
          g,
          g.withGradient(x, w, (dy) => dy),
        ),
        [x],
      ),
    ).toThrow('does not depend on x');
  });

  it('checks the shape of a gradient of its own', () => {
    const g = new Graph();
    const x = g.input('x', [2]);
    const y = g.withGradient(sum(g, x), x, (dy) => dy);
    expect(() => differentiate(g, y, [x])).toThrow('gave [] for input 0 of shape [2]');
  });

  it('takes the gradient of the objective by a value as a seed', async () => {
    const g = new Graph();
    const x = g.input('x', [2]);
    const y = g.mul(
      x,
      g.floats(
        [
          [3, 4],
          [5, 6],
        ].flat(),
        [2, 2],
      ),
    );
    const [dx] = await gradients(g, y, [x], { x: [1, 1] }, g.floats([1, 10, 100, 1000], [2, 2]));
    expect(dx).toEqual([3 + 500, 40 + 6000]);
  });

  it('treats any single number as an objective, whatever its rank', async () => {
    const g = new Graph();
    const x = g.input('x', [1, 1, 2]);
    const [dx] = await gradients(g, g.reduceSum(g.mul(x, x), [2], true), [x], { x: [3, 4] });
    expect(dx).toEqual([6, 8]);
  });

  it('asks for a seed where the value is not a single number', () => {
    const g = new Graph();
    const x = g.input('x', [2, 3]);
    expect(() => differentiate(g, g.neg(x), [x])).toThrow(
      'Neg:out has shape [2, 3]: only a single number can be differentiated without a seed',
    );
  });

  it('refuses a seed of another shape and gradients of whole numbers', () => {
    const g = new Graph();
    const x = g.input('x', [2, 3]);
    const i = g.input('i', [2], 'int64');
    expect(() => differentiate(g, g.neg(x), [x], { seed: g.floats([1, 2, 3]) })).toThrow(/seed.*\[3\].*\[2, 3\]/);
    expect(() => differentiate(g, sum(g, x), [i])).toThrow('i is int64: gradients flow to float32 values only');
  });

  it('names node, operator and path where a rule is missing', () => {
    const g = new Graph();
    const x = g.input('x', [2]);
    const wrapped = g.within('tower', () => g.apply('Mod', [g.mul(x, x), g.scalar(2)], { fmod: 1 }, 1, 'wrap')[0]);
    const y = sum(g, g.op('Exp', [wrapped]));
    expect(() => differentiate(g, y, [x])).toThrow(
      'the operator Mod of node wrap has no gradient rule; the path to it: x -> tower/Mul (Mul) -> wrap (Mod)',
    );
    // Off the path it does not matter.
    const z = sum(g, g.mul(x, g.op('Mod', [g.floats([3, 5]), g.scalar(2)], { fmod: 1 })));
    expect(() => differentiate(g, z, [x])).not.toThrow();
  });

  it('names the input where a rule does not cover it', () => {
    const g = new Graph();
    const low = g.input('low', []);
    expect(() => differentiate(g, sum(g, g.op('Clip', [g.floats([1, 2]), low])), [low])).toThrow(
      /operator Clip of node Clip has no gradient rule for its input 1; the path to it: low -> Clip \(Clip\)/,
    );
  });

  it('lets nothing through piecewise constant operators', async () => {
    const g = new Graph();
    const x = g.input('x', [3]);
    const [dx] = await gradients(g, sum(g, g.mul(x, g.op('Floor', [x]))), [x], { x: [1.5, -0.5, 3.2] });
    expect(dx).toEqual([1, -1, 3]);
  });

  it('says when there is no dependence', () => {
    const g = new Graph();
    const x = g.input('x', [3]);
    const y = g.input('y', [3]);
    const objective = sum(g, g.mul(g.op('Floor', [x]), y));
    expect(() => differentiate(g, objective, [x])).toThrow(/^\S+ does not depend on x in a differentiable way$/);
    expect(() => differentiate(g, sum(g, y), [x])).toThrow(/does not depend on x/);
  });

  it('spends nothing on weights, nor on what comes after the objective', () => {
    const g = new Graph();
    const x = g.input('x', [1, 2, 6, 6]);
    const w = g.input('w', [2, 2, 3, 3]);
    const h = g.op('Conv', [x, w]);
    const y = sum(g, h);
    g.op('Mod', [h, g.scalar(1)], { fmod: 1 });
    const before = g.nodes.length;
    differentiate(g, y, [x]);
    const added = g.nodes.slice(before).map((node) => node.op);
    expect(added.filter((op) => op === 'Conv')).toHaveLength(1);
  });

  it('names what it adds after the node it belongs to', () => {
    const g = new Graph();
    const x = g.input('x', [2]);
    const y = g.within('tower', () => sum(g, g.op('Exp', [x])));
    const before = g.nodes.length;
    differentiate(g, y, [x]);
    const names = g.nodes.slice(before).map((node) => node.name);
    expect(names.every((name) => name.startsWith('grad/tower/'))).toBe(true);
    expect(names).toContain('grad/tower/Exp/Mul');
  });

  it('agrees with finite differences in float64 on random graphs, for both targets', () => {
    fc.assert(
      fc.property(steps, fc.constantFrom('cpu' as const, 'gpu' as const), (recipe, target) => {
        const { g, feeds, last } = grow(recipe);
        const weights = g.floats(
          Float32Array.from({ length: sizeOf(last.shape) }, (_, i) => Math.cos(i)),
          last.shape,
        );
        const objective = sum(g, g.mul(last, weights));
        const wrt = g.inputs.filter((x) => depends(g, last, x));
        const values = (name: string, data: Float64Array) => interpret(g, { ...feeds, [name]: data })(objective).data[0];
        const expected = wrt.map((x) => slopes((data) => values(x.name, data), feeds[x.name], 1e-3));
        const found = differentiate(g, objective, wrt, { target });
        const valueOf = interpret(g, feeds);
        found.forEach((d, i) => expect(relativeError(valueOf(d).data, expected[i])).toBeLessThan(1e-5));
      }),
      { numRuns: 80, seed: Number(process.env.FAST_CHECK_SEED ?? 4) },
    );
  });

  const wave = (g: Graph, shape: number[], speed: number) =>
    g.floats(
      Float32Array.from({ length: sizeOf(shape) }, (_, i) => Math.sin(speed * i + 1)),
      shape,
    );
  const perChannel = (g: Graph, x: Value) => g.reshape(x, [x.shape[0], 1, 1]);

  // Each with gradients of its own, beside the definition that it stands for.
  it.each<{ name: string; shape: number[]; build: (g: Graph, x: Value) => Value; definition: (g: Graph, x: Value) => Value }>([
    {
      name: 'swish',
      shape: [1, 2, 3, 4],
      build: swish,
      definition: (g, x) => g.mul(x, g.op('Sigmoid', [x])),
    },
    {
      name: 'groupNorm',
      shape: [2, 6, 3, 2],
      build: (g, x) => groupNorm(g, x, 3, wave(g, [6], 2), wave(g, [6], 3), 1 / 64),
      definition: (g, x) => {
        const ones = g.floats([1, 1, 1]);
        const grouped = g.op('InstanceNormalization', [g.reshape(x, [2, 3, 12]), ones, g.floats([0, 0, 0])], { epsilon: 1 / 64 });
        const normal = g.reshape(grouped, x.shape.slice());
        return g.add(g.mul(normal, perChannel(g, wave(g, [6], 2))), perChannel(g, wave(g, [6], 3)));
      },
    },
    {
      name: 'interleave',
      shape: [2, 18, 2, 3],
      build: (g, x) => interleave(g, g.apply('Split', [x], { axis: 1, num_outputs: 9 }, 9), 3),
      definition: (g, x) => g.op('DepthToSpace', [x], { blocksize: 3 }),
    },
  ])('$name is its definition, in value and slope', async ({ shape, build, definition }) => {
    const g = new Graph();
    const x = g.input('x', shape);
    const at = Float64Array.from({ length: sizeOf(shape) }, (_, i) => Math.fround(3 * Math.cos(3 * i)));
    const [value, expected] = [build, definition].map((f) => f(g, x));
    const weigh = (y: Value) => sum(g, g.mul(y, wave(g, y.shape.slice(), 1.3)));
    const [gradient] = differentiate(g, weigh(value), [x]);
    const objective = weigh(expected);
    g.output('value', value);
    g.output('gradient', gradient);
    const exact = interpret(g, { x: at });
    expect(relativeError(exact(value).data, exact(expected).data)).toBeLessThan(1e-12);
    const slope = slopes((data) => interpret(g, { x: data })(objective).data[0], at, 1e-3);
    expect(relativeError(exact(gradient).data, slope)).toBeLessThan(1e-8);
    const found = await run(simplify(g), { x: at });
    expect(relativeError(found.value.data, exact(expected).data)).toBeLessThan(1e-6);
    expect(relativeError(found.gradient.data, slope)).toBeLessThan(1e-5);
  });

  it('differentiates its own results: the gradient of |gradient|^2 of a smooth network', async () => {
    const g = new Graph();
    const x = g.input('x', [1, 2, 4, 3]);
    let h = g.op('Conv', [x, wave(g, [4, 2, 3, 3], 1.7)], { pads: [1, 1, 1, 1], strides: [2, 1] });
    h = g.mul(h, g.op('Sigmoid', [h]));
    h = g.op('InstanceNormalization', [h, wave(g, [4], 1), wave(g, [4], 2)]);
    h = g.op('DepthToSpace', [g.add(h, g.op('Erf', [h]))], { blocksize: 2 });
    h = g.op('SpaceToDepth', [g.op('Pad', [g.op('Tanh', [h]), g.ints([0, 0, 0, 0, 0, 0, 2, 0])])], { blocksize: 2 });
    h = g.reshape(h, [3, 12]);
    h = g.op(
      'LayerNormalization',
      [g.op('Gemm', [h, wave(g, [5, 12], 0.9), wave(g, [5], 3)], { transB: 1 }), wave(g, [5], 5), wave(g, [5], 6)],
      { epsilon: 0.1 },
    );
    h = g.op('Einsum', [g.op('Softmax', [h]), g.op('Exp', [g.scale(h, 0.3)])], { equation: 'ij,kj->ik' });
    const objective = sum(g, g.mul(h, wave(g, [3, 3], 2.3)));
    const [gradient] = differentiate(g, objective, [x]);
    const size = sum(g, g.mul(gradient, gradient));
    const [second] = differentiate(g, size, [x]);
    g.output('gradient', gradient);
    g.output('second', second);

    const at = Float64Array.from({ length: 24 }, (_, i) => Math.fround(Math.cos(3 * i)));
    const value = (v: Value) => (data: Float64Array) => interpret(g, { x: data })(v).data[0];
    const results = await run(simplify(g), { x: at });
    const exact = interpret(g, { x: at });
    expect(relativeError(exact(gradient).data, slopes(value(objective), at, 1e-3))).toBeLessThan(1e-7);
    expect(relativeError(exact(second).data, slopes(value(size), at, 1e-3))).toBeLessThan(1e-7);
    expect(relativeError(results.gradient.data, exact(gradient).data)).toBeLessThan(1e-4);
    expect(relativeError(results.second.data, exact(second).data)).toBeLessThan(1e-3);
  });
});

function depends(g: Graph, value: Value, on: Value): boolean {
  const node = g.producers.get(value);
  return value === on || !!node?.inputs.some((v) => v && depends(g, v, on));
}
