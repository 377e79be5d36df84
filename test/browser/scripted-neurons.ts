import { readFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import express, { type Express } from 'express';
import sharp from 'sharp';
import type { ExampleView, LayerView, TestView, UnitSummary, UnitView } from '../../client/lib/neurons.js';

export interface ScriptedNeurons {
  extend: (app: Express) => void;
  /** How many of the photographs have been looked at; all of them is a finished index. */
  looked: (done: number) => void;
  /** The index ends so, before it is done; a request to go on makes it run. */
  ended: (state: 'stopped' | 'failed') => void;
  /** Units that were tested on a picture, and texts of heat requests, in order. */
  tested: { layer: string; bytes: number }[];
}

const folder = fileURLToPath(new URL('../../models/photographs/', import.meta.url));

interface Photograph {
  file: string;
  title: { en: string; zh: string };
  author: string;
  licence: string;
  url?: string;
}

const words: [wnid: string, word: string, zh: string][] = [
  ['n02708093', 'analog clock', '时钟'],
  ['n04548280', 'wall clock', '挂钟'],
  ['n04355338', 'sundial', '日晷'],
  ['n02980441', 'castle', '城堡'],
  ['n11939491', 'daisy', '雏菊'],
  ['n02123045', 'tabby cat', '虎斑猫'],
  ['n09472597', 'volcano', '火山'],
  ['n04487394', 'trilobite', '三叶虫'],
  ['n02099601', 'golden retriever', '金毛犬'],
  ['n09193705', 'alp', '高山'],
  ['n01443537', 'goldfish', '金鱼'],
  ['n04346328', 'stupa', '佛塔'],
  ['n02281406', 'sulphur butterfly', '粉蝶'],
  ['n03345487', 'fire engine', '消防车'],
];

/** A number in [0, 1) that a unit and a purpose always give again. */
function chance(channel: number, purpose: number): number {
  let x = Math.imul(channel + 1, 0x9e3779b1) ^ Math.imul(purpose + 7, 0x85ebca6b);
  x = Math.imul(x ^ (x >>> 15), 0x2c1b3c6d);
  x = Math.imul(x ^ (x >>> 12), 0x297a2d39);
  return ((x ^ (x >>> 15)) >>> 0) / 2 ** 32;
}

const round = (value: number, digits = 3) => Number(value.toFixed(digits));
const wordOf = (channel: number, nth: number) => words[Math.floor(chance(channel, 1) * words.length + nth) % words.length];

/** Routes that play the explorer's part: 1280 channels with made-up words, the bundled photographs as their examples. */
export function scriptedNeurons({
  channels = 1280,
  atlas = true,
  sheet,
}: { channels?: number; atlas?: boolean; sheet?: Promise<Buffer> } = {}): ScriptedNeurons {
  const photographs = JSON.parse(readFileSync(`${folder}photographs.json`, 'utf8')) as Photograph[];
  const sheets = '/api/neurons/atlas/brivl-nano/LLP';
  const columns = 40;
  const tile = sheet ? 96 : 24;
  let done = photographs.length;
  let ended: 'stopped' | 'failed' | null = null;
  const tested: ScriptedNeurons['tested'] = [];
  const finished = () => done >= photographs.length;
  const progress = (): LayerView['index'] => ({
    ...{
      id: 'index-1',
      images: photographs.length,
      state: finished() ? 'done' : (ended ?? 'running'),
      done: Math.min(done, photographs.length),
    },
    ...{ unreadable: 0, error: ended === 'failed' ? 'the device is gone' : null },
  });
  const layers = [
    { name: 'LLP', channels },
    { name: 'block7.1', channels: 320 },
    { name: 'stem', channels: 32 },
  ];

  const summary = (channel: number): UnitSummary => {
    if (!finished())
      return { channel, label: null, words: [], mean: null, max: null, density: null, clarity: null, polysemanticity: null, redundancy: null, x: null, y: null, example: null }; // prettier-ignore
    const kind = Math.floor(chance(channel, 1) * words.length);
    const turn = (kind / words.length) * 2 * Math.PI;
    const near = (purpose: number) => (chance(channel, purpose) + chance(channel, purpose + 50) - 1) * 0.17;
    return {
      channel,
      label: { word: wordOf(channel, 0)[1], zh: wordOf(channel, 0)[2], score: round(0.2 + 0.5 * chance(channel, 2)) },
      words: [0, 1, 2].map((nth) => ({ word: wordOf(channel, nth)[1], zh: wordOf(channel, nth)[2] })),
      ...{ mean: round(0.4 * chance(channel, 3)), max: round(1 + 3 * chance(channel, 4)), density: round(chance(channel, 5) ** 3) },
      ...{ clarity: round(chance(channel, 6)), polysemanticity: round(chance(channel, 7)), redundancy: round(chance(channel, 8)) },
      ...{ x: round(0.5 + 0.36 * Math.cos(turn) + near(9), 4), y: round(0.5 + 0.36 * Math.sin(turn) + near(10), 4) },
      example: `/api/photographs/${photographs[Math.floor(chance(channel, 100) * photographs.length)].file}`,
    };
  };

  const mapOf = (channel: number, peak: number, purpose: number) => {
    const [y, x] = [Math.floor(chance(channel, purpose) * 7), Math.floor(chance(channel, purpose + 1) * 7)];
    const values = Array.from({ length: 49 }, (_, at) =>
      round(peak * Math.exp(-((Math.floor(at / 7) - y) ** 2 + ((at % 7) - x) ** 2) / 3)),
    );
    return { y, x, map: { rows: 7, columns: 7, values } };
  };

  const example = (channel: number, rank: number, share: number): ExampleView => {
    const at = Math.floor(chance(channel, 100 + rank) * photographs.length);
    const { file, title, author, licence, url } = photographs[at];
    return {
      ...{ image: `${rank}-${file}`, url: `/api/photographs/${file}`, name: file.replace('.jpg', '') },
      credit: { title, author, licence, url: url ?? null },
      ...{ activation: round(2.6 * share), percentile: round(100 * share, 1) },
      ...mapOf(channel, 5 * share, 200 + rank),
    };
  };
  const row = (channel: number, from: number, count: number, share: number) =>
    Array.from({ length: count }, (_, rank) => example(channel, from + rank, share - 0.006 * rank));

  const unit = (layer: string, channel: number): UnitView => ({
    ...{ model: 'brivl-nano', hash: 'b3c1f09a77d2', layer, channel },
    unit: layer === 'LLP' ? `LLP-${channel}` : `${layer}/ch-${channel}`,
    index: progress(),
    statistics: { mean: 0.31, deviation: 0.22, max: 2.61, density: summary(channel).density ?? 0 },
    histogram: {
      low: 0,
      high: 2.6,
      counts: Array.from({ length: 40 }, (_, at) => Math.floor(60 * Math.exp(-at / 5) + (at > 36 ? 1 : 0))),
    },
    label: { ...named(wordOf(channel, 0)), score: 1 + round(chance(channel, 2)) },
    words: finished()
      ? words.slice(0, 10).map((_, nth) => ({ ...named(wordOf(channel, nth)), score: round(0.44 - 0.03 * nth) }))
      : [],
    similar: Array.from({ length: 10 }, (_, nth) => ({
      channel: (channel + 31 * (nth + 1)) % channels,
      cosine: round(0.8 - nth * 0.04),
      correlation: null,
    })),
    opposite: Array.from({ length: 5 }, (_, nth) => ({
      channel: (channel + 77 * (nth + 1)) % channels,
      cosine: round(-0.4 + nth * 0.03),
      correlation: null,
    })),
    examples: {
      top: row(channel, 0, 12, 1),
      upper: row(channel, 20, 4, 0.75),
      middle: row(channel, 30, 4, 0.5),
      lower: row(channel, 40, 4, 0.25),
      least: row(channel, 50, 4, 0.03),
    },
    ...{ clarity: 0.42, polysemanticity: 0.13, redundancy: 0.71 },
    visualization: atlas && layer === 'LLP' ? { url: `${sheets}/${channel}.webp`, side: tile } : null,
  });
  const named = ([wnid, word, zh]: [string, string, string]) => ({ wnid, word, zh });

  async function drawSheet(): Promise<Buffer> {
    const rows = Math.ceil(channels / columns);
    const [width, height] = [columns * tile, rows * tile];
    const blank = sharp({ create: { width, height, channels: 3, background: '#333' }, limitInputPixels: false });
    const cells = Array.from({ length: channels }, (_, channel) => {
      const hue = Math.floor(chance(channel, 1) * words.length) * 26;
      const background = { r: 128 + 90 * Math.cos(hue), g: 128 + 90 * Math.cos(hue + 2), b: 128 + 90 * Math.cos(hue + 4) };
      const input = { create: { width: tile, height: tile, channels: 3 as const, background } };
      return { left: (channel % columns) * tile, top: Math.floor(channel / columns) * tile, input };
    });
    return blank.composite(cells).webp({ quality: 70 }).toBuffer();
  }

  return {
    tested,
    looked: (count) => (done = count),
    ended: (state) => (ended = state),
    extend(app) {
      app.get('/api/neurons', (request, response) => {
        const asked = new URL(request.originalUrl, 'http://here').searchParams.get('layer') ?? 'LLP';
        const layer = layers.find(({ name }) => name === asked);
        if (!layer) {
          response.status(404).json({ error: { code: 'unknown_layer', message: `brivl-nano has no layer "${asked}"` } });
          return;
        }
        response.json({
          ...{ model: 'brivl-nano', hash: 'b3c1f09a77d2', layer: layer.name, layers },
          index: progress(),
          atlas: atlas && layer.name === 'LLP' ? { url: `${sheets}.webp`, tiles: `${sheets}/{channel}.webp`, tile, columns } : null,
          units: Array.from({ length: layer.channels }, (_, channel) => summary(channel)),
        } satisfies LayerView);
      });
      app.post('/api/neurons/indexes', (request, response) => {
        ended = null;
        response.status(202).json(request.body);
      });
      app.get('/api/neurons/atlas/:model/:file', async (_request, response) => {
        response
          .type('webp')
          .set('Cache-Control', 'public, max-age=3600')
          .send(await (sheet ??= drawSheet()));
      });
      app.get('/api/neurons/atlas/:model/:layer/:file', async (request, response) => {
        const channel = parseInt(request.params.file);
        const [left, top] = [(channel % columns) * tile, Math.floor(channel / columns) * tile];
        const cut = sharp(await (sheet ??= drawSheet())).extract({ left, top, width: tile, height: tile });
        response.type('webp').send(await cut.webp().toBuffer());
      });
      app.get('/api/photographs/:file', (request, response) => {
        const known = photographs.find(({ file }) => file === request.params.file);
        if (known) response.sendFile(folder + known.file);
        else response.status(404).end();
      });
      app.post('/api/neurons/test', express.raw({ type: () => true, limit: '20mb' }), (request, response) => {
        const layer = new URL(request.originalUrl, 'http://here').searchParams.get('layer') ?? 'LLP';
        tested.push({ layer, bytes: (request.body as Buffer).length });
        const units = Array.from({ length: 24 }, (_, nth): TestView['units'][number] => {
          const channel = 108 + nth * 7;
          const { y, x, map } = mapOf(channel, 4, 300);
          return { channel, activation: round(3 - nth / 10), percentile: 99 - nth, z: round(5 - nth / 8), y, x, map: map.values };
        });
        response.json({ model: 'brivl-nano', layer, rows: 7, columns: 7, units });
      });
      app.post('/api/neurons/heat', express.raw({ type: () => true, limit: '20mb' }), (_request, response) => {
        response.json({ ...mapOf(1, 2, 3).map, activation: 0.42, percentile: 61 });
      });
      app.get('/api/neurons/:layer/:channel', (request, response) => {
        const layer = layers.find(({ name }) => name === request.params.layer);
        const channel = Number(request.params.channel);
        if (!layer || !(channel < layer.channels)) {
          const message = `brivl-nano has no neuron ${request.params.layer}-${channel}: its neurons are LLP-0 to LLP-${channels - 1}`;
          response.status(404).json({ error: { code: 'unknown_neuron', message } });
          return;
        }
        const known = unit(layer.name, channel);
        const unknown = { label: null, words: [], similar: [], opposite: [], examples: null, statistics: null, histogram: null };
        response.json((finished() ? known : { ...known, ...unknown }) satisfies UnitView);
      });
    },
  };
}
