/**
 * Indexes seeded crops of the bundled photographs by the command line, tells pictures a second and peak memory, then does it again killed in
 * the middle (SIGKILL), and compares what the two have found: `npx tsx test/bench/index.ts [pictures]`, 2000 by default.
 */
import { spawn, type ChildProcess } from 'node:child_process';
import { createHash } from 'node:crypto';
import { mkdirSync, mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import sharp from 'sharp';
import { Random } from '../../server/imagination/random.js';
import { bundledSet } from '../../server/neurons/pictures.js';
import { repositoryRoot } from '../../server/root.js';
import { examplesOf, listIndexes, unitsOf } from '../../server/store/neurons.js';
import { openStore } from '../../server/store/store.js';

const pause = (milliseconds: number) => new Promise((resolve) => setTimeout(resolve, milliseconds));

/** Crops of 40% to 100% of a side, flipped half of the time, as JPEG files of 256 pixels. */
async function makeCrops(folder: string, count: number): Promise<void> {
  const photographs = [...(bundledSet.walk() as Iterable<{ path: string }>)];
  const random = new Random(1);
  mkdirSync(folder);
  for (let i = 0; i < count; i++) {
    const { path: file } = photographs[i % photographs.length];
    const side = Math.round(256 * random.uniform(0.4, 1));
    const [left, top] = [random.below(257 - side), random.below(257 - side)];
    await sharp(file)
      .extract({ left, top, width: side, height: side })
      .flop(random.below(2) === 1)
      .resize(256, 256)
      .jpeg({ quality: 90 })
      .toFile(path.join(folder, `${String(i).padStart(6, '0')}.jpg`));
  }
}

/** `reverie index`, from source. `peak` is the most memory that the process had, in MiB, where Linux tells it. */
function indexing(pictures: string, dataDir: string) {
  const args = ['--import', 'tsx', path.join(repositoryRoot, 'server/cli.ts'), 'index', pictures, '--json'];
  const child: ChildProcess = spawn(process.execPath, args, {
    cwd: repositoryRoot,
    env: { ...process.env, DATA_DIR: dataDir },
    stdio: ['ignore', 'pipe', 'inherit'],
  });
  let said = '';
  let peak = 0;
  child.stdout!.setEncoding('utf8').on('data', (text: string) => (said += text));
  const watch = setInterval(() => {
    try {
      const status = readFileSync(`/proc/${child.pid}/status`, 'utf8');
      peak = Math.max(peak, Number(/VmHWM:\s+(\d+)/.exec(status)?.[1] ?? 0) / 1024);
    } catch {
      // It has ended, or this is not Linux.
    }
  }, 200);
  const ended = new Promise<number | null>((resolve) => child.on('close', resolve)).finally(() => clearInterval(watch));
  return { child, ended, said: () => said, peak: () => Math.round(peak) };
}

/** A digest of all that an index says, without the ids of rows. */
async function findings(dataDir: string): Promise<string> {
  const store = await openStore(dataDir, { isShared: true });
  const sha = createHash('sha256');
  const [{ id, layers }] = listIndexes(store);
  for (const layer of layers)
    for (const unit of unitsOf(store, id, layer)) {
      const examples = examplesOf(store, id, layer, unit.channel).map(({ image, ...example }) => [
        example,
        image.name,
        image.thumbnail,
      ]);
      sha.update(JSON.stringify([unit, examples]));
    }
  await store.close();
  return sha.digest('hex');
}

async function done(dataDir: string): Promise<number> {
  const store = await openStore(dataDir, { isShared: true });
  const record = listIndexes(store).at(0);
  await store.close();
  return record?.done ?? 0;
}

async function main(count: number): Promise<void> {
  const root = mkdtempSync(path.join(tmpdir(), 'reverie-bench-index-'));
  try {
    const pictures = path.join(root, 'pictures');
    await makeCrops(pictures, count);
    const whole = indexing(pictures, path.join(root, 'whole'));
    if ((await whole.ended) !== 0) throw new Error('the index failed');
    const { seconds } = JSON.parse(whole.said().trimEnd().split('\n').at(-1)!) as { seconds: number };

    const killedIn = path.join(root, 'killed');
    const killed = indexing(pictures, killedIn);
    let at = 0;
    while (at < count / 3 && killed.child.exitCode === null) {
      await pause(500);
      at = await done(killedIn);
    }
    killed.child.kill('SIGKILL');
    await killed.ended;
    const resumed = indexing(pictures, killedIn);
    if ((await resumed.ended) !== 0) throw new Error('the index that was killed did not go on');
    const isSame = (await findings(killedIn)) === (await findings(path.join(root, 'whole')));
    console.log(
      JSON.stringify({
        pictures: count,
        seconds,
        picturesPerSecond: count / seconds,
        peakMiB: whole.peak(),
        killedAt: at,
        peakMiBResumed: resumed.peak(),
        isSame,
      }),
    );
  } finally {
    rmSync(root, { recursive: true });
  }
}

await main(Number(process.argv[2] ?? 2000));
