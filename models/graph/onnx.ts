import { basename, dirname } from 'node:path';
import { create, fromBinary, toBinary } from '@bufbuild/protobuf';
import {
  AttributeProto_AttributeType as Kind,
  AttributeProtoSchema,
  GraphProtoSchema,
  ModelProtoSchema,
  NodeProtoSchema,
  OperatorSetIdProtoSchema,
  StringStringEntryProtoSchema,
  TensorProto_DataLocation,
  TensorProtoSchema,
  TensorShapeProto_DimensionSchema,
  TensorShapeProtoSchema,
  TypeProto_TensorSchema,
  TypeProtoSchema,
  ValueInfoProtoSchema,
  type AttributeProto,
  type ModelProto,
  type NodeProto,
  type TensorProto,
  type TensorShapeProto,
} from 'onnx-buf';
import { Graph, type Value } from './graph.js';
import { operators } from './ops/index.js';
import { dtypeOf, onnxTypes, shapeTensor } from './ops/layout.js';
import { gelu } from './ops/activation.js';
import { intAttribute, normalizeAxis, type AttributeKind, type Attributes, type AttributeValue } from './operator.js';
import { bytesPerElement, sizeOf, type Shape, type Tensor, type TypedArray } from './tensor.js';

/** Later opsets lose GPU kernels, later IR versions are refused by onnxruntime-node 1.30 (shared reference, gradients.md). */
const opset = 18n;
const irVersion = 10n;

/** Constants above this many bytes are not copied into the model but referred to. */
const inlineLimit = 1024;

/** An ONNX model ready for a session: the bytes, and the tensors that it refers to by name instead of holding. */
export interface OnnxModel {
  bytes: Uint8Array;
  externalData: { path: string; data: Uint8Array }[];
  /**
   * The folder of the weight files that are referred to on disk, for the session option
   * `session.model_external_initializers_file_folder_path`; null when there are none. A model file written beside them needs no option.
   * onnxruntime-node 1.30 uses only the base name of a location and refuses links that lead out of the folder. It takes tensors from files or
   * from memory, not from both: with a folder, constants in memory are inside `bytes` and `externalData` is empty.
   */
  folder: string | null;
}

