import { mkdirSync, readFileSync, renameSync, rmSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import sharp from 'sharp';
import { z } from 'zod';
import { isBeyond } from '../../models/brivl/statistics.js';
import { defaultModel } from '../../models/registry.js';
import type { Engine } from '../compute/engine.js';
import type { ModelView } from '../compute/protocol.js';
import { fileNameOf } from '../imagination/statistics.js';
import { atlasDrawing, type DrawnUnit, type Drawing } from '../neurons/visualize.js';
import { numberOf, stringOf, UsageError, type Command } from './command.js';
import { untilInterrupted } from './interrupt.js';
import { openEngine } from './studio.js';

/** Side of a tile in pixels. */
const tile = 96;

/** What the sheet may weigh, in bytes: the largest WebP quality that fits is taken. */
const most = 6 * 2 ** 20;

/** {layer}.json beside {layer}.webp (`fileNameOf` the layer): tiles row by row in the order of the channels. */
export interface AtlasFile {
  model: string;
  /** Of what sees (Eye). */
  hash: string;
  layer: string;
  tile: number;
  columns: number;
  channels: number;
  method: string;
  steps: number;
  seed: number;
  /** By channel: what its picture does to it (mean over the map), and its place among all channels by z (DrawnUnit). */
  activations: number[];
  ranks: number[];
}

/** A batch that is done, kept until all are. */
const keptBatch = z.array(
  z.object({ channel: z.number(), activation: z.number(), percentile: z.number(), rank: z.number(), pixels: z.string() }),
);
type Kept = z.output<typeof keptBatch>[number];

export const atlasCommand: Command = {
  usage: 'atlas --out DIR [--model NAME] [--layer LLP] [--limit N] [--seed N] [--device cpu] [--json]',
  summary: 'pictures of all neurons of a layer on one sheet; run again, it goes on where it was stopped',
  options: {
    out: { type: 'string' },
    model: { type: 'string' },
    layer: { type: 'string' },
    limit: { type: 'string' },
    seed: { type: 'string' },
    device: { type: 'string' },
  },
  async run(positionals, values) {
    if (positionals.length) throw new UsageError(`atlas takes no arguments, not ${positionals.join(' ')}`);
    const out = stringOf(values, 'out');
    if (out === undefined) throw new UsageError('--out DIR is missing: the folder that the sheet is written into');
    const limit = numberOf(values, 'limit') ?? Infinity;
    if (!(limit >= 1)) throw new UsageError(`--limit takes how many channels to draw in this run, not ${limit}`);
    const seed = numberOf(values, 'seed') ?? atlasDrawing.seed;
    if (!Number.isInteger(seed) || seed < 0) throw new UsageError(`--seed takes a whole number from 0, not ${seed}`);
    const engine = await openEngine(stringOf(values, 'device') ?? 'cpu');
    try {
      const told = await untilInterrupted((isInterrupted) =>
        drawAtlas(engine, {
          model: stringOf(values, 'model') ?? defaultModel,
          layer: stringOf(values, 'layer') ?? 'LLP',
          out,
          drawing: { ...atlasDrawing, seed },
          limit,
          isInterrupted,
          tell: (line) => console.error(line),
        }),
      );
      if (values.json !== true && told.out !== null) console.log(told.out);
      return told;
    } finally {
      await engine.release();
    }
  },
};

export interface AtlasOptions {
  model: string;
  layer: string;
  /** The folder for the sheet; what is not finished lies there too, in `{layer}.part`. */
  out: string;
  drawing: Drawing;
  /** How many channels to draw in this run, to a whole batch. */
  limit: number;
  /** Looked at between batches. */
  isInterrupted: () => boolean;
  tell: (line: string) => void;
}

/** What a run came to. `out` is the sheet, null while channels are missing. */
export interface AtlasDrawn {
  out: string | null;
  model: string;
  layer: string;
  channels: number;
  /** In this run and those before. */
  drawn: number;
  /** How many of them are driven more than by any bundled photograph, and how many more than every other channel, by z. */
  beyondPhotographs: number;
  first: number;
  /** Of this run; 0 when there was nothing left to draw. */
  secondsEach: number;
}

/** @throws UsageError for a model or a layer that there is not */
export async function drawAtlas(
  engine: Pick<Engine, 'models' | 'looker' | 'drawUnits'>,
  options: AtlasOptions,
): Promise<AtlasDrawn> {
  const { model: name, layer, out, drawing, tell } = options;
  const model = engine.models().find((candidate) => candidate.name === name && candidate.kind !== 'generator');
  if (!model) throw new UsageError(`there is no model ${name}: reverie models lists them`);
  if (!model.ready) throw new UsageError(model.description);
  const { channels } = requireLayer(model, layer);
  const { eyeHash } = await engine.looker.eye(name);
  const draft = openDraft(path.join(out, `${fileNameOf(layer)}.part`), { model: eyeHash, layer, tile, drawing });
  const starts = Array.from({ length: Math.ceil(channels / drawing.batch) }, (_, i) => i * drawing.batch);
  const batchAt = (start: number) => Array.from({ length: Math.min(drawing.batch, channels - start) }, (_, i) => start + i);
  const missing = starts.filter((start) => !draft.has(start));
  const before = channels - missing.flatMap(batchAt).length;
  if (before > 0 && before < channels) tell(`${before} of ${channels} are drawn already: going on`);

  const begun = performance.now();
  let [drawn, secondsEach] = [0, 0];
  for (const start of missing) {
    if (options.isInterrupted() || drawn >= options.limit) break;
    const units = await engine.drawUnits(name, layer, batchAt(start), drawing);
    draft.keep(start, await Promise.all(units.map((unit) => tileOf(unit, drawing.canvas))));
    drawn += units.length;
    secondsEach = (performance.now() - begun) / 1000 / drawn;
    const left = channels - before - drawn;
    tell(`${before + drawn}/${channels}  ${secondsEach.toFixed(2)} s each  ${Math.ceil(secondsEach * left)} s left`);
  }

  const kept = starts.filter((start) => draft.has(start)).flatMap((start) => draft.read(start));
  const { quantiles } = await engine.looker.statistics(name, layer);
  const beyondPhotographs = kept.filter(({ channel, activation }) => isBeyond(quantiles, channel, activation)).length;
  const first = kept.filter(({ rank }) => rank === 1).length;
  tell(`of ${kept.length}, ${beyondPhotographs} are driven more than by any photograph, ${first} more than every other neuron`);
  const told = { model: name, layer, channels, drawn: kept.length, beyondPhotographs, first, secondsEach };
  if (kept.length < channels) {
    tell(`${channels - kept.length} are left: run it again`);
    return { out: null, ...told };
  }
  const file = path.join(out, `${fileNameOf(layer)}.webp`);
  const columns = Math.ceil(Math.sqrt(channels));
  const described: AtlasFile = {
    ...{ model: name, hash: eyeHash, layer, tile, columns, channels },
    ...{ method: drawing.parameters, steps: drawing.steps, seed: drawing.seed },
    activations: kept.map(({ activation }) => Number(activation.toPrecision(4))),
    ranks: kept.map(({ rank }) => rank),
  };
  writeWhole(file, await sheetOf(kept, columns));
  writeWhole(file.replace(/webp$/, 'json'), `${JSON.stringify(described)}\n`);
  draft.remove();
  return { out: file, ...told };
}

function requireLayer({ name, layers }: ModelView, layer: string) {
  const found = layers.find((candidate) => candidate.name === layer);
  if (found) return found;
  throw new UsageError(`${name} has no layer ${layer}: its layers are ${layers.map((known) => known.name).join(', ')}`);
}

async function tileOf({ pixels, ...unit }: DrawnUnit, side: number): Promise<Kept> {
  const small = await sharp(pixels, { raw: { width: side, height: side, channels: 3 } })
    .resize(tile, tile, { kernel: 'lanczos3' })
    .raw()
    .toBuffer();
  return { ...unit, pixels: small.toString('base64') };
}

/** Tiles row by row, as WebP of the best quality that is not too large. */
async function sheetOf(kept: readonly Kept[], columns: number): Promise<Buffer> {
  const rows = Math.ceil(kept.length / columns);
  const [width, height] = [columns * tile, rows * tile];
  const sheet = Buffer.alloc(width * height * 3);
  kept.forEach(({ pixels }, i) => {
    const bytes = Buffer.from(pixels, 'base64');
    const [top, left] = [Math.floor(i / columns) * tile, (i % columns) * tile];
    for (let y = 0; y < tile; y++) bytes.copy(sheet, ((top + y) * width + left) * 3, y * tile * 3, (y + 1) * tile * 3);
  });
  const raw = { width, height, channels: 3 as const };
  for (let quality = 90; ; quality -= 4) {
    const encoded = await sharp(sheet, { raw, limitInputPixels: false })
      .webp({ quality, effort: 5, smartSubsample: true })
      .toBuffer();
    if (encoded.length <= most || quality <= 30) return encoded;
  }
}

function writeWhole(file: string, content: string | Uint8Array): void {
  writeFileSync(`${file}.part`, content);
  renameSync(`${file}.part`, file);
}

/** What is done of an atlas, in a folder beside it; one of another model or drawing is begun anew. */
function openDraft(folder: string, made: object) {
  const signature = JSON.stringify(made);
  const batch = (start: number) => path.join(folder, `${start}.json`);
  const readText = (file: string) => {
    try {
      return readFileSync(file, 'utf8');
    } catch {
      return null;
    }
  };
  if (readText(path.join(folder, 'made.json')) !== signature) rmSync(folder, { recursive: true, force: true });
  mkdirSync(folder, { recursive: true });
  writeWhole(path.join(folder, 'made.json'), signature);
  return {
    has: (start: number) => readText(batch(start)) !== null,
    keep: (start: number, units: readonly Kept[]) => writeWhole(batch(start), JSON.stringify(units)),
    read: (start: number) => keptBatch.parse(JSON.parse(readFileSync(batch(start), 'utf8'))),
    remove: () => rmSync(folder, { recursive: true }),
  };
}
