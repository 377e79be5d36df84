import { mkdtempSync, readdirSync, readFileSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import sharp from 'sharp';
import { afterAll, describe, expect, it } from 'vitest';
import { brivlConfig, type ImageTowerConfig, type TextTowerConfig } from '../../models/brivl/config.js';
import { efficientNet, efficientNets, layoutOf, type Block, type EfficientNetLayout } from '../../models/brivl/efficientnet.js';
import { nearest, openBrivl, type Eye } from '../../models/brivl/model.js';
import { isBeyond, percentile } from '../../models/brivl/statistics.js';
import { multiScalePatches, poolingMatrix, samplingWeights } from '../../models/brivl/mspp.js';
import { createTokenizer } from '../../models/brivl/tokenizer.js';
import { imageTower, textTower } from '../../models/brivl/towers.js';
import { bert } from '../../models/brivl/transformer.js';
import { differentiate, Graph, numbers, simplify, sizeOf, type Target, type Value } from '../../models/graph/index.js';
import { openSafetensors } from '../../models/weights/safetensors.js';
import { openWeights, scoped, type Weights } from '../../models/weights/weights.js';
import { createRunner } from '../../server/compute/sessions.js';
import { randomStream, relativeDistance, run, sessionOptions } from '../graph/session.js';

const root = new URL('../..', import.meta.url).pathname;
const fixture = (name: string) => join(root, 'test/fixtures/brivl', name);
const nano = openBrivl(join(root, 'models/brivl/nano'));

const worst: Record<string, number> = {};
function close(kind: string, error: number, limit: number): void {
  worst[kind] = Math.max(worst[kind] ?? 0, error);
  expect(error, kind).toBeLessThan(limit);
}
afterAll(() => console.info('BriVL against PyTorch, worst', JSON.stringify(worst)));

function stored(file: string): { numbers(name: string): number[]; metadata: Readonly<Record<string, string>> } {
  const opened = openSafetensors(fixture(file));
  afterAll(() => opened.close());
  return { numbers: (name) => numbers(opened.read(name)), metadata: opened.metadata };
}

const dotWith = (g: Graph, embedding: Value, direction: readonly number[]): Value =>
  g.reduceSum(g.mul(embedding, g.floats(direction, [1, direction.length])), [0, 1]);

describe('brivl-nano, texts', () => {
  const expected = stored('nano-text.safetensors');
  const texts = JSON.parse(expected.metadata.texts) as string[];
  const embeddings = expected.numbers('embedding');
  const runners = new Map(nano.textLengths.map((n) => [n, createRunner(nano.textGraph(n), 'cpu', sessionOptions)]));
  afterAll(async () => {
    for (const runner of runners.values()) await (await runner).release();
  });
  const embed = async (ids: readonly number[], length: number): Promise<Float32Array> => {
    const { embedding } = await (await runners.get(length)!).run({ ...nano.words(ids, length) });
    return embedding as Float32Array;
  };

  it.each(texts.map((text, i) => [i, text] as const))('%i %s: pieces and embedding', async (i, text) => {
    const { ids, cut, unknown } = nano.tokenize(text);
    expect({ ids, cut, unknown }).toEqual({ ids: expected.numbers(`ids.${i}`), cut: false, unknown: [] });
    const length = nano.textLengths.find((n) => n >= ids.length)!;
    const embedding = await embed(ids, length);
    close('nano text', relativeDistance(embedding, embeddings.slice(i * 384, (i + 1) * 384)), 1e-4);
  });

  it('a text has the same embedding at every padded length', async () => {
    const { ids } = nano.tokenize(texts[0]);
    const [short, long] = await Promise.all(nano.textLengths.map((n) => embed(ids, n)));
    close('padding', relativeDistance(long, short), 1e-5);
  });
});

async function pixelsOf(file: string): Promise<Float32Array> {
  const { data, info } = await sharp(fixture(file)).removeAlpha().raw().toBuffer({ resolveWithObject: true });
  expect([info.width, info.height, info.channels]).toEqual([224, 224, 3]);
  const size = info.width * info.height;
  return Float32Array.from({ length: 3 * size }, (_, i) => data[(i % size) * 3 + Math.floor(i / size)] / 255);
}

async function look(eye: Eye, picture: ArrayLike<number>) {
  const g = new Graph();
  const seen = eye.look(g, g.input('x', [1, 3, eye.size, eye.size]));
  g.output('embedding', seen.embedding);
  g.output('projected', seen.projected);
  g.output('mean', g.reduceMean(seen.llp, [2, 3]));
  return run(simplify(g), { x: picture });
}

describe('brivl-nano, pictures', () => {
  const expected = stored('nano-image.safetensors');

  it('embedding and LLP of the PNG', async () => {
    const { embedding, projected, mean } = await look(nano.eye, await pixelsOf('smooth-224.png'));
    close('nano embedding', relativeDistance(embedding.data, expected.numbers('embedding')), 1e-4);
    close('nano LLP', relativeDistance(mean.data, expected.numbers('llp.mean')), 1e-4);
    const length = Math.hypot(...projected.data);
    close(
      'nano projected',
      relativeDistance(
        projected.data.map((v) => v / length),
        expected.numbers('embedding'),
      ),
      1e-4,
    );
  });

  it('the second opinion of the PNG: embedding, and what its classifier would say', async () => {
    const { embedding, mean } = await look(nano.second!.eye, await pixelsOf('smooth-224.png'));
    close('second embedding', relativeDistance(embedding.data, expected.numbers('second.embedding')), 1e-4);
    const weights = openWeights(join(root, 'models/brivl/nano/second.safetensors'));
    const [matrix, bias] = ['classifier.weight', 'classifier.bias'].map((name) => weights.tensor(name).data as Float32Array);
    weights.close();
    const logits = Array.from(bias, (b, o) => mean.data.reduce((sum, v, i) => sum + v * matrix[o * mean.data.length + i], b));
    close('second logits', relativeDistance(logits, expected.numbers('second.logits')), 1e-4);
  });

  it.each(['cpu', 'gpu'] as const)('gradient of a small picture for %s', async (target: Target) => {
    const g = new Graph();
    const x = g.input('x', [1, 3, 64, 64]);
    const { embedding } = nano.eye.look(g, x);
    g.output('embedding', embedding);
    g.output('gradient', differentiate(g, dotWith(g, embedding, expected.numbers('direction')), [x], { target })[0]);
    const out = await run(simplify(g), { x: expected.numbers('small.picture') });
    close('nano small embedding', relativeDistance(out.embedding.data, expected.numbers('small.embedding')), 1e-4);
    // Smooth pictures meet no corner of ReLU6 within rounding: float32 and float64 agree.
    for (const name of ['small.gradient', 'small.gradient64'])
      close('nano gradient', relativeDistance(out.gradient.data, expected.numbers(name)), 1e-4);
  });
});

/** The layout of a twin, whose stages are listed in its file. */
function layoutOfStages(
  stem: number,
  head: number,
  stages: readonly { repeats: number; kernel: number; stride: number; expansion: number; out: number }[],
): EfficientNetLayout {
  const blocks: Block[] = [];
  let channels = stem;
  stages.forEach(({ repeats, kernel, stride, expansion: expand, out }, stage) => {
    for (let i = 0; i < repeats; i++) {
      blocks.push({ name: `blocks.${stage}.${i}`, kernel, stride: i ? 1 : stride, expand, in: channels, out });
      channels = out;
    }
  });
  return { stem, head, blocks, lite: false };
}

describe('twin of the official image tower', () => {
  const weights = scoped(openWeights(fixture('twin-image.safetensors')), 'imgencoder.');
  const { metadata } = stored('twin-image.safetensors');
  const expected = stored('twin-image-expected.safetensors');
  const { image } = JSON.parse(metadata.config) as {
    image: Omit<ImageTowerConfig, 'backbone'> & { stem: number; stages: Parameters<typeof layoutOfStages>[2] };
  };
  const config: ImageTowerConfig = { ...image, backbone: 'efficientnet-b0' };
  const layout = layoutOfStages(image.stem, image.feature, image.stages);

  it.each(['cpu', 'gpu'] as const)('map, 37 tokens, embedding and input gradient for %s', async (target: Target) => {
    const g = new Graph();
    const x = g.input('x', [1, 3, 96, 96]);
    const seen = imageTower(g, x, weights, config, layout);
    g.output('llp', seen.llp);
    const patches = multiScalePatches(g, seen.llp, image.mspp!.grids, image.mspp!.roi);
    const kernel = g.reshape(weights.constant(g, 'learnable.max_pool.0.weight'), [image.feature, image.feature]);
    const tokens = g.add(g.matMul(patches, g.transpose(kernel, [1, 0])), weights.constant(g, 'learnable.max_pool.0.bias'));
    expect(tokens.shape).toEqual([1, 37, 48]);
    g.output('tokens', tokens);
    g.output('embedding', seen.embedding);
    g.output('gradient', differentiate(g, dotWith(g, seen.embedding, expected.numbers('direction')), [x], { target })[0]);
    const out = await run(simplify(g), { x: expected.numbers('picture') });
    for (const name of ['llp', 'tokens', 'embedding', 'gradient'])
      close(`twin image ${name}`, relativeDistance(out[name].data, expected.numbers(name)), 1e-4);
    close('twin image gradient to float64', relativeDistance(out.gradient.data, expected.numbers('gradient64')), 1e-4);
  });
});

describe('twin of the official text tower', () => {
  const weights = scoped(openWeights(fixture('twin-text.safetensors')), 'textencoder.');
  const { metadata } = stored('twin-text.safetensors');
  const expected = stored('twin-text-expected.safetensors');
  const { text: config } = JSON.parse(metadata.config) as { text: TextTowerConfig };
  const table = 'backbone.bert.embeddings.word_embeddings.weight';

  it('states of BERT and embeddings, attending to padding', async () => {
    const [lines, length, hidden] = [3, 12, config.backbone.hidden];
    const ids = expected.numbers('ids');
    const g = new Graph();
    const words = g.input('words', [lines, length, hidden]);
    g.output('states', bert(g, words, scoped(weights, 'backbone.bert.'), config.backbone, null));
    g.output('embedding', textTower(g, words, g.input('mask', [lines, length]), weights, config));
    const feeds = { words: weights.rows(table, ids).data as Float32Array, mask: ids.map((id) => +(id !== 0)) };
    const out = await run(simplify(g), feeds);
    for (const name of ['states', 'embedding'])
      close(`twin text ${name}`, relativeDistance(out[name].data, expected.numbers(name)), 1e-4);
  });
});

describe('multi-scale patch pooling', () => {
  /** Shared reference, brivl.md: weights for a map of 15, 6 cells and the whole. */
  const reference: Record<number, number>[] = [
    { 0: 0.33259, 1: 0.37165, 2: 0.25446 },
    { 2: 0.12165, 3: 0.36942, 4: 0.37835, 5: 0.13058 },
    { 5: 0.23661, 6: 0.38058, 7: 0.33259, 8: 0.05022 },
    { 7: 0.03237, 8: 0.33259, 9: 0.36272, 10: 0.27232 },
    { 10: 0.11272, 11: 0.36049, 12: 0.38728, 13: 0.13951 },
    { 13: 0.21875, 14: 0.38951 },
    { 1: 0.12277, 2: 0.12723, 5: 0.1183, 6: 0.1317, 9: 0.11384, 10: 0.13616, 13: 0.10938, 14: 0.14062 },
  ];
  const edges = [0, 1, 2, 3, 4, 5].map((i): [number, number] => [2.5 * i, 2.5 * i + 2.5]);

  it('has the weights of the reference for a map of 15', () => {
    const weights = samplingWeights(15, [...edges, [0, 15]], 4);
    reference.forEach((row, b) => {
      for (let cell = 0; cell < 15; cell++) expect(Math.abs(weights[b * 15 + cell] - (row[cell] ?? 0))).toBeLessThanOrEqual(5.1e-6);
    });
  });

  it('lays out 36 cells with x outside and y inside, then the whole', () => {
    const { matrix, tokens } = poolingMatrix(15, 15, [6, 1], 4);
    expect([tokens, matrix.length]).toEqual([37, 37 * 225]);
    const one = samplingWeights(15, [...edges, [0, 15]], 4);
    for (let token = 0; token < 37; token++) {
      const [i, j] = token < 36 ? [Math.floor(token / 6), token % 6] : [6, 6];
      for (let y = 0; y < 15; y++)
        for (let x = 0; x < 15; x++) expect(matrix[(token * 15 + y) * 15 + x]).toBe(Math.fround(one[j * 15 + y] * one[i * 15 + x]));
    }
  });

  it('puts the whole picture first where the grids say so, as in Wenlan-Video', () => {
    const { matrix, tokens } = poolingMatrix(12, 12, [1, 5], 4);
    expect(tokens).toBe(26);
    expect(matrix.slice(0, 144)).toEqual(poolingMatrix(12, 12, [1], 4).matrix);
  });
});

/** timm's parameters of a network by name: what a checkpoint holds. */
function parametersOf({ stem, head, blocks, lite }: EfficientNetLayout): Map<string, number[]> {
  const shapes = new Map<string, number[]>();
  const norm = (name: string, channels: number) => {
    for (const part of ['weight', 'bias', 'running_mean', 'running_var']) shapes.set(`${name}.${part}`, [channels]);
  };
  shapes.set('conv_stem.weight', [stem, 3, 3, 3]);
  norm('bn1', stem);
  for (const { name, kernel, expand, in: from, out } of blocks) {
    const wide = from * expand;
    const separable = expand === 1;
    if (!separable) {
      shapes.set(`${name}.conv_pw.weight`, [wide, from, 1, 1]);
      norm(`${name}.bn1`, wide);
    }
    shapes.set(`${name}.conv_dw.weight`, [wide, 1, kernel, kernel]);
    norm(`${name}.${separable ? 'bn1' : 'bn2'}`, wide);
    if (!lite) {
      const squeezed = Math.max(1, Math.floor(from / 4));
      shapes.set(`${name}.se.conv_reduce.weight`, [squeezed, wide, 1, 1]).set(`${name}.se.conv_reduce.bias`, [squeezed]);
      shapes.set(`${name}.se.conv_expand.weight`, [wide, squeezed, 1, 1]).set(`${name}.se.conv_expand.bias`, [wide]);
    }
    shapes.set(`${name}.${separable ? 'conv_pw' : 'conv_pwl'}.weight`, [out, wide, 1, 1]);
    norm(`${name}.${separable ? 'bn2' : 'bn3'}`, out);
  }
  shapes.set('conv_head.weight', [head, blocks[blocks.length - 1].out, 1, 1]);
  norm('bn2', head);
  return shapes;
}

/** Blocks as [channels in, widened, out, kernel, stride], equal neighbours counted. */
function tableOf({ blocks }: EfficientNetLayout): string[] {
  const rows: { row: string; times: number }[] = [];
  for (const { in: from, expand, out, kernel, stride } of blocks) {
    const row = [from, from * expand, out, kernel, stride].join();
    if (rows[rows.length - 1]?.row === row) rows[rows.length - 1].times++;
    else rows.push({ row, times: 1 });
  }
  return rows.map(({ row, times }) => `${times} x ${row}`);
}

const learned = (shapes: Map<string, number[]>): number =>
  [...shapes].reduce((sum, [name, shape]) => sum + (name.includes('running') ? 0 : sizeOf(shape)), 0);

describe('EfficientNets', () => {
  it('B5 is the table of the reference, with its parameters and keys', () => {
    const layout = layoutOf(efficientNets['efficientnet-b5']);
    expect([layout.stem, layout.head, layout.blocks.length]).toEqual([48, 2048, 39]);
    expect(tableOf(layout)).toEqual([
      '1 x 48,48,24,3,1',
      '2 x 24,24,24,3,1',
      '1 x 24,144,40,3,2',
      '4 x 40,240,40,3,1',
      '1 x 40,240,64,5,2',
      '4 x 64,384,64,5,1',
      '1 x 64,384,128,3,2',
      '6 x 128,768,128,3,1',
      '1 x 128,768,176,5,1',
      '6 x 176,1056,176,5,1',
      '1 x 176,1056,304,5,2',
      '8 x 304,1824,304,5,1',
      '1 x 304,1824,512,3,1',
      '2 x 512,3072,512,3,1',
    ]);
    const shapes = parametersOf(layout);
    // The count of the reference holds the unused classifier.
    expect(learned(shapes) + 1000 * 2048 + 1000).toBe(30_389_784);
    const norms = [...shapes.keys()].filter((name) => name.endsWith('running_mean')).length;
    // 908 keys: the backbone with num_batches_tracked and classifier, imgFC, 4 layers of imgAtt, the 1x1 convolution.
    expect(shapes.size + norms + 2 + 4 + 4 * 12 + 2).toBe(908);
  });

  it('B7 has the channels and repeats of the paper', () => {
    const layout = layoutOf(efficientNets['efficientnet-b7']);
    expect([layout.stem, layout.head]).toEqual([64, 2560]);
    const stages = [0, 1, 2, 3, 4, 5, 6].map((s) => layout.blocks.filter(({ name }) => name.startsWith(`blocks.${s}.`)));
    expect(stages.map((blocks) => blocks.length)).toEqual([4, 7, 7, 10, 10, 13, 4]);
    expect(stages.map(([{ out }]) => out)).toEqual([32, 48, 80, 160, 224, 384, 640]);
    expect(stages.map(([{ kernel }]) => kernel)).toEqual([3, 3, 5, 3, 5, 5, 3]);
    expect(stages.map(([{ stride }]) => stride)).toEqual([1, 2, 2, 2, 1, 2, 1]);
    // timm's tf_efficientnet_b7 has 66,347,960 parameters with its classifier.
    expect(learned(parametersOf(layout)) + 1000 * 2560 + 1000).toBe(66_347_960);
  });

  it('B0 has the 5,288,548 parameters of timm', () => {
    expect(learned(parametersOf(layoutOf(efficientNets['efficientnet-b0']))) + 1000 * 1280 + 1000).toBe(5_288_548);
  });

  it.each([
    ['efficientnet-lite0', 'image.safetensors', [16, 24, 40, 80, 112, 192, 320], [1, 2, 2, 3, 3, 4, 1]],
    ['efficientnet-lite2', 'second.safetensors', [16, 24, 48, 88, 120, 208, 352], [1, 3, 3, 4, 4, 5, 1]],
  ] as const)('%s fits the shapes in %s', (name, file, channels, repeats) => {
    const layout = layoutOf(efficientNets[name]);
    const stages = channels.map((_, s) => layout.blocks.filter((block) => block.name.startsWith(`blocks.${s}.`)));
    expect(stages.map(([{ out }]) => out)).toEqual(channels);
    expect(stages.map((blocks) => blocks.length)).toEqual(repeats);
    const weights = scoped(openWeights(join(root, 'models/brivl/nano', file)), 'imgencoder.backbone.');
    for (const [key, shape] of parametersOf(layout))
      if (key.includes('conv')) {
        expect([key, weights.shape(key)]).toEqual([key, shape]);
        // BatchNorm is folded in.
        expect(weights.shape(key.replace('.weight', '.bias'))).toEqual([shape[0]]);
      }
    weights.close();
  });
});

/** Seeded weights for a layout, as a file would hold them. */
function drawn(
  layout: EfficientNetLayout,
  seed: number,
): Weights & { values: Map<string, { shape: number[]; data: Float32Array }> } {
  const random = randomStream(seed);
  const values = new Map(
    [...parametersOf(layout)].map(([name, shape]) => {
      const spread = name.includes('conv') ? Math.sqrt(6 / sizeOf(shape.slice(1))) : 0.5;
      const around = /running_var|bn\d\.weight/.test(name) ? 1 : 0;
      return [name, { shape, data: Float32Array.from({ length: sizeOf(shape) }, () => around + spread * (random() - 0.5)) }];
    }),
  );
  const tensor = (name: string) => ({ dtype: 'float32' as const, ...values.get(name)! });
  return {
    values,
    has: (name) => values.has(name),
    shape: (name) => values.get(name)!.shape,
    tensor,
    rows: () => {
      throw new Error('no rows here');
    },
    elements: () => 0,
    constant: (g, name) => g.constant(tensor(name), name),
    close: () => undefined,
  };
}

const llpOf: typeof plainNetwork = (...network) => efficientNet(...network).get('LLP')!;

/** The same network in the plainest words: strided convolutions with automatic padding, BatchNorm by itself, ReLU6 as it is. */
function plainNetwork(g: Graph, x: Value, weights: Weights, { blocks, lite }: EfficientNetLayout): Value {
  const constant = (name: string, shape: number[]) => g.floats(weights.tensor(name).data as Float32Array, shape);
  const normal = (v: Value, name: string) => {
    const [scale, shift, mean, variance] = ['weight', 'bias', 'running_mean', 'running_var'].map((part) =>
      constant(`${name}.${part}`, [v.shape[1], 1, 1]),
    );
    return g.add(g.mul(g.div(g.sub(v, mean), g.op('Sqrt', [g.add(variance, g.scalar(1e-3))])), scale), shift);
  };
  const conv = (v: Value, name: string, norm: string, stride = 1, group = 1) =>
    normal(
      g.op('Conv', [v, weights.constant(g, `${name}.weight`)], { auto_pad: 'SAME_UPPER', strides: [stride, stride], group }),
      norm,
    );
  const act = (v: Value) => (lite ? g.op('Clip', [v, g.scalar(0), g.scalar(6)]) : g.mul(v, g.op('Sigmoid', [v])));
  let y = act(conv(x, 'conv_stem', 'bn1', 2));
  for (const { name, stride, expand, in: from, out } of blocks) {
    let v = y;
    if (expand !== 1) v = act(conv(v, `${name}.conv_pw`, `${name}.bn1`));
    v = act(conv(v, `${name}.conv_dw`, `${name}.${expand === 1 ? 'bn1' : 'bn2'}`, stride, v.shape[1]));
    if (!lite) {
      const side = (u: Value, part: string) =>
        g.op('Conv', [u, weights.constant(g, `${name}.se.${part}.weight`), weights.constant(g, `${name}.se.${part}.bias`)]);
      const squeezed = side(g.reduceMean(v, [2, 3], true), 'conv_reduce');
      v = g.mul(v, g.op('Sigmoid', [side(g.mul(squeezed, g.op('Sigmoid', [squeezed])), 'conv_expand')]));
    }
    const [project, norm] = expand === 1 ? ['conv_pw', 'bn2'] : ['conv_pwl', 'bn3'];
    v = conv(v, `${name}.${project}`, `${name}.${norm}`);
    y = stride === 1 && from === out ? g.add(v, y) : v;
  }
  return act(conv(y, 'conv_head', 'bn2'));
}

describe('strided blocks', () => {
  const stages = [
    { repeats: 1, kernel: 3, stride: 1, expansion: 1, out: 4 },
    { repeats: 2, kernel: 3, stride: 2, expansion: 3, out: 6 },
    { repeats: 1, kernel: 5, stride: 2, expansion: 4, out: 5 },
  ];
  // After the stem: both even, both odd, one of each, even then odd, and 2 x 2 and 1 x 1 at the end.
  const sizes = [
    [32, 32],
    [29, 21],
    [24, 26],
    [33, 48],
    [20, 28],
    [8, 8],
    [4, 12],
  ];
  const cases = sizes.flatMap(([h, w]) => [true, false].map((lite) => [h, w, lite] as const));

  it.each(cases)('%i x %i, lite: %s: in phases as in one piece, forwards and backwards', async (h, w, lite) => {
    const layout = { ...layoutOfStages(4, 7, stages), lite };
    const weights = drawn(layout, h * 100 + w);
    const random = randomStream(w * 100 + h);
    const picture = Float32Array.from({ length: 2 * 3 * h * w }, () => 2 * random() - 1);
    const results = [];
    for (const network of [llpOf, plainNetwork])
      for (const target of ['cpu', 'gpu'] as const) {
        const g = new Graph();
        const x = g.input('x', [2, 3, h, w]);
        const y = network(g, x, weights, layout);
        const direction = randomStream(9);
        const weighting = g.floats(
          Float32Array.from({ length: sizeOf(y.shape) }, () => direction() - 0.5),
          y.shape,
        );
        g.output('y', y);
        g.output('dx', differentiate(g, g.reduceSum(g.mul(y, weighting), [0, 1, 2, 3]), [x], { target })[0]);
        results.push(await run(simplify(g), { x: picture }));
      }
    const plain = results[2];
    for (const other of results) {
      expect(other.y.shape).toEqual(plain.y.shape);
      close('phases value', relativeDistance(other.y.data, plain.y.data), 1e-5);
      close('phases gradient', relativeDistance(other.dx.data, plain.dx.data), 1e-5);
    }
  });
});

describe('tokenizer', () => {
  const { tokenize } = nano;
  const longest = nano.config.text.maxLength;
  const [begin, end] = [0, 2];

  it('frames a text with the opening and closing piece', () => {
    for (const text of ['nature', '时间', '🏰', '']) {
      const { ids } = tokenize(text);
      expect([ids[0], ids[ids.length - 1]]).toEqual([begin, end]);
      expect(ids.every((id) => Number.isInteger(id) && id >= 0 && id < nano.config.text.backbone.vocab)).toBe(true);
    }
  });

  it('cuts a long text, keeps its end piece, and says so', () => {
    const long = tokenize('春江水暖鸭先知 '.repeat(200));
    expect([long.ids.length, long.cut, long.ids[longest - 1]]).toEqual([longest, true, end]);
    expect(long.ids.slice(0, 20)).toEqual(tokenize('春江水暖鸭先知 '.repeat(6)).ids.slice(0, 20));
    // At the limit nothing is lost.
    const words = (n: number) => tokenize(Array.from({ length: n }, () => 'cat').join(' '));
    const frame = words(1).ids.length - 1;
    expect([words(longest - frame).ids.length, words(longest - frame).cut]).toEqual([longest, false]);
    expect([words(longest - frame + 1).ids.length, words(longest - frame + 1).cut]).toEqual([longest, true]);
  });

  it('names what it does not know, once an unknown piece, and never throws', () => {
    const korean = tokenize('cat 자연');
    expect(korean.unknown.join('')).toContain('자연');
    expect(korean.cut).toBe(false);
    for (const text of [
      'ภาษาไทย',
      '🏰🐉',
      '\u0000\u0007',
      '\ud800',
      '\u200d\ufe0f',
      '𓀀'.repeat(300),
      'a'.repeat(10_000),
      '\n\t',
      '<s></s><pad>',
    ])
      expect(tokenize(text).ids.length).toBeLessThanOrEqual(longest);
  });

  it('reads fullwidth, composed and spaced forms alike', () => {
    expect(tokenize('ＣＡＴ').ids).toEqual(tokenize('CAT').ids);
    expect(tokenize('café').ids).toEqual(tokenize('cafe\u0301').ids);
    expect(tokenize('  a   castle　in the clouds').ids).toEqual(tokenize('a castle in the clouds').ids);
  });

  it('reads next to nothing as the prefix alone', () => {
    const { ids } = tokenize('');
    expect(tokenize(' ').ids).toEqual(ids);
    expect(tokenize('　\n').ids).toEqual(ids);
    expect(ids.length).toBeGreaterThan(2);
  });

  it('knows unknown pieces by name where the file gives no number (WordPiece)', () => {
    const vocab = { '[PAD]': 0, '[UNK]': 1, '[CLS]': 2, '[SEP]': 3, 自: 4, 然: 5, cat: 6, '##s': 7 };
    const wordPiece = createTokenizer(
      {
        version: '1.0',
        added_tokens: [],
        normalizer: { type: 'BertNormalizer', clean_text: true, handle_chinese_chars: true, strip_accents: null, lowercase: true },
        pre_tokenizer: { type: 'BertPreTokenizer' },
        post_processor: {
          type: 'TemplateProcessing',
          single: [
            { SpecialToken: { id: '[CLS]', type_id: 0 } },
            { Sequence: { id: 'A', type_id: 0 } },
            { SpecialToken: { id: '[SEP]', type_id: 0 } },
          ],
          pair: [],
          special_tokens: {
            '[CLS]': { id: '[CLS]', ids: [2], tokens: ['[CLS]'] },
            '[SEP]': { id: '[SEP]', ids: [3], tokens: ['[SEP]'] },
          },
        },
        decoder: { type: 'WordPiece', prefix: '##', cleanup: true },
        model: { type: 'WordPiece', unk_token: '[UNK]', continuing_subword_prefix: '##', max_input_chars_per_word: 100, vocab },
      },
      '',
      6,
    );
    expect(wordPiece('自然 CATS')).toEqual({ ids: [2, 4, 5, 6, 7, 3], cut: false, unknown: [] });
    const { ids, unknown } = wordPiece('自 dog');
    expect(ids).toEqual([2, 4, 1, 3]);
    expect(unknown).toHaveLength(1);
  });
});

describe('concepts', () => {
  const entries = ['a', 'b', 'c', 'd'].map((word) => ({ wnid: word, word, zh: null }));
  const space = { entries, classes: 2, joint: Float32Array.of(0, 1, 1, 0, 0.6, 0.8, 1, 0) };

  it('nearest first, ties in the order of the list, no more than there are', () => {
    expect(nearest(space, Float32Array.of(1, 0), 3).map(({ word, score }) => [word, score])).toEqual([
      ['b', 1],
      ['d', 1],
      ['c', Math.fround(0.6)],
    ]);
    expect(nearest(space, Float32Array.of(0, 0), 9).map(({ word }) => word)).toEqual(['a', 'b', 'c', 'd']);
    expect(nearest(space, Float32Array.of(1, 0), 0)).toEqual([]);
  });

  it('of the classes alone, when asked', () => {
    expect(nearest(space, Float32Array.of(1, 0), 9, false).map(({ word }) => word)).toEqual(['b', 'a']);
  });

  it('of nano are directions of length one, the 1000 classes first, each with a name in both languages', () => {
    const { entries, classes, joint } = nano.concepts;
    expect([classes, joint.length]).toEqual([1000, entries.length * nano.eye.embed]);
    expect(entries.length).toBeGreaterThan(1100);
    expect(nano.second!.joint.length).toBe(joint.length);
    for (const key of ['wnid', 'word', 'zh'] as const) expect(entries.every((entry) => entry[key])).toBe(true);
    for (const key of ['wnid', 'word'] as const) expect(new Set(entries.map((entry) => entry[key])).size).toBe(entries.length);
    for (let i = 0; i < entries.length; i++)
      expect(Math.abs(Math.hypot(...joint.subarray(i * nano.eye.embed, (i + 1) * nano.eye.embed)) - 1)).toBeLessThan(2e-3);
  });
});

describe('percentiles of neurons', () => {
  const quantiles = { levels: Float32Array.of(0, 0.5, 1), values: Float32Array.of(0, -1, 2, 0, 6, 0) };

  it('are linear between the quantiles, and of equal ones the lowest: ties are not less', () => {
    expect([-1, 0, 1, 2, 4, 6, 9].map((v) => percentile(quantiles, 0, v))).toEqual([0, 0, 25, 50, 75, 100, 100]);
    expect([-2, -0.5, 0, 1].map((v) => percentile(quantiles, 1, v))).toEqual([0, 25, 50, 100]);
    // Silent in more than half of the photographs: silence is stronger than none of them.
    const silent = { levels: Float32Array.of(0, 0.5, 1), values: Float32Array.of(0, 0, 4) };
    expect([0, 2, 4, 5].map((v) => percentile(silent, 0, v))).toEqual([0, 75, 100, 100]);
    expect([0, 4, 4.001].map((v) => isBeyond(silent, 0, v))).toEqual([false, false, true]);
  });

  it('of nano rise with the activation, for every channel', () => {
    for (let channel = 0; channel < nano.eye.channels; channel++) {
      const found = [-1, 0.1, 0.3, 1, 3, 100].map((v) => percentile(nano.statistics.get('LLP')!.quantiles, channel, v));
      expect(found.every((p, i) => p >= 0 && p <= 100 && (i === 0 || p >= found[i - 1]))).toBe(true);
      expect([found[0], found[5]]).toEqual([0, 100]);
    }
  });
});

describe('config.json', () => {
  const good = JSON.parse(readFileSync(join(root, 'models/brivl/nano/config.json'), 'utf8')) as Record<
    string,
    Record<string, unknown>
  >;

  it('of nano fits its weights', () => {
    expect([nano.eye.channels, nano.eye.size, nano.eye.embed]).toEqual([1280, 224, 384]);
    expect([nano.textLengths, nano.statistics.get('LLP')!.deviations.length, nano.second!.bridge.length]).toEqual([
      [32, 130],
      1280,
      384 * 384,
    ]);
    expect(nano.hash).toMatch(/^[0-9a-f]{16}$/);
    expect(nano.parameters).toBeGreaterThan(30e6);
  });

  it('and every file beside it are in the hash', () => {
    const source = join(root, 'models/brivl/nano');
    // The sheet of its neurons is made from it: that is no part of it.
    const names = readdirSync(source);
    expect(names).toHaveLength(8);
    const hashes = names.map((changed) => {
      const folder = mkdtempSync(join(tmpdir(), 'reverie-brivl-'));
      for (const name of names) symlinkSync(join(source, name), join(folder, name));
      const bytes = readFileSync(join(source, changed));
      // White space at the end of JSON, zeros after the tensors: another file that says the same.
      rmSync(join(folder, changed));
      writeFileSync(join(folder, changed), Buffer.concat([bytes, Buffer.from(changed.endsWith('.json') ? '\n' : '\0')]));
      const { hash } = openBrivl(folder);
      rmSync(folder, { recursive: true });
      return hash;
    });
    expect(new Set([...hashes, nano.hash]).size).toBe(9);
  });

  it('is refused with a backbone or pooling that is not there', () => {
    expect(brivlConfig.safeParse(good).success).toBe(true);
    for (const wrong of [{ backbone: 'resnet50' }, { pooling: 'max' }, { pooling: 'mspp', mspp: undefined }, { size: 16 }])
      expect(brivlConfig.safeParse({ ...good, image: { ...good.image, ...wrong } }).success, JSON.stringify(wrong)).toBe(false);
  });
});
