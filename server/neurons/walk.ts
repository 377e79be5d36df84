import { z } from 'zod';
import { BadRequest } from '../compute/protocol.js';
import { Moments } from './moments.js';
import { decodeFor, type PictureFile, type PictureSet } from './pictures.js';
import type { EyeView, LayerAnswer, Looker, Seen } from './see.js';
import { decodeState, encodeState, type Arrays } from './state.js';
import { Tally, type TallyShape } from './tally.js';

/** Pictures that are looked at together; the walk is saved, stopped and resumed at multiples of it. */
export const batch = 8;

/** What the tallies of all layers may take: with the state that is saved, which is as large, three times as much is in memory. */
const mostBytes = 512 * 2 ** 20;

/** Unreadable pictures that are named; the others are counted. */
const mostNamed = 100;

/** A picture that could not be read. */
export interface Unreadable {
  name: string;
  why: string;
}

/** What an example is: its file, and where it lies in the joint space if it is one of the strongest of some channel. */
export interface Kept {
  name: string;
  embedding: Float32Array | null;
}

/** What is known after some of the pictures of a set. */
export interface Walked {
  /** How many of the set have been met, readable or not. */
  done: number;
  unreadable: { count: number; first: Unreadable[] };
  /** By layer, in the order that was asked for. */
  tallies: Map<string, Tally>;
  /** Those that are examples, by number in the set. */
  kept: Map<number, Kept>;
}

export interface WalkOptions {
  looker: Looker;
  eye: EyeView;
  layers: readonly string[];
  set: PictureSet;
  /** A state from `save` of the same eye, layers and set; from one that cannot be read the walk begins at the start. */
  state?: Uint8Array;
  /**
   * Called after each batch, with a way to take the state; the walk goes on when it resolves, unless it answers false.
   */
  between?: (walked: Walked, save: () => Buffer) => Promise<boolean> | boolean;
}

const shapes = z.object({
  channels: z.int(),
  rows: z.int(),
  columns: z.int(),
  maps: z.boolean(),
  embed: z.int(),
  directed: z.boolean(),
}) satisfies z.ZodType<TallyShape>;

const told = z.object({
  done: z.int().min(0),
  unreadable: z.object({ count: z.int(), first: z.array(z.object({ name: z.string(), why: z.string() })) }),
  shapes: z.array(shapes),
  names: z.array(z.tuple([z.int(), z.string()])),
  embedded: z.array(z.int()),
});

/**
 * Walks through a set in batches and tallies how the channels of layers answer. Nothing in memory grows with the number of pictures; of the
 * examples, whose number is bounded by that of the channels, names and embeddings are kept. Pictures that cannot be read are counted and named.
 * Stopped and taken up again from a state it comes to the same numbers, to the byte: batches always begin at multiples of `batch`.
 *
 * @returns what is known; `isWhole` when it came to the end of the set
 * @throws BadRequest for layers that together are too large
 */
