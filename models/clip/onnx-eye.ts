import { existsSync, readFileSync, realpathSync } from 'node:fs';
import { isAbsolute, join, relative, sep } from 'node:path';
import { z } from 'zod';
import type { ConceptSpace, Eye, ImageModel } from '../brivl/model.js';
import type { ImageTower } from '../brivl/towers.js';
import { normalize } from '../brivl/transformer.js';
import { readOnnx, sizeOf, type Graph, type Node, type Value } from '../graph/index.js';
import { digestOf } from '../weights/digest.js';

/** A network that cannot be explored. Its sentence names the file and tells what is wrong. */
export class UnfitNetworkError extends Error {}

const fileName = z.string().min(1).max(255);

/** config.json of a folder with a plain ONNX network: what its one input takes, and names for what its outputs stand for. */
export const onnxConfig = z.object({
  type: z.literal('onnx'),
  name: z.string().min(1).max(64),
  description: z.string().max(2000).optional(),
  file: fileName,
  input: z.object({
    /** Side of the square pictures. */
    size: z.number().int().min(8).max(2048),
    /** The network is fed (picture - mean) / std, a picture in [0, 1]. */
    mean: z.array(z.number()).length(3),
    std: z.array(z.number().positive()).length(3),
    layout: z.literal('nchw').default('nchw'),
  }),
  /** Names of values in the file, instead of all that can be layers. */
  layers: z.array(z.string().min(1)).min(1).max(1000).optional(),
  /** A file with a label a line (`word`, or `word<TAB>its Chinese`), or the labels. */
  labels: z.union([fileName, z.array(z.string().min(1)).min(1)]).optional(),
});

type OnnxConfig = z.output<typeof onnxConfig>;

/** The name of the last map before the global pooling, as everywhere. */
const llp = 'LLP';

/** Whose outputs are layers, where they are maps. */
const layerMakers = new Set(
  'Add BatchNormalization Clip Concat Conv ConvTranspose Elu HardSwish LeakyRelu Mul PRelu Relu Selu Sigmoid Softplus Tanh'.split(
    ' ',
  ),
);

/** One-hot rows for more labels than this would take a gigabyte of memory at a few times as many. */
const mostLabels = 4096;

/**
 * Opens a folder with config.json and a forward ONNX network that takes one picture [N, 3, H, W] and puts out logits [N, E]. Its joint space is
 * that of the logits, L2-normalised; a label is an axis of it.
 *
 * @throws UnfitNetworkError naming the file
 */
export function openOnnxEye(folder: string): ImageModel {
  const config = readConfig(folder);
  const files = new Set(['config.json', config.file, ...(typeof config.labels === 'string' ? [config.labels] : [])]);
  const load = (file: string) => {
    files.add(file);
    return readInside(folder, file);
  };
  const network = readNetwork(load, config, 1);
  const { tower, named } = network;
  const embed = tower.logits.shape[1];
  const concepts = labelled(load, config, embed);
  const { hash, bytes } = digestOf([...files].map((file) => join(folder, file)));
  const eye: Eye = {
    hash,
    size: config.input.size,
    channels: tower.llp.shape[1],
    layers: [...named].map(([name, value]) => ({ name, channels: value.shape[value.shape.length === 4 ? 1 : 2] })),
    embed,
    look: (g, pictures) => lookThrough(g, pictures, load, config),
    directions: (layer) => (layer === llp ? linearHead(network) : null),
  };
  return {
    name: config.name,
    hash,
    bytes,
    parameters: [...network.graph.constants.keys()].reduce(
      (sum, { dtype, shape }) => sum + (dtype === 'int64' ? 0 : sizeOf(shape)),
      0,
    ),
    description: config.description ?? '',
    eye,
    concepts,
    statistics: new Map(),
  };
}

