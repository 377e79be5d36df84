import { spawn } from 'node:child_process';
import { cpus } from 'node:os';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { setTimeout } from 'node:timers/promises';
import { Graph, simplify } from '../../models/graph/index.js';
import type { BrivlModel } from '../../models/brivl/model.js';
import { defaultGenerator, defaultModel } from '../../models/registry.js';
import type { VqganModel } from '../../models/vqgan/model.js';
import { chooseDevice } from '../compute/device.js';
import { openRegistry } from '../compute/engine.js';
import { createRunner, targetOf, type SessionRunner } from '../compute/sessions.js';
import { latentMapOf, randomCodes } from '../imagination/generator.js';
import { specOf } from '../imagination/imagine.js';
import { objectives, weighted } from '../imagination/objectives.js';
import { optimizers } from '../imagination/optimizers.js';
import { fourier, type Parametrization } from '../imagination/parameters.js';
import { Random } from '../imagination/random.js';
import { stepGraph, type StepSpec } from '../imagination/step.js';
import { cutViews, viewInputs, viewPlans, ViewSampler } from '../imagination/views.js';
import { jobRequest } from '../jobs/job.js';
import { repositoryRoot } from '../root.js';
import { numberOf, sentences, stringOf, UsageError, type Command } from './command.js';

interface Case {
  name: string;
  seconds: number;
  fastest: number;
  runs: number;
}

/** How many times in a row each case runs before the next has its turn. */
const burst = 5;

/**
 * Times one default step (120 steps of it are a picture) against its forward-only graph and against PyTorch eager, in turns within
 * one run so that a busy machine slows all alike. Medians.
 */
export const benchCommand: Command = {
  usage: 'bench [--method feavis|vqgan] [--runs N] [--device auto|cpu|...] [--json]',
  summary: 'seconds of a step, beside its forward pass and beside PyTorch (where python3 has torch; PYTHON names another)',
  options: { method: { type: 'string' }, runs: { type: 'string' }, device: { type: 'string' } },
  async run(_, values) {
    const runs = numberOf(values, 'runs') ?? 25;
    if (!Number.isInteger(runs) || runs < 1 || runs > 1000)
      throw new UsageError(`--runs takes a whole number from 1 to 1000, not ${runs}`);
    const { device } = await chooseDevice(stringOf(values, 'device') ?? 'cpu');
    const registry = openRegistry();
    const model = registry.open(defaultModel);
    const asked = jobRequest.safeParse({ text: 'bench', method: stringOf(values, 'method') });
    if (!asked.success) throw new UsageError(sentences(asked.error));
    const job = asked.data;
    const generator = job.method === 'vqgan' ? registry.openGenerator(defaultGenerator) : null;
    const parametrization = generator ? latentMapOf(generator) : fourier;
    const spec = specOf(job, 1, targetOf(device));
    const threads = cpus().length;
    const options = { intraOpNumThreads: threads };
    const step = await createRunner(stepGraph(spec, model.eye, parametrization), device, options);
    const forward = await createRunner(forwardGraph(spec, model, parametrization), device, options);
    const torch = await startTorch(spec, model, threads, generator ? join(repositoryRoot, 'models/vqgan/nano') : null);
    const feeds = stepFeeds(spec, model, generator);

    const ourStep = `${generator ? 'VQGAN' : 'FeaVis'} step`;
    const timed: Record<string, () => Promise<number>> = {
      [ourStep]: () => clock(step, feeds),
      'forward only': () => clock(forward, feeds),
      ...(torch ? { 'PyTorch eager step': () => torch.time('step'), 'PyTorch eager forward': () => torch.time('forward') } : {}),
    };
    const times = new Map(Object.keys(timed).map((name) => [name, [] as number[]]));
    for (let done = 0; done < runs; done += burst)
      for (const [name, run] of Object.entries(timed)) {
        // Idle threads of onnxruntime and of PyTorch spin for a while, and would slow what comes next.
        await setTimeout(60);
        // The first of a burst fills the caches that the others' work emptied: a picture is 120 steps in a row.
        await run();
        for (let i = 0; i < burst; i++) times.get(name)!.push(await run());
      }
    torch?.stop();
    await Promise.all([step.release(), forward.release()]);

    const cases: Case[] = [...times].map(([name, all]) => ({
      name,
      seconds: median(all),
      fastest: Math.min(...all),
      runs: all.length,
    }));
    const of = (name: string) => cases.find((c) => c.name === name)?.seconds;
    const ours = of(ourStep)!;
    const eager = of('PyTorch eager step');
    const ratios = { forward: ours / of('forward only')!, pytorch: eager === undefined ? null : eager / ours };
    const machine = `${cpus()[0]?.model ?? 'unknown'}, ${threads} threads, ${device}, Node ${process.version}`;
    if (values.json !== true) {
      console.log(
        `${machine}; ${spec.views} views of ${model.eye.size} px, a canvas of ${spec.canvas.width} px, medians of ${runs}`,
      );
      for (const c of cases)
        console.log(`${c.name.padEnd(22)} ${(c.seconds * 1000).toFixed(1)} ms (fastest ${(c.fastest * 1000).toFixed(1)})`);
      console.log(
        `step over forward: ${ratios.forward.toFixed(2)}; PyTorch over ours: ${ratios.pytorch?.toFixed(2) ?? 'no torch here'}`,
      );
    }
    return { machine, cases, ratios };
  },
};

