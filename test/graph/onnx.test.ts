import { create, fromBinary, toBinary } from '@bufbuild/protobuf';
import fc from 'fast-check';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import {
  AttributeProto_AttributeType as Kind,
  AttributeProtoSchema,
  GraphProtoSchema,
  ModelProtoSchema,
  NodeProtoSchema,
  OperatorSetIdProtoSchema,
  TensorProtoSchema,
  TensorShapeProto_DimensionSchema,
  TensorShapeProtoSchema,
  TypeProto_TensorSchema,
  TypeProtoSchema,
  ValueInfoProtoSchema,
} from 'onnx-buf';
import { InferenceSession } from 'onnxruntime-node';
import { afterAll, describe, expect, it } from 'vitest';
import { differentiate, Graph, numbers, readOnnx, simplify, sizeOf, writeOnnx, type Value } from '../../models/graph/index.js';
import { float16ToNumber, fromNumbers, numberToFloat16 } from '../../models/graph/tensor.js';
import { grow, steps } from './dags.js';
import { relativeError, run, runModel, runSession, sessionOptions } from './session.js';
import { twins } from './twins.js';

/** A model written by hand, as other exporters do. */
interface Plain {
  opset: number;
  /** A dimension is a size, a name (open), or the whole shape null (open rank). */
  inputs: Record<string, (number | string)[] | null>;
  nodes: [op: string, inputs: string[], outputs: string[], attributes?: Record<string, number | number[] | string | Float>][];
  initializers?: Record<string, { shape: number[]; ints?: number[]; floats?: number[] }>;
  outputs: string[];
}
class Float {
  constructor(readonly value: number) {}
}

const attribute = (name: string, value: number | number[] | string | Float) => {
  if (value instanceof Float) return create(AttributeProtoSchema, { name, type: Kind.FLOAT, f: value.value });
  if (typeof value === 'number') return create(AttributeProtoSchema, { name, type: Kind.INT, i: BigInt(value) });
  if (typeof value === 'string')
    return create(AttributeProtoSchema, { name, type: Kind.STRING, s: new TextEncoder().encode(value) });
  return create(AttributeProtoSchema, { name, type: Kind.INTS, ints: value.map(BigInt) });
};

function modelOf({ opset, inputs, nodes, initializers = {}, outputs }: Plain): Uint8Array {
  const info = (name: string, shape: (number | string)[] | null) =>
    create(ValueInfoProtoSchema, {
      name,
      type: create(TypeProtoSchema, {
        value: {
          case: 'tensorType',
          value: create(TypeProto_TensorSchema, {
            elemType: 1,
            shape: shape
              ? create(TensorShapeProtoSchema, {
                  dim: shape.map((n) =>
                    create(TensorShapeProto_DimensionSchema, {
                      value: typeof n === 'number' ? { case: 'dimValue', value: BigInt(n) } : { case: 'dimParam', value: n },
                    }),
                  ),
                })
              : undefined,
          }),
        },
      }),
    });
  return toBinary(
    ModelProtoSchema,
    create(ModelProtoSchema, {
      irVersion: 8n,
      opsetImport: [create(OperatorSetIdProtoSchema, { domain: '', version: BigInt(opset) })],
      graph: create(GraphProtoSchema, {
        name: 'plain',
        input: Object.entries(inputs).map(([name, shape]) => info(name, shape)),
        output: outputs.map((name) => info(name, null)),
        initializer: Object.entries(initializers).map(([name, { shape, ints, floats }]) =>
          create(TensorProtoSchema, {
            name,
            dims: shape.map(BigInt),
            dataType: ints ? 7 : 1,
            int64Data: ints?.map(BigInt) ?? [],
            floatData: floats ?? [],
          }),
        ),
        node: nodes.map(([opType, input, output, attributes = {}]) =>
          create(NodeProtoSchema, {
            name: `n_${output[0]}`,
            opType,
            input,
            output,
            attribute: Object.entries(attributes).map(([name, value]) => attribute(name, value)),
          }),
        ),
      }),
    }),
  );
}