function readConfig(folder: string): OnnxConfig {
  const path = join(folder, 'config.json');
  const complain = (why: string): never => {
    throw new UnfitNetworkError(`${path}: ${why}`);
  };
  let json: unknown;
  try {
    json = JSON.parse(readFileSync(path, 'utf8'));
  } catch (error) {
    return complain((error as Error).message);
  }
  const parsed = onnxConfig.safeParse(json);
  return parsed.success
    ? parsed.data
    : complain(parsed.error.issues.map(({ path: at, message }) => `${at.join('.') || 'it'}: ${message}`).join('; '));
}

/** The bytes of a file of the folder; links that lead out of it are not followed. */
function readInside(folder: string, file: string): Uint8Array {
  const path = join(folder, file);
  if (isAbsolute(file) || isOutside(folder, path))
    throw new UnfitNetworkError(`${file} lies outside ${folder}: put every file of a model into its folder`);
  if (!existsSync(path)) throw new UnfitNetworkError(`${path} is missing`);
  if (isOutside(realpathSync(folder), realpathSync(path)))
    throw new UnfitNetworkError(`${path} is a link to outside its folder: put the file itself there`);
  return readFileSync(path);
}

function isOutside(folder: string, path: string): boolean {
  const way = relative(folder, path);
  return way === '..' || way.startsWith(`..${sep}`) || isAbsolute(way);
}

type Load = (file: string) => Uint8Array;

interface Network {
  graph: Graph;
  input: Value;
  tower: { llp: Value; logits: Value };
  /** The layers, LLP last. */
  named: ReadonlyMap<string, Value>;
}

/** The file as a graph that takes `n` pictures of the configured size, or of `side`. */
function readNetwork(load: Load, config: OnnxConfig, n: number, [height, width] = [config.input.size, config.input.size]): Network {
  const complain = (why: string): never => {
    throw new UnfitNetworkError(`${config.file} of ${config.name}: ${why}`);
  };
  const inFile = new Map<string, Value>();
  let graph: Graph;
  try {
    graph = readOnnx(load(config.file), {
      shapes: () => [n, 3, height, width],
      external: load,
      each: (name, value) => inFile.set(name, value),
    });
  } catch (error) {
    if (error instanceof UnfitNetworkError) throw error;
    return complain((error as Error).message);
  }
  const [input, ...others] = graph.inputs;
  if (!input || others.length)
    return complain(
      `it takes ${graph.inputs.length} inputs (${graph.inputs.map(({ name }) => name).join(', ')}): one picture is fed`,
    );
  if (input.dtype !== 'float32') return complain(`its input ${input.name} is ${input.dtype}: float32 is fed`);
  const logits = logitsOf(graph, n);
  if (!logits) {
    const [output] = graph.outputs;
    return complain(
      `its first output is ${output ? `[${output.value.shape.join(', ')}]` : 'missing'}: logits [${n}, E] are expected`,
    );
  }
  const fromPicture = dependentOn(graph, input);
  const isLayer = ({ shape, dtype }: Value) =>
    dtype === 'float32' && shape.length === 4 && shape[0] === n && shape[2] * shape[3] > 1;
  const isMap = (value: Value) => isLayer(value) && fromPicture.has(value);
  const maps = [...inFile].filter(([name, value]) => {
    const maker = graph.producers.get(value);
    return isMap(value) && maker && layerMakers.has(maker.op) && !/[\s@=]/.test(name);
  });
  const last = pooledLast(graph, isMap) ?? maps.at(-1)?.[1];
  if (!last) return complain('it has no map [N, C, h, w] of convolutions: there is nothing to explore');
  const chosen =
    config.layers?.map((name): [string, Value] => {
      const value = inFile.get(name);
      if (!value) return complain(`it has no value ${name}, which "layers" of config.json names`);
      const isTokens = value.dtype === 'float32' && value.shape.length === 3 && value.shape[0] === n;
      if (!(isMap(value) || (isTokens && fromPicture.has(value))))
        return complain(
          `its value ${name} is [${value.shape.join(', ')}]: a layer is a map [N, C, h, w] or tokens [N, T, C] of the picture`,
        );
      if (/[\s@=]/.test(name))
        return complain(`its value ${JSON.stringify(name)} has a space, "@" or "=" in its name: it cannot be a layer`);
      return [name, value];
    }) ?? maps.filter(([, value]) => value !== last);
  return { graph, input, tower: { llp: last, logits }, named: new Map([...chosen.filter(([name]) => name !== llp), [llp, last]]) };
}

