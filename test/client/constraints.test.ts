import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { completionsOf, readConstraint, typedAs, usualWeight, withConstraint } from '../../client/lib/constraints.js';
import { ratioOf, titleOf } from '../../client/lib/jobs.js';
import { sheetOf } from '../../server/imagination/copies.js';
import { jobRequest } from '../../server/jobs/job.js';

const layers = [
  { name: 'stem', channels: 32 },
  { name: 'block7.1', channels: 320 },
  { name: 'LLP', channels: 1280 },
];

describe('a neuron in the field beside the line', () => {
  test.each([
    ['LLP-108', { unit: 'LLP-108' }],
    [' llp-108=2 ', { unit: 'LLP-108', weight: 2 }],
    ['108', { unit: 'LLP-108' }],
    ['llp108=−0.5', { unit: 'LLP-108', weight: -0.5 }],
    ['block7.1/ch-33@centre＝.2', { unit: 'block7.1/ch-33@centre', weight: 0.2 }],
    ['108@1,6', { unit: 'LLP-108@1,6' }],
  ])('%j is read', (typed, constraint) => {
    expect(readConstraint(typed, layers)).toEqual(constraint);
    // What is read, the server takes.
    expect(jobRequest.parse({ neurons: [constraint] }).neurons[0]).toMatchObject(constraint);
  });

  test.each([
    ['LLP-', 'form'],
    ['nature', 'form'],
    ['', 'form'],
    ['block9.1/ch-0', 'layer'],
    ['LLP-1280', 'channel'],
    ['stem/ch-32', 'channel'],
    ['LLP-1=', 'weight'],
    ['LLP-1=x', 'weight'],
    ['LLP-1=101', 'weight'],
    ['LLP-1=NaN', 'weight'],
    ['LLP-1=1=2', 'weight'],
  ])('%j is refused: %s', (typed, kind) => {
    expect(readConstraint(typed, layers)).toMatchObject({ kind });
  });

  test('tells what there is', () => {
    expect(readConstraint('block9.1/ch-0', layers)).toEqual({
      kind: 'layer',
      layer: 'block9.1',
      layers: ['stem', 'block7.1', 'LLP'],
    });
    expect(readConstraint('stem/ch-99', layers)).toEqual({ kind: 'channel', first: 'stem/ch-0', last: 'stem/ch-31' });
    // Before the models are known nothing is missed.
    expect(readConstraint('block9.1/ch-0', [])).toEqual({ unit: 'block9.1/ch-0' });
  });

  test('of any characters is one that the server takes, or a fault', () => {
    const piece = fc.constantFrom('LLP', '-', '/ch-', '@', ',', '=', '0', '1', '12', '.', 'centre', ' ', 'x', '−', 'e', 'Infinity');
    fc.assert(
      fc.property(fc.array(piece, { maxLength: 8 }), (pieces) => {
        const read = readConstraint(pieces.join(''), []);
        if ('kind' in read) return;
        expect(jobRequest.parse({ neurons: [read] }).neurons[0]).toMatchObject(read);
        expect(readConstraint(typedAs(read), [])).toEqual(read);
      }),
      { numRuns: 3000 },
    );
  });

  test('is completed: a number to an LLP neuron, a beginning to the layers', () => {
    expect(completionsOf('108', layers)).toEqual(['LLP-108']);
    expect(completionsOf('9999', layers)).toEqual([]);
    expect(completionsOf('b', layers)).toEqual(['block7.1/ch-']);
    expect(completionsOf('', layers)).toEqual(['stem/ch-', 'block7.1/ch-', 'LLP-']);
  });

  test('named again takes the new weight in its old place', () => {
    const two = [{ unit: 'LLP-1' }, { unit: 'LLP-2', weight: 1 }];
    expect(withConstraint(two, { unit: 'LLP-1', weight: 3 })).toEqual([{ unit: 'LLP-1', weight: 3 }, two[1]]);
    expect(withConstraint(two, { unit: 'LLP-3' })).toEqual([...two, { unit: 'LLP-3' }]);
  });
});

describe('a job', () => {
  const job = (fields: object) => jobRequest.parse(fields);
  test('gives a neuron the usual weight', () => {
    expect(job({ neurons: [{ unit: 'LLP-1' }] }).neurons[0].weight).toBe(usualWeight);
  });

  test('is called by its text, the way it leads, or its neurons', () => {
    expect(titleOf(job({ text: 'nature', neurons: [{ unit: 'LLP-1' }] }))).toBe('nature');
    expect(titleOf(job({ text: 'night', from: 'day' }))).toBe('day → night');
    expect(titleOf(job({ neurons: [{ unit: 'LLP-1' }, { unit: 'stem/ch-2@centre' }] }))).toBe('LLP-1 + stem/ch-2@centre');
  });

  test('has the shape of its sheet', () => {
    for (let copies = 1; copies <= 9; copies++) {
      const asked = job({ text: 'a', copies, size: '320x224' });
      const { width, height } = sheetOf(asked);
      expect(ratioOf(asked)).toBeCloseTo(width / height, 10);
    }
  });
});
