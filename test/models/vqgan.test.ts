import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, describe, expect, it } from 'vitest';
import {
  differentiate,
  Graph,
  numbers,
  simplify,
  sizeOf,
  type Shape,
  type Target,
  type Tensor,
  type Value,
} from '../../models/graph/index.js';
import { numberToFloat16 } from '../../models/graph/tensor.js';
import { vqganConfig, vqganPresets, type VqganConfig, type VqganPreset } from '../../models/vqgan/config.js';
import { codebookName, parameterShapes } from '../../models/vqgan/layout.js';
import { openVqgan } from '../../models/vqgan/model.js';
import { likeliest, quantize } from '../../models/vqgan/quantizer.js';
import { clampToPicture, decoder, encoder } from '../../models/vqgan/vqgan.js';
import { openSafetensors } from '../../models/weights/safetensors.js';
import type { Weights } from '../../models/weights/weights.js';
import { randomStream, run } from '../graph/session.js';

const fixture = (name: string) => new URL(`../fixtures/vqgan/${name}.safetensors`, import.meta.url).pathname;

const worst: Record<string, number> = {};
function close(kind: string, error: number, limit: number): void {
  worst[kind] = Math.max(worst[kind] ?? 0, error);
  expect(error, kind).toBeLessThan(limit);
}
afterAll(() => console.info('VQGAN against PyTorch, worst', JSON.stringify(worst)));

/** Largest difference over the largest expected magnitude. */
function relativeError(actual: ArrayLike<number>, expected: readonly number[]): number {
  if (actual.length !== expected.length) return Infinity;
  const size = expected.reduce((most, v) => Math.max(most, Math.abs(v)), 0);
  return expected.reduce((most, v, i) => (Number.isNaN(actual[i]) ? NaN : Math.max(most, Math.abs(actual[i] - v))), 0) / size;
}

/** `hashed` of models/vqgan/training/twin.py: numbers in [-1, 1) that are a function of name and position. */
function hashed(name: string, shape: Shape, scale = 1, offset = 0): Float32Array {
  const seed = Buffer.from(name).reduce((h, byte) => Math.imul(h ^ byte, 0x01000193), 0x811c9dc5);
  const values = new Float32Array(sizeOf(shape));
  for (let i = 0; i < values.length; i++) {
    let h = (Math.imul(i, 0x9e3779b1) + seed) | 0;
    h = Math.imul(h ^ (h >>> 16), 0x85ebca6b);
    h = Math.imul(h ^ (h >>> 13), 0xc2b2ae35);
    values[i] = (((h ^ (h >>> 16)) >>> 0) * 2 ** -31 - 1) * scale + offset;
  }
  return values;
}

/** `hashed_weight` of twin.py. */
function hashedWeight(model: string, name: string, shape: Shape): Tensor {
  const fanIn = sizeOf(shape.slice(1));
  const [scale, offset] =
    shape.length === 1
      ? [0.2, name.includes('norm') && name.endsWith('weight') ? 1 : 0]
      : [name.startsWith('quantize.emb') ? 1 : Math.sqrt(3 / fanIn), 0];
  return { dtype: 'float32', shape, data: hashed(`${model}/${name}`, shape, scale, offset) };
}

function hashedWeights(config: VqganConfig): Weights {
  const shapes = parameterShapes(config);
  const tensor = (name: string) => hashedWeight(config.name, name, shapes.get(name)!);
  const none = () => {
    throw new Error('not for networks');
  };
  return {
    has: (name) => shapes.has(name),
    shape: (name) => shapes.get(name)!,
    tensor,
    rows: none,
    elements: none,
    constant: (g, name) => g.constant(tensor(name), name),
    close: () => undefined,
  };
}

/** Every k-th number as the fixtures have it. */
function sampled(values: readonly number[]): number[] {
  const step = Math.ceil(values.length / 3000);
  const odd = step + 1 - (step % 2);
  return values.filter((_, i) => i % odd === 0);
}

/** Value and gradient by x of its dot product with hashed numbers, sampled. */
async function valueAndGradient(name: string, shape: Shape, x: Float32Array, target: Target, f: (g: Graph, x: Value) => Value) {
  const g = new Graph();
  const input = g.input('x', shape);
  const y = f(g, input);
  g.output('value', y);
  const direction = g.floats(hashed(`${name}.direction`, y.shape), y.shape);
  const dot = g.reduceSum(g.mul(y, direction), [0, 1, 2, 3]);
  g.output('gradient', differentiate(g, dot, [input], { target })[0]);
  const { value, gradient } = await run(simplify(g), { x });
  return { value: sampled(value.data), gradient: sampled(gradient.data) };
}

