import sharp from 'sharp';

export const uploadLimits = { bytes: 20 * 1024 * 1024, pixels: 64_000_000, side: 2048 } as const;
export const uploadMimes = ['image/png', 'image/jpeg', 'image/webp'] as const;

/** Leaves libvips only the decoders that uploads need; its rarer ones have a poor security record. Holds for the whole process. */
export function blockExoticDecoders(): void {
  sharp.block({ operation: ['VipsForeignLoad'] });
  sharp.unblock({ operation: ['VipsForeignLoadPng', 'VipsForeignLoadJpeg', 'VipsForeignLoadWebp'] });
}

/**
 * A stranger's picture decoded and written anew as PNG: upright, opaque on white, at most 2048 pixels a side, without metadata.
 * @throws UnreadablePicture with a sentence for the person who sent it.
 */
export async function reencodeUpload(bytes: Uint8Array): Promise<{ png: Buffer; width: number; height: number }> {
  try {
    const decoder = sharp(bytes, { limitInputPixels: uploadLimits.pixels, failOn: 'error' });
    const { format } = await decoder.metadata();
    if (!['png', 'jpeg', 'webp'].includes(format)) throw new Error(`format ${format}`);
    const { data, info } = await decoder
      .autoOrient()
      .resize({ width: uploadLimits.side, height: uploadLimits.side, fit: 'inside', withoutEnlargement: true })
      .flatten({ background: '#ffffff' })
      .toColourspace('srgb')
      .png({ compressionLevel: 6 })
      .toBuffer({ resolveWithObject: true });
    return { png: data, width: info.width, height: info.height };
  } catch (error) {
    const isTooLarge = error instanceof Error && /pixel limit/i.test(error.message);
    throw new UnreadablePicture(
      isTooLarge
        ? `the picture has more than ${uploadLimits.pixels / 1e6} million pixels: make it smaller`
        : 'the picture cannot be read: send a whole PNG, JPEG or WebP file',
    );
  }
}

export class UnreadablePicture extends Error {}
