import { defaultModel } from '../../models/registry.js';
import { lineOfText, type Concept } from '../jobs/job.js';
import {
  numberOf,
  readNamed,
  required,
  sentences,
  stringOf,
  UsageError,
  type Command,
  type Options,
  type Values,
} from './command.js';
import { openEngine } from './studio.js';

const options = { image: { type: 'string' }, model: { type: 'string' }, device: { type: 'string' } } satisfies Options;

function textOf(positionals: string[]): string {
  const parsed = lineOfText('text').safeParse(required(positionals, 'text'));
  if (!parsed.success) throw new UsageError(sentences(parsed.error));
  return parsed.data;
}

function imageOf(values: Values): Uint8Array | undefined {
  const file = stringOf(values, 'image');
  return file === undefined ? undefined : readNamed(file, '--image');
}

export const embedCommand: Command = {
  usage: 'embed "<text>" | embed --image FILE [--json]',
  summary: 'the embedding of a text or a picture, L2-normalised',
  options,
  async run(positionals, values) {
    const image = imageOf(values);
    if (image && positionals.length) throw new UsageError('give a text or --image FILE, not both');
    const text = image ? null : textOf(positionals);
    const model = stringOf(values, 'model') ?? defaultModel;
    const engine = await openEngine(stringOf(values, 'device') ?? 'cpu');
    try {
      const { embedding, notices } = image
        ? { ...(await engine.embedImage(model, image)), notices: [] }
        : await engine.embedText(model, text!);
      for (const { message } of notices) console.error(message);
      const told = { model, embedding: [...embedding], notices };
      if (values.json !== true) console.log(told.embedding.map((v) => v.toFixed(6)).join(' '));
      return told;
    } finally {
      await engine.release();
    }
  },
};

export const conceptsCommand: Command = {
  usage: 'concepts "<text>" | concepts --image FILE [--top N] [--more] [--json]',
  summary: 'the visual concepts nearest to a text or a picture, of the 1000 classes; --more: also those made from pictures',
  options: { ...options, top: { type: 'string' }, more: { type: 'boolean' } },
  async run(positionals, values) {
    const image = imageOf(values);
    if (image && positionals.length) throw new UsageError('give a text or --image FILE, not both');
    const text = image ? null : textOf(positionals);
    const top = numberOf(values, 'top') ?? 5;
    if (!Number.isInteger(top) || top < 1 || top > 1000)
      throw new UsageError(`--top takes a whole number from 1 to 1000, not ${top}`);
    const more = values.more === true;
    const model = stringOf(values, 'model') ?? defaultModel;
    const engine = await openEngine(stringOf(values, 'device') ?? 'cpu');
    try {
      const answer = image
        ? { ...(await engine.conceptsOfImage(model, image, top, more)), notices: [] }
        : await engine.conceptsOfText(model, text!, top, more);
      for (const { message } of answer.notices) console.error(message);
      if (values.json !== true) console.log(answer.concepts.map(line).join('\n'));
      return { model, ...answer };
    } finally {
      await engine.release();
    }
  },
};

const line = ({ score, word, zh, wnid }: Concept): string => `${score.toFixed(3)}  ${zh ? `${zh} ` : ''}${word}  (${wnid})`;