const millions = (n: number) => (n / 1e6).toFixed(2);

describe.each([...Object.keys(vqganPresets), 'small', 'small-attentive'])('%s', (name) => {
  const expected = openSafetensors(fixture(name));
  afterAll(() => expected.close());
  const stored = (key: string) => numbers(expected.read(key));
  const [rawConfig, latent, parameters] = ['config', 'latent', 'parameters'].map(
    (key) => JSON.parse(expected.metadata[key]) as unknown,
  );
  const config = vqganConfig.parse(rawConfig);
  const [n, h, w] = latent as number[];
  const z = hashed(`${name}/z`, [n, config.embedDim, h, w]);
  const weights = hashedWeights(config);

  // What is emitted for GPUs differs in the encoder's strided convolutions at most: small networks show it.
  const targets: Target[] = name.startsWith('small') ? ['cpu', 'gpu'] : ['cpu'];

  it('has the settings and the parameters of the twin', () => {
    if (name in vqganPresets) expect({ ...vqganPresets[name as VqganPreset], sources: [] }).toEqual(config);
    const count = (prefix: string) =>
      [...parameterShapes(config)].reduce((sum, [key, shape]) => sum + (key.startsWith(prefix) ? sizeOf(shape) : 0), 0);
    expect({ encoder: count('encoder.'), decoder: count('decoder.'), all: count('') }).toEqual(parameters);
  });

  it.each(targets)('decoder and its input gradient, for %s', async (target) => {
    const found = await valueAndGradient('decoder', [n, config.embedDim, h, w], z, target, (g, x) =>
      decoder(g, x, weights, config),
    );
    close(`${name} decoder`, relativeError(found.value, stored('decoder')), 1e-4);
    close(`${name} decoder gradient`, relativeError(found.gradient, stored('decoder.gradient')), 1e-4);
  });

  it.each(targets)('encoder and its input gradient, for %s', async (target) => {
    const shape = [n, 3, h * config.downsampling, w * config.downsampling];
    const pictures = hashed(`${name}/pictures`, shape, 0.5, 0.5);
    const found = await valueAndGradient('encoder', shape, pictures, target, (g, x) => encoder(g, x, weights, config));
    close(`${name} encoder`, relativeError(found.value, stored('encoder')), 1e-4);
    close(`${name} encoder gradient`, relativeError(found.gradient, stored('encoder.gradient')), 1e-4);
  });

  it('codes, and what is looked up', async () => {
    const g = new Graph();
    const x = g.input('z', [n, config.embedDim, h, w]);
    const codebook = weights.constant(g, codebookName(config));
    const found = {
      ...quantize(g, x, codebook),
      ...(config.kind === 'gumbel' && { likeliest: likeliest(g, x, weights, codebook).codes }),
    };
    for (const [key, value] of Object.entries(found)) g.output(key, value);
    const out = await run(simplify(g), { z });
    for (const key of Object.keys(found).filter((key) => key === 'codes' || key === 'likeliest'))
      expect(out[key].data).toEqual(stored(key));
    expect(out.codes.shape).toEqual([n, h, w]);
    expect(out.quantized.shape).toEqual([n, config.embedDim, h, w]);
    const rows = weights.tensor(codebookName(config)).data;
    out.quantized.data.forEach((v, i) => {
      const [picture, channel, position] = [
        Math.floor(i / (config.embedDim * h * w)),
        Math.floor(i / (h * w)) % config.embedDim,
        i % (h * w),
      ];
      expect(v).toBe(rows[out.codes.data[picture * h * w + position] * config.embedDim + channel]);
    });
    expect(out.straightThrough.data).toEqual(out.quantized.data);
  });
});

