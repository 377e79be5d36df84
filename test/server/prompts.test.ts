import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { formatPrompts, parsePrompts, promptLimits, PromptError, type Prompt } from '../../server/jobs/prompts.js';

const prompt = (text: string, weight = 1, stop: number | null = null): Prompt => ({ text, weight, stop });
const only = (line: string) => {
  const story = parsePrompts(line);
  expect(story.map((set) => set.length)).toEqual([1]);
  return story[0][0];
};
const errorOf = (line: string): PromptError => {
  try {
    parsePrompts(line);
  } catch (error) {
    if (error instanceof PromptError) return error;
    throw error;
  }
  throw new Error(`"${line}" was read`);
};

describe('a line of prompts', () => {
  it('is one text of weight 1 that never stops', () => {
    expect(parsePrompts('  a castle in the sky ')).toEqual([[prompt('a castle in the sky')]]);
  });

  it('has parallel prompts between | and sets in series between ^', () => {
    expect(parsePrompts('dawn | mist:0.5 ^ noon ^ night|stars:2:.25|lamps:-1')).toEqual([
      [prompt('dawn'), prompt('mist', 0.5)],
      [prompt('noon')],
      [prompt('night'), prompt('stars', 2, 0.25), prompt('lamps', -1)],
    ]);
  });

  it.each([
    ['cat:2', 2, null],
    ['cat:+2', 2, null],
    ['cat : 2 : 3 ', 2, 3],
    ['cat:1.:-.5', 1, -0.5],
    ['cat:1e-1:0', 0.1, 0],
    ['cat:1:-0', 1, 0],
    ['cat:1:-inf', 1, null],
    ['cat:-10', -10, null],
  ])('reads the numbers of %j', (line, weight, stop) => {
    expect(parsePrompts(`${line}|dog`)[0][0]).toEqual(prompt('cat', weight, stop));
  });

  it('takes full-width punctuation and numbers by the same rules', () => {
    expect(parsePrompts('山水：2｜云海：０．５：－１＾明月')).toEqual([
      [prompt('山水', 2), prompt('云海', 0.5, -1)],
      [prompt('明月')],
    ]);
    expect(only('李白：静夜思')).toEqual(prompt('李白：静夜思'));
    expect(only('十点见：10：3')).toEqual(prompt('十点见', 10, 3));
  });

  it.each([
    'Alice: a story',
    '12:30 at the station',
    'meeting at 12:30',
    '１２：３０',
    'a picture of 16:9',
    'https://example.com:8080/cat',
    'John 3:16',
    'a list:',
    'cat:two',
    'cat:1:',
    'cat:2 dogs',
    'nothing:NaN',
    'C:\\pictures',
    ':-)',
  ])('keeps the colon of %j in the text', (line) => {
    expect(only(line)).toEqual(prompt(line));
  });

  it('takes a colon after a digit as syntax when no digit follows it at once, or a space parts the two', () => {
    expect(only('meeting at 12:30:2')).toEqual(prompt('meeting at 12:30:2'));
    expect(only('meeting at 12:30 :2')).toEqual(prompt('meeting at 12:30', 2));
    expect(only('route 66:.5')).toEqual(prompt('route 66', 0.5));
    expect(parsePrompts('cat|blade runner 2049:-1')[0][1]).toEqual(prompt('blade runner 2049', -1));
  });

  it('leaves other colons before the numbers to the text', () => {
    expect(only('Alice: a story:2')).toEqual(prompt('Alice: a story', 2));
    expect(only('at 12:30 sharp:2:0.5')).toEqual(prompt('at 12:30 sharp', 2, 0.5));
  });

  it('takes an escaped character as it is', () => {
    expect(only('score\\:3')).toEqual(prompt('score:3'));
    expect(only('比分\\：3')).toEqual(prompt('比分：3'));
    expect(only('x\\^2 \\| y\\^n:0.5')).toEqual(prompt('x^2 | y^n', 0.5));
    expect(parsePrompts('a\\\\|b\\c')).toEqual([[prompt('a\\'), prompt('b\\c')]]);
  });
});

