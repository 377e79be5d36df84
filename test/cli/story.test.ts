import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { existsSync, mkdirSync } from 'node:fs';
import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import sharp from 'sharp';
import { afterAll, beforeAll, describe, expect, it, vi } from 'vitest';
import { contentId } from '../../server/jobs/job.js';
import { repositoryRoot } from '../../server/root.js';
import { readPngText } from '../../server/store/png-text.js';
import { randomGenerator } from '../imagination/fake.js';
import { inProcess } from './reverie.js';

let folder: string;
const at = (name: string) => path.join(folder, name);
const small = ['--size', '64', '--steps', '2', '--views', '1', '--device', 'cpu'];
const written = async (name: string, content: string | Uint8Array) => {
  await writeFile(at(name), content);
  return at(name);
};
const samePicture = async (a: string, b: string) =>
  (await sharp(a).removeAlpha().raw().toBuffer()).equals(await sharp(b).removeAlpha().raw().toBuffer());
const jobIn = async (file: string) =>
  (JSON.parse(readPngText(await readFile(file)).get('reverie')!) as { job: { init?: string; text: string } }).job;

interface Story {
  lines: { text: string; out: string; cos: number; secondOpinion: number }[];
  sheet: string;
  video: string | null;
  seed: number;
  morph: boolean;
  canceled: boolean;
}

beforeAll(async () => {
  folder = await mkdtemp(path.join(tmpdir(), 'reverie-story-'));
  // A generator of a few thousand weights, as if it had been imported.
  const painter = at('data/models/painter');
  mkdirSync(painter, { recursive: true });
  randomGenerator(painter).close();
  vi.stubEnv('DATA_DIR', at('data'));
});
afterAll(async () => {
  vi.unstubAllEnvs();
  await rm(folder, { recursive: true, force: true });
});