/** The same picture, views, network and objective, without a gradient: what the step is measured against. */
function forwardGraph(spec: StepSpec, model: BrivlModel, { shape, draw }: Parametrization): Graph {
  const g = new Graph();
  const parameters = g.input('parameters', shape(spec.canvas));
  const inputs = viewInputs(g, spec.views, model.eye.size, spec.canvas, spec.kinds);
  const texts = g.input('texts', [1, model.eye.embed]);
  const weights = g.input('weights', [1]);
  const seen = model.eye.look(g, cutViews(g, draw(g, parameters, spec.canvas).picture, inputs));
  g.output('loss', weighted(g, objectives[spec.objective](g, seen, texts), weights));
  return simplify(g);
}

function stepFeeds(spec: StepSpec, model: BrivlModel, generator: VqganModel | null) {
  const random = new Random(1);
  const optimizer = optimizers[spec.optimizer];
  const parameters = generator ? randomCodes(generator, spec.canvas, random) : fourier.init(spec.canvas, random);
  const sampler = new ViewSampler(
    viewPlans[generator ? 'vqgan' : 'fourier'],
    spec.canvas,
    spec.views,
    model.eye.size,
    new Random(2),
  );
  return {
    ...sampler.sample(random),
    parameters,
    ...Object.fromEntries(Array.from({ length: optimizer.slots }, (_, i) => [`slot${i}`, new Float32Array(parameters.length)])),
    ...Object.fromEntries(optimizer.scalars(1, optimizer.defaultRate).map((v, i) => [`scalar${i}`, Float32Array.of(v)])),
    texts: model.concepts.joint.slice(0, model.eye.embed),
    weights: Float32Array.of(1),
  };
}

async function clock(runner: SessionRunner, feeds: Record<string, Float32Array>): Promise<number> {
  const start = performance.now();
  await runner.run(feeds);
  return (performance.now() - start) / 1000;
}

const median = (values: number[]): number => values.slice().sort((a, b) => a - b)[Math.floor(values.length / 2)];

/** A Python with torch that makes the same step on demand; null where there is none. What else goes wrong there is an error. */
async function startTorch(spec: StepSpec, model: BrivlModel, threads: number, generator: string | null) {
  const script = join(repositoryRoot, 'test/bench/pytorch_step.py');
  const weights = join(repositoryRoot, 'models/brivl/nano/image.safetensors');
  const numbers = [spec.views, model.eye.size, spec.canvas.width, threads];
  const args = [script, weights, ...numbers.map(String), ...(generator === null ? [] : [generator])];
  const child = spawn(process.env.PYTHON ?? 'python3', args, { stdio: ['pipe', 'pipe', 'pipe'] });
  let complaints = '';
  child.stderr.setEncoding('utf8').on('data', (text: string) => (complaints += text));
  child.stdin.on('error', () => undefined);
  const ended = new Promise<'ended'>((resolve) =>
    child.once('error', () => resolve('ended')).once('close', () => resolve('ended')),
  );
  const lines = createInterface({ input: child.stdout })[Symbol.asyncIterator]();
  const next = async (): Promise<string> => {
    const line = await Promise.race([lines.next(), ended]);
    if (line !== 'ended' && line.done !== true) return line.value;
    await ended;
    throw new Error(`${script} ended: ${complaints.trim().split('\n').at(-1) ?? ''}`);
  };
  try {
    await next();
  } catch (error) {
    if (child.pid === undefined || /No module named '(torch|numpy)'/.test(complaints)) return null;
    throw error;
  }
  return {
    async time(what: 'step' | 'forward'): Promise<number> {
      child.stdin.write(`${what}\n`);
      return Number(await next());
    },
    stop: () => child.stdin.end(),
  };
}