describe('official networks', () => {
  /** Shared reference, vqgan.md, in millions. */
  it.each([
    ['imagenet-f16-1024', '29.30', '42.45', '72.14'],
    ['imagenet-f16-16384', '29.30', '42.45', '76.07'],
    ['openimages-gumbel-f8-8192', null, null, '69.00'],
  ] as const)('%s has the parameters of the reference', (name, encoder, decoder, all) => {
    const shapes = [...parameterShapes(vqganPresets[name])];
    const count = (prefix: string) => shapes.reduce((sum, [key, shape]) => sum + (key.startsWith(prefix) ? sizeOf(shape) : 0), 0);
    if (encoder) expect([millions(count('encoder.')), millions(count('decoder.'))]).toEqual([encoder, decoder]);
    expect(millions(count(''))).toBe(all);
  });

  /** Shared reference, vqgan.md: where attention and shortcuts are. */
  it.each([
    [
      'imagenet-f16-1024',
      16,
      ['up.4.attn.0', 'up.4.attn.1', 'up.4.attn.2', 'down.4.attn.0', 'down.4.attn.1'],
      ['up.3', 'up.1', 'down.2', 'down.4'],
    ],
    [
      'openimages-gumbel-f8-8192',
      8,
      ['up.3.attn.0', 'up.3.attn.1', 'up.3.attn.2', 'down.3.attn.0', 'down.3.attn.1'],
      ['up.2', 'up.1', 'down.2', 'down.3'],
    ],
  ] as const)('%s: keys', (name, f, attentions, shortcuts) => {
    const config = vqganPresets[name];
    expect(config.downsampling).toBe(f);
    const keys = [...parameterShapes(config).keys()];
    const found = (ending: string) =>
      keys
        .filter((key) => key.endsWith(ending))
        .map((key) => key.slice(key.indexOf('.') + 1, -ending.length))
        .sort();
    expect(found('.q.weight').filter((key) => !key.startsWith('mid'))).toEqual([...attentions].sort());
    expect(found('.nin_shortcut.weight')).toEqual(shortcuts.map((level) => `${level}.block.0`).sort());
    expect(keys).toContain('decoder.up.1.upsample.conv.weight');
    expect(keys).not.toContain('decoder.up.0.upsample.conv.weight');
    expect(keys.filter((key) => key.startsWith('decoder.up.0.block.')).length).toBe(3 * 8);
  });
});

describe('quantizer', () => {
  it('takes the nearest code, and hands its gradient straight through', async () => {
    const random = randomStream(7);
    const [n, d, h, w, codes] = [2, 5, 3, 4, 300];
    const draw = (length: number) => Float32Array.from({ length }, () => 2 * random() - 1);
    const [z, codebook, direction] = [draw(n * d * h * w), draw(codes * d), draw(n * d * h * w)];
    // A row that stands twice: the first counts.
    codebook.copyWithin(200 * d, 3 * d, 4 * d);
    const g = new Graph();
    const x = g.input('z', [n, d, h, w]);
    const found = quantize(g, x, g.floats(codebook, [codes, d]));
    const dot = g.reduceSum(g.mul(found.straightThrough, g.floats(direction, x.shape)), [0, 1, 2, 3]);
    g.output('codes', found.codes);
    g.output('gradient', differentiate(g, dot, [x])[0]);
    const out = await run(simplify(g), { z });
    expect(out.gradient.data).toEqual([...direction]);
    for (let i = 0; i < n * h * w; i++) {
      const [picture, position] = [Math.floor(i / (h * w)), i % (h * w)];
      const distance = (code: number) => {
        let sum = 0;
        for (let c = 0; c < d; c++) sum += (z[(picture * d + c) * h * w + position] - codebook[code * d + c]) ** 2;
        return sum;
      };
      const distances = Array.from({ length: codes }, (_, code) => distance(code));
      expect(distances[out.codes.data[i]] - Math.min(...distances)).toBeLessThan(1e-6);
      expect(out.codes.data[i]).not.toBe(200);
    }
  });

  it('has no gradient by the map that codes were chosen for', () => {
    const g = new Graph();
    const z = g.input('z', [1, 2, 1, 1]);
    const { quantized } = quantize(g, z, g.floats([1, 2, 3, 4], [2, 2]));
    expect(() => differentiate(g, g.reduceSum(quantized, [0, 1, 2, 3]), [z])).toThrow('does not depend on z');
  });
});

describe('clampToPicture', () => {
  it('clamps, and drops of the gradient what would push a number further out', async () => {
    const x = [-0.5, -0.5, 0, 0, 0.3, 0.3, 1, 1, 1.5, 1.5];
    const seed = x.map((_, i) => (i % 2 ? 2 : -2));
    const g = new Graph();
    const input = g.input('x', [x.length]);
    const y = clampToPicture(g, input);
    g.output('y', y);
    g.output('dx', differentiate(g, y, [input], { seed: g.floats(seed) })[0]);
    const { y: clamped, dx } = await run(simplify(g), { x });
    const expected = x.map((v) => Math.min(Math.max(v, 0), 1));
    expect(clamped.data).toEqual(expected.map(Math.fround));
    expect(dx.data).toEqual(seed.map((s, i) => (s * (x[i] - expected[i]) >= 0 ? s : 0)));
  });
});

