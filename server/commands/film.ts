import { mkdirSync } from 'node:fs';
import { dirname, extname } from 'node:path';
import sharp from 'sharp';
import type { Canvas } from '../imagination/parameters.js';
import { stringOf, UsageError, type Values } from './command.js';

/** The file that `--video` names. Throws a UsageError for one that is neither WebP nor GIF. */
export function videoOf(values: Values): string | undefined {
  const video = stringOf(values, 'video');
  if (video && !['.webp', '.gif'].includes(extname(video).toLowerCase()))
    throw new UsageError(`--video takes a file that ends in .webp or .gif, not ${video}`);
  return video;
}

/** Pictures of one size one after another, as animated WebP or GIF. */
export interface Film {
  /** Pictures so far. */
  readonly length: number;
  /**
   * @param pixels [H, W, 3] bytes
   * @param milliseconds how long it stands; 40 when left out
   */
  add(pixels: Uint8Array, milliseconds?: number): void;
  /** Writes the file; a folder that is missing is made. */
  write(file: string): Promise<void>;
}

export function createFilm({ width, height }: Canvas): Film {
  const frames: Uint8Array[] = [];
  const delay: number[] = [];
  return {
    get length() {
      return frames.length;
    },
    add(pixels, milliseconds = 40) {
      frames.push(pixels);
      delay.push(milliseconds);
    },
    async write(file) {
      const raw = { width, height: height * frames.length, channels: 3 as const, pageHeight: height };
      const animation = sharp(Buffer.concat(frames), { raw, limitInputPixels: false });
      const written =
        extname(file).toLowerCase() === '.gif'
          ? animation.gif({ delay, loop: 0 })
          : animation.webp({ delay, loop: 0, quality: 82 });
      mkdirSync(dirname(file), { recursive: true });
      await written.toFile(file);
    },
  };
}

/** Films a run of so many steps: at most `most` pictures on the way, evenly, and the finished one for a second. */
export function filmRun(film: Film, steps: number, most = 75): (pixels: Uint8Array, step: number) => void {
  const every = Math.max(1, Math.ceil(steps / most));
  let next = 0;
  return (pixels, step) => {
    if (pixels.length === 0 || (step < next && step < steps)) return;
    film.add(pixels, step < steps ? undefined : 1000);
    next = step + every;
  };
}
