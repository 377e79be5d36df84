import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { bins, Histograms, perBin, quantileOf, shareBelow, type Histogram } from '../../server/neurons/histogram.js';
import { Ranking, Slots, unpacked } from '../../server/neurons/slots.js';

const filled = (values: readonly number[]) => {
  const slots = new Slots(1, bins * perBin, 0);
  const histograms = new Histograms(1, slots, 0);
  values.forEach((value, image) => histograms.add(0, { image, value, place: 0, map: null }));
  const images = histograms.remembered(0).map((slot) => slots.imageOf(0, slot));
  return { histogram: histograms.of(0), images: images.sort((a, b) => a - b) };
};

/** By its definition: the smallest width that holds everything, tried from the smallest on; the first pictures of each bin. */
function twin(values: readonly number[]): { histogram: Histogram | null; images: number[] } {
  if (values.length === 0) return { histogram: null, images: [] };
  for (let width = 2 ** -24; ; width *= 2) {
    const places = values.map((value) => Math.floor(value / width));
    const [low, high] = [Math.min(...places), Math.max(...places)];
    if (high - low >= bins) continue;
    const counts = Array.from({ length: high - low + 1 }, (_, i) => places.filter((place) => place === low + i).length);
    const first = new Map<number, number>();
    const images = places.flatMap((place, image) => {
      const seen = first.get(place) ?? 0;
      first.set(place, seen + 1);
      return seen < perBin ? [image] : [];
    });
    return { histogram: { low: low * width + 0, high: (high + 1) * width + 0, counts }, images };
  }
}

const float = fc.float({ noNaN: true, noDefaultInfinity: true });
const usual = fc.float({ min: -8, max: 8, noNaN: true });

describe('histograms', () => {
  it('are what their definition says, for any values in any order', () => {
    fc.assert(
      fc.property(fc.array(fc.oneof(usual, float, fc.constantFrom(0, -0, 6)), { maxLength: 120 }), (values) => {
        expect(filled(values)).toEqual(twin(values));
      }),
    );
  });

  it('do not depend on the order of values', () => {
    fc.assert(
      fc.property(fc.array(usual, { minLength: 1, maxLength: 60 }), (values) => {
        expect(filled([...values].sort((a, b) => a - b)).histogram).toEqual(filled(values).histogram);
      }),
    );
  });

  it('tell quantiles to a bin, and shares that come back to them', () => {
    fc.assert(
      fc.property(fc.array(usual, { minLength: 1, maxLength: 60 }), fc.double({ min: 0, max: 1, noNaN: true }), (values, share) => {
        const histogram = filled(values).histogram!;
        const width = (histogram.high - histogram.low) / histogram.counts.length;
        const sorted = [...values].sort((a, b) => a - b);
        const exact = sorted[Math.max(0, Math.ceil(share * sorted.length - 1e-9) - 1)];
        expect(Math.abs(quantileOf(histogram, share) - exact)).toBeLessThanOrEqual(width * (1 + 1e-9));
        expect(shareBelow(histogram, quantileOf(histogram, share))).toBeCloseTo(share, 9);
      }),
    );
    const even = { low: 0, high: 4, counts: [1, 0, 0, 1] };
    expect([-1, 0, 0.5, 2, 3.5, 9].map((value) => shareBelow(even, value))).toEqual([0, 0, 0.25, 0.5, 0.75, 1]);
  });
});

describe('rankings', () => {
  it.each([1, -1] as const)('keep the best, of equal ones the first (%d)', (sign) => {
    fc.assert(
      fc.property(fc.array(fc.integer({ min: -5, max: 5 }), { maxLength: 40 }), (values) => {
        const slots = new Slots(2, 6, 0);
        const ranking = new Ranking(2, slots, 2, 4, sign);
        values.forEach((value, image) => ranking.add(1, { image, value, place: 0, map: null }));
        const best = values
          .map((value, image) => ({ value, image }))
          .sort((a, b) => sign * (b.value - a.value) || a.image - b.image)
          .slice(0, 4);
        expect(ranking.of(1).map((slot) => slots.imageOf(1, slot))).toEqual(best.map(({ image }) => image));
        expect(ranking.of(0)).toEqual([]);
      }),
    );
  });
});

describe('maps in slots', () => {
  it('come back to 1/255 of their range', () => {
    fc.assert(
      fc.property(fc.array(usual, { minLength: 9, maxLength: 9 }), (values) => {
        const slots = new Slots(1, 1, 9);
        const map = Float32Array.from(values);
        slots.write(0, 0, { image: 3, value: 1, place: 4, map });
        const { image, activation, place, map: kept } = slots.read(0, 0);
        expect([image, activation, place]).toEqual([3, 1, 4]);
        const tolerance = (Math.max(...map) - Math.min(...map)) / 510 + 6e-4;
        unpacked(kept!).forEach((value, i) => expect(Math.abs(value - map[i])).toBeLessThanOrEqual(tolerance));
      }),
    );
  });
});