describe('openVqgan', () => {
  const folder = mkdtempSync(join(tmpdir(), 'reverie-vqgan-'));
  afterAll(() => rmSync(folder, { recursive: true }));
  const expected = openSafetensors(fixture('small-attentive'));
  afterAll(() => expected.close());
  const config = vqganConfig.parse(JSON.parse(expected.metadata.config));

  /** Writes the small model, its tensors in F16 but for the codebook, and opens it. */
  function open(settings: object = {}, change: (shapes: Map<string, Shape>) => void = () => undefined) {
    const shapes = parameterShapes(config);
    change(shapes);
    const header: Record<string, unknown> = {};
    const parts: Buffer[] = [];
    let at = 0;
    for (const [name, shape] of shapes) {
      const floats = hashedWeight(config.name, name, shape).data as Float32Array;
      if (name === broken) floats[35] = NaN;
      const half = name !== codebookName(config);
      const bytes = half ? Uint16Array.from(floats, numberToFloat16) : floats;
      header[name] = { dtype: half ? 'F16' : 'F32', shape, data_offsets: [at, (at += bytes.byteLength)] };
      parts.push(Buffer.from(bytes.buffer));
    }
    const json = Buffer.from(JSON.stringify(header));
    const length = Buffer.alloc(8);
    length.writeBigUInt64LE(BigInt(json.length));
    writeFileSync(join(folder, 'vqgan.safetensors'), Buffer.concat([length, json, ...parts]));
    writeFileSync(join(folder, 'config.json'), JSON.stringify({ ...config, ...settings }));
    return openVqgan(folder);
  }
  let broken = '';

  it('gives the network, its codes and their range', async () => {
    const model = open({ description: 'tiny' });
    try {
      expect(model).toMatchObject({ name: 'small-attentive', description: 'tiny', parameters: 263523 });
      expect(model.hash).toMatch(/^[0-9a-f]{16}$/);
      const { codebook, channelRange } = model;
      expect(codebook).toEqual(hashedWeight(config.name, codebookName(config), [config.codes, config.embedDim]).data);
      for (let c = 0; c < config.embedDim; c++) {
        const column = Array.from({ length: config.codes }, (_, code) => codebook[code * config.embedDim + c]);
        expect([channelRange.low[c], channelRange.high[c]]).toEqual([Math.min(...column), Math.max(...column)]);
      }
      const [n, h, w] = JSON.parse(expected.metadata.latent) as number[];
      const g = new Graph();
      const z = g.input('z', [n, config.embedDim, h, w]);
      const pictures = g.input('pictures', [n, 3, h * config.downsampling, w * config.downsampling]);
      g.output('decoder', model.decode(g, z));
      g.output('encoder', model.encode(g, pictures));
      g.output('codes', model.quantize(g, z).codes);
      g.output('likeliest', model.tokens(g, z).codes);
      const out = await run(simplify(g), {
        z: hashed('small-attentive/z', z.shape),
        pictures: hashed('small-attentive/pictures', pictures.shape, 0.5, 0.5),
      });
      // Weights are rounded to F16 here.
      for (const key of ['decoder', 'encoder'])
        expect(relativeError(sampled(out[key].data), numbers(expected.read(key)))).toBeLessThan(2e-2);
      expect(out.codes.data).toEqual(numbers(expected.read('codes')));
      expect(out.likeliest.data.length).toBe(n * h * w);
    } finally {
      model.close();
    }
  });

  it('refuses pictures whose sides are no multiples of its factor', () => {
    const model = open();
    const g = new Graph();
    expect(() => model.encode(g, g.input('x', [1, 3, 12, 10]))).toThrow(
      'a picture of 10 x 12 has sides that are no multiples of 4',
    );
    model.close();
  });

  it.each([
    [{ groups: 5 }, 'groups must divide ch'],
    [{ kind: 'rq' }, 'kind'],
    [{ weights: '../secret' }, 'a file name without a path'],
    [{ weights: 'other.safetensors' }, 'names the weights other.safetensors, but there is no such file'],
    [{ embedDim: 8 }, 'has the shape'],
    [{ kind: 'vq' }, 'has no weights quantize.embedding.weight'],
    [{ blocks: { encoder: 2, decoder: 2 } }, 'has no weights encoder.down.0.block.1.norm1.weight'],
  ])('says what is wrong with %j', (settings, message) => {
    expect(() => open(settings)).toThrow(message);
  });

  it('says what is wrong with weights', () => {
    expect(() => open({}, (shapes) => shapes.delete('decoder.conv_in.bias'))).toThrow('has no weights decoder.conv_in.bias');
    expect(() => open({}, (shapes) => shapes.set('decoder.conv_in.bias', [3]))).toThrow(
      'decoder.conv_in.bias has the shape [3], by config.json it is [32]',
    );
    broken = codebookName(config);
    expect(() => open()).toThrow('code 2 of quantize.embed.weight holds NaN');
  });

  it('says that a folder has no config', () => {
    expect(() => openVqgan(join(folder, 'nowhere'))).toThrow('no VQGAN is here: ENOENT');
  });
});
