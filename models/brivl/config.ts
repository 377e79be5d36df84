import { z } from 'zod';
import { efficientNets, type EfficientNetName } from './efficientnet.js';

const attention = z.object({
  layers: z.number().int().min(0),
  heads: z.number().int().min(1).default(4),
});

/** How a map or a token sequence becomes an embedding: (multi-scale patches | mean) -> attention -> mean -> FC -> L2. */
const head = z.object({
  tokenNorm: z.boolean(),
  attention,
  fc: z.enum(['linear', 'mlp']),
});

const imageTower = head
  .extend({
    backbone: z.enum(Object.keys(efficientNets) as [EfficientNetName, ...EfficientNetName[]]),
    size: z.number().int().min(32),
    input: z.object({ mean: z.array(z.number()).length(3), std: z.array(z.number()).length(3) }),
    feature: z.number().int(),
    pooling: z.enum(['mean', 'mspp']),
    mspp: z.object({ grids: z.array(z.number().int().min(1)), roi: z.number().int().min(1), conv: z.boolean() }).optional(),
    embed: z.number().int(),
  })
  .refine(({ pooling, mspp }) => pooling !== 'mspp' || mspp, { path: ['mspp'], error: 'pooling by mspp needs its grids' });

const textTower = head.extend({
  backbone: z.object({
    type: z.literal('bert'),
    layers: z.number().int(),
    hidden: z.number().int(),
    heads: z.number().int(),
    ffn: z.number().int(),
    vocab: z.number().int(),
    layerNormEps: z.number(),
  }),
  prefix: z.string().default(''),
  /** BriVL's RoBERTa sees padding; e5 and Chinese-CLIP mask it. */
  paddingMask: z.boolean(),
  maxLength: z.number().int().min(2),
  /** Always this many tokens (padded), for towers whose embedding depends on the padded length. */
  fixedLength: z.boolean().default(false),
  pooledNorm: z.boolean(),
  /** Leans what a text says towards the concepts that it recalls: see `recalled` in towers.ts. */
  recall: z.object({ sharpness: z.number().positive(), share: z.number().min(0).max(1) }).optional(),
});

/** config.json of a BriVL folder: the architecture as numbers; the weights lie beside it. */
export const brivlConfig = z.object({
  name: z.string(),
  version: z.number(),
  description: z.string().optional(),
  image: imageTower,
  text: textTower,
  /** How many of the concepts are classes of the network; the rest were made from pictures. */
  concepts: z.object({ classes: z.number().int().min(1) }).optional(),
  /** An encoder that never draws and only looks: its image tower and its weight file. */
  second: imageTower.optional(),
});

export type BrivlConfig = z.output<typeof brivlConfig>;
export type ImageTowerConfig = z.output<typeof imageTower>;
export type TextTowerConfig = z.output<typeof textTower>;
