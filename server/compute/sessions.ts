import * as ort from 'onnxruntime-node';
import { writeOnnx, type Graph, type Target, type Value } from '../../models/graph/index.js';
import type { Feeds, Runner, Sessions } from '../imagination/sessions.js';

export type Device = 'cpu' | 'webgpu' | 'cuda' | 'dml' | 'coreml';

/** GPUs have kernels for transposed convolutions; MLAS is faster with flipped ones. */
export const targetOf = (device: Device): Target => (device === 'cpu' ? 'cpu' : 'gpu');

/** Step sessions hold every activation of their shape: a few are kept, the one unused longest goes first. */
const keptSessions = 8;

export function createSessions(device: Device): Sessions & { release(): Promise<void> } {
  interface Kept {
    session: Promise<SessionRunner>;
    /** Runs that have not answered: such a session must not be released. */
    running: number;
  }
  const open = new Map<string, Kept>();

  const start = (key: string, build: () => Graph): Kept => {
    const kept = { session: createRunner(build(), device), running: 0 };
    // One that could not be made may be asked for again.
    kept.session.catch(() => open.get(key) === kept && open.delete(key));
    return kept;
  };

  /** The session under a key, which is now the one used last. */
  const use = (key: string, build: () => Graph): Kept => {
    const used = open.get(key) ?? start(key, build);
    open.delete(key);
    open.set(key, used);
    for (const [oldest, kept] of open) {
      if (open.size <= keptSessions) break;
      if (kept === used || kept.running > 0) continue;
      open.delete(oldest);
      kept.session.then((session) => session.release()).catch(() => undefined);
    }
    return used;
  };

  return {
    device,
    target: targetOf(device),
    async runner(key, build) {
      await use(key, build).session;
      return {
        async run(feeds) {
          // Between the steps of a job others may have pushed its session out: it is built again.
          const used = use(key, build);
          used.running += 1;
          try {
            return await (await used.session).run(feeds);
          } finally {
            used.running -= 1;
          }
        },
      };
    },
    async release() {
      const all = [...open.values()];
      open.clear();
      for (const { session } of all) await (await session).release();
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
