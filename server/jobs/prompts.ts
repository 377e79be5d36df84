/**
 * One text of a story. `weight` multiplies its objective. A view whose spherical distance to the text, with the sign of the weight, is at
 * most `stop` gets no gradient of it (null: every view does).
 */
export interface Prompt {
  text: string;
  weight: number;
  stop: number | null;
}

/** Bounds of one line of prompts: prompts in parallel, sets in series, and the size of a weight (as in a job's weighted texts). */
export const promptLimits = { parallel: 8, series: 32, weight: 10 } as const;

/** A line that cannot be read. `position` is the character to look at: Unicode code points of the line as it was typed, from 0. */
export class PromptError extends Error {
  override name = 'PromptError';
  constructor(
    message: string,
    readonly position: number,
  ) {
    super(message);
  }
}

const number = String.raw`[+-]?(?:(?:\d+(?:\.\d*)?|\.\d+)(?:e[+-]?\d+)?|inf)`;

/** The fields at the end of a prompt, from the first colon that does not stand between two digits. `orphan` is a stop without a weight. */
const fields = new RegExp(
  String.raw`(?!(?<=\p{Nd}):\p{Nd}):\s*(?:(?<weight>${number})(?:\s*:\s*(?<stop>${number}))?|(?<orphan>:\s*${number}))\s*$`,
  'diu',
);

/**
 * The line as its syntax alone, index for index: full-width `：｜＾`, digits, signs and point become ASCII, and an escaped character
 * becomes letters. What separates is looked for here; what is text is cut from the line itself.
 */
function syntaxOf(line: string): string {
  return line
    .replace(/\\[\\:|^：｜＾]/g, 'xx')
    .replace(/[：｜＾０-９＋－．]/g, (wide) => String.fromCharCode(wide.charCodeAt(0) - 0xfee0));
}

/**
 * Reads the prompt syntax of VQGAN+CLIP, `text:weight:stop`, with `|` between parallel prompts and `^` between prompts in series.
 *
 * - A colon is syntax only where one or two numbers, and nothing else, follow it to the end of the prompt; any other colon is text
 *   (`Alice: a story`). A colon between two digits is text too (`meeting at 12:30`, `16:9`); a space parts the two: `route 66 :2`.
 * - `weight` is from -10 to 10 and not 0, by default 1. `stop` is finite, or `-inf`, which is the default and reads as null.
 * - `：｜＾` and full-width numbers are read as the ASCII ones, by the same rules.
 * - `\:`, `\|`, `\^` (or full-width) and `\\` are the character itself; any other backslash is text. Spaces around a text fall away.
 *
 * @param judge says what is wrong with a text; undefined, which it is when left out, where nothing is
 * @returns sets in series (1 to 32), each of parallel prompts (1 to 8) of which at least one has a positive weight. The texts are not empty.
 * @throws PromptError, and nothing else.
 */
export function parsePrompts(line: string, judge: Judge = () => undefined): Prompt[][] {
  const syntax = syntaxOf(line);
  const story: Prompt[][] = [];
  let start = 0;
  for (const set of syntax.split('^')) {
    if (story.length === promptLimits.series)
      throw mistake(
        line,
        start,
        `there are more than ${promptLimits.series} prompts in series`,
        'remove some, or write \\^ for a ^ in a text',
      );
    const prompts: Prompt[] = [];
    let at = start;
    for (const prompt of set.split('|')) {
      if (prompts.length === promptLimits.parallel)
        throw mistake(
          line,
          at,
          `there are more than ${promptLimits.parallel} parallel prompts`,
          'remove some, or write \\| for a | in a text',
        );
      prompts.push(parsePrompt(line, prompt, at, judge));
      at += prompt.length + 1;
    }
    if (prompts.every(({ weight }) => weight < 0))
      throw mistake(
        line,
        start,
        'every weight is negative',
        'give at least one of these prompts a positive weight, to say what to imagine',
      );
    story.push(prompts);
    start += set.length + 1;
  }
  return story;
}

/** What a set is about: its first prompt with a positive weight. */
export const mainOf = (set: readonly Prompt[]): Prompt => set.find(({ weight }) => weight > 0)!;

type Judge = (text: string) => string | undefined;

/** Reads the prompt whose syntax is `syntax` and which begins at index `start` of the line. */
function parsePrompt(line: string, syntax: string, start: number, judge: Judge): Prompt {
  const found = fields.exec(syntax);
  const typed = line.slice(start, start + (found?.index ?? syntax.length));
  const text = typed.replace(/\\([\\:|^：｜＾])/g, '$1').trim();
  if (/^[\p{Cf}\p{Z}\s]*$/u.test(text))
    throw mistake(
      line,
      start,
      'a prompt is empty',
      'write a text there, or remove the separator, or write \\:, \\| or \\^ for the character itself',
    );
  const fault = judge(text);
  if (fault !== undefined) {
    const position = positionOf(line, start);
    throw new PromptError(`${fault} (at position ${position})`, position);
  }
  if (!found) return { text, weight: 1, stop: null };

  const at = (field: string) => start + found.indices!.groups![field][0];
  const { weight: weightTyped, stop: stopTyped, orphan } = found.groups!;
  if (orphan)
    throw mistake(
      line,
      at('orphan'),
      'a stop has no weight',
      'write text:weight:stop, for example text:1:0.5, or \\: for a colon in the text',
    );

  const weight = numberOf(weightTyped);
  const refuseWeight = (why: string) =>
    mistake(line, at('weight'), `the weight ${weightTyped} ${why}`, 'change it, or write \\: for a colon in the text');
  if (!Number.isFinite(weight)) throw refuseWeight('is not finite');
  if (Math.abs(weight) > promptLimits.weight) throw refuseWeight(`is not from -${promptLimits.weight} to ${promptLimits.weight}`);
  if (weight === 0) throw refuseWeight('has no effect');

  const stop = numberOf(stopTyped ?? '-inf');
  if (stop === Infinity)
    throw mistake(line, at('stop'), `the stop ${stopTyped} is not finite`, 'write a number, or leave it out to never stop');
  return { text, weight, stop: stop === -Infinity ? null : stop };
}

/** Adding 0 makes -0 the 0 that it is written as. */
const numberOf = (typed: string) => Number(typed.replace(/inf/i, 'Infinity')) + 0;

/** The first character from an index on that is no space, in code points. */
function positionOf(line: string, index: number): number {
  const spaces = line.slice(index).search(/\S/);
  return [...line.slice(0, Math.min(index + Math.max(spaces, 0), Math.max(line.length - 1, 0)))].length;
}

function mistake(line: string, index: number, what: string, wayOut: string): PromptError {
  const position = positionOf(line, index);
  return new PromptError(`${what} (at position ${position}): ${wayOut}`, position);
}

/** Writes prompts as the line that `parsePrompts` reads as the same prompts. The texts are trimmed and not empty. */
export function formatPrompts(prompts: Prompt[][]): string {
  return prompts.map((set) => set.map(formatPrompt).join(' | ')).join(' ^ ');
}

function formatPrompt({ text, weight, stop }: Prompt): string {
  const typed = text.replace(/[\\|^｜＾]/g, '\\$&');
  const numbers = stop !== null ? `:${weight}:${stop}` : weight !== 1 ? `:${weight}` : '';
  const end = numbers && /\p{Nd}$/u.test(text) ? ` ${numbers}` : numbers;
  const found = fields.exec(syntaxOf(typed + end));
  const takesText = found !== null && found.index < typed.length;
  return (takesText ? typed.replace(/[:：]/g, '\\$&') : typed) + end;
}
