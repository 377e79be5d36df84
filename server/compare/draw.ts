import sharp from 'sharp';
import type { Confusion } from './compare.js';
import type { Language } from './labels.js';

/** The darkroom of the page (client/theme.css); the light inks are on the dark half of every ramp, so that numbers stay readable. */
const ink = {
  ground: '#0d0c0b',
  track: '#24211d',
  paper: '#ece6da',
  mist: '#a59d8f',
  vermilion: '#c23d22',
  jade: '#2f6f59',
  onColour: '#fff6ec',
};

/** Whatever has Chinese on Linux, macOS and Windows, then whatever there is. */
const fonts =
  "'Noto Sans CJK SC','Noto Sans SC','Source Han Sans SC','PingFang SC','Hiragino Sans GB','Microsoft YaHei','WenQuanYi Micro Hei','DejaVu Sans',sans-serif";

const margin = 28;
const fontSize = 14;
const lineHeight = 18;
/** Column texts lean: they stay readable, and a column needs no more room than its cell. */
const lean = 40;
const sine = Math.sin((lean * Math.PI) / 180);
const cosineOfLean = Math.cos((lean * Math.PI) / 180);

/** The largest that is drawn; a larger comparison is drawn in part, and its numbers are in the JSON. */
export const mostDrawn = { pictures: 100, texts: 60, classes: 100 } as const;

export interface HeatMap {
  title: string;
  /** `thumbnail` is an image file of any size. */
  rows: { name: string; thumbnail: Buffer }[];
  columns: string[];
  /** [rows, columns] */
  matrix: number[][];
}

/** A matrix of pictures x texts as a PNG: thumbnails down the side, texts along the top, the best text of each picture framed. */
export async function drawHeatMap({ title, rows, columns, matrix }: HeatMap): Promise<Buffer> {
  const cell = 60;
  const thumbnail = 56;
  const all = matrix.flat();
  const [low, high] = [all.reduce((a, b) => Math.min(a, b)), all.reduce((a, b) => Math.max(a, b))];
  const share = (value: number) => (high > low ? (value - low) / (high - low) : 1);
  const names = rows.map(({ name }) => fitted(name, 150));
  const left = margin + Math.max(...names.map(widthOf)) + 12 + thumbnail + 8;
  const lines = columns.map((column) => wrapped(column, 170));
  const { headHeight, overhang } = headOf(lines, cell);
  const top = margin + 30 + headHeight;
  const width = Math.ceil(Math.max(left + columns.length * cell + overhang, margin + widthOf(title)) + margin);
  const height = top + rows.length * cell + 22 + lineHeight + margin;

  const parts = [text(margin, margin + 8, fitted(title, width - 2 * margin), { size: 16 })];
  columns.forEach((_, c) => parts.push(leaning(left + (c + 0.5) * cell, top - 10, lines[c])));
  rows.forEach((_, r) => {
    const y = top + r * cell;
    const best = matrix[r].indexOf(Math.max(...matrix[r]));
    parts.push(text(left - thumbnail - 18, y + cell / 2 + 5, names[r], { fill: ink.mist, anchor: 'end' }));
    matrix[r].forEach((value, c) =>
      parts.push(
        square(left + c * cell, y, cell, mixed(ink.track, ink.vermilion, share(value)), c === best ? ink.paper : undefined),
        text(left + (c + 0.5) * cell, y + cell / 2 + 5, inDigits(value), { fill: ink.onColour, anchor: 'middle' }),
      ),
    );
  });
  parts.push(legend(left, top + rows.length * cell + 22, low, high));

  const tiles = await Promise.all(
    rows.map(async ({ thumbnail: file }, r) => ({
      input: await sharp(file).rotate().resize(thumbnail, thumbnail, { fit: 'cover' }).flatten({ background: '#fff' }).toBuffer(),
      left: Math.round(left - thumbnail - 8),
      top: top + r * cell + (cell - thumbnail) / 2,
    })),
  );
  return sharp(svg(width, height, parts))
    .composite(tiles)
    .png()
    .toBuffer();
}