const folder = mkdtempSync(join(tmpdir(), 'reverie-onnx-'));
afterAll(() => rmSync(folder, { recursive: true }));

/** A network with every kind of attribute, a large constant, an int64 input and an absent optional input. */
function example(): Graph {
  const g = new Graph();
  const x = g.input('x', [1, 3, 8, 8]);
  const pick = g.input('pick', [2], 'int64');
  const wave = (shape: number[]) =>
    g.floats(
      Float32Array.from({ length: sizeOf(shape) }, (_, i) => Math.sin(i)),
      shape,
      'wave',
    );
  const c = g.op('Conv', [x, wave([16, 3, 3, 3]), wave([16])], { strides: [2, 2], auto_pad: 'SAME_UPPER' });
  const r = g.op('Resize', [g.op('LeakyRelu', [c], { alpha: 0.2 }), null, g.floats([1, 1, 2, 2])], { mode: 'linear' });
  const n = g.op('LayerNormalization', [r, wave([8]), wave([8])], { epsilon: 1e-3 });
  const f = g.op('ConstantOfShape', [g.ints([8])], { value: fromNumbers('float32', [1], [0.5]) });
  const picked = g.op('Gather', [g.add(n, f), pick], { axis: 1 });
  g.output('y', g.op('Clip', [picked, null, g.scalar(1)]));
  g.output(
    'where',
    g.op('Where', [g.op('Greater', [picked, g.scalar(0)]), picked, g.op('Cast', [g.op('Cast', [picked], { to: 10 })], { to: 1 })]),
  );
  return g;
}
const feeds = { x: Float32Array.from({ length: 192 }, (_, i) => Math.cos(i)), pick: [3, -1] };

const external = (model: ReturnType<typeof writeOnnx>) => (location: string) =>
  model.externalData.find(({ path }) => path === location)!.data;

