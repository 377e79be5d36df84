import { describe, expect, it } from 'vitest';
import { defaultGenerator, createRegistry } from '../../models/registry.js';
import { naturalLatents, naturalOfCodes } from '../../models/vqgan/natural.js';
import { repositoryRoot } from '../../server/root.js';
import type { Weights } from '../../models/weights/weights.js';
import { relativeError, randomStream } from '../graph/session.js';

/** axes axes^T: the covariance that axes stand for. */
const covarianceOf = (axes: Float32Array, d: number) =>
  Array.from({ length: d * d }, (_, i) => {
    const [a, b] = [Math.floor(i / d), i % d];
    return Array.from({ length: d }, (__, k) => axes[a * d + k] * axes[b * d + k]).reduce((sum, v) => sum + v);
  });

describe('what the codebook tells of natural latents', () => {
  const [d, codes] = [5, 400];
  const random = randomStream(3);
  const mix = Array.from({ length: d * d }, () => random() - 0.5);
  const codebook = new Float32Array(codes * d);
  for (let k = 0; k < codes; k++) {
    const free = Array.from({ length: d }, () => random() - 0.5);
    for (let i = 0; i < d; i++) codebook[k * d + i] = i + free.reduce((sum, v, j) => sum + mix[i * d + j] * v, 0);
  }

  it('is the mean and the covariance of its codes', () => {
    const { mean, axes, decay } = naturalOfCodes(codebook, d);
    const meanOf = (at: (k: number) => number) => Array.from({ length: codes }, (_, k) => at(k)).reduce((a, b) => a + b) / codes;
    const means = Array.from({ length: d }, (_, i) => meanOf((k) => codebook[k * d + i]));
    const covariance = Array.from({ length: d * d }, (_, i) => {
      const [a, b] = [Math.floor(i / d), i % d];
      return meanOf((k) => (codebook[k * d + a] - means[a]) * (codebook[k * d + b] - means[b]));
    });
    expect(relativeError(mean, means)).toBeLessThan(1e-6);
    expect(relativeError(covarianceOf(axes, d), covariance)).toBeLessThan(1e-5);
    expect([...decay]).toEqual(Array.from({ length: d }, () => 1));
  });

  it('has an inverse where codes fill no volume', () => {
    const flat = codebook.map((v, i) => (i % d === 2 ? 7 : i % d === 4 ? codebook[i - 1] : v));
    const { axes } = naturalOfCodes(flat, d);
    for (let i = 0; i < d; i++) expect(axes[i * d + i]).toBeGreaterThan(0);
    expect(axes.every(Number.isFinite)).toBe(true);
  });
});

describe('what training measured', () => {
  const weightsOf = (tensors: Record<string, number[]>) =>
    ({
      has: (name: string) => name in tensors,
      tensor: (name: string) => ({ dtype: 'float32', shape: [tensors[name].length], data: Float32Array.from(tensors[name]) }),
    }) as unknown as Weights;
  const told = { 'natural.mean': [1, 2], 'natural.axes': [3, 0, 1, 2], 'natural.decay': [1, 0.5] };
  const codebook = Float32Array.of(0, 0, 1, 1, 2, 0);

  it('is taken where it is whole, and the codebook where it is not', () => {
    const { mean, axes, decay } = naturalLatents(weightsOf(told), codebook, 2);
    expect([[...mean], [...axes], [...decay]]).toEqual(Object.values(told));
    const { 'natural.decay': _, ...some } = told;
    expect(naturalLatents(weightsOf(some), codebook, 2)).toEqual(naturalOfCodes(codebook, 2));
  });

  it('of another size, or no number, is refused by its name', () => {
    expect(() => naturalLatents(weightsOf({ ...told, 'natural.axes': [1, 2, 3] }), codebook, 2)).toThrow(
      'natural.axes must be 4 finite numbers',
    );
    expect(() => naturalLatents(weightsOf({ ...told, 'natural.mean': [1, NaN] }), codebook, 2)).toThrow(
      'natural.mean must be 2 finite numbers',
    );
  });

  it('of vqgan-nano has four axes that photographs use, the widest of them light', () => {
    const generator = createRegistry(repositoryRoot).openGenerator(defaultGenerator);
    const { axes, decay } = generator.natural();
    const d = generator.config.embedDim;
    const widths = Array.from({ length: d }, (_, k) => Math.hypot(...Array.from({ length: d }, (__, c) => axes[c * d + k])));
    const order = widths.map((_, k) => k).sort((a, b) => widths[b] - widths[a]);
    expect(widths[order[3]]).toBeGreaterThan(10 * widths[order[4]]);
    expect(decay[order[0]]).toBeGreaterThan(0.8);
    expect(decay[order[3]]).toBeLessThan(0.4);
    generator.close();
  });
});
