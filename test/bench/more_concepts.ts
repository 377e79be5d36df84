/**
 * Is every concept beyond the network's classes worth its place? Imagines each by its English name (45 steps, 4 views) and asks the second opinion,
 * which did not draw, where the concept stands among all. Prints the ranks; lays the pictures side by side.
 *
 *     npx tsx test/bench/more_concepts.ts OUT_DIR
 */
import { mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import sharp from 'sharp';
import { nearest } from '../../models/brivl/model.js';
import { defaultModel } from '../../models/registry.js';
import { contactSheet } from '../../server/commands/recipe.js';
import { openRegistry } from '../../server/compute/engine.js';
import { createSessions } from '../../server/compute/sessions.js';
import { imagine } from '../../server/imagination/imagine.js';
import { lookAt } from '../../server/imagination/look.js';
import { jobRequest } from '../../server/jobs/job.js';

const out = process.argv[2] ?? 'data/more-concepts';
mkdirSync(out, { recursive: true });
const model = openRegistry().open(defaultModel);
const sessions = createSessions('cpu');
const { entries, classes } = model.concepts;
const ranks: number[] = [];
const files: string[] = [];
for (const entry of entries.slice(classes)) {
  const job = jobRequest.parse({ text: entry.word.replace(/ \(.*/, ''), steps: 45, views: 4 });
  const { pixels, width, height } = await imagine(sessions, { job, model });
  const { embedding } = await lookAt(sessions, `${model.hash}:second`, model.second!.eye, pixels, { width, height });
  const all = nearest({ ...model.concepts, joint: model.second!.joint }, embedding, entries.length);
  const rank = all.findIndex(({ wnid }) => wnid === entry.wnid) + 1;
  ranks.push(rank);
  const file = join(out, `${ranks.length}.png`);
  writeFileSync(
    file,
    await sharp(pixels, { raw: { width, height, channels: 3 } })
      .png()
      .toBuffer(),
  );
  files.push(file);
  const first = all.slice(0, 3).map(({ word }) => word);
  console.log(`${String(rank).padStart(4)}  ${entry.word} ${entry.zh}  (second opinion: ${first.join(', ')})`);
}
await contactSheet(join(out, 'sheet.png'), files, 16);
const share = (k: number) => (ranks.filter((rank) => rank <= k).length / ranks.length).toFixed(3);
console.log(
  `${ranks.length} concepts: the second opinion has it first ${share(1)}, among five ${share(5)}, among ten ${share(10)}`,
);
await sessions.release();
