import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { existsSync } from 'node:fs';
import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import sharp from 'sharp';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { createRegistry } from '../../models/registry.js';
import { readRecipe } from '../../server/commands/recipe.js';
import { createEngine } from '../../server/compute/engine.js';
import { jobRequest, type Concept, type NeuronReading } from '../../server/jobs/job.js';
import { repositoryRoot } from '../../server/root.js';
import { pictureFile } from '../../server/store/picture.js';
import { inProcess, reverie } from './reverie.js';

let folder: string;
let picture: string;
const at = (name: string) => path.join(folder, name);
const small = ['--size', '64', '--steps', '2', '--views', '1', '--device', 'cpu', '--json'];

interface Told {
  out: string;
  seed: number;
  steps: number;
  seconds: number;
  cos: number;
  secondOpinion: number;
  width: number;
  height: number;
  device: string;
  model: { name: string; hash: string };
  neurons: NeuronReading[];
  pictureConcepts: Concept[];
}

beforeAll(async () => {
  folder = await mkdtemp(path.join(tmpdir(), 'reverie-cli-'));
  picture = at('start.jpg');
  await sharp({ create: { width: 90, height: 60, channels: 3, background: '#c63' } })
    .jpeg()
    .toFile(picture);
});
afterAll(() => rm(folder, { recursive: true, force: true }));

describe('imagine', () => {
  it('writes the PNG that the server would keep, and tells about it in one JSON object', async () => {
    const said = await reverie(['imagine', 'nature', '--out', at('new/a.png'), ...small, '--seed', '7', '--neuron', 'LLP-108=2']);
    expect(said).toMatchObject({ code: 0, stderr: '' });
    expect(said.stdout.trimEnd()).not.toContain('\n');
    const told = said.json() as Told;
    expect(told).toMatchObject({ out: at('new/a.png'), seed: 7, steps: 2, width: 64, height: 64, device: 'cpu' });
    for (const number of [told.seconds, told.cos, told.secondOpinion]) expect(Number.isFinite(number)).toBe(true);
    expect(told.neurons).toHaveLength(1);
    expect(told.neurons[0]).toMatchObject({ unit: 'LLP-108', layer: 'LLP', channel: 108 });
    expect(told.neurons[0].activation).toBeGreaterThanOrEqual(0);
    expect(told.neurons[0].percentile).toBeGreaterThanOrEqual(0);
    expect(told.neurons[0].percentile).toBeLessThanOrEqual(100);

    const engine = await createEngine(createRegistry(repositoryRoot), 'cpu');
    const job = jobRequest.parse({
      text: 'nature',
      size: 64,
      steps: 2,
      views: 1,
      seed: 7,
      neurons: [{ unit: 'LLP-108', weight: 2 }],
    });
    const answer = await engine.imagine({ jobId: 'a', job });
    expect((await readFile(told.out)).equals(await pictureFile(answer, job, { name: job.model, hash: answer.modelHash }))).toBe(
      true,
    );
    expect(told.cos).toBe(answer.cos);
    expect(told.neurons).toEqual(answer.neurons);
    await engine.release();
  });

  it('takes negative and weighted texts, an oblong canvas, a picture to start from, and a film to write', async () => {
    const args = ['--negative', 'people', '--weighted', 'sea:0.5', '--size', '96x64', '--init', picture, '--video', at('b.webp')];
    const said = await inProcess(['imagine', '大海', '--out', at('b.png'), ...small.slice(2), ...args, '--parameters', 'pixels']);
    expect(said).toMatchObject({ code: 0, stderr: '' });
    expect(said.json()).toMatchObject({ width: 96, height: 64, neurons: [] });
    expect(await sharp(at('b.png')).metadata()).toMatchObject({ width: 96, height: 64 });
    const kept = (await readFile(at('b.png'))).toString('latin1');
    expect(kept).toContain('Negative prompt: people');
    expect(kept).toMatch(/"init":"[0-9a-f]{64}"/);
    // Two steps, and the finished picture.
    expect(await sharp(at('b.webp'), { animated: true }).metadata()).toMatchObject({ width: 96, pages: 3, pageHeight: 64 });
    // Two small steps from a plain picture leave its colour.
    const { channels } = await sharp(at('b.png')).stats();
    expect(channels[0].mean).toBeGreaterThan(channels[2].mean + 40);
  });

  it('draws neurons of any layer without a text, several pictures on one sheet, held apart', async () => {
    const args = ['--neuron', 'LLP-108', '--neuron', 'block7.1/ch-33=-2', '--copies', '2', '--diversity', '1'];
    const said = await inProcess(['imagine', '--out', at('neurons.png'), ...small.slice(0, 4), ...small.slice(6), ...args]);
    expect(said).toMatchObject({ code: 0, stderr: '' });
    const told = said.json() as Told & { text: string };
    expect(told).toMatchObject({ text: '', cos: null, secondOpinion: null, width: 128, height: 64 });
    expect(told.neurons.map(({ unit, layer, channel }) => [unit, layer, channel])).toEqual([
      ['LLP-108', 'LLP', 108],
      ['block7.1/ch-33', 'block7.1', 33],
    ]);
    for (const { percentile } of told.neurons) expect(percentile! >= 0 && percentile! <= 100).toBe(true);
    const kept = (await readFile(told.out)).toString('latin1');
    expect(kept).toMatch(/Copies: 2.*Neurons: LLP-108=\S+ block7\.1\/ch-33=-2/);
  });

  it('makes several pictures of one command', async () => {
    const said = await inProcess(['imagine', 'time', '--out', at('c.png'), ...small, '--seed', '5', '--count', '2']);
    const { results } = said.json() as { results: Told[] };
    expect(results.map(({ out, seed }) => [out, seed])).toEqual([
      [at('c-1.png'), 5],
      [at('c-2.png'), 6],
    ]);
    expect((await readFile(at('c-1.png'))).equals(await readFile(at('c-2.png')))).toBe(false);
  });

  it('says on stderr what it could not read of a text', async () => {
    const said = await inProcess(['imagine', 'nature '.repeat(60), '--out', at('d.png'), ...small]);
    expect(said.code).toBe(0);
    expect(said.stderr === '' || /pieces|does not know/.test(said.stderr)).toBe(true);
  });
});

