/** Not a picture that the browser can read. */
export class Unreadable extends Error {}

const longestSide = 1024;

/** The picture as it is, or as small as a canvas may be, before it travels. @throws Unreadable */
export async function withinCanvas(file: Blob): Promise<Blob> {
  const bitmap = await createImageBitmap(file).catch((cause: unknown) => {
    throw new Unreadable('not a picture', { cause });
  });
  const scale = longestSide / Math.max(bitmap.width, bitmap.height);
  if (scale >= 1) return file;
  const canvas = new OffscreenCanvas(Math.round(bitmap.width * scale), Math.round(bitmap.height * scale));
  const context = canvas.getContext('2d')!;
  context.imageSmoothingQuality = 'high';
  context.drawImage(bitmap, 0, 0, canvas.width, canvas.height);
  bitmap.close();
  return canvas.convertToBlob({ type: 'image/png' });
}
