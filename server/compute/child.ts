import { UnknownUnitError } from '../../models/brivl/units.js';
import { UnfitNetworkError } from '../../models/clip/onnx-eye.js';
import { UnknownModelError } from '../../models/registry.js';
import { sheetOf } from '../imagination/copies.js';
import { UnfitCanvasError } from '../imagination/generator.js';
import type { StepReport } from '../imagination/imagine.js';
import { NoDirectionError } from '../imagination/texts.js';
import { UnknownDeviceError } from './device.js';
import { createEngine, openRegistry, type Engine } from './engine.js';
import { BadRequest, type FromChild, type ImagineAnswer, type ImagineAsk, type Requests, type ToChild } from './protocol.js';

/** How often a running job's state is saved, in milliseconds. */
const checkpointEvery = 3000;

const running = new Set<string>();
const canceled = new Set<string>();
let engine: Promise<Engine> | null = null;

const send = (message: FromChild) => {
  // The server may be gone by now: `disconnect` follows.
  process.send?.(message, undefined, {}, () => undefined);
};

/** The first `hello` names the device; a later one with the same child only tells what was chosen. */
const start = (device: string): Promise<Engine> => (engine ??= startEngine(device));

async function startEngine(device: string): Promise<Engine> {
  const registry = openRegistry();
  const made = await createEngine(registry, device);
  try {
    await made.warm();
    return made;
  } catch (error) {
    if (made.device.device === 'cpu') throw error;
    // It answered the probe but cannot do a step: too little memory, or an operator that its provider does wrong.
    await made.release();
    const onCpu = await createEngine(registry, 'cpu');
    await onCpu.warm();
    const notice = `${made.device.device} failed at the first step (${(error as Error).message}): computing on the CPU`;
    return { ...onCpu, device: { device: 'cpu', available: made.device.available, notice } };
  }
}

const handlers: { [K in keyof Requests]: (ask: Requests[K]['ask']) => Promise<Requests[K]['answer']> } = {
  async hello({ device }) {
    const ready = await start(device);
    return { device: ready.device, models: ready.models() };
  },
  imagine: runJob,
  embedText: async ({ model, text }) => (await start('auto')).embedText(model, text),
  embedImage: async ({ model, image }) => (await start('auto')).embedImage(model, image),
  conceptsOfText: async ({ model, text, top, more }) => (await start('auto')).conceptsOfText(model, text, top, more),
  conceptNames: async ({ model }) => (await start('auto')).conceptNames(model),
  eye: async ({ model }) => (await start('auto')).looker.eye(model),
  see: async (ask) => (await start('auto')).looker.see(ask),
  meaning: async ({ model, layer }) => (await start('auto')).looker.meaning(model, layer),
  products: async ({ a, b }) => (await start('auto')).looker.products(a, b),
  statistics: async ({ model, layer }) => (await start('auto')).looker.statistics(model, layer),
  heat: async ({ model, layer, channel, image }) => (await start('auto')).heat(model, { layer, channel }, image),
  firing: async ({ model, layer, top, image }) => (await start('auto')).firing(model, layer, image, top),
  relevance: async ({ model, text, image }) => (await start('auto')).relevance(model, text, image),
  conceptsOfImage: async ({ model, image, top, more }) => (await start('auto')).conceptsOfImage(model, image, top, more),
};

async function runJob(ask: ImagineAsk): Promise<ImagineAnswer> {
  const { jobId, job } = ask;
  running.add(jobId);
  const pace = createPace();
  const { width, height } = sheetOf(job);
  try {
    const ready = await start('auto');
    let saved = performance.now();
    const done = await ready.imagine(ask, {
      begun: (told) => send({ kind: 'progress', progress: { kind: 'begun', jobId, ...told } }),
      step(report) {
        const { seconds: _, ...told } = report;
        send({
          kind: 'progress',
          progress: { kind: 'step', jobId, ...told, ...pace(report), width, height },
        });
      },
      between(save, step) {
        if (performance.now() - saved < checkpointEvery && !canceled.has(jobId)) return;
        saved = performance.now();
        send({ kind: 'progress', progress: { kind: 'checkpoint', jobId, step, checkpoint: save() } });
      },
      canceled: () => canceled.has(jobId),
    });
    return done;
  } finally {
    running.delete(jobId);
    canceled.delete(jobId);
  }
}

/** What is wrong with the request itself, not with the computing. */
const badRequests = [
  BadRequest,
  UnfitNetworkError,
  UnknownModelError,
  UnknownDeviceError,
  UnknownUnitError,
  UnfitCanvasError,
  NoDirectionError,
];

/** Steps per second over the last few steps, and the seconds that are left at that pace. */
function createPace() {
  const times: number[] = [];
  return ({ step, steps }: StepReport) => {
    times.push(performance.now());
    if (times.length > 12) times.shift();
    const stepsPerSecond = times.length < 2 ? 0 : (1000 * (times.length - 1)) / (times[times.length - 1] - times[0]);
    return { stepsPerSecond, secondsLeft: stepsPerSecond ? (steps - step) / stepsPerSecond : 0 };
  };
}

process.on('message', (message: ToChild) => {
  if (message.kind === 'cancel') {
    // One that has ended already must not be stopped when it is asked for again.
    if (running.has(message.jobId)) canceled.add(message.jobId);
    return;
  }
  const { id, kind, ask } = message;
  const handle = handlers[kind] as (ask: unknown) => Promise<Requests[keyof Requests]['answer']>;
  handle(ask).then(
    (answer) => send({ kind: 'answer', id, answer }),
    (error: unknown) => {
      send({
        kind: 'error',
        id,
        code: badRequests.some((kind) => error instanceof kind) ? 'bad-request' : 'failed',
        message: error instanceof Error ? error.message : String(error),
      });
    },
  );
});

// A terminal's Ctrl-C reaches this process too; the server decides when it ends, after a last checkpoint.
process.on('SIGINT', () => undefined);

// The server is gone: there is nobody to compute for.
process.on('disconnect', () => process.exit(0));
