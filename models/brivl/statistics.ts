import { numberToFloat16 } from '../graph/tensor.js';
import { encodeSafetensors } from '../weights/safetensors.js';
import type { Weights } from '../weights/weights.js';

/** Readings of channels (units.ts) that shares of many photographs stay under. */
export interface ChannelQuantiles {
  /** [L], rising from 0 to 1. */
  levels: Float32Array;
  /** [L, C] */
  values: Float32Array;
}

/** How the channels of a layer answer many photographs, [C] each; all are finite, and no deviation is negative. */
export interface ChannelStatistics {
  means: Float32Array;
  /** Standard deviations: the unit of neuron weights. */
  deviations: Float32Array;
  quantiles: ChannelQuantiles;
}

/** Every hundredth. */
const levelsKept = 101;

/** @param readings a row [C] for each picture, of which there is at least one */
export function summarize(readings: readonly Float32Array[]): ChannelStatistics {
  const [count, channels] = [readings.length, readings[0].length];
  const levels = Float32Array.from({ length: levelsKept }, (_, i) => i / (levelsKept - 1));
  const [means, deviations] = [new Float32Array(channels), new Float32Array(channels)];
  const values = new Float32Array(levelsKept * channels);
  for (let c = 0; c < channels; c++) {
    const sorted = Float64Array.from(readings, (row) => row[c]).sort();
    const mean = sorted.reduce((sum, v) => sum + v, 0) / count;
    means[c] = mean;
    deviations[c] = Math.sqrt(sorted.reduce((sum, v) => sum + (v - mean) ** 2, 0) / count);
    for (let i = 0; i < levelsKept; i++) {
      const at = (i * (count - 1)) / (levelsKept - 1);
      const [below, above] = [sorted[Math.floor(at)], sorted[Math.ceil(at)]];
      values[i * channels + c] = below + (at % 1) * (above - below);
    }
  }
  return { means, deviations, quantiles: { levels, values } };
}

/** A safetensors file of layers' statistics: `LAYER.mean`, `LAYER.std`, `LAYER.quantiles` and `quantileLevels`, all F16. */
export function statisticsFile(layers: ReadonlyMap<string, ChannelStatistics>): Buffer {
  const half = (shape: number[], values: Float32Array) => ({
    dtype: 'F16' as const,
    shape,
    data: Uint16Array.from(values, numberToFloat16),
  });
  const levels = [...layers.values()][0].quantiles.levels;
  return encodeSafetensors({
    quantileLevels: half([levels.length], levels),
    ...Object.fromEntries(
      [...layers].flatMap(([layer, { means, deviations, quantiles }]) => [
        [`${layer}.mean`, half([means.length], means)],
        [`${layer}.std`, half([means.length], deviations)],
        [`${layer}.quantiles`, half([levels.length, means.length], quantiles.values)],
      ]),
    ),
  });
}

/** Those of the layers that such a file holds. */
export function readStatistics(weights: Weights, layers: readonly string[]): Map<string, ChannelStatistics> {
  const floats = (name: string) => weights.tensor(name).data as Float32Array;
  return new Map(
    layers
      .filter((layer) => weights.has(`${layer}.quantiles`))
      .map((layer) => [
        layer,
        {
          means: floats(`${layer}.mean`),
          deviations: floats(`${layer}.std`),
          quantiles: { levels: floats('quantileLevels'), values: floats(`${layer}.quantiles`) },
        },
      ]),
  );
}

/** The share of photographs, 0 to 100, that a channel answers less strongly than this; linear between the quantiles. */
export function percentile({ levels, values }: ChannelQuantiles, channel: number, activation: number): number {
  const channels = values.length / levels.length;
  const quantile = (i: number) => values[i * channels + channel];
  const last = levels.length - 1;
  // Of equal quantiles (a channel that is often silent) the highest level counts.
  const above = levels.findIndex((_, i) => quantile(i) > activation);
  if (above === 0) return 0;
  if (above < 0) return 100 * levels[last];
  const [low, high] = [quantile(above - 1), quantile(above)];
  const share = (activation - low) / (high - low);
  return 100 * (levels[above - 1] + share * (levels[above] - levels[above - 1]));
}