describe('a mistake in a line of prompts', () => {
  it.each([
    ['', 0, 'a prompt is empty'],
    ['   ', 0, 'a prompt is empty'],
    ['|cat', 0, 'a prompt is empty'],
    ['cat||dog', 4, 'a prompt is empty'],
    ['cat| \u200b |dog', 5, 'a prompt is empty'],
    ['cat^', 3, 'a prompt is empty'],
    ['cat| :2', 5, 'a prompt is empty'],
    ['cat:11', 4, 'the weight 11 is not from -10 to 10'],
    ['http://example.com:8080', 19, 'the weight 8080 is not from -10 to 10'],
    ['cat:1e999', 4, 'the weight 1e999 is not finite'],
    ['cat:inf', 4, 'the weight inf is not finite'],
    ['cat|dog: -0.0', 9, 'the weight -0.0 has no effect'],
    ['猫：０', 2, 'the weight 0 has no effect'],
    ['cat::0.5', 4, 'a stop has no weight'],
    ['cat:1:inf', 6, 'the stop inf is not finite'],
    ['cat ^ dog:-1 | bird:-2', 6, 'every weight is negative'],
    ['🏰:1|🌙😀:99', 7, 'the weight 99 is not from -10 to 10'],
  ])('in %j is found at character %i: %s', (line, position, sentence) => {
    const error = errorOf(line);
    expect(error.position).toBe(position);
    expect(error.message.startsWith(`${sentence} (at position ${position}): `)).toBe(true);
    expect(error.message.split('): ')[1]).toMatch(/write|change|remove|give/);
  });

  it('is one prompt more than the limits', () => {
    const { parallel, series } = promptLimits;
    const row = (count: number, separator: string) => Array.from({ length: count }, () => 'a').join(separator);
    expect(parsePrompts(row(parallel, '|'))[0]).toHaveLength(parallel);
    expect(parsePrompts(row(series, '^'))).toHaveLength(series);
    expect(errorOf(row(parallel + 1, '|')).position).toBe(2 * parallel);
    expect(errorOf(row(series + 1, '^')).position).toBe(2 * series);
  });
});

/** Strings thick with what the syntax is made of. */
const piece = fc.oneof(
  { weight: 4, arbitrary: fc.constantFrom(...Array.from('::：||｜^＾\\\\  -.019１０－．ea猫🏰\n'), 'inf', 'cat', '1e999') },
  { weight: 1, arbitrary: fc.string({ unit: 'binary', maxLength: 3 }) },
);
const line = fc.oneof(
  fc.array(piece, { maxLength: 24 }).map((pieces) => pieces.join('')),
  fc.string({ unit: 'binary' }),
);
const visible = (text: string) => !/^[\p{Cf}\p{Z}\s]*$/u.test(text);
const somePrompt = fc.record({
  text: line.map((text) => text.trim()).filter(visible),
  weight: fc.double({ min: -10, max: 10, noNaN: true }).filter((weight) => weight !== 0),
  stop: fc.option(fc.double({ noNaN: true, noDefaultInfinity: true }).map((stop) => stop + 0)),
});
const story = fc.array(
  fc
    .array(
      fc.oneof(
        somePrompt,
        somePrompt.map(({ text }) => prompt(text)),
      ),
      { minLength: 1, maxLength: 8 },
    )
    .filter((set) => set.some(({ weight }) => weight > 0)),
  { minLength: 1, maxLength: 6 },
);

describe('writing prompts', () => {
  it('leaves out what is by default, and escapes only what would be syntax', () => {
    expect(formatPrompts(parsePrompts('Alice: a story:1|at 12:30 :-2^x\\^2:1:0.5'))).toBe(
      'Alice: a story | at 12:30 :-2 ^ x\\^2:1:0.5',
    );
    expect(formatPrompts([[prompt('score:3')]])).toBe('score\\:3');
  });

  it('is undone by reading', () => {
    fc.assert(
      fc.property(story, (prompts) => {
        expect(parsePrompts(formatPrompts(prompts))).toEqual(prompts);
      }),
      { numRuns: 2000 },
    );
  });
});

describe('any string at all', () => {
  it('is read within the limits to prompts that can be written and read again, or is refused at one of its characters', () => {
    fc.assert(
      fc.property(line, (typed) => {
        let prompts: Prompt[][];
        try {
          prompts = parsePrompts(typed);
        } catch (error) {
          if (!(error instanceof PromptError)) throw error;
          expect(Number.isInteger(error.position)).toBe(true);
          expect(error.position).toBeGreaterThanOrEqual(0);
          expect(error.position).toBeLessThan(Math.max([...typed].length, 1));
          return;
        }
        for (const { weight, stop } of prompts.flat()) {
          expect(Math.abs(weight)).toBeLessThanOrEqual(promptLimits.weight);
          expect(stop === null || Number.isFinite(stop)).toBe(true);
        }
        expect(parsePrompts(formatPrompts(prompts))).toEqual(prompts);
      }),
      { numRuns: 5000 },
    );
  });

  it('is read in time that grows with its length', () => {
    for (const part of [':', ': ', ':1', '1', ' ', '\\', ':1 ', ':-1:', '|', '^', '：１．'])
      for (const end of ['', 'x']) {
        const started = performance.now();
        try {
          parsePrompts(part.repeat(100_000) + end);
        } catch (error) {
          expect(error).toBeInstanceOf(PromptError);
        }
        expect(performance.now() - started).toBeLessThan(1000);
      }
  });
});