/**
 * Which classes were taken for which, as a PNG: a row for each true class, a column for each answer; the shade is the share of the row, jade
 * where the answer is right and vermilion where it is not.
 */
export async function drawConfusion(title: string, { labels, counts }: Confusion, language: Language): Promise<Buffer> {
  const cell = labels.length > 40 ? 26 : 36;
  const size = labels.length > 40 ? 10 : 13;
  const names = labels.map((label) => fitted(label, 220));
  const axes = language === 'zh' ? '实为 ↓　认作 →' : 'truth ↓  answer →';
  const left = margin + Math.max(...names.map(widthOf), widthOf(axes)) + 12;
  // A second line would run into the column before.
  const lines = names.map((name) => [name]);
  const { headHeight, overhang } = headOf(lines, cell);
  const top = margin + 30 + headHeight;
  const width = Math.ceil(Math.max(left + labels.length * cell + overhang, margin + widthOf(title) * 1.2) + margin);
  const height = top + labels.length * cell + margin;

  const parts = [
    text(margin, margin + 8, title, { size: 16 }),
    text(left - 12, top - 10, axes, { fill: ink.mist, anchor: 'end', size: 12 }),
  ];
  labels.forEach((_, i) => {
    const y = top + i * cell;
    const total = counts[i].reduce((sum, count) => sum + count, 0);
    parts.push(leaning(left + (i + 0.5) * cell, top - 8, lines[i]));
    parts.push(text(left - 12, y + cell / 2 + 5, names[i], { anchor: 'end', fill: total ? ink.paper : ink.mist }));
    counts[i].forEach((count, c) => {
      const colour = mixed(ink.track, c === i ? ink.jade : ink.vermilion, total ? count / total : 0);
      parts.push(square(left + c * cell, y, cell, colour));
      if (count)
        parts.push(text(left + (c + 0.5) * cell, y + cell / 2 + 4, String(count), { fill: ink.onColour, anchor: 'middle', size }));
    });
  });
  return sharp(svg(width, height, parts))
    .png()
    .toBuffer();
}

/**
 * Pictures in rows of four at most, each with the line of its story under it, as a PNG.
 * @param scenes `picture` is an image file of any size
 */
export async function drawStory(scenes: readonly { picture: Buffer; line: string }[]): Promise<Buffer> {
  const [tile, gap] = [224, 16];
  const columns = Math.min(4, scenes.length);
  const rowHeight = tile + 2 * lineHeight + 10 + gap;
  const at = (i: number) => ({
    left: margin + (i % columns) * (tile + gap),
    top: margin + Math.floor(i / columns) * rowHeight,
  });
  const parts = scenes.flatMap(({ line }, i) => {
    const { left, top } = at(i);
    return wrapped(line, tile).map((words, row) =>
      text(left + tile / 2, top + tile + (row + 1) * lineHeight + 2, words, { anchor: 'middle' }),
    );
  });
  const tiles = await Promise.all(
    scenes.map(async ({ picture }, i) => ({
      input: await sharp(picture).resize(tile, tile, { fit: 'contain', background: ink.ground }).toBuffer(),
      ...at(i),
    })),
  );
  const rows = Math.ceil(scenes.length / columns);
  return sharp(svg(2 * margin + columns * (tile + gap) - gap, 2 * margin + rows * rowHeight - gap, parts))
    .composite(tiles)
    .png()
    .toBuffer();
}

const svg = (width: number, height: number, parts: string[]): Buffer =>
  Buffer.from(
    `<svg xmlns="http://www.w3.org/2000/svg" width="${width}" height="${height}" font-family="${fonts}" font-size="${fontSize}"><rect width="100%" height="100%" fill="${ink.ground}"/>${parts.join('')}</svg>`,
  );

interface Style {
  fill?: string;
  size?: number;
  anchor?: 'start' | 'middle' | 'end';
  turn?: string;
}

const text = (x: number, y: number, words: string, { fill = ink.paper, size = fontSize, anchor = 'start', turn = '' }: Style) =>
  `<text x="${x}" y="${y}" fill="${fill}" font-size="${size}" text-anchor="${anchor}"${turn}>${escaped(words)}</text>`;

