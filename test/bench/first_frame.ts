/**
 * Measures a running server as a person meets it: seconds from posting a job to its first frame, frames until done, whether their steps rise,
 * whether the last frame is the stored PNG byte for byte, and what the second opinion's numbers were at ten seconds.
 *
 * Usage: npx tsx test/bench/first_frame.ts http://127.0.0.1:7860 [text]
 */
import { io } from 'socket.io-client';
import type { Frame } from '../../server/live/events.js';
import type { JobView, ResultView } from '../../server/jobs/job.js';

async function main(url: string, text: string): Promise<void> {
  const socket = io(url);
  await new Promise((resolve) => socket.once('connect', resolve as () => void));
  const begun = performance.now();
  const seconds = () => (performance.now() - begun) / 1000;
  const response = await fetch(`${url}/api/jobs`, {
    method: 'POST',
    headers: { 'content-type': 'application/json' },
    body: JSON.stringify({ text }),
  });
  const job = (await response.json()) as JobView;
  const frames: { frame: Frame; at: number }[] = [];
  const keep = (frame: Frame) => frames.push({ frame, at: seconds() });
  socket.on('frame', keep);
  socket.on('snapshot', ({ frame }: { frame?: Frame }) => frame && frames.length === 0 && keep(frame));
  const done = new Promise<string>((resolve) => socket.once('done', ({ resultId }: { resultId: string }) => resolve(resultId)));
  socket.emit('watch', { jobId: job.id });
  const resultId = await done;
  const total = seconds();
  socket.close();
  const result = (await (await fetch(`${url}/api/results/${resultId}`)).json()) as ResultView;
  const stored = Buffer.from(await (await fetch(`${url}${result.imageUrl}`)).arrayBuffer());
  const steps = frames.map(({ frame }) => frame.step);
  const early = frames.filter(({ frame, at }) => at <= 10 && frame.concepts).at(-1);
  console.log(`${text}: first frame ${frames[0].at.toFixed(2)} s, ${frames.length} frames in ${total.toFixed(1)} s`);
  console.log(`steps rise: ${steps.every((step, i) => i === 0 || step > steps[i - 1])}`);
  console.log(`last frame equals the stored PNG: ${Buffer.from(frames[frames.length - 1].frame.data).equals(stored)}`);
  console.log(
    `at 10 s (step ${early?.frame.step}): second opinion ${early?.frame.secondOpinion?.toFixed(3)}, picture: ${early?.frame.concepts?.map(({ word }) => word).join(', ')}`,
  );
  console.log(
    `at the end: second opinion ${result.secondOpinion?.toFixed(3)}, it sees ${result.secondOpinionConcepts
      .slice(0, 5)
      .map(({ word }) => word)
      .join(', ')}`,
  );
}

await main(process.argv[2] ?? 'http://127.0.0.1:7860', process.argv[3] ?? 'castle');