describe('what texts and pictures are to the model', () => {
  it('embeds a text', async () => {
    const { model, embedding } = (await reverie(['embed', 'volcano', '--json'])).json() as { model: string; embedding: number[] };
    expect(model).toBe('brivl-nano');
    expect(embedding).toHaveLength(384);
    expect(Math.hypot(...embedding)).toBeCloseTo(1, 5);
  });

  it('embeds a picture', async () => {
    const { embedding } = (await inProcess(['embed', '--image', picture, '--json'])).json() as { embedding: number[] };
    expect(Math.hypot(...embedding)).toBeCloseTo(1, 5);
  });

  it('names concepts, for programs and for people', async () => {
    const { concepts } = (await inProcess(['concepts', 'volcano', '--top', '3', '--json'])).json() as { concepts: Concept[] };
    expect(concepts).toHaveLength(3);
    expect(concepts[0]).toMatchObject({ wnid: 'n09472597', word: 'volcano', score: expect.any(Number) as number });
    expect(Object.keys(concepts[0]).sort()).toEqual(['score', 'wnid', 'word', 'zh']);
    const said = await inProcess(['concepts', '--image', picture, '--top', '2']);
    expect(said.stdout.trimEnd().split('\n')).toHaveLength(2);
    expect(said.stdout).toMatch(/^-?0\.\d{3} {2}.+ {2}\(n\d{8}\)$/m);
  });

  it('knows what is meant: hit@5 and hit@10 on the development set', async () => {
    const told = (await inProcess(['eval', '--json'])).json() as { texts: number; hit1: number; hit5: number; hit10: number };
    expect(told.texts).toBeGreaterThan(30);
    expect(told.hit5).toBeGreaterThanOrEqual(0.8);
    expect(told.hit10).toBeGreaterThanOrEqual(0.88);
  });

  it('lists the models', async () => {
    const { models } = (await inProcess(['models', '--json'])).json() as { models: Record<string, unknown>[] };
    expect(models[0]).toMatchObject({ name: 'brivl-nano', inputSize: 224, embed: 384, channels: 1280 });
    expect(models[0].hash).toMatch(/^[0-9a-f]{16}$/);
  });
});

