import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { copyFile, mkdir, readFile, rm, writeFile } from 'node:fs/promises';
import path from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { repositoryRoot } from '../../server/root.js';
import { temporaryFolder } from './studio.js';

// A small repository around the real launch.mjs, with stand-ins for npm and the tools that tell in calls.log when they were run.
let root: string;
const put = async (file: string, text: string) => {
  await mkdir(path.dirname(path.join(root, file)), { recursive: true });
  await writeFile(path.join(root, file), text);
};
const tell = (name: string) => `require('fs').appendFileSync(${JSON.stringify(path.join(root, 'calls.log'))}, '${name}\\n');`;
const calls = async () => (await readFile(path.join(root, 'calls.log'), 'utf8').catch(() => '')).split('\n').filter(Boolean);

/** A stand-in that succeeds. */
const tool = (file: string, name: string, code = '') =>
  put(`node_modules/${file}`, `${tell(name)} console.log('${name} says something'); ${code}`);

beforeEach(async () => {
  root = await temporaryFolder();
  await mkdir(path.join(root, 'server'));
  await copyFile(path.join(repositoryRoot, 'server/launch.mjs'), path.join(root, 'server/launch.mjs'));
  await put('package.json', '{"name":"reverie"}');
  await put('package-lock.json', '{"lock":1}');
  await put('tsconfig.json', '{}');
  await put('server/vite.config.ts', 'server');
  await put('server/cli.ts', 'export {}');
  await put('client/vite.config.ts', 'client');
  await put('models/weights.safetensors', 'large');
  await put('npm-cli.js', `${tell('npm ci')} console.log('npm says something');`);
  const build = `
    const { cpSync, mkdirSync } = require('fs');
    const target = process.argv[4].includes('client') ? 'client' : 'server';
    ${tell("build ' + target + '")}
    mkdirSync('dist/' + target, { recursive: true });
    cpSync('built', 'dist/' + target, { recursive: true });`;
  await put('node_modules/vite/bin/vite.js', `${build} console.log('vite says something');`);
  await put('built/package.json', '{"type":"module"}');
  await put(
    'built/cli.js',
    `console.log('a line'); console.log(JSON.stringify(process.argv.slice(2))); process.exitCode = process.argv.includes('fail') ? 3 : 0;`,
  );
  await put(
    'built/main.js',
    `process.on('SIGTERM', () => { console.log('stopped'); process.exit(0); }); setInterval(() => {}, 1000); console.log('ready');`,
  );
});
afterEach(() => rm(root, { recursive: true, force: true }));

function start(argv: string[], nodeOptions: string[] = []) {
  const child = spawn(process.execPath, [...nodeOptions, path.join(root, 'server/launch.mjs'), ...argv], {
    env: { ...process.env, npm_execpath: path.join(root, 'npm-cli.js') },
  });
  const said = { stdout: '', stderr: '' };
  child.stdout.setEncoding('utf8').on('data', (text: string) => (said.stdout += text));
  child.stderr.setEncoding('utf8').on('data', (text: string) => (said.stderr += text));
  const ended = once(child, 'close').then(([code]) => ({ code: code as number | null, ...said }));
  return { child, said, ended };
}
const launch = (...argv: string[]) => start(argv).ended;

describe('npm run reverie', () => {
  it('installs and builds the first time, and keeps stdout for the command line', async () => {
    const { code, stdout, stderr } = await launch('cli', 'imagine', 'a castle', '--json');
    expect(stdout).toBe('a line\n["imagine","a castle","--json"]\n');
    expect(stderr).toContain('npm says something');
    expect(stderr).toContain('vite says something');
    expect(code).toBe(0);
    expect(await calls()).toEqual(['npm ci', 'build server']);
  });

  it('passes the exit code through', async () => {
    expect((await launch('cli', 'fail')).code).toBe(3);
  });

  it('installs again only after a change of the lock file, builds again only after a change of sources', async () => {
    await launch('cli');
    await launch('cli');
    expect(await calls()).toEqual(['npm ci', 'build server']);
    await put('server/cli.ts', 'export {};');
    await put('client/page.ts', 'export {}');
    await launch('cli');
    await put('models/graph/graph.ts', 'export {}');
    await launch('cli');
    expect(await calls()).toEqual(['npm ci', 'build server', 'build server', 'build server']);
    await put('models/weights.safetensors', 'larger');
    await put('server/cli.ts', 'export {};');
    await launch('cli');
    expect(await calls()).toHaveLength(4);
    await put('package-lock.json', '{"lock":2}');
    await launch('cli');
    expect((await calls()).slice(4)).toEqual(['npm ci', 'build server']);
  });

  it('builds once when it is started twice at a time', async () => {
    const outcomes = await Promise.all([launch('cli'), launch('cli'), launch('cli')]);
    expect(outcomes.map(({ code }) => code)).toEqual([0, 0, 0]);
    expect(await calls()).toEqual(['npm ci', 'build server']);
  });

  it('says what failed, and does not take a failed build for a good one', async () => {
    await put('node_modules/vite/bin/vite.js', 'console.error("a syntax error"); process.exit(1)');
    for (let time = 0; time < 2; time++) {
      const { code, stdout, stderr } = await launch('cli');
      expect([code, stdout]).toEqual([1, '']);
      expect(stderr).toContain('a syntax error');
      expect(stderr).toContain('the build of the server failed');
    }
  });
});