/** The first output as [N, E], before a softmax at its end; null where it is none. */
function logitsOf(graph: Graph, n: number): Value | null {
  let value: Value | undefined = graph.outputs[0]?.value;
  for (let made: Node | undefined; value && (made = graph.producers.get(value)) && /^(Identity|Softmax|LogSoftmax)$/.test(made.op);)
    value = made.inputs[0]!;
  if (value?.dtype !== 'float32' || value.shape[0] !== n) return null;
  const [, embed = 1, ...ones] = value.shape;
  if (value.shape.length < 2 || ones.some((size) => size !== 1)) return null;
  return graph.reshape(value, [n, embed]);
}

function dependentOn(graph: Graph, input: Value): Set<Value> {
  const reached = new Set([input]);
  for (const node of graph.nodes) if (node.inputs.some((v) => v && reached.has(v))) node.outputs.forEach((v) => reached.add(v));
  return reached;
}

/** The map that the last global pooling pools: the ones before it are squeeze-excites. */
function pooledLast(graph: Graph, isMap: (value: Value) => boolean): Value | undefined {
  const pooling = graph.nodes.findLast(({ op, inputs: [x], outputs: [y] }) => {
    if (!x || !isMap(x) || !/^(Global\w*Pool|AveragePool|MaxPool|ReduceMean|ReduceMax)$/.test(op)) return false;
    const [n, channels] = x.shape;
    return sizeOf(y.shape) === n * channels && y.shape[1] === channels;
  });
  return pooling?.inputs[0] ?? undefined;
}

/** Puts the network into a graph. One that takes a single picture at a time is put there once for each. */
function lookThrough(g: Graph, pictures: Value, load: Load, config: OnnxConfig): ImageTower {
  const { mean, std } = config.input;
  const perChannel = (values: number[]) => g.floats(values, [1, 3, 1, 1]);
  const normal = g.add(g.mul(pictures, perChannel(std.map((s) => 1 / s))), perChannel(mean.map((m, i) => -m / std[i])));
  const [n, , height, width] = pictures.shape;
  const { network, at } = networkFor(load, config, n, [height, width]);
  const runs = Array.from({ length: n / at }, (_, i) => (at === n ? normal : g.slice(normal, 0, i * at, (i + 1) * at)));
  const wanted = [network.tower.logits, ...network.named.values()];
  const shared = new Map<Value, Value>();
  const parts = runs.map((run) => put(g, network, run, wanted, shared));
  const [projected, ...maps] = wanted.map((_, i) =>
    g.concat(
      parts.map((part) => part[i]),
      0,
    ),
  );
  const layers = new Map([...network.named.keys()].map((name, i) => [name, maps[i]]));
  return { llp: layers.get(llp)!, layers, projected, embedding: normalize(g, projected) };
}

function networkFor(load: Load, config: OnnxConfig, n: number, size: [number, number]): { network: Network; at: number } {
  try {
    return { network: readNetwork(load, config, n, size), at: n };
  } catch (error) {
    // Exporters write the batch of one into shapes: then it is looked at one by one.
    if (n === 1) throw error;
    return { network: readNetwork(load, config, 1, size), at: 1 };
  }
}