describe('story', () => {
  it('draws each line by itself with one seed, and lays the pictures side by side with the lines under them', async () => {
    const file = await written('poem.txt', '\ufeff# a poem\r\n  dawn \r\n\n\u3000明月 | stars:0.5\n   # night\nsea\n');
    const video = at('films/poem.webp');
    const said = await inProcess(['story', file, '--out', at('poem'), ...small, '--seed', '7', '--video', video, '--json']);
    expect(said).toMatchObject({ code: 0, stderr: '' });
    const told = said.json() as Story;
    expect(told).toMatchObject({ sheet: at('poem/story.png'), video, seed: 7, morph: false, canceled: false });
    expect(told.lines.map(({ text, out }) => [text, out])).toEqual([
      ['dawn', at('poem/01.png')],
      ['明月 | stars:0.5', at('poem/02.png')],
      ['sea', at('poem/03.png')],
    ]);
    expect(told.lines.every(({ cos, secondOpinion }) => Number.isFinite(cos) && Number.isFinite(secondOpinion))).toBe(true);
    // Two steps and the finished picture of each line.
    expect(await sharp(video, { animated: true }).metadata()).toMatchObject({ width: 64, pageHeight: 64, pages: 9 });
    const sheet = await sharp(told.sheet).metadata();
    expect([sheet.width, sheet.height]).toEqual([2 * 28 + 3 * 240 - 16, 2 * 28 + 224 + 46]);

    // The third is what imagine draws alone.
    await inProcess(['imagine', 'sea', '--out', at('sea.png'), ...small, '--seed', '7']);
    expect((await readFile(at('sea.png'))).equals(await readFile(told.lines[2].out))).toBe(true);
    expect((await jobIn(told.lines[1].out)).text).toBe('明月 | stars:0.5');
  });

  it.each([
    ['feavis', []],
    ['vqgan', ['--method', 'vqgan', '--generator', 'painter', '--tries', '2', '--start', 'codes']],
  ])('with --morph begins each line with the picture before, as a job with that init: %s', async (method, options) => {
    const file = await written('two.txt', 'dawn\nsea');
    const out = at(`morph-${method}`);
    const args = [...small, ...options, '--json'];
    const { lines, morph } = (await inProcess(['story', file, '--out', out, '--morph', ...args])).json() as Story;
    expect(morph).toBe(true);
    const [first, second] = await Promise.all(lines.map(({ out }) => jobIn(out)));
    expect(first.init).toBeUndefined();
    expect(second.init).toMatch(contentId);
    await inProcess(['imagine', 'sea', '--out', at('again.png'), ...small, ...options.slice(0, 4), '--init', lines[0].out]);
    expect(await samePicture(at('again.png'), lines[1].out)).toBe(true);
  });

  it('that is stopped by Ctrl-C keeps what it has', async () => {
    const file = await written('long.txt', 'dawn\nsea\nnight');
    const args = ['story', file, '--out', at('long'), ...small, '--steps', '24', '--video', at('long.gif')];
    const child = spawn(process.execPath, ['--import', 'tsx', path.join(repositoryRoot, 'server/cli.ts'), ...args], {
      cwd: repositoryRoot,
    });
    const said = { stdout: '', stderr: '' };
    child.stdout.setEncoding('utf8').on('data', (text: string) => (said.stdout += text));
    child.stderr.setEncoding('utf8').on('data', (text: string) => (said.stderr += text));
    while (!said.stdout.includes('\n')) await once(child.stdout, 'data');
    child.kill('SIGINT');
    expect(await once(child, 'close')).toEqual([0, null]);
    expect(said.stderr).toMatch(/^stopping after this step: what there is by then is kept$/m);
    expect(existsSync(at('long/01.png'))).toBe(true);
    expect(existsSync(at('long/03.png'))).toBe(false);
    expect((await sharp(at('long/story.png')).metadata()).format).toBe('png');
    expect((await sharp(at('long.gif'), { animated: true }).metadata()).pages).toBeGreaterThan(24);
  });

  it.each<[string, string | Uint8Array, string[], RegExp]>([
    ['nothing', '', [], /^.*nothing\.txt has no line to draw: write a text a line/],
    ['comments', '# a\n\n #b', [], /has no line to draw/],
    ['a mistake', 'a\n# b\ncat|dog:11', [], /mistake\.txt, line 3: the weight 11 is not from -10 to 10 \(at position 8\)/],
    ['a long line', `a\n${'b'.repeat(501)}`, [], /line\.txt, line 2: the text must be at most 500 characters/],
    ['a control character', 'a\u0007b', [], /line 1: the text has control characters/],
    ['too many lines', 'a\n'.repeat(65), [], /has 65 lines to draw, at most 64 are a story: split it/],
    ['bytes', Uint8Array.of(0x89, 0x50, 0xff), [], /is not a text in UTF-8/],
    ['a bad option', 'a', ['--steps', 'many'], /^--steps takes a number/],
    ['an option that does not fit', 'a', ['--tries', '2'], /^tries belongs to the method vqgan/],
    ['a video', 'a', ['--video', 'a.mp4'], /^--video takes a file/],
    ['more prompts than steps', 'a\na^b^c', ['--steps', '2'], /line 2: 3 prompts in series do not fit into 2 steps/],
  ])('of %s is refused before anything is drawn', async (name, content, options, sentence) => {
    const file = await written(`${name.split(' ').at(-1)}.txt`, content);
    const { code, stdout, stderr } = await inProcess(['story', file, '--out', at('never'), ...options]);
    expect([code, stdout]).toEqual([2, '']);
    expect(stderr).toMatch(sentence);
    expect(existsSync(at('never'))).toBe(false);
  });

  it('of a file that is not there is refused', async () => {
    expect((await inProcess(['story', at('nowhere.txt')])).stderr).toMatch(/^the story .*nowhere\.txt cannot be read/);
    expect((await inProcess(['story'])).stderr).toMatch(/^FILE is missing/);
  });
});

