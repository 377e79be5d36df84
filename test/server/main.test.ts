import { spawn } from 'node:child_process';
import { once } from 'node:events';
import path from 'node:path';
import { describe, expect, it } from 'vitest';
import { repositoryRoot } from '../../server/root.js';

describe('the server as a process', () => {
  it.each([
    [{ PORT: 'http' }, /^PORT must be a number/],
    [{ PORT: '70000' }, /^PORT must be at most 65535/],
    [{ HOST: '0.0.0.0' }, /set REVERIE_TOKEN/],
  ])('does not start with %j, and says why in one line', async (environment, sentence) => {
    const child = spawn(process.execPath, ['--import', 'tsx', path.join(repositoryRoot, 'server/main.ts')], {
      cwd: repositoryRoot,
      env: { ...process.env, REVERIE_TOKEN: undefined, ...environment },
    });
    const said = { stdout: '', stderr: '' };
    child.stdout.setEncoding('utf8').on('data', (text: string) => (said.stdout += text));
    child.stderr.setEncoding('utf8').on('data', (text: string) => (said.stderr += text));
    const [code] = (await once(child, 'close')) as [number];
    expect(said.stderr.trim()).toMatch(sentence);
    expect(said.stderr.trim()).not.toContain('\n');
    expect([code, said.stdout]).toEqual([1, '']);
  });
});
