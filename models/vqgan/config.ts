import { z } from 'zod';

const count = z.number().int().min(1);

/** config.json of a VQGAN folder: the architecture as numbers; the weights lie beside it. */
export const vqganConfig = z
  .object({
    name: z.string().min(1),
    version: z.number().default(1),
    description: z.string().optional(),
    /** The weight file, in the folder itself. */
    weights: z
      .string()
      .regex(/^[^/\\]+$/, 'a file name without a path')
      .default('vqgan.safetensors'),
    /** 'vq': the nearest code is taken. 'gumbel': a projection has a logit for each code (GumbelVQ); to draw, nearest codes serve too. */
    kind: z.enum(['vq', 'gumbel']),
    /** Channels of the highest level; level i has `ch * chMult[i]`, and each but the last halves the picture. */
    ch: count,
    chMult: z.array(count).min(1),
    /** Residual blocks of a level: taming's `num_res_blocks` n is n in the encoder and n + 1 in the decoder. */
    blocks: z.object({ encoder: count, decoder: count }),
    /** The picture's side that `attention` counts from, whatever the canvas. */
    resolution: count.default(256),
    /** Sides of the maps, at `resolution`, whose levels have an attention block after each residual block. */
    attention: z.array(count),
    /** Whether there is an attention block between the two residual blocks in the middle. */
    middleAttention: z.boolean().default(true),
    /** Groups of every GroupNorm. */
    groups: count.default(32),
    /** Channels between encoder and quantizer. */
    zChannels: count,
    /** Numbers in a code. */
    embedDim: count,
    /** Codes to choose from; their numbers are sent in two bytes. */
    codes: count.max(0x10000),
    sources: z
      .array(z.object({ part: z.string().optional(), what: z.string(), from: z.string(), licence: z.string() }))
      .default([]),
  })
  .refine(({ ch, groups }) => ch % groups === 0, { path: ['groups'], error: 'groups must divide ch' })
  /** Pixels of the picture's side for one of the latent map's. */
  .transform((config) => ({ ...config, downsampling: 2 ** (config.chMult.length - 1) }));

export type VqganConfig = z.output<typeof vqganConfig>;

const official = { version: 1, ch: 128, blocks: { encoder: 2, decoder: 3 }, zChannels: 256, embedDim: 256 };
const source = (what: string, share: string) => [
  { what, from: `https://heibox.uni-heidelberg.de/d/${share}/ (CompVis/taming-transformers)`, licence: 'MIT' },
];

/** The published networks (shared reference, vqgan.md), by the names that taming-transformers gives them. */
export const vqganPresets = {
  'imagenet-f16-1024': vqganConfig.parse({
    ...official,
    name: 'imagenet-f16-1024',
    kind: 'vq',
    chMult: [1, 1, 2, 2, 4],
    attention: [16],
    codes: 1024,
    sources: source('VQGAN ImageNet f16, 1024 codes', '8088892a516d4e3baf92'),
  }),
  'imagenet-f16-16384': vqganConfig.parse({
    ...official,
    name: 'imagenet-f16-16384',
    kind: 'vq',
    chMult: [1, 1, 2, 2, 4],
    attention: [16],
    codes: 16384,
    sources: source('VQGAN ImageNet f16, 16384 codes', 'a7530b09fed84f80a887'),
  }),
  'openimages-gumbel-f8-8192': vqganConfig.parse({
    ...official,
    name: 'openimages-gumbel-f8-8192',
    kind: 'gumbel',
    chMult: [1, 1, 2, 4],
    attention: [32],
    codes: 8192,
    sources: source('VQGAN OpenImages f8, 8192 codes, Gumbel quantization', '2e5662443a6b4307b470'),
  }),
} satisfies Record<string, VqganConfig>;

export type VqganPreset = keyof typeof vqganPresets;
