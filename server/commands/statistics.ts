import { mkdirSync, writeFileSync } from 'node:fs';
import { dirname, extname } from 'node:path';
import { statisticsFile } from '../../models/brivl/statistics.js';
import { defaultModel } from '../../models/registry.js';
import { stringOf, UsageError, type Command } from './command.js';
import { openEngine } from './studio.js';

export const statisticsCommand: Command = {
  usage: 'statistics --out FILE.safetensors [--model NAME] [--device NAME] [--json]',
  summary: "measure how a model's channels answer the bundled photographs: the statistics.safetensors of its folder",
  options: { model: { type: 'string' }, out: { type: 'string' }, device: { type: 'string' } },
  async run(_, values) {
    const out = stringOf(values, 'out');
    if (!out || extname(out) !== '.safetensors') throw new UsageError('--out FILE.safetensors is missing: name the file to write');
    const model = stringOf(values, 'model') ?? defaultModel;
    // Figures that are committed are the CPU's.
    const engine = await openEngine(stringOf(values, 'device') ?? 'cpu');
    try {
      const layers = await engine.measureStatistics(model);
      const file = statisticsFile(layers);
      mkdirSync(dirname(out), { recursive: true });
      writeFileSync(out, file);
      const told = { model, out, layers: layers.size, bytes: file.length };
      if (values.json !== true) console.log(`${out}  ${told.layers} layers  ${(told.bytes / 2 ** 20).toFixed(2)} MiB`);
      return told;
    } finally {
      await engine.release();
    }
  },
};
