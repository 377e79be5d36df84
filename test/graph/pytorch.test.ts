import { afterAll, describe, expect, it } from 'vitest';
import { differentiate, Graph, numbers, simplify, sizeOf, type Shape, type Tensor, type Value } from '../../models/graph/index.js';
import type { Attributes } from '../../models/graph/operator.js';
import { fromNumbers } from '../../models/graph/tensor.js';
import { openSafetensors } from '../../models/weights/safetensors.js';
import { relativeDistance, relativeError, run } from './session.js';

/** Made by test/fixtures/graph/make_fixtures.py, which says what is in it. */
const fixture = openSafetensors(new URL('../fixtures/graph/pytorch.safetensors', import.meta.url).pathname);
afterAll(() => fixture.close());

interface FixtureCase {
  op: string;
  inputs: ({ shape: number[]; dtype?: Tensor['dtype']; values?: number[] } | null)[];
  attributes: Attributes;
  outputs: number;
}

const cases = JSON.parse(fixture.metadata.cases) as FixtureCase[];
const stored = (name: string): number[] => numbers(fixture.read(name));

/** The objective of every case in the fixture: sum(y w) with w[i] = ((37 i) mod 11 - 5) / 5. */
function objective(g: Graph, ys: readonly Value[]): Value {
  const term = (y: Value) => {
    const w = Float32Array.from({ length: sizeOf(y.shape) }, (_, i) => (((37 * i) % 11) - 5) / 5);
    return g.reduceSum(
      g.mul(y, g.floats(w, y.shape)),
      y.shape.map((_, i) => i),
    );
  };
  return ys.map(term).reduce((a, b) => g.add(a, b));
}

const worst: Record<string, number> = {};
function close(kind: string, error: number, limit: number): void {
  worst[kind] = Math.max(worst[kind] ?? 0, error);
  expect(error, kind).toBeLessThan(limit);
}
afterAll(() => console.info('against PyTorch, worst', JSON.stringify(worst)));

describe('operators against PyTorch', () => {
  it.each(cases.map((c, i) => [i, c.op, JSON.stringify(c.attributes), c] as const))('%i %s %s', async (i, op, _, c) => {
    for (const target of ['cpu', 'gpu'] as const) {
      const g = new Graph();
      const inputs = c.inputs.map((x, k) => {
        if (!x) return null;
        return x.values ? g.constant(fromNumbers(x.dtype!, x.shape, x.values)) : g.input(`x${k}`, x.shape);
      });
      const ys = g.apply(op, inputs, c.attributes, c.outputs);
      ys.forEach((y, k) => g.output(`y${k}`, y));
      differentiate(g, objective(g, ys), g.inputs, { target }).forEach((d, k) => g.output(g.inputs[k].name.replace('x', 'd'), d));
      const results = await run(simplify(g), Object.fromEntries(g.inputs.map(({ name }) => [name, stored(`${i}.${name}`)])));
      for (const [name, { data }] of Object.entries(results))
        close(name.startsWith('y') ? 'value' : 'gradient', relativeError(data, stored(`${i}.${name}`)), 1e-5);
    }
  });
});

/** A graph being built with one network's weights of the fixture, which are named under a prefix. */
class Builder {
  readonly g = new Graph();
  readonly #prefix: string;
  constructor(prefix: string) {
    this.#prefix = prefix;
  }

  weight(name: string, shape?: Shape): Value {
    const tensor = fixture.read(`${this.#prefix}.${name}`);
    return this.g.floats(numbers(tensor), shape ?? tensor.shape, name);
  }

  /** TensorFlow's SAME padding. */
  conv(name: string, x: Value, strides = 1, group = 1): Value {
    const attributes = { strides: [strides, strides], group, auto_pad: 'SAME_UPPER' };
    return this.g.op('Conv', [x, this.weight(`${name}.w`), this.weight(`${name}.b`)], attributes);
  }

  dense(name: string, x: Value): Value {
    return this.g.add(this.g.matMul(x, this.weight(`${name}.w`)), this.weight(`${name}.b`));
  }

  layerNorm(name: string, x: Value, epsilon: number): Value {
    const inputs = [x, this.weight(`${name}.w`), this.weight(`${name}.b`)];
    return this.g.apply('LayerNormalization', inputs, { axis: -1, epsilon }, 3)[0];
  }

