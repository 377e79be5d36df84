import path from 'node:path';
import { requireUnit } from '../../models/brivl/units.js';
import { defaultModel } from '../../models/registry.js';
import { runIndex, type IndexProgress } from '../neurons/index.js';
import { bundledSet, folderSet } from '../neurons/pictures.js';
import { firstLayerOf } from '../neurons/see.js';
import { indexView } from '../neurons/view.js';
import { repositoryRoot } from '../root.js';
import { openStore, type Store } from '../store/store.js';
import { blockExoticDecoders } from '../store/uploads.js';
import { listOf, required, stringOf, UsageError, type Command } from './command.js';
import { untilInterrupted } from './interrupt.js';
import { openEngine } from './studio.js';

/** The studio's own store, beside a server that may have it open too. */
export const openStudioStore = (): Promise<Store> =>
  openStore(process.env.DATA_DIR ?? path.join(repositoryRoot, 'data'), { isShared: true });

export const indexCommand: Command = {
  usage: 'index DIR [--model NAME] [--layer NAME]... [--device NAME] [--json] | index --bundled',
  summary: 'look at all pictures of a folder, for the explorer of neurons; stopped with Ctrl-C it goes on where it was',
  options: {
    bundled: { type: 'boolean' },
    model: { type: 'string' },
    layer: { type: 'string', multiple: true },
    device: { type: 'string' },
  },
  async run(positionals, values) {
    if (values.bundled === true && positionals.length) throw new UsageError('give a folder or --bundled, not both');
    const set = values.bundled === true ? bundledSet : folderSet(required(positionals, 'folder'));
    const model = stringOf(values, 'model') ?? defaultModel;
    blockExoticDecoders();
    const engine = await openEngine(stringOf(values, 'device') ?? 'cpu');
    try {
      const eye = await engine.looker.eye(model);
      const layers = listOf(values, 'layer');
      for (const layer of layers) requireUnit(eye, { layer, channel: 0, spot: 'mean' });
      const store = await openStudioStore();
      try {
        const teller = createTeller();
        const started = performance.now();
        const record = await untilInterrupted((isInterrupted) =>
          runIndex({
            store,
            looker: engine.looker,
            model,
            layers: layers.length > 0 ? [...new Set(layers)] : [firstLayerOf(eye)],
            set,
            progress: teller.progress,
            isStopped: isInterrupted,
          }),
        );
        teller.end();
        const seconds = (performance.now() - started) / 1000;
        const told = { ...indexView(record), seconds };
        for (const { name, why } of record.firstUnreadable.slice(0, 5)) console.error(`left out ${name}: ${why}`);
        if (record.unreadable > 5) console.error(`and ${record.unreadable - 5} more that cannot be read`);
        if (record.state === 'stopped')
          console.error(`stopped at ${record.done} of ${record.images} pictures: the same command goes on from there`);
        else if (values.json !== true)
          console.log(
            `${record.images - record.unreadable} pictures, ${record.layers.join(', ')} of ${model}: open /neurons/${model}/${record.layers[0]}, or reverie neuron LLP-108`,
          );
        return told;
      } finally {
        await store.close();
      }
    } finally {
      await engine.release();
    }
  },
};

/** Tells on stderr how far an index is: on a terminal in one line, elsewhere a line every ten seconds. */
export function createTeller() {
  const live = process.stderr.isTTY;
  const started = performance.now();
  let told = started;
  let first: number | undefined;
  return {
    progress({ done, images, stage }: IndexProgress) {
      first ??= done;
      if (stage === 'looking' && performance.now() - told < (live ? 100 : 10_000)) return;
      told = performance.now();
      const pace = ((done - first) / (told - started)) * 1000;
      const line = stage === 'looking' ? `${done}/${images} pictures  ${pace.toFixed(1)}/s` : 'naming and placing the channels';
      if (live) process.stderr.write(`\r\x1b[K${line} `);
      else if (stage === 'looking') process.stderr.write(`${line}\n`);
    },
    end() {
      if (live) process.stderr.write('\r\x1b[K');
    },
  };
}