describe('write and read', () => {
  it('a model read back gives equal results and equal bytes', async () => {
    const g = example();
    const model = writeOnnx(g);
    const again = readOnnx(model.bytes, { external: external(model) });
    expect(again.nodes.filter((node) => node.op !== 'ConstantOfShape').map((node) => node.op)).toEqual(
      g.nodes.filter((node) => node.op !== 'ConstantOfShape').map((node) => node.op),
    );
    expect(await run(again, feeds)).toEqual(await run(g, feeds));
    const small = simplify(g);
    const once = writeOnnx(small);
    expect(writeOnnx(readOnnx(once.bytes, { external: external(once) })).bytes.length).toBeGreaterThan(0);
  });

  it('random graphs with their gradients survive a round trip', async () => {
    await fc.assert(
      fc.asyncProperty(steps, async (recipe) => {
        const { g, feeds } = grow(recipe);
        const model = writeOnnx(g);
        expect(await run(readOnnx(model.bytes, { external: external(model) }), feeds)).toEqual(await run(g, feeds));
      }),
      { numRuns: 25, seed: 4 },
    );
  });

  it('keeps large constants outside the bytes, and writes what is used only', () => {
    const g = new Graph();
    const x = g.input('x', [1000]);
    g.floats(new Float32Array(5000), [5000], 'unused');
    g.output('y', g.add(x, g.floats(new Float32Array(1000).fill(2), [1000], 'large')));
    const { bytes, externalData, folder } = writeOnnx(g);
    expect(bytes.length).toBeLessThan(400);
    expect(externalData.map(({ data }) => data.length)).toEqual([4000]);
    expect(folder).toBeNull();
  });

  it('a constant that is part of a larger buffer is written as its part', async () => {
    const buffer = Float32Array.from({ length: 1500 }, (_, i) => i);
    const g = new Graph();
    const x = g.input('x', [1000]);
    g.output('y', g.add(x, g.constant({ dtype: 'float32', shape: [1000], data: buffer.subarray(300, 1300) })));
    g.output('z', g.add(x, g.constant({ dtype: 'float32', shape: [2, 1], data: buffer.subarray(7, 9) })));
    const { y, z } = await run(g, { x: new Float32Array(1000) });
    expect([y.data[0], y.data[999], z.data[0], z.data[1000]]).toEqual([300, 1299, 7, 8]);
  });

  it('output names win over inner ones; an output and an input cannot share one', async () => {
    const g = new Graph();
    const x = g.input('x', [2]);
    const inner = g.apply('Neg', [x], {}, 1, 'a')[0];
    const b = g.floats([1, 2], [2], 'b');
    g.output('a:out', g.add(inner, b));
    g.output('b', g.op('Exp', [inner]));
    g.output('c', b);
    g.output('d', inner);
    g.output('e', inner);
    g.output('f', x);
    const results = await run(g, { x: [0, 3] });
    const data = Object.fromEntries(Object.entries(results).map(([name, value]) => [name, value.data]));
    expect(data).toMatchObject({ 'a:out': [1, -1], c: [1, 2], d: [-0, -3], e: [-0, -3], f: [0, 3] });
    expect(data.b[0]).toBe(1);
    g.output('x', g.neg(x));
    expect(() => writeOnnx(g)).toThrow('the output x has the name of an input');
  });

  it('every element type survives', () => {
    const g = new Graph();
    const values = {
      float32: [1.5, -2],
      float16: [1.5, 65504],
      int64: [-5, 2 ** 40],
      int32: [-5, 7],
      bool: [1, 0],
      uint8: [0, 255],
      int8: [-128, 127],
    };
    for (const [dtype, list] of Object.entries(values))
      g.output(dtype, g.op('Identity', [g.constant(fromNumbers(dtype as 'float32', [2], list), dtype)]));
    const again = readOnnx(writeOnnx(g).bytes);
    const found = again.outputs.map(({ name, value }) => [name, numbers(again.constants.get(value)!.tensor())]);
    expect(Object.fromEntries(found)).toEqual(values);
  });

  it('half floats round to nearest even, both ways', () => {
    const positive = Array.from({ length: 0x7c00 }, (_, bits) => bits);
    expect(positive.map((bits) => numberToFloat16(float16ToNumber(bits)))).toEqual(positive);
    expect(positive.map((bits) => numberToFloat16(-float16ToNumber(bits)))).toEqual(positive.map((bits) => bits | 0x8000));
    const between = positive.slice(0, -1).map((bits) => numberToFloat16((float16ToNumber(bits) + float16ToNumber(bits + 1)) / 2));
    expect(between).toEqual(positive.slice(0, -1).map((bits) => bits + (bits & 1)));
    expect([Infinity, -Infinity, 65519.9, 65520, 2 ** -25, 2 ** -25 * 1.01].map(numberToFloat16)).toEqual([
      0x7c00, 0xfc00, 0x7bff, 0x7c00, 0, 1,
    ]);
    expect(Number.isNaN(float16ToNumber(numberToFloat16(NaN)))).toBe(true);
  });
});

