import path from 'node:path';
import type { Response } from 'express';

/** A file of ours. One whose bytes never change under its address may be cached for good. */
export function sendFile(response: Response, file: string, mime: string, isFixed: boolean): Promise<undefined> {
  response.set({ 'Content-Type': mime });
  // Relative to its folder, so that a folder with a dot in its path is not mistaken for a hidden file.
  const options = { root: path.dirname(file), maxAge: isFixed ? '1y' : '1h', immutable: isFixed, cacheControl: true };
  return new Promise((resolve, reject) => {
    response.sendFile(path.basename(file), options, (error?: Error) => {
      if (error && !response.headersSent) reject(error);
      else resolve(undefined);
    });
  });
}