export function writeOnnx(graph: Graph, name = 'reverie'): OnnxModel {
  const externalData: OnnxModel['externalData'] = [];
  const folders = new Set([...graph.constants.values()].flatMap(({ source }) => (source ? [dirname(source.file)] : [])));
  if (folders.size > 1) throw new Error(`weights lie in several folders (${[...folders].join(', ')}): onnxruntime takes one`);
  const folder = [...folders][0] ?? null;
  const used = new Set<Value>(graph.nodes.flatMap((node) => node.inputs.filter((v) => v !== null)));
  for (const output of graph.outputs) used.add(output.value);
  // An output must be a node's own: inputs, constants and values that are output twice go through an Identity.
  const rename = new Map<string, string>();
  const copies = graph.outputs.filter(({ name: output, value }) => {
    if (graph.inputs.some((input) => input.name === output)) throw new Error(`the output ${output} has the name of an input`);
    if (!graph.producers.has(value) || rename.has(value.name)) return true;
    rename.set(value.name, output);
    return false;
  });
  // Other values give way to the outputs' names.
  for (const { name: output } of graph.outputs) if (!rename.has(output)) rename.set(output, `inner/${output}`);
  const nameOf = (v: Value | null) => (v ? (rename.get(v.name) ?? v.name) : '');

  const entry = (key: string, value: string) => create(StringStringEntryProtoSchema, { key, value });
  const initializers = [...graph.constants.values()]
    .filter(({ value }) => used.has(value))
    .map(({ value, source, tensor }) => {
      const head = { name: nameOf(value), dataType: onnxTypes[value.dtype], dims: value.shape.map(BigInt) };
      if (source) {
        const location = [
          entry('location', basename(source.file)),
          entry('offset', String(source.offset)),
          entry('length', String(source.length)),
        ];
        return create(TensorProtoSchema, { ...head, dataLocation: TensorProto_DataLocation.EXTERNAL, externalData: location });
      }
      const bytes = bytesOf(tensor().data);
      if (folder !== null || bytes.length <= inlineLimit) return create(TensorProtoSchema, { ...head, rawData: bytes });
      const path = `weight-${externalData.length}`;
      externalData.push({ path, data: bytes });
      const location = [entry('location', path), entry('offset', '0'), entry('length', String(bytes.length))];
      return create(TensorProtoSchema, { ...head, dataLocation: TensorProto_DataLocation.EXTERNAL, externalData: location });
    });

  const nodes = graph.nodes.map((node) =>
    create(NodeProtoSchema, {
      name: node.name,
      opType: node.op,
      // An absent last input is left out: MLAS's layout pass passes over a convolution with an empty bias.
      input: node.inputs.slice(0, node.inputs.findLastIndex((v) => v !== null) + 1).map(nameOf),
      output: node.outputs.map(nameOf),
      attribute: Object.entries(node.attributes)
        .filter(([, value]) => value !== undefined)
        .map(([key, value]) => writeAttribute(key, operators[node.op].attributes[key], value!)),
    }),
  );
  for (const { name: output, value } of copies)
    nodes.push(create(NodeProtoSchema, { name: `output ${output}`, opType: 'Identity', input: [nameOf(value)], output: [output] }));
  const model = create(ModelProtoSchema, {
    irVersion,
    producerName: 'reverie',
    opsetImport: [create(OperatorSetIdProtoSchema, { domain: '', version: opset })],
    graph: create(GraphProtoSchema, {
      name,
      node: nodes,
      initializer: initializers,
      input: graph.inputs.map((v) => valueInfo(v.name, v)),
      output: graph.outputs.map(({ name: output, value }) => valueInfo(output, value)),
    }),
  });
  return { bytes: toBinary(ModelProtoSchema, model), externalData, folder };
}

const bytesOf = (data: TypedArray): Uint8Array<ArrayBuffer> =>
  new Uint8Array(data.buffer as ArrayBuffer, data.byteOffset, data.byteLength);

const valueInfo = (name: string, { dtype, shape }: Value) =>
  create(ValueInfoProtoSchema, {
    name,
    type: create(TypeProtoSchema, {
      value: {
        case: 'tensorType',
        value: create(TypeProto_TensorSchema, {
          elemType: onnxTypes[dtype],
          shape: create(TensorShapeProtoSchema, {
            dim: shape.map((n) => create(TensorShapeProto_DimensionSchema, { value: { case: 'dimValue', value: BigInt(n) } })),
          }),
        }),
      },
    }),
  });

const kinds: Record<AttributeKind, Kind> = {
  int: Kind.INT,
  float: Kind.FLOAT,
  string: Kind.STRING,
  ints: Kind.INTS,
  floats: Kind.FLOATS,
  tensor: Kind.TENSOR,
};

function writeAttribute(name: string, kind: AttributeKind, value: AttributeValue): AttributeProto {
  const head = { name, type: kinds[kind] };
  switch (kind) {
    case 'int':
      return create(AttributeProtoSchema, { ...head, i: BigInt(value as number) });
    case 'float':
      return create(AttributeProtoSchema, { ...head, f: value as number });
    case 'string':
      return create(AttributeProtoSchema, { ...head, s: new TextEncoder().encode(value as string) });
    case 'ints':
      return create(AttributeProtoSchema, { ...head, ints: (value as readonly number[]).map(BigInt) });
    case 'floats':
      return create(AttributeProtoSchema, { ...head, floats: [...(value as readonly number[])] });
    case 'tensor': {
      const tensor = value as Tensor;
      const t = create(TensorProtoSchema, {
        dims: tensor.shape.map(BigInt),
        dataType: onnxTypes[tensor.dtype],
        rawData: bytesOf(tensor.data),
      });
      return create(AttributeProtoSchema, { ...head, t });
    }
  }
}

