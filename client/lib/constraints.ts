import { parseUnit, unitName, type Layer } from '../../models/brivl/units.js';
import type { JobRequest } from '../../server/jobs/job.js';

/** A neuron that a picture is asked to drive; without a weight, as strongly as is usual. */
export type Constraint = NonNullable<JobRequest['neurons']>[number];

/** Why something typed is no constraint: how it is written, a layer or a channel that is not there, a weight that is none, one too many. */
export type Fault =
  | { kind: 'form'; typed: string }
  | { kind: 'layer'; layer: string; layers: string[] }
  | { kind: 'channel'; first: string; last: string }
  | { kind: 'weight'; typed: string }
  | { kind: 'many'; most: number };

export const mostWeight = 100;
/** Of a neuron without one, as the server has it (server/jobs/job.ts); test/client/constraints.test.ts holds the two together. */
export const usualWeight = 0.15;

const named = (layer: string, channel: number | string) => (layer === 'LLP' ? `LLP-${channel}` : `${layer}/ch-${channel}`);

/**
 * Reads `LLP-108`, `LLP-108=2`, `block7.1/ch-33@centre=-1`; a number alone is an LLP neuron, and letters may be small.
 * @param layers of the model; before they are known, none is missed
 */
export function readConstraint(typed: string, layers: readonly Layer[]): Constraint | Fault {
  const [name, weight, ...more] = typed.trim().split(/[=＝]/);
  const written = name.trim().replace(/^(?:llp-?)?(?=\d+(?:@|$))/i, 'LLP-');
  let unit;
  try {
    unit = parseUnit(written);
  } catch {
    return { kind: 'form', typed: typed.trim() };
  }
  if (layers.length > 0) {
    const layer = layers.find((known) => known.name === unit.layer);
    if (!layer) return { kind: 'layer', layer: unit.layer, layers: layers.map((known) => known.name) };
    if (unit.channel >= layer.channels)
      return { kind: 'channel', first: named(layer.name, 0), last: named(layer.name, layer.channels - 1) };
  }
  if (weight === undefined) return { unit: unitName(unit) };
  const value = Number(weight.replace('−', '-'));
  if (more.length > 0 || weight.trim() === '' || !(Math.abs(value) <= mostWeight)) return { kind: 'weight', typed: weight.trim() };
  return { unit: unitName(unit), weight: value };
}

/** As `readConstraint` reads it. */
export const typedAs = ({ unit, weight }: Constraint): string => (weight === undefined ? unit : `${unit}=${weight}`);

/** How what is begun can go on: whole names of LLP neurons for a number, and the layers whose names begin so. */
export function completionsOf(typed: string, layers: readonly Layer[]): string[] {
  const begun = typed.trim();
  if (/^\d+$/.test(begun))
    return layers.some(({ name, channels }) => name === 'LLP' && Number(begun) < channels) ? [`LLP-${begun}`] : [];
  return layers
    .map(({ name }) => named(name, ''))
    .filter((form) => form.toLowerCase().startsWith(begun.toLowerCase()) && form !== begun);
}

/** With one more; one that is there already takes the new weight. */
export const withConstraint = (constraints: readonly Constraint[], one: Constraint): Constraint[] =>
  constraints.some(({ unit }) => unit === one.unit)
    ? constraints.map((known) => (known.unit === one.unit ? one : known))
    : [...constraints, one];
