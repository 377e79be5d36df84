/**
 * Reverie as a library: `import { imagine, differentiate } from 'reverie'`.
 *
 * `imagine` draws a picture for a text with a bundled or imported model; `differentiate` adds a gradient to an ONNX model.
 */
import {
  differentiate as differentiateGraph,
  readOnnx,
  simplify,
  writeOnnx,
  type OnnxModel,
  type Shape,
  type Target,
} from '../models/graph/index.js';
import { createEngine, openRegistry, type Engine } from './compute/engine.js';
import type { Imagined, Watcher } from './imagination/imagine.js';
import { jobRequest, type JobRequest } from './jobs/job.js';

export { Graph, readOnnx, simplify, writeOnnx, type OnnxModel, type Value } from '../models/graph/index.js';
export { differentiate as differentiateGraph } from '../models/graph/index.js';
export type { Imagined, StepReport, Watcher } from './imagination/imagine.js';
export type { Concept, CurvePoint, Job, JobRequest, NeuronReading, Notice } from './jobs/job.js';

const engines = new Map<string, Promise<Engine>>();

export interface ImagineOptions extends Watcher {
  /** `auto` (default), `cpu`, `webgpu`, `cuda`, ... */
  device?: string;
  /** A PNG, JPEG or WebP file's bytes to start from. */
  init?: Uint8Array;
}

/**
 * Imagines a text. Models and sessions are kept for the next call.
 *
 * @param request a text, or a job request; every field but `text` has a default (224 px, 120 steps, 8 views, seed 1).
 * @returns the picture as RGB bytes [height, width, 3], its cosine to the text, and what the model and a second one see in it.
 * @throws ZodError for a request that does not fit; Error when the device or the model cannot be had.
 */
export async function imagine(request: string | JobRequest, options: ImagineOptions = {}): Promise<Imagined> {
  const { device = 'auto', init, ...watcher } = options;
  const job = jobRequest.parse(typeof request === 'string' ? { text: request } : request);
  let engine = engines.get(device);
  if (!engine) {
    engine = createEngine(openRegistry(), device);
    engines.set(device, engine);
    engine.catch(() => engines.delete(device));
  }
  return (await engine).imagine({ jobId: 'library', job, init }, watcher);
}

export interface DifferentiateModelOptions {
  /** Output to differentiate; summed to a number when it has more than one element. Default: the first. */
  of?: string;
  /** Inputs to differentiate by. Default: all float inputs. */
  wrt?: string[];
  /** Sizes for inputs whose shape the file leaves open. */
  shapes?: Record<string, Shape>;
  target?: Target;
  /** Gives the bytes of an external data file. */
  external?: (location: string) => Uint8Array;
}

/**
 * Turns a forward ONNX model into one that also puts out gradients, in standard operators of opset 18: the outputs of the model stay, and
 * for each input `x` there is a further output `d/x`, d(of)/d(x) in x's shape.
 *
 * @param model bytes of an .onnx file.
 * @throws Error naming the node and operator that cannot be differentiated, with the path to it.
 */
export function differentiate(model: Uint8Array, options: DifferentiateModelOptions = {}): OnnxModel {
  const graph = readOnnx(model, options);
  const output = options.of === undefined ? graph.outputs[0] : graph.outputs.find(({ name }) => name === options.of);
  if (!output)
    throw new Error(`the model has no output ${options.of ?? ''}: it has ${graph.outputs.map(({ name }) => name).join(', ')}`);
  const inputs = options.wrt ?? graph.inputs.filter((v) => v.dtype === 'float32').map((v) => v.name);
  const wrt = inputs.map((name) => {
    const input = graph.inputs.find((v) => v.name === name);
    if (!input) throw new Error(`the model has no input ${name}: it has ${graph.inputs.map((v) => v.name).join(', ')}`);
    return input;
  });
  const { value } = output;
  const axes = value.shape.map((_, i) => i);
  const single = value.shape.every((n) => n === 1) ? value : graph.reduceSum(value, axes);
  const gradients = differentiateGraph(graph, single, wrt, { target: options.target });
  gradients.forEach((gradient, i) => graph.output(`d/${inputs[i]}`, gradient));
  return writeOnnx(simplify(graph));
}