const square = (x: number, y: number, side: number, fill: string, frame?: string) =>
  `<rect x="${x + 1}" y="${y + 1}" width="${side - 2}" height="${side - 2}" rx="2" fill="${fill}"/>` +
  (frame ? `<rect x="${x + 2}" y="${y + 2}" width="${side - 4}" height="${side - 4}" rx="2" fill="none" stroke="${frame}" stroke-width="2"/>` : ''); // prettier-ignore

/** Up to two lines that begin over their column and lean to the right. */
const leaning = (x: number, y: number, lines: string[]) =>
  lines
    .map((line, i) => {
      const up = (lines.length - 1 - i) * lineHeight;
      return text(x, y - up, line, { turn: ` transform="rotate(${-lean} ${x} ${y})"` });
    })
    .join('');

/** What leaning texts over columns of `cell` pixels need above the cells and to the right of the last one. */
function headOf(lines: readonly string[][], cell: number): { headHeight: number; overhang: number } {
  const lengths = lines.map((those) => Math.max(...those.map(widthOf)));
  const reach = Math.max(...lengths.map((length, i) => (i + 0.5) * cell + length * cosineOfLean));
  return {
    headHeight: Math.ceil(Math.max(...lengths) * sine + lineHeight + 14),
    overhang: Math.max(0, Math.ceil(reach - lines.length * cell)),
  };
}

function legend(x: number, y: number, low: number, high: number): string {
  const swatches = Array.from({ length: 24 }, (_, i) => `<rect x="${x + 44 + i * 5}" y="${y}" width="5.5" height="10" fill="${mixed(ink.track, ink.vermilion, i / 23)}"/>`).join(''); // prettier-ignore
  const number = (at: number, value: number, anchor: 'start' | 'end') =>
    text(at, y + 10, inDigits(value), { fill: ink.mist, size: 12, anchor });
  return swatches + number(x + 36, low, 'end') + number(x + 44 + 24 * 5 + 8, high, 'start');
}

/** Two digits, and no zero below zero. */
const inDigits = (value: number) => value.toFixed(2).replace(/^-(0\.00)$/, '$1');

/** From one colour to another, `share` in [0, 1]. */
function mixed(from: string, to: string, share: number): string {
  const channel = (colour: string, i: number) => parseInt(colour.slice(1 + 2 * i, 3 + 2 * i), 16);
  const mix = (i: number) => Math.round(channel(from, i) + (channel(to, i) - channel(from, i)) * share);
  return `#${[0, 1, 2].map((i) => mix(i).toString(16).padStart(2, '0')).join('')}`;
}

const escaped = (words: string) =>
  words
    .replace(/[\p{Cc}\p{Cs}]/gu, ' ')
    .replaceAll('&', '&amp;')
    .replaceAll('<', '&lt;')
    .replaceAll('>', '&gt;');

const isWide = (character: string) => /[\p{Script=Han}\u3000-\u30ff\uff00-\uffef\p{Extended_Pictographic}]/u.test(character);

/** About how wide a text is drawn, in pixels: Chinese characters are square, others a little over half of that. */
const widthOf = (words: string): number =>
  [...words].reduce((sum, character) => sum + fontSize * (isWide(character) ? 1 : 0.58), 0);

/** The text, cut with an ellipsis where it is wider than `most` pixels. */
export function fitted(words: string, most: number): string {
  if (widthOf(words) <= most) return words;
  const kept = [...words];
  while (kept.length && widthOf(kept.join('')) > most - fontSize) kept.pop();
  return `${kept.join('').trimEnd()}…`;
}

/** One line where it fits into `most` pixels, else two, broken at a space or between Chinese characters, the second cut where it must be. */
export function wrapped(words: string, most: number): string[] {
  if (widthOf(words) <= most) return [words];
  let first = '';
  for (const piece of words.match(/\s+|\p{Script=Han}\p{P}*|[^\s\p{Script=Han}]+/gu) ?? []) {
    if (widthOf(first + piece) > most) break;
    first += piece;
  }
  if (first.trim() === '') return [fitted(words, most)];
  return [first.trim(), fitted(words.slice(first.length).trim(), most)];
}