describe('weights by reference', () => {
  const values = Float32Array.from({ length: 6000 }, (_, i) => Math.sin(i));
  writeFileSync(join(folder, 'weights.bin'), Buffer.concat([Buffer.from('header'), Buffer.from(values.buffer)]));

  function build(file = join(folder, 'weights.bin')) {
    const g = new Graph();
    const x = g.input('x', [2, 60]);
    let reads = 0;
    const read = () => {
      reads++;
      return fromNumbers('float32', [60, 50], values.subarray(1000, 4000));
    };
    const w = g.reference('w', 'float32', [60, 50], { file, offset: 6 + 4000, length: 12000 }, read);
    const y = g.add(
      g.matMul(x, w),
      g.floats(
        Float32Array.from({ length: 2000 }, (_, i) => i),
        [20, 2, 50],
      ),
    );
    g.output('y', y);
    const total = g.reduceSum(g.mul(y, y), [0, 1, 2]);
    g.output('dx', differentiate(g, total, [x])[0]);
    return { g, reads: () => reads };
  }
  const x = Float32Array.from({ length: 120 }, (_, i) => Math.cos(i));
  const check = ({ y }: Record<string, { data: number[] }>) => {
    const w = { shape: [60, 50], data: Float64Array.from(values.subarray(1000, 4000)) };
    const [product] = twins.MatMul([{ shape: [2, 60], data: Float64Array.from(x) }, w], {}, 1);
    expect(
      relativeError(
        y.data.slice(100, 200),
        product.data.map((v, i) => v + 100 + i),
      ),
    ).toBeLessThan(1e-5);
  };

  it('are found at any offset in their folder by a session from bytes, and not read to write', async () => {
    const { g, reads } = build();
    const model = writeOnnx(g);
    expect(reads()).toBe(0);
    expect(model.folder).toBe(folder);
    const extra = { session: { model_external_initializers_file_folder_path: model.folder! } };
    check(await runModel(model, g.inputs, { x }, { extra }));
  });

  it('are found by a session from a model file beside them', async () => {
    const { g } = build();
    const model = writeOnnx(g);
    writeFileSync(join(folder, 'model.onnx'), model.bytes);
    const session = await InferenceSession.create(join(folder, 'model.onnx'), {
      ...sessionOptions,
      externalData: model.externalData,
    });
    check(await runSession(session, g.inputs, { x }));
    await session.release();
  });

  it('are read once, when something folds over them', async () => {
    const { g, reads } = build();
    const small = simplify(g);
    // The gradient needs the transpose, which is folded; the forward pass still refers to the file.
    expect(reads()).toBe(1);
    const model = writeOnnx(small);
    const extra = { session: { model_external_initializers_file_folder_path: model.folder! } };
    check(await runModel(model, small.inputs, { x }, { extra }));
  });

  it('must lie in one folder', () => {
    const { g } = build();
    const other = g.reference('v', 'float32', [2, 60], { file: '/elsewhere/weights.bin', offset: 0, length: 480 }, () => {
      throw new Error('not read');
    });
    g.output('z', g.add(g.inputs[0], other));
    expect(() => writeOnnx(g)).toThrow(/several folders/);
  });
});

