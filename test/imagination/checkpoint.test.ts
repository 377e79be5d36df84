import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { decodeCheckpoint, encodeCheckpoint, type Extra, type RunState } from '../../server/imagination/checkpoint.js';

const float = fc.float({ noNaN: true });
const points = fc.array(
  fc.record(
    {
      step: fc.nat(2000),
      cos: fc.double({ min: -1, max: 1, noNaN: true }).map((v) => v + 0),
      secondOpinion: fc.double({ min: -1, max: 1, noNaN: true }).map((v) => v + 0),
    },
    { requiredKeys: ['step', 'cos'] },
  ),
  { maxLength: 5 },
);

const states: fc.Arbitrary<RunState> = fc.tuple(fc.nat(20), fc.nat(2)).chain(([length, slots]) => {
  const floats = fc.array(float, { minLength: length, maxLength: length }).map((v) => Float32Array.from(v));
  const always = {
    step: fc.nat(2000),
    random: fc.oneof(fc.array(fc.nat(0xffffffff), { minLength: 4, maxLength: 4 }), fc.constant<number[]>([1, 2, 3, 4, -0.7134523])),
    curve: points,
    seconds: fc.double({ min: 0, max: 1e6, noNaN: true }),
    parameters: floats,
    slots: fc.array(floats, { minLength: slots, maxLength: slots }),
  };
  return fc.record({ ...always, sum: floats, start: floats }, { requiredKeys: Object.keys(always) as (keyof typeof always)[] });
});

const extrasOf = ({ sum, start }: RunState): Extra[] => [
  ...(sum ? (['sum'] as const) : []),
  ...(start ? (['start'] as const) : []),
];
const withoutFloats = (state: RunState) => ({ ...state, parameters: [], slots: [], sum: [], start: [] });

describe('checkpoints', () => {
  it('come back as they were, also from the middle of a larger buffer', () => {
    fc.assert(
      fc.property(states, fc.nat(7), (state, offset) => {
        const bytes = encodeCheckpoint(state);
        const larger = new Uint8Array(bytes.length + offset + 3).fill(0xaa);
        larger.set(bytes, offset);
        const middle = larger.subarray(offset, offset + bytes.length);
        const back = decodeCheckpoint(middle, state.parameters.length, state.slots.length, extrasOf(state));
        expect(withoutFloats(back)).toEqual(withoutFloats(state));
        expect(back.parameters).toEqual(state.parameters);
        expect(back.slots).toEqual(state.slots);
        expect([back.sum, back.start]).toEqual([state.sum, state.start]);
      }),
    );
  });

  it('hold copies: a run that goes on does not change them', () => {
    const state: RunState = { step: 1, random: [1, 2, 3, 4], curve: [], seconds: 0, parameters: Float32Array.of(1, 2), slots: [] };
    const bytes = encodeCheckpoint(state);
    state.parameters[0] = 9;
    const back = decodeCheckpoint(bytes, 2, 0);
    expect(back.parameters[0]).toBe(1);
    back.parameters[0] = 5;
    expect(decodeCheckpoint(bytes, 2, 0).parameters[0]).toBe(1);
  });

  it('of another size or another optimizer are refused with a sentence', () => {
    const state = {
      step: 1,
      random: [1, 2, 3, 4],
      curve: [],
      seconds: 0,
      parameters: new Float32Array(6),
      slots: [new Float32Array(6)],
    };
    const bytes = encodeCheckpoint(state);
    for (const [length, slots] of [
      [5, 1],
      [7, 1],
      [6, 2],
      [6, 0],
      [3, 3],
    ])
      expect(() => decodeCheckpoint(bytes, length, slots)).toThrow('belongs to a picture of another size or another optimizer');
    // A slot is no sum, and a sum is no slot.
    expect(() => decodeCheckpoint(bytes, 6, 0, ['sum'])).toThrow('start the job anew');
    const averaged = encodeCheckpoint({ ...state, sum: new Float32Array(6) });
    for (const [slots, extras] of [
      [2, []],
      [1, ['start']],
      [1, ['sum', 'start']],
    ] as const)
      expect(() => decodeCheckpoint(averaged, 6, slots, extras)).toThrow('start the job anew');
    expect(decodeCheckpoint(averaged, 6, 1, ['sum']).start).toBeUndefined();
  });

  it('that were changed, cut or made up are refused', () => {
    const damage = fc.oneof(
      fc.record({ kind: fc.constant('change' as const), at: fc.nat(), by: fc.integer({ min: 1, max: 255 }) }),
      fc.record({ kind: fc.constant('cut' as const), at: fc.nat(), by: fc.nat() }),
      fc.record({ kind: fc.constant('grow' as const), at: fc.nat(), by: fc.integer({ min: 1, max: 40 }) }),
      fc.record({ kind: fc.constant('other' as const), at: fc.nat(80), by: fc.nat(255) }),
    );
    fc.assert(
      fc.property(states, damage, (state, { kind, at, by }) => {
        const bytes = encodeCheckpoint(state);
        const place = at % bytes.length;
        let broken = bytes.slice();
        if (kind === 'change') broken[place] ^= by;
        else if (kind === 'cut') broken = bytes.slice(0, place);
        else if (kind === 'grow') broken = Uint8Array.from([...bytes, ...new Uint8Array(by)]);
        else broken = new Uint8Array(at).fill(by);
        expect(() => decodeCheckpoint(broken, state.parameters.length, state.slots.length)).toThrow(/start the job anew$/);
      }),
      { numRuns: 400 },
    );
  });
});