export interface ReadOptions {
  /** Sizes for inputs whose shape in the file is open, by input name; those of others are taken in place of the file's. */
  shapes?: Readonly<Record<string, Shape>> | ((input: string) => Shape | undefined);
  /** Gives the bytes of an external data file, by the location that the model names. Absent: such a model is refused. */
  external?: (location: string) => Uint8Array;
  /** Told of every value that a node makes, by its name in the file. */
  each?: (name: string, value: Value) => void;
}

/**
 * Reads a forward ONNX model into a graph with static shapes. Errors name the node: operators outside the graph language, control flow,
 * custom domains, open shapes without a size in `shapes`, shapes that depend on data.
 */
export function readOnnx(bytes: Uint8Array, options: ReadOptions = {}): Graph {
  const model = parse(bytes);
  if (!model.graph) throw new Error('the file holds no ONNX graph');
  const version = Number(model.opsetImport.find(({ domain }) => domain === '' || domain === 'ai.onnx')?.version ?? 1n);
  const graph = new Graph();
  const values = new Map<string, Value>();
  const { shapes } = options;
  const given = typeof shapes === 'function' ? shapes : (name: string) => shapes?.[name];
  for (const t of model.graph.initializer) values.set(t.name, graph.constant(readTensor(t, options), t.name));
  for (const input of model.graph.input) {
    if (values.has(input.name)) continue;
    const type = input.type?.value;
    if (type?.case !== 'tensorType') throw new Error(`input ${input.name} is not a tensor`);
    const shape = given(input.name) ?? fixedShape(input.name, type.value.shape);
    values.set(input.name, graph.input(input.name, shape, dtypeOf(type.value.elemType)));
  }
  for (const node of model.graph.node) {
    const name = node.name || node.output[0] || node.opType;
    try {
      if (node.domain && node.domain !== 'ai.onnx') throw new Error(`operators of the domain ${node.domain} are not supported`);
      const outputs =
        node.opType === 'Constant'
          ? [graph.constant(readConstant(node.attribute, options), node.output[0])]
          : applyOrFold(graph, modernize(graph, version, readNode(node, values, options)), name);
      node.output.forEach((v, i) => {
        values.set(v, outputs[i]);
        options.each?.(v, outputs[i]);
      });
    } catch (error) {
      const { message } = error as Error;
      throw new Error(message.startsWith('node ') ? message : `node ${name} (${node.opType}): ${message}`, { cause: error });
    }
  }
  for (const { name } of model.graph.output) {
    const value = values.get(name);
    if (!value) throw new Error(`no node makes the output ${name}`);
    graph.output(name, value);
  }
  return graph;
}

function parse(bytes: Uint8Array): ModelProto {
  try {
    return fromBinary(ModelProtoSchema, bytes);
  } catch (error) {
    throw new Error(`the file is not an ONNX model: ${(error as Error).message}`, { cause: error });
  }
}

function fixedShape(name: string, shape: TensorShapeProto | undefined): number[] {
  if (!shape) throw new Error(`input ${name} has an open rank: give its shape`);
  return shape.dim.map(({ value }) => {
    if (value.case === 'dimValue' && value.value > 0n) return Number(value.value);
    throw new Error(`input ${name} has an open size (${String(value.value ?? '?')}): give its shape`);
  });
}

/** A node as the file has it, its inputs found. */
interface ReadNode {
  op: string;
  inputs: (Value | null)[];
  attributes: Attributes;
  outputCount: number;
}

