// The one way in: `node server/launch.mjs serve|cli|test [arguments]`. Installs and builds what has changed, then runs it.
// Plain JavaScript without packages: it runs on a fresh clone, before there is anything to import.
import { spawn } from 'node:child_process';
import { createHash } from 'node:crypto';
import { existsSync, mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { pathToFileURL } from 'node:url';

const root = path.resolve(import.meta.dirname ?? path.dirname(new URL(import.meta.url).pathname), '..');
const at = (...parts) => path.join(root, ...parts);
const tool = (file) => [process.execPath, at('node_modules', file)];

const [command, ...argv] = process.argv.slice(2);
const ways = { serve, cli, test };

requireNode();
if (!Object.hasOwn(ways, command ?? '')) fail(`launch.mjs takes serve, cli or test, not ${JSON.stringify(command ?? '')}`);
try {
  await ways[command]();
} catch (error) {
  fail(error.message);
}

async function serve() {
  await prepare(['server', 'client']);
  await runModule('main');
}

async function cli() {
  await prepare(['server']);
  if (!existsSync(at('dist/server/cli.js'))) throw new Error('dist/server/cli.js is missing: server/cli.ts was not built');
  await runModule('cli');
}

/** In this process: signals, exit code and the last line of stdout are the module's own. */
async function runModule(name) {
  const file = at('dist/server', `${name}.js`);
  process.argv = [process.execPath, file, ...argv];
  process.setSourceMapsEnabled(true);
  await import(pathToFileURL(file).href);
}

async function prepare(targets) {
  await install();
  await build(targets);
}

function requireNode() {
  const [major, minor] = process.versions.node.split('.').map(Number);
  if (major > 20 || (major === 20 && minor >= 19)) return;
  fail(`Reverie needs Node 20.19 or newer and this is ${process.versions.node}: install a newer one from https://nodejs.org`);
}

/** `npm ci`, when package-lock.json is not the one that was installed. */
async function install() {
  const stamp = at('node_modules/.reverie-installed');
  const wanted = sha256(readFileSync(at('package-lock.json')));
  const isInstalled = () => readIfThere(stamp) === wanted;
  if (isInstalled()) return;
  await alone(async () => {
    if (isInstalled()) return;
    console.error('Reverie: installing packages (a few minutes, once) ...');
    const npm = /npm-cli\.[cm]?js$/.test(process.env.npm_execpath ?? '') ? [process.execPath, process.env.npm_execpath] : ['npm'];
    await succeed([...npm, 'ci', '--include=dev', '--no-audit', '--no-fund', '--loglevel=error'], 'npm ci');
    writeFileSync(stamp, wanted);
  });
}

/** The parts whose sources are not those of the last build. */
async function build(targets) {
  const isStale = (target) => readIfThere(stampOf(target)) !== fingerprint(target);
  if (!targets.some(isStale)) return;
  await alone(async () => {
    for (const target of targets.filter(isStale)) {
      const config = at(target, 'vite.config.ts');
      if (!existsSync(config)) continue;
      const wanted = fingerprint(target);
      console.error(`Reverie: building the ${target} ...`);
      rmSync(stampOf(target), { force: true });
      await succeed([...tool('vite/bin/vite.js'), 'build', '--config', config, '--logLevel', 'warn'], `the build of the ${target}`);
      writeFileSync(stampOf(target), wanted);
    }
  });
}

function stampOf(target) {
  return at('dist', target, '.built-from');
}

/** A hash of the contents that a build is made from. The page shares types and limits with the server. */
function fingerprint(target) {
  const isCode = (file) => /\.([cm]?[jt]s|json)$/.test(file) && statSync(file).size < 1_000_000;
  const files = [
    ...['package.json', 'package-lock.json', 'tsconfig.json'].map((file) => at(file)),
    ...filesUnder(at('server')).filter(isCode),
    ...(target === 'server' ? filesUnder(at('models')).filter(isCode) : filesUnder(at('client'))),
  ];
  const hash = createHash('sha256');
  for (const file of files) hash.update(`${path.relative(root, file)}\0`).update(sha256(readFileSync(file)));
  return hash.digest('hex');
}

function filesUnder(folder) {
  if (!existsSync(folder)) return [];
  return readdirSync(folder, { withFileTypes: true, recursive: true })
    .filter((entry) => entry.isFile())
    .map((entry) => path.join(entry.parentPath ?? entry.path, entry.name))
    .sort();
}

/** Two launches at a time must not write the same folders: the second waits for the first. */
async function alone(work) {
  const lock = path.join(tmpdir(), `reverie-${sha256(root).slice(0, 16)}.lock`);
  const owner = path.join(lock, 'pid');
  for (;;) {
    try {
      mkdirSync(lock);
      writeFileSync(owner, String(process.pid));
      break;
    } catch (error) {
      if (error.code !== 'EEXIST') throw error;
      // Without a pid the owner is about to write it, or died before it could: given two seconds.
      const pid = Number(readIfThere(owner));
      const age = Date.now() - (statSync(lock, { throwIfNoEntry: false })?.mtimeMs ?? Date.now());
      if (pid ? !isAlive(pid) : age > 2000) rmSync(lock, { recursive: true, force: true });
      else await new Promise((resolve) => setTimeout(resolve, 200));
    }
  }
  try {
    return await work();
  } finally {
    rmSync(lock, { recursive: true, force: true });
  }
}

function isAlive(pid) {
  try {
    process.kill(pid, 0);
    return true;
  } catch (error) {
    return error.code === 'EPERM';
  }
}

/** Lint, formatting, types, unit and browser tests; the last line is the total over all of them. */
async function test() {
  const total = { passed: 0, failed: 0 };
  const count = (name, isPassed) => {
    total[isPassed ? 'passed' : 'failed'] += 1;
    console.log(`${isPassed ? 'passed' : 'FAILED'}: ${name}`);
  };
  try {
    await prepare(['server', 'client']);
    await checkOnce(count);
    for (const project of ['unit', 'browser']) {
      const { passed, failed } = await vitest(project);
      total.passed += passed;
      total.failed += failed;
    }
  } catch (error) {
    console.log(error.message);
    count('install and build', false);
  }
  process.exitCode = total.failed === 0 && total.passed > 0 ? 0 : 1;
  console.log(`${total.passed} passed, ${total.failed} failed`);
}

/** The checks that are one each, two at a time; what a failed one said is shown whole. */
async function checkOnce(count) {
  const checks = [
    ['lint', [...tool('eslint/bin/eslint.js'), '.', '--max-warnings', '0']],
    ['types', [...tool('typescript/bin/tsc'), '--noEmit']],
    ['types of the page', [...tool('svelte-check/bin/svelte-check'), '--tsconfig', 'client/tsconfig.json', '--fail-on-warnings']],
    ['format', [...tool('prettier/bin/prettier.cjs'), '--check', '.']],
  ];
  const next = async () => {
    for (let check = checks.shift(); check; check = checks.shift()) {
      const [name, line] = check;
      const { code, output } = await run(line, 'keep');
      if (code !== 0) console.log(output);
      count(name, code === 0);
    }
  };
  await Promise.all([next(), next()]);
}

/** Counts from vitest's JSON: a file that could not be loaded, and an error outside of any test, are a failure each. */
async function vitest(project) {
  const folder = mkdtempSync(path.join(tmpdir(), 'reverie-test-'));
  const file = path.join(folder, 'report.json');
  try {
    const line = [
      'run',
      '--project',
      project,
      '--passWithNoTests',
      '--reporter=default',
      '--reporter=json',
      `--outputFile.json=${file}`,
      ...argv,
    ];
    const { code } = await run([...tool('vitest/vitest.mjs'), ...line], 'inherit');
    const report = JSON.parse(readIfThere(file) ?? '{"testResults":[],"numPassedTests":0,"numFailedTests":0}');
    const unloaded = report.testResults.filter(
      ({ status, assertionResults }) => status === 'failed' && assertionResults.length === 0,
    ).length;
    const failed = report.numFailedTests + unloaded;
    const skipped = report.testResults
      .flatMap(({ assertionResults }) => assertionResults)
      .filter(({ status }) => status !== 'passed' && status !== 'failed');
    for (const { fullName } of skipped) console.log(`skipped: ${fullName}`);
    return { passed: report.numPassedTests, failed: code !== 0 && failed === 0 ? 1 : failed };
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
}

/** Runs a tool that must succeed, with what it says on stderr: stdout belongs to what is launched. */
async function succeed(line, name) {
  const { code } = await run(line, 'stderr');
  if (code !== 0) throw new Error(`${name} failed: what it said is above`);
}

/** @param said where its output goes: `inherit`, `stderr`, or `keep` to have it in the answer */
function run([file, ...args], said) {
  return new Promise((resolve, reject) => {
    const stdio = { inherit: 'inherit', stderr: ['ignore', 2, 2], keep: ['ignore', 'pipe', 'pipe'] }[said];
    const child = spawn(file, args, { cwd: root, stdio, shell: process.platform === 'win32' && file === 'npm' });
    const output = [];
    child.stdout?.on('data', (data) => output.push(data));
    child.stderr?.on('data', (data) => output.push(data));
    const forward = (signal) => child.kill(signal);
    process.on('SIGINT', forward).on('SIGTERM', forward);
    const done = () => process.off('SIGINT', forward).off('SIGTERM', forward);
    child.on('error', (error) => {
      done();
      reject(error);
    });
    child.on('close', (code, signal) => {
      done();
      if (signal === 'SIGINT' || signal === 'SIGTERM') process.exit(signal === 'SIGINT' ? 130 : 143);
      resolve({ code: code ?? 1, output: Buffer.concat(output).toString() });
    });
  });
}

function sha256(data) {
  return createHash('sha256').update(data).digest('hex');
}

function readIfThere(file) {
  return existsSync(file) ? readFileSync(file, 'utf8') : undefined;
}

function fail(message) {
  console.error(`Reverie: ${message}`);
  process.exit(1);
}
