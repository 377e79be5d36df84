import { describe, expect, it } from 'vitest';
import { Random } from '../../server/imagination/random.js';
import { CoMoments, Moments, SelfMoments } from '../../server/neurons/moments.js';

const [pictures, channels, embed] = [40, 5, 3];
const random = new Random(4);
// Far from 0, where sums of squares would lose what is small beside them; the last channel never changes.
const readings = Array.from({ length: pictures }, () =>
  Float32Array.from({ length: channels }, (_, c) => (c === channels - 1 ? 2.5 : 1000 + random.normal())),
);
const embeddings = Array.from({ length: pictures }, (_, i) =>
  Float32Array.from({ length: embed }, (_, k) => random.normal() + readings[i][k] - 1000),
);

const mean = (values: readonly number[]) => values.reduce((a, b) => a + b, 0) / values.length;
const column = (rows: readonly Float32Array[], c: number) => rows.map((row) => row[c]);
/** Two passes in float64. */
function covariance(a: readonly number[], b: readonly number[]): number {
  const [ma, mb] = [mean(a), mean(b)];
  return mean(a.map((v, i) => (v - ma) * (b[i] - mb)));
}

describe('moments', () => {
  const moments = new Moments(channels);
  const embedded = new Moments(embed);
  const pairs = new SelfMoments(channels);
  const pulls = new CoMoments(channels, embed);
  const [before, after, other, towards] = [channels, channels, embed, embed].map((n) => new Float64Array(n));
  readings.forEach((values, i) => {
    embedded.add(embeddings[i], other, towards);
    moments.add(values, before, after);
    pairs.add(before, after);
    pulls.add(before, towards);
  });

  it('are the mean, the deviation and the greatest value', () => {
    for (let c = 0; c < channels; c++) {
      const values = column(readings, c);
      expect(moments.means[c]).toBeCloseTo(mean(values), 9);
      expect(moments.deviation(c)).toBeCloseTo(Math.sqrt(covariance(values, values)), 9);
      expect(moments.most[c]).toBe(Math.max(...values));
    }
  });

  it('tell covariances with the embedding, and correlations of channels', () => {
    for (let c = 0; c < channels; c++) {
      for (let k = 0; k < embed; k++)
        expect(pulls.products[c * embed + k] / pictures).toBeCloseTo(covariance(column(readings, c), column(embeddings, k)), 9);
      for (let d = 0; d < channels; d++) {
        const [a, b] = [column(readings, c), column(readings, d)];
        const length = Math.sqrt(covariance(a, a) * covariance(b, b));
        expect(pairs.correlation(c, d)).toBeCloseTo(length > 0 ? covariance(a, b) / length : 0, 9);
      }
    }
  });
});
