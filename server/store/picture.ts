import sharp from 'sharp';
import type { Job } from '../jobs/job.js';
import { withPngText } from './png-text.js';

export interface RgbPicture {
  /** height x width x 3 bytes, row by row. */
  pixels: Uint8Array;
  width: number;
  height: number;
}

const fromPixels = ({ pixels, width, height }: RgbPicture) => sharp(pixels, { raw: { width, height, channels: 3 } });

interface NamedModel {
  name: string;
  hash: string;
}

/** A small WebP of a picture on its way (lossy, quality 82 of 100). */
export const previewFile = async (picture: RgbPicture): Promise<Buffer> =>
  fromPixels(picture).webp({ quality: 82, effort: 2 }).toBuffer();

/** A PNG that holds nothing but the picture. */
export const plainFile = async (picture: RgbPicture): Promise<Buffer> =>
  fromPixels(picture).png({ compressionLevel: 9, adaptiveFiltering: false }).toBuffer();

/**
 * The PNG that is kept, with what made it inside: `parameters` for people and for other programs, `reverie` as JSON from which
 * the job can be run again. A function of picture, job and models alone: no dates, no ids.
 */
export async function pictureFile(picture: RgbPicture, job: Job, model: NamedModel, generator?: NamedModel): Promise<Buffer> {
  return withPngText(await plainFile(picture), {
    parameters: parametersInWords(job, model, generator),
    reverie: JSON.stringify({ job, model, ...(generator && { generator }), seed: job.seed }),
  });
}

/** What the picture was made from, in the form that other image programs read (stable-diffusion-webui's `parameters`). */
export function parametersInWords(job: Job, model: NamedModel, generator?: NamedModel): string {
  const negative = [
    ...job.negative,
    ...job.weighted.filter(({ weight }) => weight < 0).map(({ text, weight }) => `(${text}:${-weight})`),
  ];
  const positive = job.weighted.filter(({ weight }) => weight >= 0).map(({ text, weight }) => `(${text}:${weight})`);
  const settings = {
    Steps: job.steps,
    Seed: job.seed,
    Size: `${job.width}x${job.height}`,
    ...(job.copies !== undefined && job.copies > 1 && { Copies: job.copies }),
    Model: model.name,
    'Model hash': model.hash.slice(0, 10),
    Method: job.method,
    ...(generator ? { Generator: generator.name, 'Generator hash': generator.hash.slice(0, 10) } : { Parameters: job.parameters }),
    ...(job.from !== undefined && { From: job.from }),
    Objective: job.objective,
    Views: job.views,
    ...(job.neurons.length > 0 && { Neurons: job.neurons.map(({ unit, weight }) => `${unit}=${weight}`).join(' ') }),
  };
  return [
    [job.text, ...positive].filter((text) => text !== '').join(', '),
    ...(negative.length > 0 ? [`Negative prompt: ${negative.join(', ')}`] : []),
    Object.entries(settings)
      .map(([name, value]) => `${name}: ${value}`)
      .join(', '),
  ].join('\n');
}
