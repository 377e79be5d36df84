import { percentile, type ChannelStatistics } from '../../models/brivl/statistics.js';
import { parseUnit, requireUnit, siteName, type Layer, type Site } from '../../models/brivl/units.js';
import type { Job, NeuronReading } from '../jobs/job.js';

/** The units of a job that are read at one site. */
export interface Pull {
  site: Site;
  /** Of the site's layer. */
  channels: number;
  /** `at` counts the job's neurons. */
  units: { at: number; channel: number; weight: number }[];
}

/**
 * The units of a job by where they are read, in the order in which the job names them: the first unit is at the first site.
 *
 * @throws UnknownUnitError for a unit that the model does not have
 */
export function pullsOf({ neurons }: Pick<Job, 'neurons'>, model: { name: string; layers: readonly Layer[] }): Pull[] {
  const pulls = new Map<string, Pull>();
  neurons.forEach(({ unit: named, weight }, at) => {
    const unit = parseUnit(named);
    const { layer, channel, spot } = unit;
    const { channels } = requireUnit(model, unit);
    const site = { layer, spot };
    const pull = pulls.get(siteName(site)) ?? { site, channels, units: [] };
    pull.units.push({ at, channel, weight });
    pulls.set(siteName(site), pull);
  });
  return [...pulls.values()];
}

/** Where the units of a job are read, as in `pullsOf`. */
export function sitesOf({ neurons }: Pick<Job, 'neurons'>): Site[] {
  const sites = neurons.map(({ unit }) => parseUnit(unit)).map(({ layer, spot }) => ({ layer, spot }));
  return [...new Map(sites.map((site) => [siteName(site), site])).values()];
}

/** What part of its layer's mean deviation a channel's own counts at least: one that no photograph drives must not pull without bound. */
const leastDeviation = 0.01;

/** The weights of each site's channels [C], over their deviations: what a step is fed. */
export const pullWeights = (pulls: readonly Pull[], statistics: readonly ChannelStatistics[]): Float32Array[] =>
  pulls.map(({ channels, units }, i) => {
    const { deviations } = statistics[i];
    const least = (leastDeviation * deviations.reduce((sum, v) => sum + v, 0)) / channels || 1;
    const weights = new Float32Array(channels);
    for (const { channel, weight } of units) weights[channel] += weight / Math.max(deviations[channel], least);
    return weights;
  });

/** What the units answered, in the order of the job. @param answers of each pull's channels, [C] */
export function readingsOf(
  { neurons }: Pick<Job, 'neurons'>,
  pulls: readonly Pull[],
  statistics: readonly ChannelStatistics[],
  answers: readonly Float32Array[],
): NeuronReading[] {
  const readings = new Array<NeuronReading>(neurons.length);
  pulls.forEach(({ site, units }, i) => {
    for (const { at, channel } of units) {
      const activation = answers[i][channel];
      readings[at] = {
        unit: neurons[at].unit,
        layer: site.layer,
        channel,
        activation,
        percentile: percentile(statistics[i].quantiles, channel, activation),
      };
    }
  });
  return readings;
}
