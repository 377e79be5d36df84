import type { ActivationMap } from './neurons.js';

/** How dark a picture becomes where a unit is silent: of 255. */
const darkest = 186;

/**
 * A map as a veil over its picture, RGBA: dark where the unit is silent, nothing where it fires as much as `ceiling`, an ember between.
 * Negative values are silence.
 */
export function ember({ rows, columns, values }: ActivationMap, ceiling: number): Uint8ClampedArray<ArrayBuffer> {
  const veil = new Uint8ClampedArray(rows * columns * 4);
  for (let cell = 0; cell < rows * columns; cell++) {
    const share = ceiling > 0 ? Math.max(0, Math.min(1, values[cell] / ceiling)) : 0;
    const glow = share ** 0.8;
    veil.set([8 + 232 * glow, 6 + 70 * glow, 5 + 32 * glow, darkest * (1 - glow) ** 0.9], cell * 4);
  }
  return veil;
}
