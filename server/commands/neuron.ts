import { parseUnit, requireUnit, unitName } from '../../models/brivl/units.js';
import { defaultModel } from '../../models/registry.js';
import { runIndex } from '../neurons/index.js';
import { bundledSet } from '../neurons/pictures.js';
import { unitView, type ExampleView } from '../neurons/view.js';
import { indexOfLayer } from '../store/neurons.js';
import { blockExoticDecoders } from '../store/uploads.js';
import { required, stringOf, UsageError, type Command } from './command.js';
import { createTeller, openStudioStore } from './index.js';
import { openEngine } from './studio.js';

export const neuronCommand: Command = {
  usage: 'neuron LLP-108 [--model NAME] [--device NAME] [--json]',
  summary: 'what a neuron answers to: its words, its strongest pictures, and neurons like it',
  options: { model: { type: 'string' }, device: { type: 'string' } },
  async run(positionals, values) {
    const asked = parseUnit(required(positionals, 'neuron'));
    if (asked.spot !== 'mean') throw new UsageError(`a neuron is told as a whole: leave the place out of ${unitName(asked)}`);
    const model = stringOf(values, 'model') ?? defaultModel;
    blockExoticDecoders();
    const engine = await openEngine(stringOf(values, 'device') ?? 'cpu');
    try {
      const { looker } = engine;
      const eye = await looker.eye(model);
      requireUnit(eye, asked);
      const { layer, channel } = asked;
      const store = await openStudioStore();
      try {
        let record = indexOfLayer(store, eye.hash, layer);
        if (record?.state !== 'done') {
          console.error(`${model} has no index of ${layer} yet: looking at the bundled photographs`);
          const teller = createTeller();
          record = await runIndex({ store, looker, model, layers: [layer], set: bundledSet, progress: teller.progress });
          teller.end();
        }
        const unit = unitView(store, eye, { layer, channel }, record, await looker.statistics(model, layer));
        if (!unit) throw new Error(`the index ${record.id} has nothing of ${unitName(asked)}: make it anew with reverie index`);
        if (values.json !== true) {
          const { mean, deviation, max, density } = unit.statistics;
          console.log(
            [
              `${unit.unit} of ${model}  ${unit.label ? named(unit.label) : ''}`,
              `words     ${unit.words.map((word) => `${named(word)} ${word.score.toFixed(2)}`).join(', ')}`,
              `pictures  ${unit.examples.top.map(pictureLine).join(', ')}`,
              `similar   ${unit.similar.map((other) => `${unitName({ ...asked, channel: other.channel })} ${other.cosine.toFixed(2)}`).join(', ')}`,
              `mean ${mean.toFixed(3)}  deviation ${deviation.toFixed(3)}  greatest ${max.toFixed(3)}  awake in ${(100 * density).toFixed(0)} % of ${record.images - record.unreadable} pictures`,
            ].join('\n'),
          );
        }
        const { examples, ...told } = unit;
        return { ...told, examples: examples.top, strips: examples };
      } finally {
        await store.close();
      }
    } finally {
      await engine.release();
    }
  },
};

const named = ({ word, zh }: { word: string; zh: string | null }): string => (zh === null ? word : `${zh} ${word}`);
const pictureLine = ({ name, activation }: ExampleView): string => `${name} ${activation.toFixed(2)}`;
