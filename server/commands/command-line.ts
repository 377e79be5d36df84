import { UnknownUnitError } from '../../models/brivl/units.js';
import { UnfitNetworkError } from '../../models/clip/onnx-eye.js';
import { UnknownModelError } from '../../models/registry.js';
import { atlasCommand } from './atlas.js';
import { benchCommand } from './bench.js';
import { classifyCommand, similarityCommand } from './compare.js';
import { parse, UsageError, type Command } from './command.js';
import { evalCommand } from './evaluate.js';
import { imagineCommand } from './imagine.js';
import { indexCommand } from './index.js';
import { conceptsCommand, embedCommand } from './look.js';
import { modelsCommand } from './models.js';
import { neuronCommand } from './neuron.js';
import { recipeCommand } from './recipe.js';
import { statisticsCommand } from './statistics.js';
import { storyCommand } from './story.js';
import { zoomCommand } from './zoom.js';
import { UnknownDeviceError } from '../compute/device.js';
import { BadRequest } from '../compute/protocol.js';
import { UnfitCanvasError } from '../imagination/generator.js';
import { NoDirectionError } from '../imagination/texts.js';
import { UnreadablePicture } from '../store/uploads.js';

const commands: Readonly<Record<string, Command>> = {
  imagine: imagineCommand,
  story: storyCommand,
  zoom: zoomCommand,
  concepts: conceptsCommand,
  embed: embedCommand,
  similarity: similarityCommand,
  classify: classifyCommand,
  index: indexCommand,
  neuron: neuronCommand,
  recipe: recipeCommand,
  atlas: atlasCommand,
  models: modelsCommand,
  statistics: statisticsCommand,
  bench: benchCommand,
  eval: evalCommand,
};

const serveHelp =
  'usage: reverie serve\n\nthe studio in the browser; PORT, HOST, DATA_DIR, REVERIE_DEVICE and REVERIE_TOKEN of the environment set it up';

const help = (): string =>
  [
    'usage: reverie <command> [options]',
    '',
    `  ${'serve'.padEnd(10)} the studio in the browser`,
    ...Object.entries(commands).map(([name, { summary }]) => `  ${name.padEnd(10)} ${summary}`),
    '',
    'reverie <command> --help tells more; --json prints one JSON object as the last line.',
  ].join('\n');

/**
 * Runs one command line and prints what came of it.
 * @returns the exit code: 0, 2 for what the person who typed it can put right (with its sentence and the usage), 1 for anything else
 */
export async function commandLine(argv: readonly string[]): Promise<0 | 1 | 2> {
  try {
    await run(argv);
    return 0;
  } catch (error) {
    console.error(error instanceof Error ? error.message : error);
    return error instanceof UsageError ? 2 : 1;
  }
}

async function run([name, ...argv]: readonly string[]): Promise<void> {
  if (name === undefined || name === 'help' || name === '--help' || name === '-h') {
    console.log(help());
    return;
  }
  if (name === 'serve') {
    if (argv.includes('--help') || argv.includes('-h')) {
      console.log(serveHelp);
      return;
    }
    if (argv.length) throw new UsageError(`serve takes no arguments, not ${argv.join(' ')}\n\n${serveHelp}`);
    await import('../main.js');
    return;
  }
  if (!Object.hasOwn(commands, name)) throw new UsageError(`there is no command ${name}\n\n${help()}`);
  const command = commands[name];
  try {
    const { positionals, values } = parse(command, argv);
    if (values.help === true) {
      const flags = Object.entries(command.options).map(([flag, { type }]) => `  --${flag}${type === 'string' ? ' ...' : ''}`);
      console.log([`usage: reverie ${command.usage}`, '', command.summary, '', ...flags].join('\n'));
      return;
    }
    const told = await command.run(positionals, values);
    if (values.json === true) console.log(JSON.stringify(told));
  } catch (error) {
    if (!mistakes.some((kind) => error instanceof kind)) throw error;
    throw new UsageError(`${(error as Error).message}\n\nusage: reverie ${command.usage}`, { cause: error });
  }
}

/** What the person who typed the command can put right. */
const mistakes = [
  UsageError,
  BadRequest,
  UnknownDeviceError,
  UnknownModelError,
  UnfitNetworkError,
  UnknownUnitError,
  NoDirectionError,
  UnfitCanvasError,
  UnreadablePicture,
];
