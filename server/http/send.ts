import path from 'node:path';
import type { Response } from 'express';
import type { Store } from '../store/store.js';

/** How long a browser may show a file without asking: always, for an hour, or never, where it is sent again only if it has changed. */
type Caching = 'forever' | 'hour' | 'asking';
const secondsOf: Readonly<Record<Caching, number>> = { forever: 31_536_000, hour: 3600, asking: 0 };

/** A file of ours. */
export function sendFile(response: Response, file: string, mime: string, caching: Caching): Promise<undefined> {
  response.set({ 'Content-Type': mime });
  // Relative to its folder, so that a folder with a dot in its path is not mistaken for a hidden file.
  const options = {
    root: path.dirname(file),
    maxAge: secondsOf[caching] * 1000,
    immutable: caching === 'forever',
    cacheControl: true,
  };
  return new Promise((resolve, reject) => {
    response.sendFile(path.basename(file), options, (error?: NodeJS.ErrnoException) => {
      // A browser that left does not want it any more.
      const isGone = error?.code === 'ECONNABORTED';
      if (error && !response.headersSent && !isGone) {
        response.removeHeader('Content-Disposition');
        reject(error);
      } else resolve(undefined);
    });
  });
}

/** What was made just now. */
export function sendBytes(response: Response, bytes: Buffer, mime: string, caching: Caching): undefined {
  response.set({ 'Content-Type': mime, 'Cache-Control': `public, max-age=${secondsOf[caching]}` }).send(bytes);
}

/** A stored file, which is known by its content. */
export function sendBlob(
  response: Response,
  store: Store,
  id: string,
  mime: string,
  caching: Caching = 'forever',
): Promise<undefined> {
  response.set({ ETag: `"${id}"` });
  return sendFile(response, store.blobs.pathOf(id), mime, caching);
}
