import type { Weights } from '../weights/weights.js';

/** How the latents of photographs vary: z = mean + axes u, with u of variance 1 and without correlation. */
export interface NaturalLatents {
  /** [D] */
  mean: Float32Array;
  /** [D, D]; a column is an axis times its standard deviation. */
  axes: Float32Array;
  /** [D]: the amplitude of axis k falls over a photograph's frequencies as f^-decay[k]. */
  decay: Float32Array;
}

/** Their names among a model's weights. */
const names = { mean: 'natural.mean', axes: 'natural.axes', decay: 'natural.decay' } as const;

/** What training measured (training/export.py), where the weights have it; else what the codebook tells. */
export function naturalLatents(weights: Weights, codebook: Float32Array, dimensions: number): NaturalLatents {
  if (!Object.values(names).every((name) => weights.has(name))) return naturalOfCodes(codebook, dimensions);
  const read = (name: string, length: number) => {
    const values = Float32Array.from(weights.tensor(name).data as Float32Array);
    if (values.length !== length || !values.every(Number.isFinite)) throw new Error(`${name} must be ${length} finite numbers`);
    return values;
  };
  return {
    mean: read(names.mean, dimensions),
    axes: read(names.axes, dimensions * dimensions),
    decay: read(names.decay, dimensions),
  };
}

/** An axis is at least so wide, of the widest: codes that fill no volume still have an inverse. */
const least = 1e-3;

/** As if every code were met equally often: the axes are the covariance's Cholesky factor, and spectra fall as 1/f. */
export function naturalOfCodes(codebook: Float32Array, dimensions: number): NaturalLatents {
  const d = dimensions;
  const codes = codebook.length / d;
  const mean = new Float64Array(d);
  codebook.forEach((v, i) => (mean[i % d] += v / codes));
  const covariance = new Float64Array(d * d);
  for (let k = 0; k < codes; k++)
    for (let i = 0; i < d; i++) {
      const from = (codebook[k * d + i] - mean[i]) / codes;
      for (let j = 0; j <= i; j++) covariance[i * d + j] += from * (codebook[k * d + j] - mean[j]);
    }
  const widest = Math.max(...Array.from({ length: d }, (_, i) => covariance[i * d + i]), Number.MIN_VALUE);
  const axes = new Float64Array(d * d);
  for (let i = 0; i < d; i++)
    for (let j = 0; j <= i; j++) {
      let rest = covariance[i * d + j];
      for (let k = 0; k < j; k++) rest -= axes[i * d + k] * axes[j * d + k];
      axes[i * d + j] = i === j ? Math.sqrt(Math.max(rest, least ** 2 * widest)) : rest / axes[j * d + j];
    }
  return { mean: Float32Array.from(mean), axes: Float32Array.from(axes), decay: new Float32Array(d).fill(1) };
}
