import { existsSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { z } from 'zod';
import { sameShape, sizeOf, type Graph, type Value } from '../graph/index.js';
import { digestOf } from '../weights/digest.js';
import { openWeights, type Weights } from '../weights/weights.js';
import { vqganConfig, type VqganConfig } from './config.js';
import { codebookName, parameterShapes } from './layout.js';
import { likeliest, quantize, type Quantized } from './quantizer.js';
import { naturalLatents, type NaturalLatents } from './natural.js';
import { decoder, encoder } from './vqgan.js';

export interface VqganModel {
  name: string;
  /** SHA-256 over config and weights, 16 hexadecimal digits. */
  hash: string;
  bytes: number;
  parameters: number;
  description: string;
  config: VqganConfig;
  /** [codes, embedDim], row by row. */
  codebook: Float32Array;
  /** The least and greatest number that any code has in a channel, [embedDim]: the box that latent maps are kept in. */
  channelRange: { low: Float32Array; high: Float32Array };
  /** How latents of photographs vary, as far as is known. Worked out at the first call. */
  natural(): NaturalLatents;
  /** Pictures [N, 3, H, W] in [0, 1] -> latent maps [N, embedDim, H/f, W/f], f = `config.downsampling`. */
  encode(g: Graph, pictures: Value): Value;
  /** The codes that the model itself gives an encoded map: the nearest, or those that its Gumbel projection finds likeliest. */
  tokens(g: Graph, encoded: Value): Quantized;
  /** The nearest codes to a latent map of the codebook's space, with a straight-through gradient: for maps that are being optimised. */
  quantize(g: Graph, z: Value): Quantized & { straightThrough: Value };
  /** Latent maps [N, embedDim, h, w] -> pictures [N, 3, f h, f w], not clamped. */
  decode(g: Graph, z: Value): Value;
  close(): void;
}

/**
 * Opens a model folder: config.json and the weight file that it names, under the official state dict's names (F32, F16 or quantised).
 * Throws an Error that names the file and what is wrong with it: a setting, a tensor that is missing or has another shape, a number
 * in the codebook that is not finite.
 */
export function openVqgan(folder: string): VqganModel {
  const configPath = join(folder, 'config.json');
  const config = readConfig(configPath);
  const weightsPath = join(folder, config.weights);
  if (!existsSync(weightsPath)) throw new Error(`${configPath} names the weights ${config.weights}, but there is no such file`);
  const weights = openWeights(weightsPath);
  try {
    return modelOf(config, weights, weightsPath, digestOf([configPath, weightsPath]));
  } catch (error) {
    weights.close();
    throw error;
  }
}

function modelOf(config: VqganConfig, weights: Weights, path: string, digest: { hash: string; bytes: number }): VqganModel {
  const shapes = parameterShapes(config);
  for (const [name, shape] of shapes) {
    if (!weights.has(name)) throw new Error(`${path} has no weights ${name}, which the network of config.json has`);
    const found = weights.shape(name);
    if (!sameShape(found, shape))
      throw new Error(`${path}: ${name} has the shape [${found.join(', ')}], by config.json it is [${shape.join(', ')}]`);
  }
  const codebook = weights.tensor(codebookName(config)).data as Float32Array;
  const broken = codebook.findIndex((v) => !Number.isFinite(v));
  if (broken >= 0)
    throw new Error(`${path}: code ${Math.floor(broken / config.embedDim)} of ${codebookName(config)} holds ${codebook[broken]}`);
  let natural: NaturalLatents | undefined;
  const codes = (g: Graph) => weights.constant(g, codebookName(config));
  return {
    name: config.name,
    ...digest,
    parameters: [...shapes.values()].reduce((sum, shape) => sum + sizeOf(shape), 0),
    description: config.description ?? '',
    config,
    codebook,
    channelRange: rangeOf(codebook, config.embedDim),
    natural: () => (natural ??= naturalLatents(weights, codebook, config.embedDim)),
    encode: (g, pictures) => encoder(g, pictures, weights, config),
    tokens: (g, encoded) => (config.kind === 'gumbel' ? likeliest(g, encoded, weights, codes(g)) : quantize(g, encoded, codes(g))),
    quantize: (g, z) => quantize(g, z, codes(g)),
    decode: (g, z) => decoder(g, z, weights, config),
    close: () => weights.close(),
  };
}

function readConfig(path: string): VqganConfig {
  let text: string;
  try {
    text = readFileSync(path, 'utf8');
  } catch (error) {
    throw new Error(`no VQGAN is here: ${(error as Error).message}`, { cause: error });
  }
  try {
    return vqganConfig.parse(JSON.parse(text));
  } catch (error) {
    const what = error instanceof z.ZodError ? z.prettifyError(error) : (error as Error).message;
    throw new Error(`${path} does not describe a VQGAN: ${what}`, { cause: error });
  }
}

function rangeOf(codebook: Float32Array, dimensions: number): { low: Float32Array; high: Float32Array } {
  const low = new Float32Array(dimensions).fill(Infinity);
  const high = new Float32Array(dimensions).fill(-Infinity);
  codebook.forEach((v, i) => {
    low[i % dimensions] = Math.min(low[i % dimensions], v);
    high[i % dimensions] = Math.max(high[i % dimensions], v);
  });
  return { low, high };
}