describe('zoom', () => {
  interface Zoom {
    video: string;
    text: string;
    frames: number;
    canceled: boolean;
    shown: { cos: number; secondOpinion: number }[];
  }
  const film = async (name: string, args: string[]) => {
    const said = await inProcess(['zoom', ...args, '--video', at(name), '--json']);
    expect(said).toMatchObject({ code: 0, stderr: '' });
    return { told: said.json() as Zoom, bytes: await readFile(at(name)) };
  };
  const frame = (file: string, page: number) => sharp(file, { page }).removeAlpha().raw().toBuffer();
  const difference = (a: Buffer, b: Buffer) => a.reduce((sum, v, i) => sum + Math.abs(v - b[i]), 0) / a.length;

  it('draws a text and goes in, the same way each time', async () => {
    const args = [
      'castle',
      ...small,
      '--frames',
      '4',
      '--zoom',
      '1.2',
      '--steps-per-frame',
      '1',
      '--shift',
      '2,-1',
      '--rotate',
      '-3',
    ];
    const { told, bytes } = await film('a.webp', args);
    expect(told).toMatchObject({
      text: 'castle',
      frames: 4,
      zoom: 1.2,
      shift: [2, -1],
      rotate: -3,
      stepsPerFrame: 1,
      canceled: false,
    });
    expect(told.shown).toHaveLength(4);
    expect(await sharp(bytes, { animated: true }).metadata()).toMatchObject({ pages: 4, pageHeight: 64, width: 64 });
    expect((await film('b.webp', args)).bytes.equals(bytes)).toBe(true);
  });

  it.each([
    ['feavis', []],
    ['vqgan', ['--method', 'vqgan', '--generator', 'painter']],
  ])('goes on from a picture that imagine wrote, with its job: %s', async (method, options) => {
    const from = at(`from-${method}.png`);
    await inProcess(['imagine', 'dawn ^ castle', '--out', from, ...small, ...options, '--seed', '5']);
    const { told } = await film(`${method}.gif`, [from, '--frames', '3', '--steps-per-frame', '1', '--device', 'cpu']);
    expect(told).toMatchObject({ text: 'dawn ^ castle', seed: 5, width: 64, frames: 3 });
    expect(told.shown).toHaveLength(2);
    const [start, first, second] = [await sharp(from).removeAlpha().raw().toBuffer(), await frame(at(`${method}.gif`), 0), await frame(at(`${method}.gif`), 2)]; // prettier-ignore
    expect(difference(start, first)).toBeLessThan(4);
    expect(difference(first, second)).toBeGreaterThan(difference(start, first));
  });

  it('lets prompts in series share the frames', async () => {
    const plain = ['--frames', '4', '--steps-per-frame', '1', ...small];
    await film('one.gif', ['castle', ...plain]);
    await film('two.gif', ['castle ^ a red sea', ...plain]);
    for (const page of [0, 1]) expect((await frame(at('one.gif'), page)).equals(await frame(at('two.gif'), page))).toBe(true);
    expect((await frame(at('one.gif'), 3)).equals(await frame(at('two.gif'), 3))).toBe(false);
  });

  it('that is stopped by Ctrl-C keeps what it has', async () => {
    const args = ['zoom', 'castle', '--video', at('cut.gif'), ...small, '--frames', '500', '--steps-per-frame', '1', '--json'];
    const ending = inProcess(args);
    // Its own handler is the only one.
    while (process.listenerCount('SIGINT') === 0) await new Promise((resolve) => setTimeout(resolve, 20));
    await new Promise((resolve) => setTimeout(resolve, 1500));
    process.emit('SIGINT');
    const said = await ending;
    expect(said.code).toBe(0);
    expect(said.stderr).toMatch(/what there is by then is kept/);
    const told = said.json() as Zoom;
    expect(told.canceled).toBe(true);
    expect(told.frames).toBeLessThan(500);
    expect((await sharp(at('cut.gif'), { animated: true }).metadata()).pages ?? 1).toBe(told.frames);
    expect(process.listenerCount('SIGINT')).toBe(0);
  });

  it.each([
    [['castle'], /^--video FILE is missing/],
    [['castle', '--video', 'a.mp4'], /^--video takes a file/],
    [['--video', 'a.gif'], /^text or FILE\.png is missing/],
    [['castle', '--video', 'a.gif', '--frames', '1'], /^--frames takes a whole number from 2 to 600, not 1/],
    [['castle', '--video', 'a.gif', '--zoom', '3'], /^--zoom takes a number from 0\.5 to 2, not 3/],
    [['castle', '--video', 'a.gif', '--rotate', '200'], /^--rotate takes a number from -180 to 180/],
    [['castle', '--video', 'a.gif', '--steps-per-frame', '0.5'], /^--steps-per-frame takes a whole number/],
    [['castle', '--video', 'a.gif', '--shift', '2'], /^--shift takes two numbers of pixels .*not "2"/],
    [['castle', '--video', 'a.gif', '--shift', '2,'], /^--shift takes two numbers/],
    [['castle', '--video', 'a.gif', '--shift', '1,2,3'], /^--shift takes two numbers/],
    [['cat:0', '--video', 'a.gif'], /^the weight 0 has no effect \(at position 4\)/],
    [['a^b^c', '--video', 'a.gif', '--frames', '2'], /^3 prompts in series do not fit into 2 frames/],
    [['nowhere.png', '--video', 'a.gif'], /^the picture nowhere\.png cannot be read/],
    [['recipes/pictures/eight.png', '--init', 'a.png', '--video', 'a.gif'], /^give a PNG to go into or --init FILE, not both/],
  ])('%j: a sentence, the usage, exit code 2', async (args, sentence) => {
    const { code, stdout, stderr } = await inProcess(['zoom', ...args]);
    expect(stderr).toMatch(sentence);
    expect([code, stdout]).toEqual([2, '']);
    expect(existsSync(path.join(repositoryRoot, 'a.gif'))).toBe(false);
  });

  it('into a PNG without a job in it is refused', async () => {
    await sharp({ create: { width: 64, height: 64, channels: 3, background: '#c63' } }).toFile(at('plain.png'));
    const { code, stderr } = await inProcess(['zoom', at('plain.png'), '--video', 'a.gif']);
    expect(code).toBe(2);
    expect(stderr).toMatch(/plain\.png tells no text: it is not a PNG that imagine wrote/);
  });
});
