import { mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { dirname, extname, join } from 'node:path';
import { defaultModel } from '../../models/registry.js';
import {
  accuracy,
  confusionOf,
  embedPictures,
  embedTexts,
  rank,
  scoresOf,
  type Embedder,
  type Ranked,
  type Verdict,
} from '../compare/compare.js';
import { drawConfusion, drawHeatMap, mostDrawn } from '../compare/draw.js';
import { listPictures, type FolderPicture } from '../compare/folder.js';
import {
  bundledLabels,
  conceptLabels,
  conceptsAsLabels,
  folderMatcher,
  labelsIn,
  languages,
  readBundledLabels,
  readLabelFile,
  readLines,
  type LabelFile,
  type Language,
} from '../compare/labels.js';
import { defaultTemplates, plainTemplates, template } from '../compare/templates.js';
import type { Engine } from '../compute/engine.js';
import { BadRequest } from '../compute/protocol.js';
import { lineOfText, type Notice } from '../jobs/job.js';
import { listOf, numberOf, sentences, stringOf, UsageError, type Command, type Options, type Values } from './command.js';
import { openEngine } from './studio.js';

const options = {
  images: { type: 'string' },
  template: { type: 'string', multiple: true },
  out: { type: 'string' },
  model: { type: 'string' },
  device: { type: 'string' },
} satisfies Options;

/** A picture that could not be read. */
interface Skipped {
  file: string;
  why: string;
}

export const similarityCommand: Command = {
  usage: 'similarity --images DIR --texts FILE [--template "a photo of {}"]... [--out FILE.png] [--json]',
  summary: 'how near each picture of a folder is to each text, as cosines and as a heat map',
  options: { ...options, texts: { type: 'string' } },
  async run(positionals, values) {
    const out = outOf(values);
    const directory = folderOf(positionals, values);
    const templates = templatesOf(values) ?? plainTemplates;
    const texts = readTexts(stringOf(values, 'texts'));
    const pictures = picturesOf(directory).map(({ file }) => file);
    const model = stringOf(values, 'model') ?? defaultModel;
    const engine = await openEngine(stringOf(values, 'device') ?? 'cpu');
    try {
      const embedder = embedderOf(engine, model, directory);
      const progress = createProgress();
      const { directions, notices } = await embedTexts(embedder, texts, templates, { progress });
      const images: string[] = [];
      const matrix: number[][] = [];
      const skipped: Skipped[] = [];
      for await (const { name, embedding } of embedPictures(embedder, pictures, { progress }, skipInto(skipped))) {
        images.push(name);
        matrix.push(scoresOf(embedding, directions));
      }
      progress.end();
      tellNotices(notices);
      requireSome(images, directory, skipped);
      if (out) await writeHeatMap(out, model, directory, { images, texts, matrix });
      if (values.json !== true)
        for (const [i, file] of images.entries()) {
          const [best] = rank(matrix[i], 1);
          console.log(`${file}  ${texts[best.index]}  ${best.score.toFixed(3)}`);
        }
      return { model, images, texts, matrix, skipped, notices, ...(out && { out }) };
    } finally {
      await engine.release();
    }
  },
};

export const classifyCommand: Command = {
  usage:
    'classify --images DIR --labels FILE|NAME [--language en|zh] [--template "a photo of {}"]... [--top N] [--out FILE.png] [--json]',
  summary: 'which label fits each picture of a folder best; over a folder per class also how often it is right',
  options: { ...options, labels: { type: 'string' }, language: { type: 'string' }, top: { type: 'string' } },
  async run(positionals, values) {
    const out = outOf(values);
    const directory = folderOf(positionals, values);
    const language = languageOf(values);
    const top = numberOf(values, 'top') ?? 5;
    if (!Number.isInteger(top) || top < 1 || top > 1000)
      throw new UsageError(`--top takes a whole number from 1 to 1000, not ${top}`);
    const ownTemplates = templatesOf(values);
    const named = stringOf(values, 'labels');
    if (named === undefined)
      throw new UsageError(`--labels is missing: name a file, or one of ${[...bundledLabels(), conceptLabels].join(', ')}`);
    const listed = picturesOf(directory);
    const model = stringOf(values, 'model') ?? defaultModel;
    // Before the model is opened: what is wrong with a file should be said at once.
    const file = named === conceptLabels ? undefined : readLabels(named);
    const engine = await openEngine(stringOf(values, 'device') ?? 'cpu');
    try {
      const { labels: rows, templates } = file ?? conceptsAsLabels(engine.conceptNames(model).names);
      const labels = labelsIn(rows, language);
      const { pictures, truths } = truthsOf(listed, folderMatcher(labels), directory);
      if (out && !truths.size)
        throw new UsageError(
          `--out draws which classes are taken for which, and ${directory} is not a folder per class: similarity --out draws pictures x texts`,
        );
      const embedder = embedderOf(engine, model, directory);
      const progress = createProgress();
      const texts = labels.map(({ text }) => text);
      const sayings = ownTemplates ?? templates[language] ?? defaultTemplates[language];
      const { directions, notices } = await embedTexts(embedder, texts, sayings, { progress });
      const images: { file: string; label?: string; top: Ranked[] }[] = [];
      const verdicts: Verdict[] = [];
      const skipped: Skipped[] = [];
      for await (const { name, embedding } of embedPictures(embedder, pictures, { progress }, skipInto(skipped))) {
        const ranking = rank(scoresOf(embedding, directions), Math.max(top, 5));
        const truth = truths.get(name);
        verdicts.push({ truth, ranking: ranking.map(({ index }) => index) });
        const best = ranking.slice(0, top).map(({ index, score }) => ({ label: texts[index], score }));
        images.push({ file: name, ...(truth !== undefined && { label: texts[truth] }), top: best });
      }
      progress.end();
      tellNotices(notices);
      requireSome(images, directory, skipped);
      const shares = { accuracy: accuracy(verdicts, 1), accuracyTop5: accuracy(verdicts, 5) };
      const confusion = confusionOf(verdicts, labels);
      if (out && confusion) await writeConfusion(out, `${model} · ${inWords(shares)}`, confusion, language);
      if (values.json !== true) {
        for (const { file, top } of images)
          console.log(`${file}  ${top.map(({ label, score }) => `${label} ${score.toFixed(3)}`).join(', ')}`);
        if (shares.accuracy !== null) console.log(inWords(shares));
      }
      return { model, labels: texts, templates: sayings, images, ...shares, ...(confusion && { confusion }), skipped, notices, ...(out && { out }) }; // prettier-ignore
    } finally {
      await engine.release();
    }
  },
};

function outOf(values: Values): string | undefined {
  const out = stringOf(values, 'out');
  if (out !== undefined && extname(out).toLowerCase() !== '.png')
    throw new UsageError(`--out takes a file that ends in .png, not ${out}`);
  return out;
}

function folderOf(positionals: string[], values: Values): string {
  if (positionals.length) throw new UsageError(`only options are taken, not ${positionals.join(' ')}: --images names the folder`);
  const directory = stringOf(values, 'images');
  if (directory === undefined) throw new UsageError('--images DIR is missing: name a folder of pictures');
  return directory;
}

function languageOf(values: Values): Language {
  const asked = stringOf(values, 'language') ?? 'en';
  const language = languages.find((known) => known === asked);
  if (!language) throw new UsageError(`--language takes ${languages.join(' or ')}, not ${asked}`);
  return language;
}

function templatesOf(values: Values): string[] | undefined {
  const given = listOf(values, 'template');
  if (!given.length) return undefined;
  return given.map((text) => {
    const parsed = template.safeParse(text);
    if (!parsed.success) throw new UsageError(`--template ${JSON.stringify(text)}: ${sentences(parsed.error)}`);
    return parsed.data;
  });
}

/** One text a line. */
function readTexts(file: string | undefined): string[] {
  if (file === undefined) throw new UsageError('--texts FILE is missing: name a text file with one text a line');
  const texts = readLines(file).map(({ line, number }) => {
    const parsed = lineOfText('text').safeParse(line);
    if (!parsed.success) throw new UsageError(`--texts ${file}, line ${number}: ${sentences(parsed.error)}`);
    return parsed.data;
  });
  if (!texts.length) throw new UsageError(`--texts ${file} is empty: write one text a line`);
  return texts;
}

const readLabels = (named: string): LabelFile =>
  bundledLabels().includes(named) ? readBundledLabels(named) : readLabelFile(named);

function picturesOf(directory: string): FolderPicture[] {
  let pictures: FolderPicture[];
  try {
    pictures = listPictures(directory);
  } catch (error) {
    throw new UsageError(`--images ${directory} cannot be listed: ${(error as Error).message}`, { cause: error });
  }
  if (!pictures.length)
    throw new UsageError(
      `there are no pictures in ${directory} nor in its subfolders: name a folder with PNG, JPEG, WebP, TIFF, GIF or AVIF files`,
    );
  return pictures;
}

/**
 * Which pictures are looked at, and the class of those that lie in a folder named after a label. In a folder that holds pictures and no
 * class folders, it is those pictures.
 * @throws UsageError when there are only subfolders and none is named after a label.
 */
function truthsOf(listed: FolderPicture[], labelOf: (folder: string) => number | undefined, directory: string) {
  const folders = [...new Set(listed.flatMap(({ folder }) => (folder === null ? [] : [folder])))];
  const isLoose = listed.some(({ folder }) => folder === null);
  const strangers = folders.filter((folder) => labelOf(folder) === undefined);
  if (strangers.length === folders.length && !isLoose)
    throw new UsageError(
      `no folder in ${directory} is named as a label (${some(folders)}): name them as the labels' "folder" or words, or give the pictures' own folder`,
    );
  if (strangers.length) console.error(`left out, because they are named as no label: ${some(strangers)}`);
  const pictures = listed.filter(({ folder }) => folder === null || labelOf(folder) !== undefined);
  const truths = new Map(pictures.flatMap(({ file, folder }) => (folder === null ? [] : [[file, labelOf(folder)!] as const])));
  return { pictures: pictures.map(({ file }) => file), truths };
}

const some = (names: string[]): string => names.slice(0, 5).join(', ') + (names.length > 5 ? ` and ${names.length - 5} more` : '');

/** The engine's embeddings of texts and of files in a folder. @throws (in `picture`) BadRequest for a file that cannot be read. */
const embedderOf = (engine: Engine, model: string, directory: string): Embedder => ({
  text: (text) => engine.embedText(model, text),
  async picture(file) {
    let bytes: Uint8Array;
    try {
      bytes = readFileSync(join(directory, file));
    } catch (error) {
      throw new BadRequest((error as Error).message, { cause: error });
    }
    return (await engine.embedImage(model, bytes)).embedding;
  },
});

/** One bad file must not cost the others: it is told and left out. */
const skipInto =
  (skipped: Skipped[]) =>
  (file: string, error: unknown): void => {
    if (!(error instanceof BadRequest)) throw error;
    console.error(`skipped ${file}: ${error.message}`);
    skipped.push({ file, why: error.message });
  };

/** A thousand labels can have dozens of them: the first few, the rest is in the JSON. */
function tellNotices(notices: Notice[]): void {
  for (const { message } of notices.slice(0, 5)) console.error(message);
  if (notices.length > 5) console.error(`and ${notices.length - 5} more like it`);
}

function requireSome(images: unknown[], directory: string, skipped: Skipped[]): void {
  if (!images.length) throw new UsageError(`none of the ${skipped.length} pictures in ${directory} can be read`);
}

/** Tells on stderr how far a long run is: on a terminal in one line, elsewhere a line every ten seconds. */
function createProgress() {
  const live = process.stderr.isTTY;
  let told = performance.now();
  const progress = (done: number, of: number, what: 'texts' | 'pictures') => {
    if (performance.now() - told < (live ? 100 : 10_000)) return;
    told = performance.now();
    process.stderr.write(live ? `\r\x1b[K${done}/${of} ${what} ` : `${done}/${of} ${what}\n`);
  };
  progress.end = () => {
    if (live) process.stderr.write('\r\x1b[K');
  };
  return progress;
}

const inWords = ({ accuracy, accuracyTop5 }: { accuracy: number | null; accuracyTop5: number | null }): string =>
  `top-1 ${percent(accuracy)}, top-5 ${percent(accuracyTop5)}`;
const percent = (share: number | null): string => (share === null ? '-' : `${(100 * share).toFixed(1)} %`);

async function writeHeatMap(
  out: string,
  model: string,
  directory: string,
  { images, texts, matrix }: { images: string[]; texts: string[]; matrix: number[][] },
): Promise<void> {
  const [most, mostTexts] = [mostDrawn.pictures, mostDrawn.texts];
  if (images.length > most || texts.length > mostTexts)
    console.error(`${out} shows the first ${most} pictures and ${mostTexts} texts of ${images.length} and ${texts.length}`);
  const drawn = await drawHeatMap({
    title: model,
    rows: images.slice(0, most).map((name) => ({ name, thumbnail: readFileSync(join(directory, name)) })),
    columns: texts.slice(0, mostTexts),
    matrix: matrix.slice(0, most).map((row) => row.slice(0, mostTexts)),
  });
  write(out, drawn);
}

async function writeConfusion(
  out: string,
  title: string,
  { labels, counts }: { labels: string[]; counts: number[][] },
  language: Language,
): Promise<void> {
  const most = mostDrawn.classes;
  if (labels.length > most) console.error(`${out} shows the first ${most} classes of ${labels.length}`);
  const drawn = { labels: labels.slice(0, most), counts: counts.slice(0, most).map((row) => row.slice(0, most)) };
  write(out, await drawConfusion(title, drawn, language));
}

function write(file: string, bytes: Uint8Array): void {
  mkdirSync(dirname(file), { recursive: true });
  writeFileSync(file, bytes);
}