  groupNorm(name: string, x: Value, groups: number): Value {
    const { g } = this;
    const [n, c, ...spatial] = x.shape;
    const grouped = g.reshape(x, [n, groups, (c / groups) * sizeOf(spatial)]);
    const ones = g.floats(new Float32Array(groups).fill(1));
    const normal = g.op('InstanceNormalization', [grouped, ones, g.floats(new Float32Array(groups))], { epsilon: 1e-6 });
    const perChannel = [c, 1, 1];
    return g.add(g.mul(g.reshape(normal, x.shape), this.weight(`${name}.w`, perChannel)), this.weight(`${name}.b`, perChannel));
  }

  silu(x: Value): Value {
    return this.g.mul(x, this.g.op('Sigmoid', [x]));
  }

  relu6(x: Value): Value {
    return this.g.op('Clip', [x, this.g.scalar(0), this.g.scalar(6)]);
  }

  gelu(x: Value): Value {
    const { g } = this;
    return g.mul(g.scale(x, 0.5), g.add(g.op('Erf', [g.scale(x, Math.SQRT1_2)]), g.scalar(1)));
  }

  /** A stem, two inverted residuals (k3 stride 2; k5 stride 1 with a shortcut), a head and a mean. */
  mobile(image: Value, activation: (x: Value) => Value, squeeze: boolean): Value {
    const { g } = this;
    const block = (x: Value, at: string, stride: number): Value => {
      let y = activation(this.conv(`${at}.expand`, x));
      y = activation(this.conv(`${at}.depthwise`, y, stride, 16));
      if (squeeze) {
        const s = activation(this.conv(`${at}.squeeze`, g.op('GlobalAveragePool', [y])));
        y = g.mul(y, g.op('Sigmoid', [this.conv(`${at}.restore`, s)]));
      }
      y = this.conv(`${at}.project`, y);
      return stride === 1 ? g.add(x, y) : y;
    };
    const features = block(block(activation(this.conv('stem', image, 2)), 'a', 2), 'b', 1);
    return g.reduceMean(activation(this.conv('head', features)), [2, 3]);
  }

  attention(x: Value, heads: number, bias: Value | null): Value {
    const { g } = this;
    const [n, tokens, d] = x.shape;
    const [q, k, v] = ['q', 'k', 'v'].map((p) => g.reshape(this.dense(p, x), [n, tokens, heads, d / heads]));
    const scores = g.scale(g.matMul(g.transpose(q, [0, 2, 1, 3]), g.transpose(k, [0, 2, 3, 1])), 1 / Math.sqrt(d / heads));
    const mixed = g.matMul(g.op('Softmax', [bias ? g.add(scores, bias) : scores]), g.transpose(v, [0, 2, 1, 3]));
    return this.dense('o', g.reshape(g.transpose(mixed, [0, 2, 1, 3]), x.shape));
  }

  /** Post-norm. */
  transformer(x: Value, activation: (x: Value) => Value, epsilon: number, bias: Value | null = null): Value {
    const h = this.layerNorm('norm1', this.g.add(x, this.attention(x, 4, bias)), epsilon);
    return this.layerNorm('norm2', this.g.add(h, this.dense('down', activation(this.dense('up', h)))), epsilon);
  }

  /** A residual block with its shortcut, an attention block, and an upsampling to pixels. */
  vqgan(z: Value): Value {
    const { g } = this;
    let y = this.conv('conv1', this.silu(this.groupNorm('norm1', z, 4)));
    y = this.conv('conv2', this.silu(this.groupNorm('norm2', y, 4)));
    let x = g.add(this.conv('shortcut', z), y);
    const [n, c, h, w] = x.shape;
    const normal = this.groupNorm('norm3', x, 4);
    const [q, k, v] = ['q', 'k', 'v'].map((p) => g.reshape(this.conv(p, normal), [n, c, h * w]));
    const scores = g.op('Softmax', [g.scale(g.matMul(g.transpose(q, [0, 2, 1]), k), 1 / 4)], { axis: -1 });
    x = g.add(x, this.conv('o', g.reshape(g.matMul(v, g.transpose(scores, [0, 2, 1])), [n, c, h, w])));
    const nearest = { mode: 'nearest', coordinate_transformation_mode: 'asymmetric', nearest_mode: 'floor' };
    x = this.conv('up', g.op('Resize', [x, null, g.floats([1, 1, 2, 2])], nearest));
    return this.conv('out', this.silu(this.groupNorm('norm4', x, 4)));
  }
}

