import { mkdirSync, mkdtempSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { afterAll, describe, expect, it } from 'vitest';
import { openOnnxEye, UnfitNetworkError } from '../../models/clip/onnx-eye.js';
import { differentiate, Graph, writeOnnx } from '../../models/graph/index.js';
import { createRegistry, UnknownModelError } from '../../models/registry.js';
import { relativeError, run } from '../graph/session.js';
import {
  bias,
  classes,
  draw,
  first,
  folderIn,
  gate,
  input,
  kernel,
  matrix,
  network,
  second,
  side,
  width,
} from './plain-network.js';

const home = mkdtempSync(path.join(tmpdir(), 'reverie-eyes-'));
afterAll(() => rmSync(home, { recursive: true }));

const folderOf = (name: string, config = {}, graph = network(), files = {}) => folderIn(home, name, config, graph, files);

/** What the network makes of a picture, in float64 with plain loops. */
function twin(picture: ArrayLike<number>): { llp: number[]; logits: number[] } {
  const half = side / 2;
  const at = (c: number, y: number, x: number) =>
    y < 0 || x < 0 || y >= side || x >= side ? 0 : (picture[(c * side + y) * side + x] - input.mean[c]) / input.std[c];
  const relu: number[] = [];
  for (let o = 0; o < width; o++)
    for (let y = 0; y < half; y++)
      for (let x = 0; x < half; x++) {
        let sum = first[o];
        for (let c = 0; c < 3; c++)
          for (let i = 0; i < 3; i++)
            for (let j = 0; j < 3; j++) sum += kernel[((o * 3 + c) * 3 + i) * 3 + j] * at(c, 2 * y + i - 1, 2 * x + j - 1);
        relu.push(Math.max(0, sum));
      }
  const places = half * half;
  const means = (map: readonly number[]) =>
    Array.from({ length: width }, (_, c) => map.slice(c * places, (c + 1) * places).reduce((a, b) => a + b, 0) / places);
  const squeezed = means(relu);
  const gates = Array.from(
    { length: width },
    (_, o) => 1 / (1 + Math.exp(-squeezed.reduce((sum, v, c) => sum + v * gate[o * width + c], 0))),
  );
  const llp = Array.from({ length: width * places }, (_, i) => {
    const [o, p] = [Math.floor(i / places), i % places];
    let sum = 0;
    for (let c = 0; c < width; c++) sum += second[o * width + c] * relu[c * places + p] * gates[c];
    return Math.max(0, sum);
  });
  const logits = Array.from({ length: classes }, (_, e) =>
    means(llp).reduce((sum, v, c) => sum + v * matrix[e * width + c], bias[e]),
  );
  return { llp, logits };
}

const picture = (seed: number) => draw(3 * side * side, seed, 0.5).map((v) => v + 0.5);

describe('a plain ONNX network', () => {
  it('is an eye: its last map before the pooling, its logits, its layers by their names in the file', async () => {
    const model = openOnnxEye(folderOf('plain'));
    expect(model).toMatchObject({ name: 'plain', concepts: null, parameters: 162 + 6 + 36 + 36 + 30 + 5 });
    expect(model.hash).toMatch(/^[0-9a-f]{16}$/);
    expect(model.eye).toMatchObject({ size: side, channels: width, embed: classes });
    expect(model.eye.layers).toEqual(
      ['conv1:out', 'relu1:out', 'scaled:out', 'conv2:out', 'LLP'].map((name) => ({ name, channels: width })),
    );

    const g = new Graph();
    const { llp, projected, embedding, layers } = model.eye.look(g, g.input('x', [2, 3, side, side]));
    expect([...layers.keys()]).toEqual(model.eye.layers.map(({ name }) => name));
    Object.entries({ llp, projected, embedding }).forEach(([name, value]) => g.output(name, value));
    const both = [picture(8), picture(9)];
    const out = await run(g, { x: both.flatMap((p) => [...p]) });
    const expected = both.map(twin);
    expect(
      relativeError(
        out.llp.data,
        expected.flatMap((e) => e.llp),
      ),
    ).toBeLessThan(1e-5);
    expect(
      relativeError(
        out.projected.data,
        expected.flatMap((e) => e.logits),
      ),
    ).toBeLessThan(1e-5);
    const unit = expected.flatMap(({ logits }) => logits.map((v) => v / Math.hypot(...logits)));
    expect(relativeError(out.embedding.data, unit)).toBeLessThan(1e-5);
  });

  it('is differentiable: the gradient of a channel by the picture, against finite differences of the twin', async () => {
    const { eye } = openOnnxEye(folderOf('slopes'));
    const g = new Graph();
    const x = g.input('x', [1, 3, side, side]);
    const { llp } = eye.look(g, x);
    const asked = g.reduceMean(g.slice(llp, 1, 2, 3), [0, 1, 2, 3]);
    g.output('d', differentiate(g, asked, [x])[0]);
    const at = picture(10);
    const { d } = await run(g, { x: at });
    const places = (side / 2) ** 2;
    const value = (p: Float64Array) =>
      twin(p)
        .llp.slice(2 * places, 3 * places)
        .reduce((a, b) => a + b, 0) / places;
    const some = [0, 17, 100, 255, 256, 400, 600, 767];
    const slopes = some.map((i) => {
      const moved = (by: number) => value(Float64Array.from(at, (v, j) => (i === j ? v + by : v)));
      return (moved(1e-6) - moved(-1e-6)) / 2e-6;
    });
    expect(relativeError(some.map((i) => d.data[i]), slopes)).toBeLessThan(1e-3); // prettier-ignore
  });

  it('of which the file takes one picture at a time is looked through once for each', async () => {
    const { eye } = openOnnxEye(folderOf('one-by-one', {}, network({ fixedBatch: true })));
    const g = new Graph();
    g.output('projected', eye.look(g, g.input('x', [3, 3, side, side])).projected);
    const three = [11, 12, 13].map(picture);
    const { projected } = await run(g, { x: three.flatMap((p) => [...p]) });
    expect(projected.shape).toEqual([3, classes]);
    expect(relativeError(projected.data, three.flatMap((p) => twin(p).logits))).toBeLessThan(1e-5); // prettier-ignore
  });

  it('takes pictures of other sizes where it is convolutional', () => {
    const { eye } = openOnnxEye(folderOf('any-size'));
    const g = new Graph();
    expect(eye.look(g, g.input('x', [1, 3, 32, 24])).llp.shape).toEqual([1, width, 16, 12]);
  });

  it('with a softmax at its end gives what goes into it', async () => {
    const { eye } = openOnnxEye(folderOf('softmax', {}, network({ softmax: true })));
    const g = new Graph();
    g.output('projected', eye.look(g, g.input('x', [1, 3, side, side])).projected);
    const { projected } = await run(g, { x: picture(14) });
    expect(relativeError(projected.data, twin(picture(14)).logits)).toBeLessThan(1e-5);
  });

  it("tells where its last map's channels pull the logits", () => {
    const { eye } = openOnnxEye(folderOf('head'));
    const expected = Array.from({ length: width * classes }, (_, i) => matrix[(i % classes) * width + Math.floor(i / classes)]);
    expect([...eye.directions!('LLP')!]).toEqual(expected);
    expect(eye.directions!('relu1:out')).toBeNull();
  });

  it('takes names for its logits, from a file or from config.json', () => {
    const lines = 'cat\t猫\ndog\t狗\nclock\t钟\ntree\nsea\n';
    const { concepts } = openOnnxEye(folderOf('labels', { labels: 'labels.txt' }, network(), { 'labels.txt': lines }));
    expect(concepts?.entries.slice(2, 4)).toEqual([
      { wnid: 'label-2', word: 'clock', zh: '钟' },
      { wnid: 'label-3', word: 'tree', zh: null },
    ]);
    expect(concepts).toMatchObject({ classes });
    expect([...concepts!.joint]).toEqual(Array.from({ length: classes ** 2 }, (_, i) => +(i % (classes + 1) === 0)));
    const listed = openOnnxEye(folderOf('listed', { labels: ['a', 'b', 'c', 'd', 'e'] }));
    expect(listed.concepts?.entries.map(({ word }) => word).join('')).toBe('abcde');
  });

  it('has the layers that config.json names', () => {
    const { eye } = openOnnxEye(folderOf('chosen', { layers: ['scaled:out'] }));
    expect(eye.layers.map(({ name }) => name)).toEqual(['scaled:out', 'LLP']);
  });
});

describe('what cannot be explored is refused with the file and the reason', () => {
  const flat = () => {
    const g = new Graph();
    g.output('y', g.op('Flatten', [g.input('x', [1, 3, side, side])], { axis: 1 }));
    return g;
  };
  const two = () => {
    const g = network();
    g.input('another', [1]);
    return g;
  };
  const map = () => {
    const g = new Graph();
    g.output('y', g.op('Relu', [g.input('x', [1, 3, side, side])]));
    return g;
  };
  it.each([
    ['a name that no value has', { layers: ['conv9'] }, network(), /model\.onnx of [\w-]+: it has no value conv9/],
    ['a value that is no map', { layers: ['logits'] }, network(), /logits is \[1, 5\]: a layer is a map/],
    ['too few labels', { labels: ['a', 'b'] }, network(), /has 2 labels: the network puts out 5 logits/],
    ['labels that are not there', { labels: 'labels.txt' }, network(), /labels\.txt is missing/],
    ['a file that is not there', { file: 'other.onnx' }, network(), /other\.onnx is missing/],
    ['a file outside', { file: '../plain/model.onnx' }, network(), /lies outside/],
    ['labels outside', { labels: '/etc/passwd' }, network(), /\/etc\/passwd lies outside/],
    ['no input size', { input: { ...input, size: undefined } }, network(), /config\.json: input\.size/],
    ['two inputs', {}, two(), /it takes 2 inputs \(pixels, another\)/],
    ['no map', {}, flat(), /no map \[N, C, h, w\]/],
    ['no logits', {}, map(), /its first output is \[1, 3, 16, 16\]: logits/],
  ])('%s', (_, config, graph, message) => {
    const name = `bad-${Math.abs(JSON.stringify([config, String(message)]).length)}-${String(message).replace(/\W/g, '').slice(0, 20)}`;
    const folder = folderOf(name, config, graph);
    expect(() => openOnnxEye(folder)).toThrow(UnfitNetworkError);
    expect(() => openOnnxEye(folder)).toThrow(message);
  });

  it('bytes that are no network', () => {
    const folder = folderOf('noise');
    writeFileSync(path.join(folder, 'model.onnx'), 'not a network');
    expect(() => openOnnxEye(folder)).toThrow(/model\.onnx of noise: the file is not an ONNX model/);
  });

  it('a link to outside its folder', () => {
    const folder = folderOf('linked', { labels: 'labels.txt' });
    writeFileSync(path.join(home, 'secret.txt'), 'a\nb\nc\nd\ne');
    symlinkSync(path.join(home, 'secret.txt'), path.join(folder, 'labels.txt'));
    expect(() => openOnnxEye(folder)).toThrow(/is a link to outside its folder/);
  });

  it('weights outside its folder', () => {
    const g = new Graph();
    const many = g.floats(draw(width * 27 * 16, 20), [width * 16, 3, 3, 3]);
    const x = g.op('Relu', [g.op('Conv', [g.input('x', [1, 3, side, side]), many])]);
    g.output('y', g.op('Flatten', [g.op('GlobalAveragePool', [x])], { axis: 1 }));
    const folder = folderOf('external', {}, g);
    expect(openOnnxEye(folder).eye.channels).toBe(width * 16);
    const { bytes } = writeOnnx(g);
    const moved = Buffer.from(bytes).toString('latin1').replace('weight-0', '../wei-0');
    writeFileSync(path.join(folder, 'model.onnx'), Buffer.from(moved, 'latin1'));
    expect(() => openOnnxEye(folder)).toThrow(/\.\.\/wei-0 lies outside/);
  });
});

describe('the registry', () => {
  it('knows it as an eye, not as an encoder', () => {
    const imported = path.join(home, 'imported');
    mkdirSync(imported);
    const folder = folderOf('imported/mine', { name: 'a name of its own' });
    const registry = createRegistry(path.join(home, 'nowhere'), imported);
    expect(registry.eyes()).toEqual(['brivl-nano', 'mine']);
    expect(registry.names()).toEqual(['brivl-nano']);
    expect(registry.generators()).toEqual([]);
    expect(registry.openEye('mine')).toMatchObject({ name: 'mine', hash: openOnnxEye(folder).hash });
    expect(() => registry.open('mine')).toThrow(UnknownModelError);
    expect(() => registry.openEye('nobody')).toThrow(/there is no model nobody: there is brivl-nano, mine/);
  });
});
