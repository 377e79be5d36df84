/**
 * A step and a whole job of imagination on WebGPU and on the CPU, in a process whose environment names a Vulkan driver: `webgpu.test.ts`
 * reads the JSON that it prints. Arguments: side of the pictures that the network looks at (its own 224 takes a software driver minutes),
 * views, side of the canvas, steps of the job.
 */
import { mkdtempSync, readdirSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import * as ort from 'onnxruntime-node';
import { writeOnnx, type Graph } from '../../models/graph/index.js';
import type { BrivlModel } from '../../models/brivl/model.js';
import { createRegistry, defaultModel } from '../../models/registry.js';
import { createSessions, type Device } from '../../server/compute/sessions.js';
import { imagine, specOf } from '../../server/imagination/imagine.js';
import { cosine, embedText } from '../../server/imagination/look.js';
import { optimizers } from '../../server/imagination/optimizers.js';
import { parametrizations } from '../../server/imagination/parameters.js';
import { Random } from '../../server/imagination/random.js';
import { stepGraph } from '../../server/imagination/step.js';
import { viewPlans, ViewSampler } from '../../server/imagination/views.js';
import { jobRequest } from '../../server/jobs/job.js';
import { repositoryRoot } from '../../server/root.js';

export interface Compared {
  /** |webgpu - cpu| over |cpu|, L2, by output. `slot0'` after the first step is a tenth of the gradient: the gradient's own error. */
  errors: Record<string, number>;
  loss: { webgpu: number; cpu: number };
  /** How many nodes ran where, from onnxruntime's profile. */
  nodes: Record<string, number>;
  /** Operators that did not run on WebGPU. */
  elsewhere: string[];
  seconds: Record<string, number>;
  /** Of the whole job: cosine of the two text embeddings, mean difference of the pictures in levels of 255, and what each run told. */
  job: { text: number; pixels: number } & Record<'webgpu' | 'cpu', { cos: number; curve: number[] }>;
}

const [eyeSide, views, side, steps] = process.argv.slice(2).map(Number);
const opened = createRegistry(repositoryRoot).open(defaultModel);
const model: BrivlModel = { ...opened, eye: { ...opened.eye, size: eyeSide }, second: null };
const job = jobRequest.parse({ text: 'nature', views, size: side, steps });
const random = new Random(1);
const canvas = { width: side, height: side };
const parameters = parametrizations.fourier.init(canvas, random).map((v) => v * 20);
const zeros = new Float32Array(parameters.length);
const [rate, c1, c2] = optimizers.adam.scalars(1, optimizers.adam.defaultRate);
const feeds: Record<string, Float32Array> = {
  ...new ViewSampler(viewPlans.fourier, canvas, views, model.eye.size, new Random(2)).sample(random),
  parameters,
  slot0: zeros,
  slot1: zeros,
  scalar0: Float32Array.of(rate),
  scalar1: Float32Array.of(c1),
  scalar2: Float32Array.of(c2),
  texts: model.concepts.joint.slice(0, model.eye.embed),
  weights: Float32Array.of(1),
};

async function run(graph: Graph, device: string) {
  const folder = mkdtempSync(path.join(tmpdir(), 'reverie-profile-'));
  try {
    const { bytes, externalData } = writeOnnx(graph);
    const session = await ort.InferenceSession.create(bytes, {
      executionProviders: [device],
      externalData,
      enableProfiling: true,
      profileFilePrefix: path.join(folder, 'profile'),
      logSeverityLevel: 3,
    });
    const tensors = Object.fromEntries(graph.inputs.map((v) => [v.name, new ort.Tensor('float32', feeds[v.name], v.shape)]));
    const start = performance.now();
    const results = await session.run(tensors);
    const seconds = (performance.now() - start) / 1000;
    session.endProfiling();
    return { results, seconds, ...placement(folder) };
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
}

/** Reads the profile: every node that ran, and the provider that ran it. */
function placement(folder: string) {
  const [file] = readdirSync(folder);
  const events = JSON.parse(readFileSync(path.join(folder, file), 'utf8')) as {
    cat: string;
    name: string;
    args?: { provider?: string; op_name?: string };
  }[];
  const nodes: Record<string, number> = {};
  const elsewhere = new Set<string>();
  for (const { cat, name, args } of events) {
    if (cat !== 'Node' || !name.endsWith('_kernel_time') || !args?.provider) continue;
    nodes[args.provider] = (nodes[args.provider] ?? 0) + 1;
    if (args.provider !== 'WebGpuExecutionProvider') elsewhere.add(args.op_name ?? name);
  }
  return { nodes, elsewhere: [...elsewhere].sort() };
}

/** |a - b| over |b|, L2. */
function relativeError(a: Float32Array, b: Float32Array): number {
  let [difference, size] = [0, 0];
  for (let i = 0; i < b.length; i++) {
    difference += (a[i] - b[i]) ** 2;
    size += b[i] ** 2;
  }
  return Math.sqrt(difference / size);
}

async function wholeJob(device: Device) {
  const sessions = createSessions(device);
  try {
    const { embedding } = await embedText(sessions, model, job.text);
    const { cos, curve, pixels } = await imagine(sessions, { job, model });
    return { embedding, pixels, told: { cos: cos!, curve: curve.map((point) => point.cos!) } };
  } finally {
    await sessions.release();
  }
}

async function compareJobs(): Promise<Compared['job']> {
  const [gpu, cpu] = [await wholeJob('webgpu'), await wholeJob('cpu')];
  const difference = gpu.pixels.reduce((sum, level, i) => sum + Math.abs(level - cpu.pixels[i]), 0);
  return {
    text: cosine(gpu.embedding, cpu.embedding),
    pixels: difference / cpu.pixels.length,
    webgpu: gpu.told,
    cpu: cpu.told,
  };
}

async function compare(): Promise<Compared> {
  const gpu = await run(stepGraph(specOf(job, 1, 'gpu'), model.eye, parametrizations.fourier), 'webgpu');
  const cpu = await run(stepGraph(specOf(job, 1, 'cpu'), model.eye, parametrizations.fourier), 'cpu');
  const floats = (ran: typeof gpu, name: string) => ran.results[name].data as Float32Array;
  const names = Object.keys(cpu.results).filter((name) => cpu.results[name].type === 'float32');
  return {
    errors: Object.fromEntries(names.map((name) => [name, relativeError(floats(gpu, name), floats(cpu, name))])),
    loss: { webgpu: floats(gpu, 'loss')[0], cpu: floats(cpu, 'loss')[0] },
    nodes: gpu.nodes,
    elsewhere: gpu.elsewhere,
    seconds: { webgpu: gpu.seconds, cpu: cpu.seconds },
    job: await compareJobs(),
  };
}

compare().then(
  (compared) => process.stdout.write(JSON.stringify(compared), () => process.exit()),
  (error: unknown) => {
    console.error(error);
    process.exit(1);
  },
);
