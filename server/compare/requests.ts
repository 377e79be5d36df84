import { z } from 'zod';
import { contentId, lineOfText, modelName, type Notice } from '../jobs/job.js';
import type { Ranked } from './compare.js';
import { languages, type LabelRow, type Language } from './labels.js';
import { template } from './templates.js';

/**
 * Bounds of a request over HTTP; the command line has none but memory. `prompts` are labels times templates: each is a run of the text
 * tower, unless it is remembered. `atATime` are comparisons that run side by side, over all askers.
 */
export const compareLimits = { images: 64, texts: 64, labels: 200, templates: 8, prompts: 2000, top: 100, atATime: 4 } as const;

const image = z
  .string()
  .regex(contentId, 'an image is the id of an uploaded picture (POST /api/images) or the imageId of a result');
const images = z
  .array(image, 'the images must be a list of ids')
  .min(1, 'there are no images: give the ids of uploaded pictures')
  .max(compareLimits.images, `there can be at most ${compareLimits.images} images`);
const model = modelName.default('brivl-nano');

export const similarityRequest = z.strictObject({
  images,
  texts: z
    .array(lineOfText('text'), 'the texts must be a list of texts')
    .min(1, 'there are no texts: give at least one')
    .max(compareLimits.texts, `there can be at most ${compareLimits.texts} texts`),
  template: template.optional().describe('A sentence around every text, with {} where it goes; the texts as they are without it'),
  model,
});

export const classifyRequest = z.strictObject({
  images,
  labels: z
    .union(
      [
        z.string().min(1).max(64),
        z
          .array(lineOfText('label'))
          .min(2, 'there must be at least 2 labels to choose from')
          .max(compareLimits.labels, `there can be at most ${compareLimits.labels} labels of your own`),
      ],
      `the labels must be the name of a set (GET /api/labels) or a list of 2 to ${compareLimits.labels} texts`,
    )
    .describe('The name of a bundled set, or texts'),
  language: z.enum(languages, 'the language must be en or zh').default('en'),
  templates: z
    .array(template)
    .min(1, 'there are no templates: leave them out for those of the labels')
    .max(compareLimits.templates, `there can be at most ${compareLimits.templates} templates`)
    .optional()
    .describe('Their embeddings are averaged; without them, those of the labels'),
  top: z
    .number('top must be a number')
    .int('top must be a whole number')
    .min(1, 'top must be at least 1')
    .max(compareLimits.top, `top must be at most ${compareLimits.top}`)
    .default(5),
  model,
});

export type SimilarityRequest = z.input<typeof similarityRequest>;
export type ClassifyRequest = z.input<typeof classifyRequest>;

/** `matrix` [images, texts] of cosines. */
export interface SimilarityView {
  model: string;
  images: string[];
  texts: string[];
  matrix: number[][];
  notices: Notice[];
}

export interface ClassificationView {
  model: string;
  images: { id: string; top: Ranked[] }[];
  notices: Notice[];
}

/** A label set that comes with Reverie. `templates` are those that stand in for none. */
export interface LabelSetView {
  name: string;
  title: Record<Language, string>;
  templates: Record<Language, string[]>;
  labels: LabelRow[];
}
