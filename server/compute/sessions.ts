import * as ort from 'onnxruntime-node';
import { writeOnnx, type Graph, type Target, type Value } from '../../models/graph/index.js';
import type { Feeds, Runner, Sessions } from '../imagination/sessions.js';

export type Device = 'cpu' | 'webgpu' | 'cuda' | 'dml' | 'coreml';

/** GPUs have kernels for transposed convolutions; MLAS is faster with flipped ones. */
export const targetOf = (device: Device): Target => (device === 'cpu' ? 'cpu' : 'gpu');

/** Step sessions hold every activation of their shape: a few are kept, the one unused longest goes first. */
const kept = 8;

export function createSessions(device: Device): Sessions & { release(): Promise<void> } {
  const runners = new Map<string, Promise<SessionRunner>>();
  return {
    device,
    target: targetOf(device),
    async runner(key, build) {
      const known = runners.get(key) ?? createRunner(build(), device);
      runners.delete(key);
      runners.set(key, known);
      for (const [oldest, runner] of runners) {
        if (runners.size <= kept) break;
        runners.delete(oldest);
        await (await runner).release();
      }
      return known.catch((error: unknown) => {
        runners.delete(key);
        throw error;
      });
    },
    async release() {
      const all = [...runners.values()];
      runners.clear();
      for (const runner of all) await (await runner).release();
    },
  };
}

export interface SessionRunner extends Runner {
  release(): Promise<void>;
}

/** A session for one graph. Throws when the device cannot be had or lacks an operator. */
export async function createRunner(
  graph: Graph,
  device: Device,
  options: ort.InferenceSession.SessionOptions = {},
): Promise<SessionRunner> {
  const model = writeOnnx(graph);
  const session = await ort.InferenceSession.create(model.bytes, {
    executionProviders: [device],
    graphOptimizationLevel: 'all',
    // A few small operators have no GPU kernel and run on the CPU beside it: no news for who watches a picture.
    logSeverityLevel: device === 'cpu' ? 2 : 3,
    ...options,
    ...(model.folder === null
      ? { externalData: model.externalData }
      : { extra: { session: { model_external_initializers_file_folder_path: model.folder } } }),
  });
  const inputs = new Map(graph.inputs.map((v) => [v.name, v]));
  return {
    async run(feeds: Feeds) {
      const tensors: Record<string, ort.Tensor> = {};
      for (const [name, input] of inputs) tensors[name] = tensorOf(input, feeds);
      const results = await session.run(tensors);
      return Object.fromEntries(Object.entries(results).map(([name, tensor]) => [name, tensor.data as never]));
    },
    release: () => session.release(),
  };
}

function tensorOf(input: Value, feeds: Feeds): ort.Tensor {
  const data = feeds[input.name];
  if (!data) throw new Error(`nothing was fed to the input ${input.name}`);
  return new ort.Tensor(input.dtype as 'float32', data as Float32Array, input.shape);
}
