/** A layer whose channels can be named. */
export interface Layer {
  /** `LLP`, `stem`, `block7.2` (stage and block from 1), `attention1`, or the name of a map in an ONNX file. */
  name: string;
  channels: number;
}

/** What of a channel is meant: its mean over the map, its value at the centre of the map, or at row y and column x of it, from 0. */
export type Spot = 'mean' | 'centre' | { y: number; x: number };

/** One unit of an image tower; channels count from 0. */
export interface Unit {
  layer: string;
  channel: number;
  spot: Spot;
}

/** What of a layer is read, of all its channels. */
export type Site = Pick<Unit, 'layer' | 'spot'>;

/** A unit that is not written as one, or that the model does not have. Its sentence tells the way out. */
export class UnknownUnitError extends Error {}

/** A layer's name has no spaces, "@" or "=". */
const written =
  /^(?:LLP-(?<llp>\d{1,6})|(?<layer>[^\s@=]+)\/ch-(?<channel>\d{1,6}))(?:@(?:(?<centre>cent(?:re|er))|(?<y>\d{1,4}),(?<x>\d{1,4})))?$/;

/**
 * Reads `LLP-108`, `block7.1/ch-33`, `LLP-108@centre`, `LLP-108@3,4` (row 3, column 4 of the layer's map).
 *
 * @throws UnknownUnitError for anything else
 */
export function parseUnit(text: string): Unit {
  const found = written.exec(text)?.groups;
  if (!found)
    throw new UnknownUnitError(
      `${JSON.stringify(text)} names no neuron: write LLP-108, or another layer's as block7.1/ch-33, with @centre or @row,column for one place`,
    );
  const { llp, layer = 'LLP', channel = llp, centre, y, x } = found;
  const spot = centre ? 'centre' : y ? { y: Number(y), x: Number(x) } : 'mean';
  return { layer, channel: Number(channel), spot };
}

const placeOf = (spot: Spot) => (spot === 'mean' ? '' : spot === 'centre' ? '@centre' : `@${spot.y},${spot.x}`);

/** As `parseUnit` reads it. */
export const unitName = ({ layer, channel, spot }: Unit): string =>
  `${layer === 'LLP' ? `LLP-${channel}` : `${layer}/ch-${channel}`}${placeOf(spot)}`;

/** `LLP`, `block7.1@centre`. */
export const siteName = ({ layer, spot }: Site): string => layer + placeOf(spot);

/** @throws UnknownUnitError, naming the range, when the model has no such layer or channel */
export function requireUnit({ name, layers }: { name: string; layers: readonly Layer[] }, unit: Unit): Layer {
  const layer = layers.find((candidate) => candidate.name === unit.layer);
  if (!layer)
    throw new UnknownUnitError(
      `${name} has no layer ${JSON.stringify(unit.layer)}: its layers are ${layers.map((known) => known.name).join(', ')}`,
    );
  if (unit.channel >= layer.channels) {
    const [first, last] = [0, layer.channels - 1].map((channel) => unitName({ layer: layer.name, channel, spot: 'mean' }));
    throw new UnknownUnitError(`${name} has no neuron ${unitName({ ...unit, spot: 'mean' })}: its neurons are ${first} to ${last}`);
  }
  return layer;
}
