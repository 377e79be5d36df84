import { readdirSync, readFileSync, statSync } from 'node:fs';
import path from 'node:path';
import { z } from 'zod';
import type { ConceptEntry } from '../../models/brivl/model.js';
import { BadRequest } from '../compute/protocol.js';
import { lineOfText } from '../jobs/job.js';
import { repositoryRoot } from '../root.js';
import { template } from './templates.js';

export const languages = ['en', 'zh'] as const;
export type Language = (typeof languages)[number];

/** One class as a label file has it: the name of its folder in a set of pictures, and its words in one or both languages. */
export const labelRow = z
  .strictObject({
    folder: lineOfText('folder').optional(),
    en: lineOfText('English label').optional(),
    zh: lineOfText('Chinese label').optional(),
  })
  .refine(({ en, zh }) => en !== undefined || zh !== undefined, 'the label has no words: give it "en", "zh" or both');

export type LabelRow = z.output<typeof labelRow>;

const inBoth = <T extends z.ZodType>(value: T) => z.strictObject({ en: value, zh: value });

/** Templates that pictures of a set are described with. A list that is left out takes the templates of any picture. */
const setTemplates = z.strictObject({
  en: z.array(template).min(1).max(8).optional(),
  zh: z.array(template).min(1).max(8).optional(),
});

const labelFile = z.strictObject({
  title: inBoth(z.string().max(200)).optional(),
  templates: setTemplates.default({}),
  labels: z.array(labelRow).min(1, 'there are no labels').max(10_000, 'there can be at most 10000 labels'),
});

export type LabelFile = z.output<typeof labelFile>;

/** A class to tell apart. */
export interface Label {
  /** What is embedded, and what is told. */
  text: string;
  /** Names of the folder that holds its pictures, the set's own name first. */
  folders: string[];
  /** What else its folder may be called: its words in either language. */
  words: string[];
}

/** Labels that cannot be used, for the person who gave them: which file, where in it, and what does not fit. */
export class UnfitLabels extends BadRequest {}

const folder = path.join(repositoryRoot, 'recipes/labels');

/** The label set that is made of a model's own visual concepts; its folders are WordNet's ids, as ImageNet's are. */
export const conceptLabels = 'concepts';

/** A model's visual concepts as labels. */
export const conceptsAsLabels = (names: readonly ConceptEntry[]): LabelFile => ({
  title: { en: `${names.length} visual concepts`, zh: `${names.length} 个视觉概念` },
  templates: {},
  labels: names.map(({ wnid, word, zh }) => ({ folder: wnid, en: word, ...(zh !== null && { zh }) })),
});

/** Names of the label files that come with Reverie, sorted. */
export const bundledLabels = (): string[] =>
  readdirSync(folder)
    .filter((file) => file.endsWith('.json'))
    .map((file) => file.slice(0, -'.json'.length))
    .sort();

/** A bundled set by its name. */
export const readBundledLabels = (name: string): LabelFile => readLabelFile(path.join(folder, `${name}.json`));

const largestFile = 4 * 1024 * 1024;

/**
 * The lines of a text file that a person named, at most 4 MiB of UTF-8: trimmed of its byte order mark, without empty lines, each with its
 * number.
 * @throws UnfitLabels with the file and why it cannot be read.
 */
export function readLines(file: string): { line: string; number: number }[] {
  return readText(file)
    .split(/\r\n?|\n/)
    .map((line, i) => ({ line, number: i + 1 }))
    .filter(({ line }) => line.trim() !== '');
}

function readText(file: string): string {
  try {
    const { size } = statSync(file);
    if (size > largestFile) throw new Error(`it has ${size} bytes, at most ${largestFile} are read`);
    return new TextDecoder('utf-8', { fatal: true }).decode(readFileSync(file));
  } catch (error) {
    throw new UnfitLabels(
      `${file} cannot be read: ${error instanceof TypeError ? 'it is not text in UTF-8' : (error as Error).message}`,
      { cause: error },
    );
  }
}

