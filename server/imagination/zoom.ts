import type { Canvas } from './parameters.js';

/** How a picture moves from one frame of a film to the next. */
export interface Motion {
  /** Enlargement about the centre: 1.02 goes in, .98 out. */
  zoom: number;
  /** Pixels to the right and down. */
  shift: readonly [number, number];
  /** Degrees, clockwise. */
  rotate: number;
}

/** Lobes of the kernel to each side. */
const lobes = 3;

const sinc = (x: number) => (x === 0 ? 1 : Math.sin(Math.PI * x) / (Math.PI * x));

/** Lanczos' kernel (Duchon 1979), 0 beyond its lobes. */
const lanczos = (x: number) => (Math.abs(x) < lobes ? sinc(x) * sinc(x / lobes) : 0);

/**
 * A picture after a motion: enlarged and turned about its centre, then shifted, resampled by Lanczos. What comes in over an edge is the
 * mirrored picture.
 *
 * @param pixels [H, W, 3] bytes
 * @returns [H, W, 3] bytes
 */
export function moved(pixels: Uint8Array, { width, height }: Canvas, { zoom, shift: [right, down], rotate }: Motion): Uint8Array {
  const out = new Uint8Array(pixels.length);
  const angle = (rotate * Math.PI) / 180;
  const [cos, sin] = [Math.cos(angle) / zoom, Math.sin(angle) / zoom];
  const [middleX, middleY] = [(width - 1) / 2, (height - 1) / 2];
  // Wider where the picture shrinks, so that nothing falls between two samples.
  const spread = Math.max(1, 1 / zoom);
  const columns = createTaps(width, spread);
  const rows = createTaps(height, spread);
  for (let y = 0; y < height; y++)
    for (let x = 0; x < width; x++) {
      const [u, v] = [x - middleX - right, y - middleY - down];
      columns.move(cos * u + sin * v + middleX);
      rows.move(cos * v - sin * u + middleY);
      let [r, g, b] = [0, 0, 0];
      for (let j = 0; j < rows.places.length; j++) {
        const row = rows.places[j] * width;
        for (let i = 0; i < columns.places.length; i++) {
          const at = 3 * (row + columns.places[i]);
          const weight = rows.weights[j] * columns.weights[i];
          r += weight * pixels[at];
          g += weight * pixels[at + 1];
          b += weight * pixels[at + 2];
        }
      }
      const to = 3 * (y * width + x);
      out[to] = toByte(r);
      out[to + 1] = toByte(g);
      out[to + 2] = toByte(b);
    }
  return out;
}

const toByte = (value: number) => Math.min(255, Math.max(0, Math.round(value)));

/** The pixels of a line of n around a place, and their weights, which sum to 1. */
function createTaps(n: number, spread: number) {
  const count = 2 * Math.ceil(lobes * spread);
  const places = new Int32Array(count);
  const weights = new Float64Array(count);
  return {
    places,
    weights,
    move(centre: number): void {
      const first = Math.floor(centre) - count / 2 + 1;
      let total = 0;
      for (let i = 0; i < count; i++) {
        weights[i] = lanczos((first + i - centre) / spread);
        total += weights[i];
        places[i] = mirrored(first + i, n);
      }
      for (let i = 0; i < count; i++) weights[i] /= total;
    },
  };
}

/** A place beyond the ends of a line of n, as if mirrors stood there. */
function mirrored(i: number, n: number): number {
  const within = ((i % (2 * n)) + 2 * n) % (2 * n);
  return within < n ? within : 2 * n - 1 - within;
}
