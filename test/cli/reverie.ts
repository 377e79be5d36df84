import { spawn } from 'node:child_process';
import path from 'node:path';
import { format } from 'node:util';
import { vi } from 'vitest';
import { commandLine } from '../../server/commands/command-line.js';
import { repositoryRoot } from '../../server/root.js';

export interface Said {
  code: number | null;
  stdout: string;
  stderr: string;
  /** The last line of stdout as JSON. */
  json: () => unknown;
}

/** `npm run -s reverie -- ...`, from source. */
export async function reverie(args: readonly string[], env: Record<string, string> = {}): Promise<Said> {
  const child = spawn(process.execPath, ['--import', 'tsx', path.join(repositoryRoot, 'server/cli.ts'), ...args], {
    cwd: repositoryRoot,
    env: { ...process.env, ...env },
  });
  const said = { stdout: '', stderr: '' };
  child.stdout.setEncoding('utf8').on('data', (text: string) => (said.stdout += text));
  child.stderr.setEncoding('utf8').on('data', (text: string) => (said.stderr += text));
  const code = await new Promise<number | null>((resolve, reject) => child.on('error', reject).on('close', resolve));
  return { code, ...said, json: lastLine(said.stdout) };
}

const lastLine = (stdout: string) => (): unknown => JSON.parse(stdout.trimEnd().split('\n').at(-1)!);

/** The same in this process, without its start. */
export async function inProcess(args: readonly string[]): Promise<Said> {
  const said = { stdout: '', stderr: '' };
  const log = vi.spyOn(console, 'log').mockImplementation((...told) => void (said.stdout += `${format(...told)}\n`));
  const error = vi.spyOn(console, 'error').mockImplementation((...told) => void (said.stderr += `${format(...told)}\n`));
  try {
    const code = await commandLine(args);
    return { code, ...said, json: lastLine(said.stdout) };
  } finally {
    log.mockRestore();
    error.mockRestore();
  }
}