const networks: Record<string, (b: Builder, x: Value) => Value> = {
  relu6: (b, x) => b.mobile(x, (v) => b.relu6(v), false),
  silu: (b, x) => b.mobile(x, (v) => b.silu(v), true),
  transformer: (b, x) => b.transformer(x, (v) => b.g.op('Relu', [v]), 1e-5),
  bert: (b, x) => b.transformer(x, (v) => b.gelu(v), 1e-12, b.g.floats([0, 0, 0, 0, -1e4, -1e4])),
  vqgan: (b, x) => b.vqgan(x),
};

/** Values and input gradient of a network of the fixture, for all the graphs that may be emitted for it. */
async function runNetwork(name: string, network: (b: Builder, x: Value) => Value, target: 'cpu' | 'gpu', simplified: boolean) {
  const b = new Builder(name);
  const x = b.g.input('x', fixture.read(`${name}.x`).shape);
  const y = network(b, x);
  b.g.output('y', y);
  b.g.output('dx', differentiate(b.g, objective(b.g, [y]), [x], { target })[0]);
  return run(simplified ? simplify(b.g) : b.g, { x: stored(`${name}.x`) });
}

describe('networks against PyTorch', () => {
  const emissions = (['cpu', 'gpu'] as const).flatMap((target) => [true, false].map((simplified) => [target, simplified] as const));
  for (const [name, network] of Object.entries(networks))
    it.each(emissions)(`${name} for %s, simplified: %s`, async (target, simplified) => {
      const { y, dx } = await runNetwork(name, network, target, simplified);
      close(`${name} value`, relativeDistance(y.data, stored(`${name}.y`)), 1e-5);
      close(`${name} gradient`, relativeDistance(dx.data, stored(`${name}.dx`)), 1e-5);
    });
});

describe('corners of ReLU6', () => {
  // Every other channel of this network has an entry whose pre-activation is 0 or 6 within rounding: float32 puts it on one side by chance.
  const near = JSON.parse(fixture.metadata.near) as number[][];
  const masks = near.map((_, layer) => fixture.read(`corners.mask${layer}`));

  it('flip only entries within 1e-5 of a corner, and those are all that separates the gradient from float64', async () => {
    const b = new Builder('corners');
    const layers: Value[] = [];
    const x = b.g.input('x', fixture.read('corners.x').shape);
    const y = b.mobile(
      x,
      (v) => {
        layers.push(b.relu6(v));
        return layers[layers.length - 1];
      },
      false,
    );
    layers.forEach((v, i) => b.g.output(`layer${i}`, v));
    b.g.output('y', y);
    b.g.output('dx', differentiate(b.g, objective(b.g, [y]), [x])[0]);
    const results = await run(simplify(b.g), { x: stored('corners.x') });

    const flipped = near.map((_, layer) => {
      const sides = results[`layer${layer}`].data.map((v) => (v <= 0 ? 0 : v < 6 ? 1 : 2));
      return sides.flatMap((side, at) => (side === masks[layer].data[at] ? [] : [at]));
    });
    flipped.forEach((entries, layer) => expect(near[layer]).toEqual(expect.arrayContaining(entries)));
    expect(flipped.flat().length).toBeGreaterThan(0);
    close('corners value', relativeDistance(results.y.data, stored('corners.y')), 1e-5);

    // The same network on float64's side of every corner: x where its mask is 1, and 6 where it is 2.
    let layer = 0;
    const onSide = (b: Builder) => (v: Value) => {
      const sides = Array.from(masks[layer++].data, Number);
      const inside = b.g.floats(
        sides.map((s) => +(s === 1)),
        v.shape,
      );
      const above = b.g.floats(
        sides.map((s) => (s === 2 ? 6 : 0)),
        v.shape,
      );
      return b.g.add(b.g.mul(v, inside), above);
    };
    const piece = await runNetwork('corners', (b, x) => b.mobile(x, onSide(b), false), 'cpu', true);
    const withFlips = relativeDistance(results.dx.data, stored('corners.dx'));
    const without = relativeDistance(piece.dx.data, stored('corners.dx'));
    console.info(
      `ReLU6 corners: ${flipped.flat().length} of ${near.flat().length} near entries flipped; gradient off by ${withFlips}, without flips ${without}`,
    );
    close('corners gradient without flips', without, 1e-5);
    expect(withFlips).toBeLessThan(0.2);
    expect(withFlips).toBeGreaterThan(without);
  });
});