function readNode(node: NodeProto, values: ReadonlyMap<string, Value>, options: ReadOptions): ReadNode {
  const inputs = node.input.map((v) => {
    if (v === '') return null;
    const value = values.get(v);
    if (!value) throw new Error(`it uses ${v}, which nothing has made before it`);
    return value;
  });
  const attributes = node.attribute.map((a) => {
    const kind = operators[node.opType]?.attributes[a.name];
    if (kind && kinds[kind] !== a.type) throw new Error(`its attribute ${a.name} is not of the type ${kind}`);
    return [a.name, readAttribute(a, options)] as const;
  });
  return { op: node.opType, inputs, attributes: Object.fromEntries(attributes), outputCount: node.output.length };
}

/** Shapes in files are computed by nodes (Shape, Gather, Concat, ...): constants are folded while reading, so that they stay static. */
function applyOrFold(graph: Graph, { op, inputs, attributes, outputCount }: ReadNode, name: string): Value[] {
  if (op === 'Gelu') return [gelu(graph, inputs[0]!, attributes.approximate === 'tanh')];
  const outputs = graph.apply(op, inputs, attributes, outputCount, name);
  if (op === 'Shape') return [graph.constant(shapeTensor(inputs[0]!, attributes))];
  const { evaluate } = operators[op];
  const constants = inputs.map((v) => (v ? graph.constants.get(v) : null));
  const small = outputs.every((v) => sizeOf(v.shape) <= 4096);
  if (!evaluate || !small || constants.some((c) => c === undefined)) return outputs;
  return evaluate(
    constants.map((c) => c?.tensor() ?? null),
    attributes,
    outputs,
  ).map((tensor, i) => graph.constant(tensor, outputs[i].name));
}

/** Nodes of older opsets as they are in opset 18: axes, splits, pads and bounds are inputs, and some defaults differ. */
function modernize(graph: Graph, version: number, node: ReadNode): ReadNode {
  const { op, outputCount } = node;
  const inputs = node.inputs.slice();
  const attributes = new Map(Object.entries(node.attributes));
  const move = (key: string, at: number) => {
    const value = attributes.get(key);
    if (inputs[at] || !(Array.isArray(value) || typeof value === 'number')) return;
    while (inputs.length < at) inputs.push(null);
    inputs[at] = typeof value === 'number' ? graph.scalar(value) : graph.ints(value as number[]);
    attributes.delete(key);
  };
  if (op === 'Dropout') return { op: 'Identity', inputs: inputs.slice(0, 1), attributes: {}, outputCount };
  if (op === 'Squeeze' || op === 'Unsqueeze' || op.startsWith('Reduce')) move('axes', 1);
  if (op === 'Split') {
    move('split', 1);
    if (!inputs[1]) attributes.set('num_outputs', outputCount);
  }
  if (op === 'Pad') ['pads', 'value'].forEach((key, i) => move(key, i + 1));
  if (op === 'Slice') ['starts', 'ends', 'axes'].forEach((key, i) => move(key, i + 1));
  if (op === 'Clip') ['min', 'max'].forEach((key, i) => move(key, i + 1));
  if (op === 'Resize' && version < 11) {
    inputs.splice(1, 0, null);
    attributes.set('coordinate_transformation_mode', 'asymmetric').set('nearest_mode', 'floor');
  }
  if ((op === 'Softmax' || op === 'LogSoftmax') && version < 13) {
    const rank = inputs[0]!.shape.length;
    if (normalizeAxis(intAttribute(node.attributes, 'axis', 1), rank) !== rank - 1)
      throw new Error(`in opset ${version} it is over all axes from its axis on: only the last axis is supported`);
    attributes.set('axis', -1);
  }
  return { op, inputs, attributes: Object.fromEntries(attributes), outputCount };
}

function readConstant(attributes: readonly AttributeProto[], options: ReadOptions): Tensor {
  const [a] = attributes;
  if (!a) throw new Error('it has no value');
  const value = readAttribute(a, options);
  switch (a.name) {
    case 'value':
      return value as Tensor;
    case 'value_float':
      return { dtype: 'float32', shape: [], data: Float32Array.of(value as number) };
    case 'value_floats':
      return { dtype: 'float32', shape: [(value as number[]).length], data: Float32Array.from(value as number[]) };
    case 'value_int':
      return { dtype: 'int64', shape: [], data: BigInt64Array.of(BigInt(value as number)) };
    case 'value_ints':
      return { dtype: 'int64', shape: [(value as number[]).length], data: BigInt64Array.from((value as number[]).map(BigInt)) };
    default:
      throw new Error(`a Constant by ${a.name} is not supported`);
  }
}

