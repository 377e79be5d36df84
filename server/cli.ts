import { benchCommand } from './commands/bench.js';
import { parse, UsageError, type Command } from './commands/command.js';
import { evalCommand } from './commands/evaluate.js';
import { imagineCommand } from './commands/imagine.js';
import { conceptsCommand, embedCommand } from './commands/look.js';
import { modelsCommand } from './commands/models.js';
import { recipeCommand } from './commands/recipe.js';

const commands: Readonly<Record<string, Command>> = {
  imagine: imagineCommand,
  concepts: conceptsCommand,
  embed: embedCommand,
  recipe: recipeCommand,
  models: modelsCommand,
  bench: benchCommand,
  eval: evalCommand,
};

const help = (): string =>
  [
    'usage: reverie <command> [options]',
    '',
    ...Object.entries(commands).map(([name, { summary }]) => `  ${name.padEnd(10)} ${summary}`),
    '',
    'reverie <command> --help tells more; --json prints one JSON object as the last line.',
  ].join('\n');

async function main([name, ...argv]: string[]): Promise<void> {
  if (name === undefined || name === 'help' || name === '--help' || name === '-h') {
    console.log(help());
    return;
  }
  if (name === 'serve') {
    await import('./main.js');
    return;
  }
  if (!Object.hasOwn(commands, name)) throw new UsageError(`there is no command ${name}\n\n${help()}`);
  const command = commands[name];
  const { positionals, values } = parse(command, argv);
  if (values.help === true) {
    const flags = Object.entries(command.options).map(([flag, { type }]) => `  --${flag}${type === 'string' ? ' ...' : ''}`);
    console.log([`usage: reverie ${command.usage}`, '', command.summary, '', ...flags].join('\n'));
    return;
  }
  const told = await command.run(positionals, values);
  if (values.json === true) console.log(JSON.stringify(told));
}

main(process.argv.slice(2)).catch((error: unknown) => {
  console.error(error instanceof Error ? error.message : error);
  process.exitCode = error instanceof UsageError ? 2 : 1;
});
