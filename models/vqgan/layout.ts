import type { Shape } from '../graph/index.js';
import type { VqganConfig } from './config.js';

/** A run of blocks at one resolution, and whether the resolution changes after it. */
export interface Level {
  /** As in the state dict: `down.0` is the highest resolution, and so is `up.0`. */
  name: string;
  blocks: { name: string; in: number; out: number }[];
  /** An attention block `attn.i` after each block `block.i`. */
  attention: boolean;
  /** Channels that it ends with. */
  out: number;
  /** Whether a `downsample` (encoder) or `upsample` (decoder) follows. */
  resamples: boolean;
}

/** Levels of the encoder, in the order in which they are run. */
export function encoderLevels(config: VqganConfig): Level[] {
  let channels = config.ch;
  return config.chMult.map((_, i) => {
    const level = levelOf(config, i, 'down', channels, config.blocks.encoder, i < config.chMult.length - 1);
    channels = level.out;
    return level;
  });
}

/** Levels of the decoder, in the order in which they are run: the last one listed in `chMult` first. */
export function decoderLevels(config: VqganConfig): Level[] {
  let channels = middleChannels(config);
  return config.chMult
    .map((_, i) => i)
    .reverse()
    .map((i) => {
      const level = levelOf(config, i, 'up', channels, config.blocks.decoder, i > 0);
      channels = level.out;
      return level;
    });
}

function levelOf(config: VqganConfig, i: number, way: 'down' | 'up', channels: number, count: number, resamples: boolean): Level {
  const out = config.ch * config.chMult[i];
  return {
    name: `${way}.${i}`,
    blocks: Array.from({ length: count }, (_, b) => ({ name: `block.${b}`, in: b ? out : channels, out })),
    attention: config.attention.includes(Math.floor(config.resolution / 2 ** i)),
    out,
    resamples,
  };
}

/** Channels of the lowest resolution. */
export const middleChannels = ({ ch, chMult }: VqganConfig): number => ch * chMult[chMult.length - 1];

/** Where the state dict holds the codes, [codes, embedDim]. */
export const codebookName = ({ kind }: VqganConfig): string =>
  kind === 'vq' ? 'quantize.embedding.weight' : 'quantize.embed.weight';

/** Every tensor of the network by its name in the official state dict, with its shape. */
export function parameterShapes(config: VqganConfig): Map<string, Shape> {
  const { zChannels, embedDim, codes } = config;
  const shapes = new Map<string, Shape>();
  const conv = (name: string, from: number, to: number, kernel: number) =>
    shapes.set(`${name}.weight`, [to, from, kernel, kernel]).set(`${name}.bias`, [to]);
  const norm = (name: string, channels: number) => shapes.set(`${name}.weight`, [channels]).set(`${name}.bias`, [channels]);
  const block = (name: string, from: number, to: number) => {
    norm(`${name}.norm1`, from);
    conv(`${name}.conv1`, from, to, 3);
    norm(`${name}.norm2`, to);
    conv(`${name}.conv2`, to, to, 3);
    if (from !== to) conv(`${name}.nin_shortcut`, from, to, 1);
  };
  const attention = (name: string, channels: number) => {
    norm(`${name}.norm`, channels);
    for (const part of ['q', 'k', 'v', 'proj_out']) conv(`${name}.${part}`, channels, channels, 1);
  };
  const levels = (root: string, list: readonly Level[], resample: string) => {
    for (const level of list) {
      const name = `${root}.${level.name}`;
      level.blocks.forEach((b, i) => {
        block(`${name}.${b.name}`, b.in, b.out);
        if (level.attention) attention(`${name}.attn.${i}`, b.out);
      });
      if (level.resamples) conv(`${name}.${resample}.conv`, level.out, level.out, 3);
    }
  };
  const middle = (root: string) => {
    const channels = middleChannels(config);
    block(`${root}.mid.block_1`, channels, channels);
    if (config.middleAttention) attention(`${root}.mid.attn_1`, channels);
    block(`${root}.mid.block_2`, channels, channels);
  };

  conv('encoder.conv_in', 3, config.ch, 3);
  levels('encoder', encoderLevels(config), 'downsample');
  middle('encoder');
  norm('encoder.norm_out', middleChannels(config));
  conv('encoder.conv_out', middleChannels(config), zChannels, 3);
  conv('quant_conv', zChannels, embedDim, 1);
  if (config.kind === 'gumbel') conv('quantize.proj', embedDim, codes, 1);
  shapes.set(codebookName(config), [codes, embedDim]);
  conv('post_quant_conv', embedDim, zChannels, 1);
  conv('decoder.conv_in', zChannels, middleChannels(config), 3);
  middle('decoder');
  levels('decoder', decoderLevels(config), 'upsample');
  norm('decoder.norm_out', config.ch * config.chMult[0]);
  conv('decoder.conv_out', config.ch * config.chMult[0], 3, 3);
  return shapes;
}
