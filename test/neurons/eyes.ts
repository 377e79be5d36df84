import { mkdir, writeFile } from 'node:fs/promises';
import path from 'node:path';
import sharp, { type Sharp } from 'sharp';
import type { ImageModel } from '../../models/brivl/model.js';
import type { Sessions } from '../../server/imagination/sessions.js';
import { Random } from '../../server/imagination/random.js';
import { createLooker, type Looker } from '../../server/neurons/see.js';
import { fake } from '../imagination/fake.js';

/** A looker with the fake model's eye. */
export const fakeLooker = (sessions: Sessions, model: ImageModel = fake): Looker =>
  createLooker(
    sessions,
    () => model,
    (of, layer) => Promise.resolve(of.statistics.get(layer)!),
  );

/** Blurred noise of many colours: a picture that no other is like. */
export async function noisePicture(seed: number, [width, height] = [40, 30]): Promise<Sharp> {
  const random = new Random(seed);
  const small = Uint8Array.from({ length: 5 * 4 * 3 }, () => random.below(256));
  const large = await sharp(small, { raw: { width: 5, height: 4, channels: 3 } })
    .resize(width, height, { fit: 'fill' })
    .toBuffer({ resolveWithObject: true });
  return sharp(large.data, { raw: { width, height, channels: 3 } });
}

/**
 * A folder of `count` pictures of all kinds, some in subfolders, and what is no picture beside them: two files that say they are one, a
 * TIFF that calls itself PNG, a text, a hidden picture.
 */
export async function pictureFolder(folder: string, count: number): Promise<void> {
  await mkdir(path.join(folder, 'b/深'), { recursive: true });
  for (let i = 0; i < count; i++) {
    const picture = await noisePicture(100 + i, [20 + i, 30]);
    const [format, ending] = (
      [
        ['png', 'png'],
        ['jpeg', 'JPG'],
        ['webp', 'webp'],
      ] as const
    )[i % 3];
    await picture.toFormat(format).toFile(path.join(folder, ['.', 'b', 'b/深'][i % 4 % 3], `${String(i).padStart(3, '0')}.${ending}`)); // prettier-ignore
  }
  const one = await noisePicture(1);
  await writeFile(path.join(folder, '005-broken.jpg'), 'this is no picture');
  await writeFile(path.join(folder, 'b', 'half.png'), (await one.png().toBuffer()).subarray(0, 60));
  await one.tiff().toFile(path.join(folder, 'tiff.png'));
  await writeFile(path.join(folder, 'notes.txt'), 'no picture');
  await one.png().toFile(path.join(folder, '.hidden.png'));
}
