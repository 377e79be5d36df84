import * as library from '@huggingface/tokenizers';
import { z } from 'zod';

export interface TokenizedText {
  ids: number[];
  /** True when the text had more pieces than the tower takes, and the rest was left out. */
  cut: boolean;
  /** Parts of the text that the vocabulary does not know. */
  unknown: string[];
}

/** The part of the library that is used; its own declarations do not resolve under Node's module rules (0.2.0). */
interface Encoder {
  encode(text: string): { ids: number[]; tokens: string[] };
}
const { Tokenizer } = library as unknown as { Tokenizer: new (json: object, config: object) => Encoder };

/** What tokenizer.json must have for us; the library reads the rest. */
const tokenizerFile = z.looseObject({
  model: z.looseObject({
    unk_id: z.number().nullish(),
    unk_token: z.string().nullish(),
    vocab: z.union([z.record(z.string(), z.number()), z.array(z.unknown())]),
  }),
});

/** The id of what is not in the vocabulary: Unigram models name the id, WordPiece and BPE the piece. */
function unknownOf({ unk_id: id, unk_token: piece, vocab }: z.output<typeof tokenizerFile>['model']): number | null {
  if (id != null) return id;
  return piece != null && !Array.isArray(vocab) ? (vocab[piece] ?? null) : null;
}

/**
 * @param json a Hugging Face tokenizer.json, parsed.
 * @param longest most pieces that the tower takes, the closing one included.
 */
export function createTokenizer(json: unknown, prefix: string, longest: number): (text: string) => TokenizedText {
  const file = tokenizerFile.parse(json);
  const encoder = new Tokenizer(file, {});
  const unknownId = unknownOf(file.model);
  return (text) => {
    const { ids, tokens } = encoder.encode(prefix + text);
    const unknown = tokens.filter((_, i) => ids[i] === unknownId);
    if (ids.length <= longest) return { ids, cut: false, unknown };
    // The last piece closes the sequence and stays.
    return { ids: [...ids.slice(0, longest - 1), ids[ids.length - 1]], cut: true, unknown };
  };
}
