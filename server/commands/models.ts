import { openRegistry } from '../compute/engine.js';
import type { Command } from './command.js';

export const modelsCommand: Command = {
  usage: 'models [--json]',
  summary: 'the models on this machine',
  options: {},
  run(_, values) {
    const registry = openRegistry();
    const seeing = (name: string) => {
      const { hash, bytes, parameters, eye, description } = registry.openEye(name);
      return { name, hash, bytes, parameters, inputSize: eye.size, embed: eye.embed, channels: eye.channels, description };
    };
    const encoders = registry.names();
    const models = encoders.map(seeing);
    const eyes = registry
      .eyes()
      .filter((name) => !encoders.includes(name))
      .map(seeing);
    const generators = registry.generators().map((name) => {
      const { hash, bytes, parameters, config, description } = registry.openGenerator(name);
      return { name, hash, bytes, parameters, codes: config.codes, downsampling: config.downsampling, description };
    });
    if (values.json !== true)
      for (const m of [...models, ...eyes, ...generators])
        console.log(`${m.name}  ${(m.parameters / 1e6).toFixed(1)} M parameters  ${(m.bytes / 2 ** 20).toFixed(1)} MiB  ${m.hash}`);
    return Promise.resolve({ models, eyes, generators });
  },
};
