import sharp from 'sharp';
import type { Canvas } from '../imagination/parameters.js';
import { BadRequest } from './protocol.js';

/** Decompression bombs stop here: 50 megapixels. */
const limitInputPixels = 50_000_000;

/**
 * An image file (its bytes, or where it lies) as RGB bytes [H, W, 3] of exactly this size: stretched, as BriVL looks at pictures; transparency on
 * white. Throws BadRequest.
 */
export async function decodeTo(
  file: Uint8Array | string,
  { width, height }: Canvas,
  fit: 'fill' | 'cover' = 'fill',
  mostPixels = limitInputPixels,
): Promise<Uint8Array> {
  try {
    const { data } = await sharp(file, { limitInputPixels: mostPixels })
      .rotate()
      .flatten({ background: '#fff' })
      .toColourspace('srgb')
      .resize(width, height, { fit, kernel: 'linear' })
      .removeAlpha()
      .raw()
      .toBuffer({ resolveWithObject: true });
    return new Uint8Array(data.buffer, data.byteOffset, data.byteLength);
  } catch (error) {
    throw new BadRequest(`the image cannot be read (${(error as Error).message}): give a PNG, JPEG or WebP`, { cause: error });
  }
}

/** [H, W, 3] bytes -> [3, H, W] in [0, 1]. */
export function toPlanes(pixels: Uint8Array): Float32Array {
  const count = pixels.length / 3;
  return Float32Array.from({ length: pixels.length }, (_, i) => pixels[(i % count) * 3 + Math.floor(i / count)] / 255);
}
