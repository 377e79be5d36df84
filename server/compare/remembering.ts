import type { Compute, ModelView } from '../compute/protocol.js';
import type { Blobs } from '../store/blobs.js';
import type { Embedder } from './compare.js';

/** Values by key, up to a number of them: the one unused longest goes first. */
export function createMemory<Value>(most: number) {
  const kept = new Map<string, Value>();
  return async (key: string, make: () => Promise<Value>): Promise<Value> => {
    const value = kept.get(key) ?? (await make());
    kept.delete(key);
    kept.set(key, value);
    if (kept.size > most) kept.delete(kept.keys().next().value!);
    return value;
  };
}

type Told = Awaited<ReturnType<Embedder['text']>>;

/**
 * Embedders over the compute process and the stored pictures that remember: a page that asks again after each word that is typed pays for
 * that word alone, and a set of labels is embedded once. A few thousand embeddings are a few megabytes.
 */
export function rememberingEmbedders(compute: Compute, blobs: Blobs): (model: ModelView) => Embedder {
  const texts = createMemory<Told>(6000);
  const pictures = createMemory<Float32Array>(2000);
  return ({ name: model, hash }) => ({
    text: (text) => texts(`${hash}:${text}`, () => compute.request('embedText', { model, text })),
    picture: (id) =>
      pictures(`${hash}:${id}`, async () => {
        const { embedding } = await compute.request('embedImage', { model, image: await blobs.read(id) });
        return embedding;
      }),
  });
}
