import { lineOfText } from '../jobs/job.js';

/** A sentence with `{}` where a label or a text goes, as CLIP's prompts have it. */
export const template = lineOfText('template').refine(
  (text) => text.split('{}').length === 2,
  'a template has {} once, where the text goes: for example "a photo of {}"',
);

/** What BriVL and CLIP say around a class of any picture. */
export const defaultTemplates = { en: ['a photo of {}'], zh: ['这是一张关于{}的图'] } as const;

/** The text as it is. */
export const plainTemplates: readonly string[] = ['{}'];

export const filled = (template: string, text: string): string => template.split('{}').join(text);