describe('models of other exporters', () => {
  it('shapes computed by nodes become static', async () => {
    const g = readOnnx(
      modelOf({
        opset: 17,
        inputs: { x: [2, 3, 4] },
        initializers: { zero: { shape: [], ints: [0] }, minus: { shape: [1], ints: [-1] }, axes: { shape: [1], ints: [0] } },
        nodes: [
          ['Shape', ['x'], ['shape']],
          ['Gather', ['shape', 'zero'], ['batch'], { axis: 0 }],
          ['Unsqueeze', ['batch', 'axes'], ['first']],
          ['Concat', ['first', 'minus'], ['wanted'], { axis: 0 }],
          ['Reshape', ['x', 'wanted'], ['y']],
          ['Shape', ['y'], ['after'], { start: -1 }],
          ['ConstantOfShape', ['after'], ['zeros']],
          ['Add', ['y', 'zeros'], ['z']],
        ],
        outputs: ['z'],
      }),
    );
    expect(g.outputs[0].value.shape).toEqual([2, 12]);
    expect(simplify(g).nodes.map((node) => node.op)).toEqual(['Reshape', 'Add']);
    const x = Float32Array.from({ length: 24 }, (_, i) => i);
    expect((await run(g, { x })).z).toEqual({ shape: [2, 12], data: [...x] });
  });

  it('attributes of old opsets become inputs', async () => {
    const bytes = modelOf({
      opset: 9,
      inputs: { x: [1, 2, 4, 4] },
      initializers: { scales: { shape: [4], floats: [1, 1, 2, 2] } },
      nodes: [
        ['Clip', ['x'], ['a'], { min: new Float(-0.5), max: new Float(6) }],
        ['Pad', ['a'], ['b'], { pads: [0, 0, 1, 1, 0, 0, 1, 1], value: new Float(2) }],
        ['Slice', ['b'], ['c'], { starts: [1, 0], ends: [6, Number.MAX_SAFE_INTEGER], axes: [2, 3] }],
        ['Unsqueeze', ['c'], ['d'], { axes: [0] }],
        ['Squeeze', ['d'], ['e'], { axes: [0] }],
        ['ReduceMean', ['e'], ['f'], { axes: [3], keepdims: 1 }],
        ['ReduceSum', ['f'], ['g'], { axes: [0], keepdims: 1 }],
        ['Split', ['g'], ['h', 'i'], { axis: 1, split: [1, 1] }],
        ['Split', ['g'], ['j', 'k'], { axis: 1 }],
        ['Concat', ['h', 'k'], ['l'], { axis: 1 }],
        ['Dropout', ['l'], ['m'], { ratio: new Float(0.5) }],
        ['Flatten', ['m'], ['n'], { axis: 1 }],
        ['Softmax', ['n'], ['y']],
      ],
      outputs: ['y', 'c'],
    });
    const x = Float32Array.from({ length: 32 }, (_, i) => Math.sin(i));
    const session = await InferenceSession.create(bytes, sessionOptions);
    const g = readOnnx(bytes);
    const expected = await runSession(session, g.inputs, { x });
    const found = await run(simplify(g), { x });
    for (const name of ['y', 'c']) {
      expect(found[name].shape).toEqual(expected[name].shape);
      expect(relativeError(found[name].data, expected[name].data)).toBeLessThan(1e-6);
    }
    const old = modelOf({
      opset: 10,
      inputs: { x: [1, 2, 4, 4] },
      initializers: { scales: { shape: [4], floats: [1, 1, 1.7, 1.7] } },
      nodes: [['Resize', ['x', 'scales'], ['y'], { mode: 'nearest' }]],
      outputs: ['y'],
    });
    const oldSession = await InferenceSession.create(old, sessionOptions);
    expect(await run(readOnnx(old), { x })).toEqual(await runSession(oldSession, g.inputs, { x }));
  });

  it('an end of 2^63 - 1 stays the end', () => {
    const g = new Graph();
    const x = g.input('x', [5]);
    const whole = g.op('Slice', [x, g.ints([0]), g.ints([2 ** 63])]);
    expect(whole.shape).toEqual([5]);
    expect(g.constants.get(g.nodes[0].inputs[2] as Value)!.tensor().data[0]).toBe(2n ** 63n - 1n);
  });

  it.each(['none', 'tanh'])('Gelu (%s) is taken apart', async (approximate) => {
    const bytes = modelOf({ opset: 20, inputs: { x: [9] }, nodes: [['Gelu', ['x'], ['y'], { approximate }]], outputs: ['y'] });
    const g = readOnnx(bytes);
    const x = Float32Array.from({ length: 9 }, (_, i) => i - 4);
    const session = await InferenceSession.create(bytes, sessionOptions);
    const expected = await runSession(session, g.inputs, { x });
    expect(relativeError((await run(g, { x })).y.data, expected.y.data)).toBeLessThan(1e-6);
  });

  const base: Plain = { opset: 18, inputs: { x: [2, 3] }, nodes: [['Relu', ['x'], ['y']]], outputs: ['y'] };
  it.each<[string, Partial<Plain>, string | RegExp]>([
    ['an open size', { inputs: { x: ['batch', 3] } }, 'input x has an open size (batch): give its shape'],
    ['an open rank', { inputs: { x: null } }, 'input x has an open rank: give its shape'],
    ['a size of 0', { inputs: { x: [0, 3] } }, 'input x has an open size (0): give its shape'],
    ['an unknown operator', { nodes: [['Loop', ['x'], ['y']]] }, 'node n_y: the operator Loop is not in the graph language'],
    ['an unknown attribute', { nodes: [['Relu', ['x'], ['y'], { slope: 1 }]] }, 'node n_y: Relu has no attribute slope'],
    [
      'an attribute of another type',
      { nodes: [['Transpose', ['x'], ['y'], { perm: 1 }]] },
      'node n_y (Transpose): its attribute perm is not of the type ints',
    ],
    ['a value from nowhere', { nodes: [['Relu', ['z'], ['y']]] }, 'node n_y (Relu): it uses z, which nothing has made before it'],
    ['an output from nowhere', { outputs: ['z'] }, 'no node makes the output z'],
    [
      'too many outputs',
      { nodes: [['Relu', ['x'], ['y', 'z']]] },
      /node n_y \(Relu of float32\[2, 3\]\): it has 1 output here, not 2/,
    ],
    ['no input where one is needed', { nodes: [['Relu', [], ['y']]] }, /node n_y \(Relu of \)/],
    [
      'a shape that depends on data',
      { nodes: [['Reshape', ['x', 'x'], ['y']]] },
      'input 1 of Reshape must be a constant: shapes are static here',
    ],
    [
      'Softmax over several axes',
      { opset: 11, nodes: [['Softmax', ['x'], ['y'], { axis: 0 }]] },
      'node n_y (Softmax): in opset 11 it is over all axes',
    ],
    ['a Constant without a value', { nodes: [['Constant', [], ['y']]] }, 'node n_y (Constant): it has no value'],
    [
      'a tensor shorter than its shape',
      { initializers: { w: { shape: [4], floats: [1] } } },
      'tensor w of shape [4] has 1 elements',
    ],
    ['a negative dimension', { initializers: { w: { shape: [-1, -1], floats: [1] } } }, 'tensor w has the shape [-1, -1]'],
  ])('%s is an error that says so', (_, change, message) => {
    expect(() => readOnnx(modelOf({ ...base, ...change }))).toThrow(message);
  });

  it('a given shape closes open sizes', () => {
    const bytes = modelOf({ ...base, inputs: { x: ['batch', 3] } });
    expect(readOnnx(bytes, { shapes: { x: [5, 3] } }).outputs[0].value.shape).toEqual([5, 3]);
  });

  it('external data that was not given, or ends early, is an error that names the file', () => {
    const { bytes, externalData } = writeOnnx(example());
    expect(() => readOnnx(bytes)).toThrow('tensor wave lies in the file weight-0, which was not given');
    expect(() => readOnnx(bytes, { external: () => externalData[0].data.subarray(4) })).toThrow(
      /tensor wave takes bytes 0 to 1728 of weight-0, which has 1724/,
    );
  });
});