describe('npm start', () => {
  it('builds server and page, and hands signals on', async () => {
    const { child, said, ended } = start(['serve']);
    while (!said.stdout.includes('ready')) await once(child.stdout, 'data');
    child.kill('SIGTERM');
    expect(await ended).toMatchObject({ code: 0, stdout: 'ready\nstopped\n' });
    expect(await calls()).toEqual(['npm ci', 'build server', 'build client']);
  });

  it('says which Node it needs', async () => {
    const older = 'data:text/javascript,Object.defineProperty(process,"versions",{value:{node:"20.18.3"}})';
    const { code, stderr } = await start(['serve'], ['--import', older]).ended;
    expect(code).toBe(1);
    expect(stderr).toBe(
      'Reverie: Reverie needs Node 20.19 or newer and this is 20.18.3: install a newer one from https://nodejs.org\n',
    );
    expect(await calls()).toEqual([]);
  });
});

describe('npm test', () => {
  const report = (passed: number, failed: number, results: unknown[] = []) =>
    JSON.stringify({ numPassedTests: passed, numFailedTests: failed, testResults: results });
  const vitest = (reports: Record<string, [json: string, code: number]>) =>
    tool(
      'vitest/vitest.mjs',
      'vitest',
      `const [json, code] = ${JSON.stringify(reports)}[process.argv[process.argv.indexOf('--project') + 1]];
       const file = process.argv.find((argument) => argument.startsWith('--outputFile.json=')).slice(18);
       require('fs').writeFileSync(file, json); process.exit(code);`,
    ).then(async () => {
      // The stand-in is CommonJS whatever its name says.
      const text = await readFile(path.join(root, 'node_modules/vitest/vitest.mjs'), 'utf8');
      await put(
        'node_modules/vitest/vitest.mjs',
        `import { createRequire } from 'node:module'; const require = createRequire(import.meta.url); ${text}`,
      );
    });
  const lastLine = (stdout: string) => stdout.trimEnd().split('\n').at(-1);

  beforeEach(async () => {
    await tool('eslint/bin/eslint.js', 'eslint');
    await tool('typescript/bin/tsc', 'tsc');
    await tool('svelte-check/bin/svelte-check', 'svelte-check');
    await tool('prettier/bin/prettier.cjs', 'prettier');
  });

  it('counts every check and every test, and ends with the total', async () => {
    await vitest({ unit: [report(10, 0), 0], browser: [report(2, 0), 0] });
    const { code, stdout } = await launch('test');
    expect(lastLine(stdout)).toBe('16 passed, 0 failed');
    expect(code).toBe(0);
    expect((await calls()).sort()).toEqual(
      ['build client', 'build server', 'eslint', 'npm ci', 'prettier', 'svelte-check', 'tsc', 'vitest', 'vitest'].sort(),
    );
  });

  it('counts what failed, shows what it said, and still runs the rest', async () => {
    await tool('eslint/bin/eslint.js', 'eslint', 'process.exit(1)');
    await vitest({ unit: [report(10, 2), 1], browser: [report(1, 0, [{ status: 'failed', assertionResults: [] }]), 1] });
    const { code, stdout } = await launch('test');
    expect(stdout).toContain('eslint says something');
    expect(stdout).not.toContain('tsc says something');
    expect(lastLine(stdout)).toBe('14 passed, 4 failed');
    expect(code).toBe(1);
  });

  it('takes a run that broke off for a failure, and names what was skipped', async () => {
    const skipped = { status: 'passed', assertionResults: [{ status: 'skipped', fullName: 'a test that was left out' }] };
    await vitest({ unit: [report(10, 0, [skipped]), 1], browser: [report(0, 0), 1] });
    const { code, stdout } = await launch('test');
    expect(stdout).toContain('skipped: a test that was left out');
    expect(lastLine(stdout)).toBe('14 passed, 2 failed');
    expect(code).toBe(1);
  });

  it('ends with the total also when it cannot build', async () => {
    await put('node_modules/vite/bin/vite.js', 'process.exit(1)');
    const { code, stdout } = await launch('test');
    expect(lastLine(stdout)).toBe('0 passed, 1 failed');
    expect(code).toBe(1);
  });
});
