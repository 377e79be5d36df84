import type { Tokens } from '../../server/imagination/generator.js';
import type { PackedTokens } from '../../server/live/events.js';

/** The grid of codes that a picture is drawn from, row by row. */
export interface TokenGrid extends Omit<Tokens, 'codes'> {
  codes: ArrayLike<number>;
}

/** A grid as a frame brings it; in a browser its bytes are an ArrayBuffer. */
export function unpacked({ codes, ...grid }: PackedTokens): TokenGrid {
  const bytes = new Uint8Array(codes);
  return { ...grid, codes: new Uint16Array(bytes.buffer, 0, bytes.length / 2) };
}

/** In how many cells each code stands. */
export function countsOf({ codes }: TokenGrid): Map<number, number> {
  const counts = new Map<number, number>();
  for (let cell = 0; cell < codes.length; cell++) counts.set(codes[cell], (counts.get(codes[cell]) ?? 0) + 1);
  return counts;
}

/** The cells whose code is another than before; none where there was no grid, or one of another shape. */
export function changedCells(before: TokenGrid | null, { codes, columns }: TokenGrid): number[] {
  if (before?.codes.length !== codes.length || before.columns !== columns) return [];
  return Array.from(codes, (_, cell) => cell).filter((cell) => before.codes[cell] !== codes[cell]);
}

/** Pixels of a texture's cell in each direction: enough for a motif. */
export const grain = 4;

/** Motifs that tell codes apart where colours do not: bit y * 4 + x is a pixel in the second tone. */
const motifs = [0x0000, 0x0660, 0xf99f, 0x8421, 0x1248, 0x6666, 0x0ff0, 0xa5a5];

/** Lightnesses by theme, OKLab L; a motif is lighter on a dark cell and darker on a light one. */
const lightnesses = {
  dark: [0.36, 0.62, 0.44, 0.7, 0.53, 0.78],
  light: [0.52, 0.77, 0.6, 0.84, 0.69, 0.91],
};
const toneStep = 0.13;

/**
 * Both tones of every code as RGBA in a machine word (little-endian): lightness and motif take 48 codes before they repeat, and
 * the hue turns by the square root of 2, so that those that share them are far apart on the wheel. Of 4096 codes no two look the same.
 */
export function paletteOf(codebook: number, theme: keyof typeof lightnesses): Uint32Array<ArrayBuffer> {
  const palette = new Uint32Array(2 * codebook);
  const levels = lightnesses[theme];
  for (let code = 0; code < codebook; code++) {
    const hue = 2 * Math.PI * ((code * Math.SQRT2) % 1);
    const chroma = 0.05 + 0.01 * (Math.floor(code / 48) % 8);
    const lightness = levels[code % levels.length];
    palette[2 * code] = fromOklch(lightness, chroma, hue);
    palette[2 * code + 1] = fromOklch(lightness + (lightness < 0.6 ? toneStep : -toneStep), chroma, hue);
  }
  return palette;
}

export const motifOf = (code: number): number => motifs[Math.floor(code / 6) % motifs.length];

/** OKLCH to sRGB, opaque; out-of-gamut channels are clipped. Source: Ottosson, "A perceptual color space for image processing", 2020. */
function fromOklch(lightness: number, chroma: number, hue: number): number {
  const [a, b] = [chroma * Math.cos(hue), chroma * Math.sin(hue)];
  const l = (lightness + 0.3963377774 * a + 0.2158037573 * b) ** 3;
  const m = (lightness - 0.1055613458 * a - 0.0638541728 * b) ** 3;
  const s = (lightness - 0.0894841775 * a - 1.291485548 * b) ** 3;
  return [
    4.0767416621 * l - 3.3077115913 * m + 0.2309699292 * s,
    -1.2684380046 * l + 2.6097574011 * m - 0.3413193965 * s,
    -0.0041960863 * l - 0.7034186147 * m + 1.707614701 * s,
  ].reduce((word, linear, at) => {
    const light = Math.max(0, Math.min(1, linear));
    const byte = Math.round(255 * (light <= 0.0031308 ? 12.92 * light : 1.055 * light ** (1 / 2.4) - 0.055));
    return (word | (byte << (8 * at))) >>> 0;
  }, 0xff000000);
}

/** The grid as RGBA words, `grain` by `grain` for a cell: equal codes are equal squares. */
export function textureOf({ rows, columns, codes }: TokenGrid, palette: Uint32Array): Uint32Array<ArrayBuffer> {
  const width = columns * grain;
  const texture = new Uint32Array(width * rows * grain);
  for (let cell = 0; cell < codes.length; cell++) {
    const code = codes[cell];
    const motif = motifOf(code);
    const corner = Math.floor(cell / columns) * grain * width + (cell % columns) * grain;
    for (let bit = 0; bit < grain * grain; bit++)
      texture[corner + (bit >> 2) * width + (bit & 3)] = palette[2 * code + ((motif >> bit) & 1)];
  }
  return texture;
}

/** Calls `draw` with the box of each cell, on a surface of that size, at whole pixels without gaps. */
export function eachBox(
  { rows, columns }: TokenGrid,
  { width, height }: { width: number; height: number },
  cells: Iterable<number>,
  draw: (x: number, y: number, w: number, h: number) => void,
): void {
  for (const cell of cells) {
    const [row, column] = [Math.floor(cell / columns), cell % columns];
    const [x, y] = [Math.round((column * width) / columns), Math.round((row * height) / rows)];
    draw(x, y, Math.round(((column + 1) * width) / columns) - x, Math.round(((row + 1) * height) / rows) - y);
  }
}
