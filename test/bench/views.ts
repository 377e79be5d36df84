/**
 * Which views make pictures that another network recognises? Draws the texts of test/eval/pictures.json with each of several plans of views, at default
 * settings otherwise, and prints the second opinion's rank of the first accepted concept; a sheet a plan, a row a text.
 *
 *     npx tsx test/bench/views.ts OUT_DIR [--method feavis|vqgan] [--seeds 1] [--plan NAME]...
 */
import { mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { parseArgs } from 'node:util';
import sharp from 'sharp';
import { defaultGenerator, defaultModel } from '../../models/registry.js';
import { contactSheet } from '../../server/commands/recipe.js';
import { openRegistry } from '../../server/compute/engine.js';
import { createSessions } from '../../server/compute/sessions.js';
import { imagine } from '../../server/imagination/imagine.js';
import { viewPlans, type ViewPlan } from '../../server/imagination/views.js';
import { jobRequest, methods } from '../../server/jobs/job.js';

const { values, positionals } = parseArgs({
  allowPositionals: true,
  options: { method: { type: 'string' }, seeds: { type: 'string', default: '1' }, plan: { type: 'string', multiple: true } },
});
const method = methods.find((name) => name === values.method) ?? 'feavis';
const usual = viewPlans[method === 'vqgan' ? 'vqgan' : 'fourier'];
const warp = { degrees: 15, tilt: 0.15 };
const plans: Record<string, ViewPlan> = {
  usual,
  whole: { ...usual, whole: 0.25 },
  'turned-5': { ...usual, warp: { degrees: 5, tilt: 0 } },
  turned: { ...usual, warp: { degrees: 15, tilt: 0 } },
  tilted: { ...usual, warp },
  coloured: { ...usual, colour: { saturation: 0.1, hue: 0.1 } },
  erased: { ...usual, erased: 0.7 },
  // VQGAN+CLIP's (kornia): affine, perspective, colour, erasing.
  all: { ...usual, warp, colour: { saturation: 0.1, hue: 0.1 }, erased: 0.7 },
};

const out = positionals[0] ?? 'data/views';
const texts = JSON.parse(readFileSync('test/eval/pictures.json', 'utf8')) as { text: string; accept: string[] }[];
const registry = openRegistry();
const model = registry.open(defaultModel);
const generator = method === 'vqgan' ? registry.openGenerator(defaultGenerator) : undefined;
const sessions = createSessions('cpu');
for (const name of values.plan ?? Object.keys(plans)) {
  mkdirSync(join(out, name), { recursive: true });
  const [ranks, files, cosines]: [number[], string[], number[]] = [[], [], []];
  const begun = performance.now();
  for (const [i, { text, accept }] of texts.entries())
    for (let seed = 1; seed <= Number(values.seeds); seed++) {
      const job = jobRequest.parse({ text, seed, method });
      const done = await imagine(sessions, { job, model, generator, plan: plans[name] });
      ranks.push(done.secondOpinionConcepts.findIndex(({ wnid }) => accept.includes(wnid)) + 1);
      cosines.push(done.cos ?? 0);
      files.push(join(out, name, `${i + 1}-${seed}.png`));
      const { width, height } = done;
      const picture = sharp(done.pixels, { raw: { width, height, channels: 3 } });
      writeFileSync(files.at(-1)!, await picture.png().toBuffer());
    }
  await contactSheet(join(out, `${name}.png`), files, Number(values.seeds));
  const among = (k: number) => ranks.filter((rank) => rank > 0 && rank <= k).length;
  const seconds = (performance.now() - begun) / 1000 / ranks.length;
  const cos = cosines.reduce((a, b) => a + b) / cosines.length;
  console.log(
    `${name.padEnd(10)} first ${among(1)}, among five ${among(5)}, among ten ${among(10)} of ${ranks.length}; cos ${cos.toFixed(3)}; ${seconds.toFixed(1)} s each; ranks ${ranks.map((rank) => rank || '-').join(' ')}`,
  );
}
await sessions.release();
