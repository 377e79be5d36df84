import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { jobRequest, lineOfText, storedJob, usualPull } from '../../server/jobs/job.js';
import { parsePrompts } from '../../server/jobs/prompts.js';

const asked = (text: unknown, fields: object = {}) => jobRequest.safeParse({ text, ...fields });
const issuesOf = (text: unknown, fields: object = {}) =>
  asked(text, fields).error!.issues.map(({ path, message, ...issue }) => ({
    path: path.join('.'),
    message,
    position: issue.code === 'custom' ? (issue.params?.position as unknown) : undefined,
  }));

describe('a text without syntax', () => {
  const character = fc.oneof(
    { weight: 5, arbitrary: fc.constantFrom(...Array.from('ab 12.-猫🏰e\u0301\u3000\u200b，。"\'/')) },
    { weight: 1, arbitrary: fc.string({ unit: 'binary', maxLength: 2 }) },
  );
  const plain = fc.array(character, { maxLength: 600 }).map((characters) => characters.join('').replace(/[\\:|^：｜＾]/g, ''));

  it('gives the job that it gave before there was one, to the byte, or is refused as before', () => {
    const { text: _, ...defaults } = jobRequest.parse({ text: 'nature' });
    fc.assert(
      fc.property(plain, (typed) => {
        const line = lineOfText('text').safeParse(typed);
        const job = asked(typed);
        expect(job.success).toBe(line.success);
        if (line.success)
          expect(JSON.stringify(job.data)).toBe(JSON.stringify({ text: typed.normalize('NFC').trim(), ...defaults }));
      }),
      { numRuns: 500 },
    );
  });

  it('may have colons that are text', () => {
    for (const text of ['Alice: a story', 'meeting at 12:30', '李白：静夜思', 'C:\\pictures'])
      expect(asked(text).data?.text).toBe(text);
  });
});

describe('a line of prompts', () => {
  it('stays as it was typed', () => {
    const line = 'dawn :1:0.5 |mist:.5^ \\^noon｜ lamps：－１';
    expect(asked(`  ${line} `).data?.text).toBe(line);
    expect(asked(asked(line).data!.text).data).toEqual(asked(line).data);
  });

  it('may be longer than a text, each of whose texts may not', () => {
    const long = 'a'.repeat(500);
    expect(asked(`${long} | ${long}:2 ^ ${long}`).success).toBe(true);
    expect(issuesOf(`${long} | ${long}a:2`)).toEqual([
      { path: 'text', message: 'the text must be at most 500 characters: shorten it (at position 503)', position: 503 },
    ]);
    expect(issuesOf(Array.from({ length: 9 }, () => long).join('^'))[0].message).toMatch(/at most 4000 characters: shorten it/);
  });

  it.each([
    ['cat:11', 4, 'the weight 11 is not from -10 to 10'],
    ['  cat:11', 6, 'the weight 11 is not from -10 to 10'],
    ['cat||dog', 4, 'a prompt is empty'],
    ['cat^', 3, 'a prompt is empty'],
    ['cat:-1', 0, 'every weight is negative'],
    ['🏰|ab\u0007c', 2, 'the text has control characters'],
    ['cat|dog:1:inf', 10, 'the stop inf is not finite'],
    ['cat::0.5', 4, 'a stop has no weight'],
  ])('%j is refused at character %i of what was typed: %s', (typed, position, sentence) => {
    const [issue, ...more] = issuesOf(typed);
    expect(more).toEqual([]);
    expect(issue).toMatchObject({ path: 'text', position });
    expect(issue.message).toContain(sentence);
    expect(issue.message).toContain(`(at position ${position})`);
  });

  it('has at most as many sets in series as there are steps', () => {
    expect(asked('a^b^c', { steps: 3 }).success).toBe(true);
    expect(issuesOf('a^b^c', { steps: 2 })).toMatchObject([{ path: 'steps', message: expect.stringMatching(/^3 prompts .* 2 steps: take more/) as string }]); // prettier-ignore
  });

  it('of any characters is a job whose text reads as the same prompts, or is refused', () => {
    const piece = fc.constantFrom(...Array.from('::||^＾\\ -.019猫e\u0301\u0338<'), 'cat', 'inf');
    fc.assert(
      fc.property(fc.array(piece, { maxLength: 20 }), (pieces) => {
        const { data } = asked(pieces.join(''));
        if (data)
          expect(parsePrompts(data.text)).toEqual(
            parsePrompts(pieces.join('')).map((set) => set.map((prompt) => ({ ...prompt, text: prompt.text.normalize('NFC') }))),
          );
      }),
      { numRuns: 2000 },
    );
  });

  it('that an earlier version stored as a plain text can still be listed', () => {
    const { data } = asked('nature');
    for (const text of ['cat||dog', 'cat:99']) expect(storedJob.parse({ ...data, text }).text).toBe(text);
  });
});

