/**
 * Memory of an imagination with a VQGAN of the official size: 256 px, 32 views, taken in batches. The weights are random numbers (speed and memory
 * do not depend on them); their file is written once. Prints the process's peak and the seconds of a step.
 *
 *     npx tsx test/bench/f16_memory.ts [--batch 4] [--preset imagenet-f16-16384]
 */
import { closeSync, existsSync, mkdirSync, openSync, writeFileSync, writeSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { parseArgs } from 'node:util';
import { sizeOf } from '../../models/graph/index.js';
import { defaultModel } from '../../models/registry.js';
import { vqganPresets, type VqganPreset } from '../../models/vqgan/config.js';
import { parameterShapes } from '../../models/vqgan/layout.js';
import { openVqgan } from '../../models/vqgan/model.js';
import { openRegistry } from '../../server/compute/engine.js';
import { createSessions } from '../../server/compute/sessions.js';
import { imagine } from '../../server/imagination/imagine.js';
import { Random } from '../../server/imagination/random.js';
import { jobRequest } from '../../server/jobs/job.js';

const { values } = parseArgs({
  options: { batch: { type: 'string', default: '4' }, preset: { type: 'string', default: 'imagenet-f16-16384' } },
});
const config = vqganPresets[values.preset as VqganPreset];
const folder = join(tmpdir(), `reverie-${values.preset}`);

/** Safetensors of float32: the header's length in 8 bytes, the header, the tensors one after the other. Variance 1 over the fan-in, norms 1. */
function writeRandom(file: string): void {
  const random = new Random(1);
  const shapes = [...parameterShapes(config)];
  let end = 0;
  const entries = shapes.map(([name, shape]) => {
    const begin = end;
    end += 4 * sizeOf(shape);
    return [name, { dtype: 'F32', shape, data_offsets: [begin, end] }];
  });
  const header = Buffer.from(JSON.stringify(Object.fromEntries(entries)));
  const length = Buffer.alloc(8);
  length.writeBigUInt64LE(BigInt(header.length));
  const out = openSync(file, 'w');
  writeSync(out, length);
  writeSync(out, header);
  for (const [name, shape] of shapes) {
    const numbers = new Float32Array(sizeOf(shape));
    if (shape.length > 1) {
      const reach = Math.sqrt(3 / sizeOf(shape.slice(1)));
      numbers.forEach((_, i) => (numbers[i] = random.uniform(-reach, reach)));
    } else if (/norm.*weight$/.test(name)) numbers.fill(1);
    writeSync(out, Buffer.from(numbers.buffer));
  }
  closeSync(out);
}

mkdirSync(folder, { recursive: true });
const { downsampling: _, ...settings } = config;
writeFileSync(join(folder, 'config.json'), JSON.stringify(settings));
if (!existsSync(join(folder, config.weights))) writeRandom(join(folder, config.weights));

const megabytes = () => Math.round(process.resourceUsage().maxRSS / 1024);
const model = openRegistry().open(defaultModel);
const generator = openVqgan(folder);
const sessions = createSessions('cpu');
const job = jobRequest.parse({
  text: 'memory',
  method: 'vqgan',
  size: 256,
  views: 32,
  batch: Number(values.batch),
  steps: 3,
  start: 'codes',
});
const before = megabytes();
const times: number[] = [];
await imagine(sessions, { job, model, generator }, { step: ({ seconds }) => times.push(seconds) });
await sessions.release();
console.log(
  `${config.name}: ${(generator.parameters / 1e6).toFixed(1)} million parameters; 32 views ${job.batch} at a time: peak ${megabytes()} MiB (${before} before), ${(times[2] - times[1]).toFixed(1)} s a step`,
);