describe('recipes', () => {
  it('lists them, and runs one into a sheet', async () => {
    const { recipes } = (await inProcess(['recipe', 'list', '--json'])).json() as { recipes: { name: string; jobs: number }[] };
    expect(recipes).toContainEqual(expect.objectContaining({ name: 'concepts', jobs: 4 }));
    const args = ['recipe', 'run', 'concepts', '--steps', '2', '--out', at('recipe'), '--device', 'cpu', '--json'];
    const { sheet, results } = (await inProcess(args)).json() as { sheet: string; results: (Told & { text: string })[] };
    expect(results.map(({ text }) => text)).toEqual(['nature', 'time', 'science', 'dream']);
    expect(results.every(({ out, steps }) => existsSync(out) && steps === 2)).toBe(true);
    expect(await sharp(sheet).metadata()).toMatchObject({ width: 4 * 230 + 6, height: 236 });
  });

  it('names the file and the place of what does not fit', async () => {
    const recipe = { name: 'x', title: { en: 'X', zh: 'X' }, description: { en: '', zh: '' }, seeds: [1], jobs: [{ text: 'a' }] };
    const read = async (content: string) => {
      await writeFile(at('recipe.json'), content);
      return () => readRecipe(at('recipe.json'));
    };
    expect((await read(JSON.stringify(recipe)))().name).toBe('x');
    expect(await read('{')).toThrow(/^the recipe .*recipe\.json is not JSON: /);
    expect(await read(JSON.stringify({ ...recipe, seeds: [] }))).toThrow(/recipe\.json does not fit: seeds: /);
    expect(await read(JSON.stringify({ ...recipe, jobs: [{ text: 'a', steps: 0 }] }))).toThrow(
      /recipe\.json, jobs\.0: the number of steps must be at least 1/,
    );
  });
});

