import { readFileSync } from 'node:fs';
import { parseArgs, type ParseArgsConfig } from 'node:util';
import { z } from 'zod';

export type Options = NonNullable<ParseArgsConfig['options']>;
export type Values = Record<string, string | boolean | (string | boolean)[] | undefined>;

/** One command of the command line. */
export interface Command {
  usage: string;
  summary: string;
  options: Options;
  /** Prints for people unless `--json`; returns the object whose JSON is the last line then. */
  run(positionals: string[], values: Values): Promise<object>;
}

/** A mistake in how a command was called: shown as its sentence and the usage, without a stack, exit code 2. */
export class UsageError extends Error {}

export const stringOf = (values: Values, name: string): string | undefined =>
  typeof values[name] === 'string' ? values[name] : undefined;

export const listOf = (values: Values, name: string): string[] => {
  const value = values[name];
  return Array.isArray(value) ? value.map(String) : [];
};

/** The number behind an option; a clear error for anything else. */
export function numberOf(values: Values, name: string): number | undefined {
  const text = stringOf(values, name);
  if (text === undefined) return undefined;
  const value = Number(text);
  if (text.trim() === '' || !Number.isFinite(value)) throw new UsageError(`--${name} takes a number, not ${JSON.stringify(text)}`);
  return value;
}

/** The bytes of a file that a person named; a clear error when they cannot be had. */
export function readNamed(file: string, option: string): Uint8Array {
  try {
    return readFileSync(file);
  } catch (error) {
    throw new UsageError(`${option} ${file} cannot be read: ${(error as Error).message}`, { cause: error });
  }
}

export function required(positionals: string[], what: string): string {
  const [first, ...rest] = positionals;
  if (first === undefined) throw new UsageError(`${what} is missing`);
  if (rest.length) throw new UsageError(`${rest.length + 1} arguments where one ${what} is taken: put quotes around it`);
  return first;
}

/** `--rotate -3` as `--rotate=-3`, which is how the parser wants a value that begins with a dash. */
const withNegatives = (argv: readonly string[]): string[] =>
  argv.reduce<string[]>((read, word) => {
    const isValue = /^-[\d.]/.test(word) && /^--[^=]+$/.test(read.at(-1) ?? '');
    return isValue ? [...read.slice(0, -1), `${read.at(-1)}=${word}`] : [...read, word];
  }, []);

export function parse(command: Command, argv: string[]): { positionals: string[]; values: Values } {
  try {
    const options = { ...command.options, json: { type: 'boolean' }, help: { type: 'boolean', short: 'h' } } satisfies Options;
    const { positionals, values } = parseArgs({ args: withNegatives(argv), options, allowPositionals: true });
    return { positionals, values: values };
  } catch (error) {
    throw new UsageError((error as Error).message.replace(/\.? To specify.*$/s, ''), { cause: error });
  }
}

/** The sentences of a schema's complaints, each with where it is. */
export const sentences = (error: z.ZodError): string => error.issues.map(({ message }) => message).join('; ');