describe('hostile bytes', () => {
  const model = writeOnnx(example());
  const readable = toBinary(ModelProtoSchema, fromBinary(ModelProtoSchema, model.bytes));

  /** Reading either gives a graph or throws an Error with a sentence. */
  function attempt(bytes: Uint8Array): void {
    try {
      readOnnx(bytes, { external: external(model) });
    } catch (error) {
      expect(error).toBeInstanceOf(Error);
      expect((error as Error).message.length).toBeGreaterThan(5);
    }
  }

  it('random bytes', () => {
    fc.assert(fc.property(fc.uint8Array({ maxLength: 300 }), attempt), { numRuns: 500, seed: 4 });
    expect(() => readOnnx(new Uint8Array())).toThrow('the file holds no ONNX graph');
    expect(() => readOnnx(new TextEncoder().encode('<html>not a model</html>'))).toThrow(/^the file is not an ONNX model: /);
  });

  it('truncated models', () => {
    for (let end = 0; end < readable.length; end++) attempt(readable.subarray(0, end));
  });

  it('models with flipped bytes', () => {
    const flips = fc.array(fc.tuple(fc.nat({ max: readable.length - 1 }), fc.nat({ max: 255 })), { minLength: 1, maxLength: 4 });
    fc.assert(
      fc.property(flips, (changes) => {
        const bytes = readable.slice();
        for (const [at, value] of changes) bytes[at] = value;
        attempt(bytes);
      }),
      { numRuns: 2000, seed: Number(process.env.FAST_CHECK_SEED ?? 4) },
    );
  });
});