describe('how it is called', () => {
  const usage = /\n\nusage: reverie /;
  it.each([
    [['imagine', 'a'], /^--out FILE\.png is missing/],
    [['imagine', '--out', 'a.png'], /^text is missing/],
    [['imagine', 'a', 'b', '--out', 'a.png'], /put quotes around it/],
    [['imagine', ' ', '--out', 'a.png'], /^the text is empty/],
    [['imagine', 'a', '--out', 'a.png', '--size', '5000'], /at most 1024/],
    [['imagine', 'cat | dog:11', '--out', 'a.png'], /^the weight 11 is not from -10 to 10 \(at position 10\): change it/],
    [['imagine', 'a ^ b ^ c', '--out', 'a.png', '--steps', '2'], /^3 prompts in series do not fit into 2 steps/],
    [['imagine', 'a', '--out', 'a.png', '--steps', 'many'], /^--steps takes a number, not "many"/],
    [['imagine', 'a', '--out', 'a.png', '--neuron', 'LLP-1=x'], /^--neuron takes LLP-k/],
    [['imagine', '--out', 'a.png', '--neuron', 'LLP1'], /^"LLP1" names no neuron: write LLP-108/],
    [
      ['imagine', 'a', '--out', 'a.png', '--neuron', 'block7.1/ch-400'],
      /^brivl-nano has no neuron block7\.1\/ch-400: its neurons are/,
    ],
    [
      ['imagine', 'a', '--out', 'a.png', '--neuron', 'block7.1/ch-4@9,0'],
      /^block7\.1@9,0 is no place: the rows of block7\.1 are 0 to 6/,
    ],
    [['imagine', 'a', '--out', 'a.png', '--from', 'a'], /^from is the text itself/],
    [['statistics', '--out', 'a.png'], /^--out FILE\.safetensors is missing/],
    [['imagine', 'a', '--out', 'a.png', '--init', 'nowhere.png'], /^--init nowhere\.png cannot be read/],
    [['imagine', 'a', '--out', 'a.png', '--init', 'package.json'], /^the picture cannot be read/],
    [['imagine', 'a', '--out', 'a.png', '--video', 'a.mp4'], /^--video takes a file/],
    [['imagine', 'a', '--out', 'a.png', '--count', '0'], /^--count takes a whole number/],
    [['imagine', 'a', '--out', 'a.png', '--device', 'abacus'], /^there is no device abacus/],
    [['imagine', 'a', '--out', 'a.png', '--model', 'nobody'], /^there is no model nobody/],
    [['embed', 'a', '--loud'], /--loud/],
    [['concepts', 'a', '--top', '0'], /^--top takes/],
    [['concepts', '--image', 'package.json'], /^the image cannot be read/],
    [['imagine', 'a', '--out', 'a.png', '--method', 'vqgan', '--generator', 'nobody'], /^there is no generator nobody: /],
    [['imagine', 'a', '--out', 'a.png', '--unquantized', 'b.png'], /^--unquantized belongs to --method vqgan/],
    [
      ['imagine', 'a', '--out', 'a.png', '--method', 'vqgan', '--unquantized', 'b.jpg'],
      /^--unquantized takes a file that ends in .png/,
    ],
    [['imagine', 'a', '--out', 'a.png', '--start', 'codes'], /^start belongs to the method vqgan/],
    [['recipe', 'run', 'nothing'], /^there is no recipe nothing: there is concepts/],
    [['bench', '--runs', '0'], /^--runs takes/],
    [['dream'], /^there is no command dream/],
    [['serve', 'now'], /^serve takes no arguments/],
  ])('%j: a sentence, the usage, exit code 2', async (args, sentence) => {
    const { code, stdout, stderr } = await inProcess(args);
    expect(stderr).toMatch(sentence);
    expect(stderr).toMatch(usage);
    expect(stderr).not.toMatch(/\n {4}at /);
    expect([code, stdout]).toEqual([2, '']);
    expect(existsSync(path.join(repositoryRoot, 'a.png'))).toBe(false);
  });

  it('ends the process with the exit code', async () => {
    const { code, stdout, stderr } = await reverie(['dream']);
    expect([code, stdout]).toEqual([2, '']);
    expect(stderr).toMatch(/^there is no command dream\n\nusage: reverie <command>/);
  });

  it('explains itself', async () => {
    const help = await inProcess(['help']);
    expect(help.code).toBe(0);
    const commands = ['imagine', 'story', 'zoom', 'concepts', 'embed', 'recipe', 'models', 'bench', 'eval', 'serve'];
    for (const command of commands) {
      expect(help.stdout).toMatch(new RegExp(`^ {2}${command} `, 'm'));
      const { code, stdout } = await inProcess([command, '--help']);
      expect(code).toBe(0);
      expect(stdout).toMatch(new RegExp(`^usage: reverie ${command}`));
    }
  });

  it('serves the studio', async () => {
    const child = spawn(process.execPath, ['--import', 'tsx', path.join(repositoryRoot, 'server/cli.ts'), 'serve'], {
      cwd: repositoryRoot,
      env: { ...process.env, PORT: '0', DATA_DIR: at('data'), REVERIE_DEVICE: 'cpu' },
    });
    let said = '';
    child.stdout.setEncoding('utf8').on('data', (text: string) => (said += text));
    while (!said.includes('\n')) await once(child.stdout, 'data');
    const [, url] = /^Reverie is at (http:\S+)\n$/.exec(said)!;
    expect((await fetch(`${url}/healthz`)).status).toBe(200);
    child.kill('SIGTERM');
    expect(await once(child, 'close')).toEqual([0, null]);
  });
});