/**
 * Reads labels: JSON (a list of rows or of texts, or `{title, templates, labels}`) when the name ends in `.json`, else a text file with
 * one label a line, `text` or `folder<TAB>text`.
 * @throws UnfitLabels that names the file, the place and what does not fit.
 */
export function readLabelFile(file: string): LabelFile {
  return path.extname(file).toLowerCase() === '.json' ? parseLabelJson(readText(file), file) : labelsOfLines(file);
}

function parseLabelJson(text: string, file: string): LabelFile {
  let content: unknown;
  try {
    content = JSON.parse(text);
  } catch (error) {
    throw new UnfitLabels(`the labels ${file} are not JSON: ${(error as Error).message}`, { cause: error });
  }
  const parsed = labelFile.safeParse(Array.isArray(content) ? { labels: content.map(rowOf) } : content);
  if (!parsed.success) {
    const [first, ...others] = parsed.error.issues.map(
      ({ path, message }) => `${path.map(String).join('.') || 'the file'}: ${message}`,
    );
    throw new UnfitLabels(`the labels ${file} do not fit: ${first}${others.length ? `; and ${others.length} more like it` : ''}`);
  }
  return parsed.data;
}

/** A text alone is a label in whatever language it is asked for. */
const rowOf = (row: unknown): unknown => (typeof row === 'string' ? { en: row, zh: row } : row);

function labelsOfLines(file: string): LabelFile {
  const labels = readLines(file).map(({ line, number }) => {
    const parts = line.split('\t').map((part) => part.trim());
    if (parts.length > 2)
      throw new UnfitLabels(`${file}, line ${number} has ${parts.length - 1} tabs: write "text" or "folder<TAB>text"`);
    const [text, name] = parts.reverse();
    const parsed = labelRow.safeParse({ en: text, zh: text, ...(name ? { folder: name } : {}) });
    if (!parsed.success) throw new UnfitLabels(`${file}, line ${number}: ${parsed.error.issues[0].message}`);
    return parsed.data;
  });
  if (!labels.length) throw new UnfitLabels(`there are no labels in ${file}: write one a line`);
  return { templates: {}, labels };
}

/**
 * The classes of rows in one language, in their order. Rows with the same text are one class.
 * @throws UnfitLabels that names a row without words in that language.
 */
export function labelsIn(rows: readonly LabelRow[], language: Language): Label[] {
  const labels = new Map<string, Label>();
  for (const [i, row] of rows.entries()) {
    const text = row[language];
    if (text === undefined) {
      const other = language === 'en' ? 'zh' : 'en';
      throw new UnfitLabels(
        `label ${i + 1} (${row.folder ?? row[other] ?? ''}) has no words in "${language}": add them, or choose the language ${other}`,
      );
    }
    const label = labels.get(text) ?? { text, folders: [], words: [] };
    if (row.folder !== undefined) label.folders.push(row.folder);
    label.words.push(...[row.en, row.zh].filter((word) => word !== undefined));
    labels.set(text, label);
  }
  return [...labels.values()];
}

/** Chinese names come decomposed from some file systems; nobody means another class by a capital letter. */
const plain = (name: string) => name.normalize('NFC').trim().toLowerCase();

/**
 * Finds the label that a folder is named after: by the set's folder name, else by its words in either language. Words that two labels share
 * name neither.
 * @returns the label's index, or undefined
 * @throws UnfitLabels when two labels have the same folder.
 */
export function folderMatcher(labels: readonly Label[]): (name: string) => number | undefined {
  const folders = new Map<string, number>();
  const words = new Map<string, number | 'several'>();
  for (const [i, label] of labels.entries()) {
    for (const name of label.folders) {
      const before = folders.get(plain(name));
      if (before !== undefined && before !== i)
        throw new UnfitLabels(`the labels ${labels[before].text} and ${label.text} both have the folder ${name}: rename one`);
      folders.set(plain(name), i);
    }
    for (const name of [label.text, ...label.words]) {
      const before = words.get(plain(name));
      words.set(plain(name), before === undefined || before === i ? i : 'several');
    }
  }
  return (name) => {
    const found = folders.get(plain(name)) ?? words.get(plain(name));
    return found === 'several' ? undefined : found;
  };
}