/** The values of another graph, made anew in this one with `pictures` for its input. Constants are put there once for all calls that share. */
function put(g: Graph, { graph, input }: Network, pictures: Value, wanted: readonly Value[], shared: Map<Value, Value>): Value[] {
  const made = new Map<Value, Value>([[input, pictures]]);
  const resolve = (value: Value): Value => {
    const known = made.get(value) ?? shared.get(value);
    if (known) return known;
    const copy = g.constant(graph.constants.get(value)!.tensor(), value.name);
    shared.set(value, copy);
    return copy;
  };
  for (const { op, inputs, outputs, attributes, name } of graph.nodes) {
    const copies = g.apply(op, inputs.map((v) => v && resolve(v)), attributes, outputs.length, `image/${name}`); // prettier-ignore
    outputs.forEach((output, i) => made.set(output, copies[i]));
  }
  return wanted.map(resolve);
}

/** The matrix [channels, E] between the mean of the LLP map and the logits, where a mean and one matrix are all there is; else null. */
function linearHead({ graph, tower }: Network): Float32Array | null {
  const constant = (value: Value | null | undefined) => (value ? graph.constants.get(value)?.tensor() : undefined);
  const through = (value: Value, ops: RegExp): Value => {
    const made = graph.producers.get(value);
    return made && ops.test(made.op) ? through(made.inputs[0]!, ops) : value;
  };
  const shaping = /^(Identity|Flatten|Reshape|Squeeze|Unsqueeze|Transpose)$/;
  let product = graph.producers.get(through(tower.logits, shaping));
  if (product?.op === 'Add') {
    const side = product.inputs.find((v) => !constant(v));
    product = side ? graph.producers.get(through(side, shaping)) : undefined;
  }
  if (!product || !/^(MatMul|Gemm|Conv)$/.test(product.op)) return null;
  const matrix = constant(product.inputs[1]);
  const pooled = graph.producers.get(through(product.inputs[0]!, shaping));
  if (!matrix || matrix.dtype !== 'float32' || !pooled || !/^(GlobalAveragePool|ReduceMean|AveragePool)$/.test(pooled.op))
    return null;
  if (pooled.inputs[0] !== tower.llp) return null;
  const [channels, embed] = [tower.llp.shape[1], tower.logits.shape[1]];
  if (matrix.data.length !== channels * embed) return null;
  const rowsAreOutputs = product.op === 'Conv' || (product.op === 'Gemm' && product.attributes.transB === 1);
  const alpha = product.op === 'Gemm' && typeof product.attributes.alpha === 'number' ? product.attributes.alpha : 1;
  const at = (c: number, e: number) => matrix.data[rowsAreOutputs ? e * channels + c : c * embed + e] as number;
  return Float32Array.from({ length: channels * embed }, (_, i) => alpha * at(Math.floor(i / embed), i % embed));
}

/** Labels as axes of the space of logits; null without labels. */
function labelled(load: Load, { name, labels }: OnnxConfig, embed: number): ConceptSpace | null {
  if (labels === undefined) return null;
  const lines = typeof labels === 'string' ? new TextDecoder().decode(load(labels)).split(/\r?\n/) : labels;
  // An empty line at the end is the end of the last one.
  while (lines.at(-1)?.trim() === '') lines.pop();
  const where = typeof labels === 'string' ? `${labels} of ${name}` : `config.json of ${name}`;
  if (lines.length !== embed)
    throw new UnfitNetworkError(`${where} has ${lines.length} labels: the network puts out ${embed} logits`);
  if (embed > mostLabels) throw new UnfitNetworkError(`${where} has ${embed} labels: at most ${mostLabels} are taken`);
  const entries = lines.map((line, i) => {
    const [word, zh = ''] = line.split('\t').map((part) => part.trim());
    return { wnid: `label-${i}`, word, zh: zh || null };
  });
  const joint = new Float32Array(embed * embed);
  for (let i = 0; i < embed; i++) joint[i * embed + i] = 1;
  return { entries, classes: embed, joint };
}
