import { reencodeUpload, UnreadablePicture } from '../store/uploads.js';
import { Problem } from './problem.js';

/**
 * The picture in the body of a request, decoded and encoded anew (uploads.ts).
 *
 * @throws Problem 400 where there is none, or none that can be read
 */
export async function readable(body: Buffer | undefined): ReturnType<typeof reencodeUpload> {
  if (!Buffer.isBuffer(body))
    throw new Problem(400, 'unreadable_picture', 'the request has no body: send the bytes of a PNG, JPEG or WebP file');
  try {
    return await reencodeUpload(body);
  } catch (error) {
    if (error instanceof UnreadablePicture) throw new Problem(400, 'unreadable_picture', error.message);
    throw error;
  }
}
