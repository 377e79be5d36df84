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

/**
 * A safetensors file of layers' statistics: `LAYER.mean`, `LAYER.std`, `LAYER.quantiles` and `quantileLevels`.
 * @param dtype of all of them; F16 is small enough to be committed, but holds nothing above 65504, where layers of other networks may answer
 */
export function statisticsFile(layers: ReadonlyMap<string, ChannelStatistics>, dtype: 'F16' | 'F32' = 'F16'): Buffer {
  const written = (shape: number[], values: Float32Array) =>
    dtype === 'F16' ? { dtype, shape, data: Uint16Array.from(values, numberToFloat16) } : { dtype, shape, data: values };
  const levels = [...layers.values()][0].quantiles.levels;
  return encodeSafetensors({
    quantileLevels: written([levels.length], levels),
    ...Object.fromEntries(
      [...layers].flatMap(([layer, { means, deviations, quantiles }]) => [
        [`${layer}.mean`, written([means.length], means)],
        [`${layer}.std`, written([means.length], deviations)],
        [`${layer}.quantiles`, written([levels.length, means.length], quantiles.values)],
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

/**
 * The share of photographs, 0 to 100, that a channel answers less strongly than this; linear between the quantiles. Those that it answers as
 * strongly do not count: silence is 0 for a channel that is silent in half of them. 100 from the strongest answer on.
 */
export function percentile({ levels, values }: ChannelQuantiles, channel: number, activation: number): number {
  const channels = values.length / levels.length;
  const quantile = (i: number) => values[i * channels + channel];
  const at = levels.findIndex((_, i) => quantile(i) >= activation);
  if (at === 0) return 0;
  if (at < 0) return 100 * levels[levels.length - 1];
  const [low, high] = [quantile(at - 1), quantile(at)];
  const share = (activation - low) / (high - low);
  return 100 * (levels[at - 1] + share * (levels[at] - levels[at - 1]));
}

/** Whether a channel answers more strongly than to every photograph. */
export const isBeyond = ({ levels, values }: ChannelQuantiles, channel: number, activation: number): boolean =>
  activation > values[(levels.length - 1) * (values.length / levels.length) + channel];