describe('neurons', () => {
  const neurons = (...units: unknown[]) => units.map((unit) => ({ unit }));

  it('are named in one way, and pull with the usual weight where none is given', () => {
    const typed = ['LLP-0108', 'LLP/ch-7', 'block7.1/ch-33', ' LLP-5@center', 'features/3/ch-2@0,6'];
    expect(asked('nature', { neurons: neurons(...typed) }).data!.neurons).toEqual(
      ['LLP-108', 'LLP-7', 'block7.1/ch-33', 'LLP-5@centre', 'features/3/ch-2@0,6'].map((unit) => ({ unit, weight: usualPull })),
    );
    expect(asked('nature', { neurons: [{ unit: 'LLP-1', weight: -2.5 }] }).data!.neurons[0].weight).toBe(-2.5);
  });

  it.each(['LLP108', 'LLP-', 'LLP--1', 'block7.1-33', 'LLP-1@', 'LLP-1=2', '../LLP-1', 5, null])('%j is none', (unit) => {
    const [{ path, message }] = issuesOf('nature', { neurons: neurons(unit) });
    expect(path).toBe('neurons.0.unit');
    expect(message).toMatch(/write LLP-108|is written LLP-108/);
  });

  it('are named once, however they are written', () => {
    expect(issuesOf('nature', { neurons: neurons('LLP-1', 'LLP-2', ' LLP-01', 'LLP-1@centre') })).toMatchObject([
      { path: 'neurons.2.unit', message: expect.stringContaining('LLP-1 is named twice') as string },
    ]);
  });

  it('alone are a job without a text', () => {
    for (const text of [undefined, '', ' \u3000 '])
      expect(jobRequest.parse({ text, neurons: neurons('LLP-1') })).toMatchObject({ text: '', neurons: [{ unit: 'LLP-1' }] });
    expect(jobRequest.parse(JSON.parse(JSON.stringify(jobRequest.parse({ neurons: neurons('LLP-1') }))))).toMatchObject({
      text: '',
    });
    for (const [text, word] of [
      [undefined, 'missing'],
      ['', 'empty'],
      [' ', 'empty'],
    ] as const)
      // prettier-ignore
      expect(issuesOf(text)).toMatchObject([{ path: 'text', message: `the text is ${word}: write a concept or a line of a poem` }]);
    expect(storedJob.parse(jobRequest.parse({ neurons: neurons('LLP-1') })).text).toBe('');
  });
});

describe('a direction', () => {
  it('leads from one text to another', () => {
    expect(asked('night', { from: ' day ' }).data).toMatchObject({ text: 'night', from: 'day' });
    expect(issuesOf('day', { from: 'day' })).toMatchObject([{ path: 'from' }]);
    expect(issuesOf('', { from: 'day', neurons: [{ unit: 'LLP-1' }] })).toMatchObject([{ path: 'from' }]);
  });

  it('has a cos power with dot-cos alone', () => {
    expect(asked('night', { cosPower: 2 }).data).toMatchObject({ cosPower: 2 });
    expect(issuesOf('night', { cosPower: 2, objective: 'cos' })).toMatchObject([{ path: 'cosPower' }]);
    for (const cosPower of [-1, 4.1, NaN]) expect(asked('night', { cosPower }).success).toBe(false);
  });
});

describe('copies', () => {
  it('share the views evenly: without a number the next that can', () => {
    for (const [copies, views] of [
      [1, 8],
      [2, 8],
      [3, 9],
      [4, 8],
      [5, 10],
      [9, 9],
    ])
      // prettier-ignore
      expect(asked('a', { copies }).data!.views).toBe(views);
    expect(issuesOf('a', { copies: 3, views: 8 })).toMatchObject([{ path: 'views', message: expect.stringMatching(/3 copies: take 9 views/) as string }]); // prettier-ignore
    expect(issuesOf('a', { copies: 4, views: 8, batch: 2 })).toMatchObject([{ path: 'batch' }]);
    expect(asked('a', { copies: 4, views: 8, batch: 4 }).success).toBe(true);
    for (const copies of [0, 10, 1.5]) expect(asked('a', { copies }).success).toBe(false);
  });

  it('have a diversity only together', () => {
    expect(asked('a', { copies: 2, diversity: 5 }).success).toBe(true);
    expect(issuesOf('a', { diversity: 5 })).toMatchObject([{ path: 'diversity' }]);
  });
});
