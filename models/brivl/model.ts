import { existsSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { z } from 'zod';
import { Graph, simplify, type Value } from '../graph/index.js';
import { digestOf } from '../weights/digest.js';
import { openWeights, scoped, type Weights } from '../weights/weights.js';
import { brivlConfig, type BrivlConfig, type ImageTowerConfig } from './config.js';
import { llpLayer } from './efficientnet.js';
import { readStatistics, type ChannelStatistics } from './statistics.js';
import { createTokenizer, type TokenizedText } from './tokenizer.js';
import { imageLayers, imageTower, textTower, type ImageTower } from './towers.js';
import type { Layer } from './units.js';

/** An image tower ready to be put into graphs. */
export interface Eye {
  /** Of its weights and shape alone: what is known of its units stays true while texts and concepts around it change. */
  hash: string;
  /** Side of the square pictures that it looks at. */
  size: number;
  /** Channels of its last map: the LLP neurons. */
  channels: number;
  /** All layers with units, LLP among them: those of `ImageTower.layers`. */
  layers: readonly Layer[];
  embed: number;
  /** @param pictures [N, 3, size, size] in [0, 1] */
  look(g: Graph, pictures: Value): ImageTower;
  /** Where each channel of a layer pulls the embedding before its norm, [channels, embed], if the way there is linear; else null. */
  directions?(layer: string): Float32Array | null;
}

export interface ConceptEntry {
  wnid: string;
  word: string;
  zh: string | null;
}

/** Named directions of a joint space, rows L2-normalised: [entries, embed]. */
export interface ConceptSpace {
  /** The classes of the network first, then what was made from pictures. */
  entries: readonly ConceptEntry[];
  classes: number;
  joint: Float32Array;
}

/** What a model that did not draw thinks of texts and pictures: its own eye, concepts, and the way from the first joint space to its own. */
export interface SecondOpinion {
  eye: Eye;
  joint: Float32Array;
  /** [embed, embed]: y = bridge x. */
  bridge: Float32Array;
}

/** What can be explored: an eye, and words for what it sees where it has any. */
export interface ImageModel {
  name: string;
  /** SHA-256 over config and weights, 16 hexadecimal digits. */
  hash: string;
  bytes: number;
  parameters: number;
  description: string;
  eye: Eye;
  concepts: ConceptSpace | null;
  /** How layers answer the bundled photographs, where the model's files tell: the others are measured (server/imagination/statistics.ts). */
  statistics: ReadonlyMap<string, ChannelStatistics>;
}

export interface BrivlModel extends ImageModel {
  config: BrivlConfig;
  concepts: ConceptSpace;
  second: SecondOpinion | null;
  tokenize(text: string): TokenizedText;
  /** Padded lengths that text graphs exist for, the smallest that fits is used. */
  textLengths: readonly number[];
  /** Rows of the word table for ids, padded with the id 0's row to `length`: [length, hidden], and the mask [length]. */
  words(ids: readonly number[], length: number): { words: Float32Array; mask: Float32Array };
  /** `words` [1, length, hidden], `mask` [1, length] -> `embedding` [1, embed]. */
  textGraph(length: number): Graph;
}

const conceptEntries = z.array(z.object({ wnid: z.string(), word: z.string(), zh: z.string().nullable() }));

/** Opens a model folder: config.json, tokenizer.json, image/text/second/concepts/statistics.safetensors, concepts.json. */
export function openBrivl(folder: string): BrivlModel {
  const path = (name: string) => join(folder, name);
  const text = (name: string) => readFileSync(path(name), 'utf8');
  const config = brivlConfig.parse(JSON.parse(text('config.json')));
  const image = openWeights(path('image.safetensors'));
  const words = openWeights(path('text.safetensors'));
  const entries = conceptEntries.parse(JSON.parse(text('concepts.json')));
  const joint = readOnce(path('concepts.safetensors'), (w) => floats(w, 'joint'));
  const eye = eyeOf(path('image.safetensors'), scoped(image, 'imgencoder.'), config.image);
  const measured = path('statistics.safetensors');
  const layers = eye.layers.map(({ name }) => name);
  const statistics = existsSync(measured)
    ? readOnce(measured, (w) => readStatistics(w, layers))
    : new Map<string, ChannelStatistics>();
  const tokenize = createTokenizer(JSON.parse(text('tokenizer.json')), config.text.prefix, config.text.maxLength);
  const files = [
    'config.json',
    'image.safetensors',
    'text.safetensors',
    'tokenizer.json',
    'concepts.json',
    'concepts.safetensors',
    'second.safetensors',
    'statistics.safetensors',
  ];
  const { hash, bytes } = digestOf(files.map(path).filter((file) => existsSync(file)));
  const towerText = scoped(words, 'textencoder.');
  const table = 'backbone.bert.embeddings.word_embeddings.weight';

  return {
    name: config.name,
    hash,
    bytes,
    parameters: image.elements() + words.elements(),
    description: config.description ?? '',
    config,
    eye,
    concepts: { entries, classes: config.concepts?.classes ?? entries.length, joint },
    second: config.second ? openSecond(path('second.safetensors'), config.second) : null,
    statistics,
    textLengths: config.text.fixedLength ? [config.text.maxLength] : textLengths(config.text.maxLength),
    tokenize,
    words(ids, length) {
      const padded = [...ids, ...new Array<number>(length - ids.length).fill(0)];
      const mask = Float32Array.from({ length }, (_, i) => (i < ids.length ? 1 : 0));
      return { words: towerText.rows(table, padded).data as Float32Array, mask };
    },
    textGraph(length) {
      const g = new Graph();
      const tokens = g.input('words', [1, length, config.text.backbone.hidden]);
      const mask = g.input('mask', [1, length]);
      const prototypes = g.floats(joint, [entries.length, config.image.embed], 'concepts');
      g.output('embedding', textTower(g, tokens, mask, towerText, config.text, prototypes));
      return simplify(g);
    },
  };
}

/** Short lines are most lines: they should not pay for the longest. */
const textLengths = (longest: number): number[] => [32, longest].filter((n, i, all) => n <= longest && all.indexOf(n) === i);

function eyeOf(file: string, weights: Weights, config: ImageTowerConfig): Eye {
  return {
    hash: digestOf([file], JSON.stringify(config)).hash,
    size: config.size,
    channels: config.feature,
    layers: imageLayers(config),
    embed: config.embed,
    look: (g, pictures) => imageTower(g, pictures, weights, config),
    directions: (layer) => (layer === llpLayer ? linearDirections(weights, config) : null),
  };
}

/** The columns of the one matrix between the mean of the LLP map and the joint space. */
function linearDirections(weights: Weights, { pooling, fc, embed, feature }: ImageTowerConfig): Float32Array | null {
  if (pooling !== 'mean' || fc !== 'linear') return null;
  const matrix = floats(weights, 'learnable.imgFC.fc1.weight');
  return Float32Array.from({ length: feature * embed }, (_, i) => matrix[(i % embed) * feature + Math.floor(i / embed)]);
}

function openSecond(file: string, config: ImageTowerConfig): SecondOpinion {
  const weights = openWeights(file);
  return {
    eye: eyeOf(file, scoped(weights, 'imgencoder.'), config),
    joint: floats(weights, 'joint'),
    bridge: floats(weights, 'bridge'),
  };
}

const floats = (weights: Weights, name: string): Float32Array => weights.tensor(name).data as Float32Array;

function readOnce<T>(file: string, read: (weights: Weights) => T): T {
  const weights = openWeights(file);
  try {
    return read(weights);
  } finally {
    weights.close();
  }
}

/**
 * The `top` entries nearest to an embedding of the same space, by cosine, best first; ties keep the list's order.
 *
 * @param more also those beyond the network's classes
 */
export function nearest(
  space: ConceptSpace,
  embedding: Float32Array,
  top: number,
  more = true,
): (ConceptEntry & { score: number })[] {
  const { entries, joint } = space;
  const embed = embedding.length;
  const scored = entries.slice(0, more ? undefined : space.classes).map((entry, i) => {
    let score = 0;
    for (let k = 0; k < embed; k++) score += joint[i * embed + k] * embedding[k];
    return { ...entry, score };
  });
  return scored.sort((a, b) => b.score - a.score).slice(0, top);
}