export async function walk({
  looker,
  eye,
  layers,
  set,
  state,
  between,
}: WalkOptions): Promise<{ walked: Walked; isWhole: boolean; save: () => Buffer }> {
  const directed = await Promise.all(layers.map(async (layer) => (await looker.meaning(eye.name, layer)).directions !== null));
  const walked: Walked = { done: 0, unreadable: { count: 0, first: [] }, tallies: new Map(), kept: new Map() };
  let embeddings = new Moments(eye.embed);
  const [before, after] = [new Float64Array(eye.embed), new Float64Array(eye.embed)];

  const begin = (tallyShapes: readonly TallyShape[]) => {
    let bytes = 0;
    const tallies = layers.map((layer, i): [string, Tally] => {
      const tally = new Tally(tallyShapes[i]);
      bytes += Object.values(tally.arrays).reduce((sum, { byteLength }) => sum + byteLength, 0);
      if (bytes > mostBytes)
        throw new BadRequest(
          `what is to be known of ${i + 1} layers (${layers.slice(0, i + 1).join(', ')}) takes ${Math.ceil(bytes / 2 ** 20)} MiB, more than ${mostBytes / 2 ** 20}: index fewer layers at a time`,
        );
      return [layer, tally];
    });
    walked.tallies = new Map(tallies);
  };
  const arraysOf = (vectors: Float32Array): Arrays => ({
    ...named('embeddings', embeddings.arrays),
    ...Object.fromEntries([...walked.tallies.values()].flatMap((tally, i) => Object.entries(named(String(i), tally.arrays)))),
    vectors,
  });
  const save = (): Buffer => {
    forget(walked);
    const kept = [...walked.kept].sort(([a], [b]) => a - b);
    const embedded = kept.filter(([, { embedding }]) => embedding !== null);
    const vectors = new Float32Array(embedded.length * eye.embed);
    embedded.forEach(([, { embedding }], i) => vectors.set(embedding!, i * eye.embed));
    const { done, unreadable, tallies } = walked;
    return encodeState(
      {
        done,
        unreadable,
        shapes: [...tallies.values()].map(({ shape }) => shape),
        names: kept.map(([image, { name }]) => [image, name]),
        embedded: embedded.map(([image]) => image),
      },
      arraysOf(vectors),
    );
  };

  const resume = (state: Uint8Array) => {
    let vectors = new Float32Array();
    const read = decodeState(state, told, ({ shapes, embedded }) => {
      if (shapes.length > 0) begin(shapes);
      vectors = new Float32Array(embedded.length * eye.embed);
      return arraysOf(vectors);
    });
    walked.done = read.done;
    walked.unreadable = read.unreadable;
    walked.kept = new Map(read.names.map(([image, name]) => [image, { name, embedding: null }]));
    read.embedded.forEach((image, i) => {
      walked.kept.get(image)!.embedding = vectors.slice(i * eye.embed, (i + 1) * eye.embed);
    });
  };
  try {
    if (state) resume(state);
  } catch {
    // Damaged, or of another program: looking at the pictures again costs time, and no index is lost for good.
    Object.assign(walked, { done: 0, unreadable: { count: 0, first: [] }, tallies: new Map(), kept: new Map() });
    embeddings = new Moments(eye.embed);
  }

  const refuse = (file: PictureFile, why: string) => {
    walked.unreadable.count += 1;
    if (walked.unreadable.first.length < mostNamed) walked.unreadable.first.push({ name: file.name, why: why.slice(0, 200) });
  };

  const take = (files: readonly PictureFile[], decoded: readonly (Uint8Array | Error)[], seen: Seen | null) => {
    files.forEach((file, at) => {
      const picture = decoded[at];
      if (picture instanceof Error) return refuse(file, picture.message);
      const { embeddings: vectors, layers: answers } = seen!;
      const embedding = vectors.subarray(at * eye.embed, (at + 1) * eye.embed);
      if (!areNumbers(embedding, answers, at)) return refuse(file, 'the network answers it with numbers that are not finite');
      const image = walked.done + at;
      embeddings.add(embedding, before, after);
      let isTop = false;
      [...walked.tallies.values()].forEach((tally, i) => {
        if (tally.add(image, answers[i], at, after)) isTop = true;
      });
      walked.kept.set(image, { name: file.name, embedding: isTop ? embedding.slice() : null });
    });
    walked.done += files.length;
  };

  let kept = 0;
  const look = async ({ files, decoding }: Batch): Promise<void> => {
    const decoded = await decoding;
    const size = eye.size * eye.size * 3;
    const pixels = new Uint8Array(batch * size);
    decoded.forEach((picture, i) => !(picture instanceof Error) && pixels.set(picture, i * size));
    const isAny = decoded.some((picture) => !(picture instanceof Error));
    const seen = isAny ? await looker.see({ model: eye.name, layers: [...layers], pixels }) : null;
    if (seen && walked.tallies.size === 0)
      begin(
        seen.layers.map(({ rows, columns, maps }, i) => ({
          channels: eye.layers.find(({ name }) => name === layers[i])!.channels,
          rows,
          columns,
          maps: maps !== null,
          embed: eye.embed,
          directed: directed[i],
        })),
      );
    take(files, decoded, seen);
    if (walked.kept.size > 2 * kept + 1024) {
      forget(walked);
      kept = walked.kept.size;
    }
  };

  // While the eye looks at one batch the next is decoded.
  let next: Batch | null = null;
  const batches = inBatches(set, walked.done, eye.size);
  try {
    for (;;) {
      const current: Batch | null = next ?? (await nextOf(batches));
      if (!current) break;
      next = await nextOf(batches);
      await look(current);
      if (between && !(await between(walked, save))) return { walked, isWhole: next === null, save };
      if (!next) break;
    }
  } finally {
    await next?.decoding;
    await batches.return();
  }
  forget(walked);
  return { walked, isWhole: true, save };
}

const named = (prefix: string, arrays: Arrays): Arrays =>
  Object.fromEntries(Object.entries(arrays).map(([name, array]) => [`${prefix}.${name}`, array]));

interface Batch {
  files: PictureFile[];
  decoding: Promise<(Uint8Array | Error)[]>;
}

async function nextOf(batches: AsyncGenerator<Batch, void>): Promise<Batch | null> {
  const { value } = await batches.next();
  return value ?? null;
}

async function* inBatches(set: PictureSet, skip: number, size: number): AsyncGenerator<Batch, void> {
  const batchOf = (files: PictureFile[]): Batch => ({
    files,
    decoding: Promise.all(files.map(({ path }) => decodeFor(size, path).catch((error: unknown) => error as Error))),
  });
  let files: PictureFile[] = [];
  let met = 0;
  for await (const file of set.walk()) {
    met += 1;
    if (met <= skip) continue;
    files.push(file);
    if (files.length === batch) {
      yield batchOf(files);
      files = [];
    }
  }
  if (files.length > 0) yield batchOf(files);
}

function areNumbers(embedding: Float32Array, answers: readonly LayerAnswer[], at: number): boolean {
  return (
    embedding.every(Number.isFinite) &&
    answers.every(({ means }) => {
      const channels = means.length / batch;
      return means.subarray(at * channels, (at + 1) * channels).every(Number.isFinite);
    })
  );
}

/** Pictures that are examples no more are forgotten. */
function forget({ tallies, kept }: Walked): void {
  const [all, top] = [new Set<number>(), new Set<number>()];
  for (const tally of tallies.values()) {
    for (const image of tally.images()) all.add(image);
    for (const image of tally.topImages()) top.add(image);
  }
  for (const [image, one] of kept) {
    if (!all.has(image)) kept.delete(image);
    else if (!top.has(image)) one.embedding = null;
  }
}