function readAttribute(a: AttributeProto, options: ReadOptions): AttributeValue {
  switch (a.type) {
    case Kind.INT:
      return Number(a.i);
    case Kind.FLOAT:
      return a.f;
    case Kind.STRING:
      return new TextDecoder().decode(a.s);
    case Kind.INTS:
      return a.ints.map(Number);
    case Kind.FLOATS:
      return a.floats;
    case Kind.TENSOR:
      if (a.t) return readTensor(a.t, options);
      throw new Error(`its attribute ${a.name} has no tensor`);
    default:
      throw new Error(`its attribute ${a.name} has a type (${a.type}) that is not supported (subgraphs are not)`);
  }
}

function readTensor(t: TensorProto, options: ReadOptions): Tensor {
  const dtype = dtypeOf(t.dataType);
  const shape = t.dims.map(Number);
  if (!shape.every((n) => Number.isSafeInteger(n) && n >= 0))
    throw new Error(`tensor ${t.name} has the shape [${shape.join(', ')}]`);
  const length = sizeOf(shape);
  const typed = (raw: Uint8Array): TypedArray => {
    if (raw.byteLength !== length * bytesPerElement[dtype])
      throw new Error(
        `tensor ${t.name} of shape [${shape.join(', ')}] has ${raw.byteLength} bytes, not ${length * bytesPerElement[dtype]}`,
      );
    // Not `slice`: that of a Buffer is a view of all that it lies in.
    const copy = new Uint8Array(raw).buffer;
    const kinds = {
      float32: Float32Array,
      float16: Uint16Array,
      int64: BigInt64Array,
      int32: Int32Array,
      bool: Uint8Array,
      uint8: Uint8Array,
      int8: Int8Array,
    };
    return new kinds[dtype](copy);
  };
  if (t.dataLocation === TensorProto_DataLocation.EXTERNAL) {
    const fields = Object.fromEntries(t.externalData.map(({ key, value }) => [key, value]));
    if (!options.external) throw new Error(`tensor ${t.name} lies in the file ${fields.location}, which was not given`);
    const file = options.external(fields.location);
    const offset = Number(fields.offset ?? 0);
    const end = offset + Number(fields.length ?? file.length - offset);
    if (!(offset >= 0 && end >= offset && end <= file.length))
      throw new Error(`tensor ${t.name} takes bytes ${offset} to ${end} of ${fields.location}, which has ${file.length}`);
    return { dtype, shape, data: typed(file.subarray(offset, end)) };
  }
  if (t.rawData.length) return { dtype, shape, data: typed(t.rawData) };
  const held: Partial<Record<typeof dtype, ArrayLike<number> | readonly bigint[]>> = {
    float32: t.floatData,
    int64: t.int64Data,
    float16: t.int32Data,
    int32: t.int32Data,
    bool: t.int32Data,
    uint8: t.int32Data,
    int8: t.int32Data,
  };
  const values = held[dtype]!;
  if (values.length !== length) throw new Error(`tensor ${t.name} of shape [${shape.join(', ')}] has ${values.length} elements`);
  if (dtype === 'int64') return { dtype, shape, data: BigInt64Array.from(values as readonly bigint[]) };
  const kinds = {
    float32: Float32Array,
    float16: Uint16Array,
    int32: Int32Array,
    bool: Uint8Array,
    uint8: Uint8Array,
    int8: Int8Array,
  };
  return { dtype, shape, data: kinds[dtype].from(values as ArrayLike<number>) };
}
