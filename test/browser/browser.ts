import { existsSync, readFileSync } from 'node:fs';
import { mkdir } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { fileURLToPath } from 'node:url';
import { chromium, type Browser } from 'playwright-core';
import { build } from 'vite';

const root = fileURLToPath(new URL('../..', import.meta.url));

/** Where browsers live when they were installed as their makers install them. */
function usualPlaces(): string[] {
  const on = (base: string | undefined, ...rest: string[]) => (base === undefined ? [] : [path.join(base, ...rest)]);
  switch (process.platform) {
    case 'win32':
      return ['PROGRAMFILES', 'PROGRAMFILES(X86)', 'LOCALAPPDATA'].flatMap((name) => [
        ...on(process.env[name], 'Google', 'Chrome', 'Application', 'chrome.exe'),
        ...on(process.env[name], 'Chromium', 'Application', 'chrome.exe'),
        ...on(process.env[name], 'Microsoft', 'Edge', 'Application', 'msedge.exe'),
      ]);
    case 'darwin':
      return [
        ['Google Chrome', 'Google Chrome'],
        ['Chromium', 'Chromium'],
        ['Microsoft Edge', 'Microsoft Edge'],
      ].flatMap(([app, file]) =>
        ['/Applications', `${process.env['HOME'] ?? ''}/Applications`].map(
          (folder) => `${folder}/${app}.app/Contents/MacOS/${file}`,
        ),
      );
    default: {
      const names = [
        'google-chrome-stable',
        'google-chrome',
        'chromium',
        'chromium-browser',
        'microsoft-edge-stable',
        'microsoft-edge',
      ];
      const folders = [
        ...(process.env['PATH'] ?? '').split(path.delimiter),
        '/usr/bin',
        '/usr/local/bin',
        '/snap/bin',
        '/opt/google/chrome',
      ];
      return names.flatMap((name) => folders.map((folder) => path.join(folder, name)));
    }
  }
}

/**
 * The Chromium to drive: CHROMIUM_PATH, else an installed Chrome, Chromium or Edge, else the one that the package @sparticuz/chromium
 * carries (Linux x64).
 * @throws Error that says what to install where none of them is there.
 */
export async function findChromium(): Promise<string> {
  const named = process.env['CHROMIUM_PATH'];
  if (named !== undefined && named !== '') {
    if (existsSync(named)) return named;
    throw new Error(`CHROMIUM_PATH is ${named}, where there is no file: set it to a Chromium, Chrome or Edge, or unset it`);
  }
  const installed = usualPlaces().find((place) => existsSync(place));
  if (installed !== undefined) return installed;
  try {
    return await carriedChromium();
  } catch (cause) {
    throw new Error(
      'the browser tests need a Chromium and found none: install Google Chrome, Chromium or Microsoft Edge (Debian: apt-get install chromium), or set CHROMIUM_PATH to one',
      { cause },
    );
  }
}

/** The Chromium of @sparticuz/chromium, unpacked, with SwiftShader beside it. */
export async function carriedChromium(): Promise<string> {
  if (process.platform !== 'linux' || process.arch !== 'x64')
    throw new Error(`@sparticuz/chromium has nothing for ${process.platform} ${process.arch}`);
  const { version } = JSON.parse(readFileSync(path.join(root, 'node_modules/@sparticuz/chromium/package.json'), 'utf8')) as {
    version: string;
  };
  // It unpacks into the temporary folder and reuses any `chromium` there: one folder a version keeps strangers apart.
  const folder = path.join(tmpdir(), `reverie-chromium-${version}`);
  await mkdir(folder, { recursive: true });
  const before = process.env['TMPDIR'];
  process.env['TMPDIR'] = folder;
  // Makes it bring its own libnss3 and libexpat, which a bare Debian lacks.
  process.env['AWS_EXECUTION_ENV'] = 'AWS_Lambda_nodejs20.x';
  try {
    const { default: carried } = await import('@sparticuz/chromium');
    return await carried.executablePath();
  } finally {
    if (before === undefined) delete process.env['TMPDIR'];
    else process.env['TMPDIR'] = before;
  }
}

export async function launchBrowser(): Promise<Browser> {
  const executablePath = await findChromium();
  return chromium.launch({ executablePath, args: ['--no-sandbox', '--disable-dev-shm-usage', '--force-color-profile=srgb'] });
}

export interface Visit {
  locale?: string;
  phone?: boolean;
}

/** A page in a context of its own, and what the browser complains of: errors of scripts, of the content security policy, of loading. */
export async function openPage(browser: Browser, url: string, { locale = 'en-GB', phone = false }: Visit) {
  const complaints: string[] = [];
  const context = await browser.newContext({
    locale,
    viewport: phone ? { width: 390, height: 844 } : { width: 1400, height: 880 },
    ...(phone ? { hasTouch: true, isMobile: true } : {}),
  });
  const page = await context.newPage();
  page.on('console', (message) => {
    if (message.type() === 'error' || message.type() === 'warning') complaints.push(message.text());
  });
  page.on('pageerror', (error) => complaints.push(error.message));
  await page.goto(url);
  return { page, context, complaints };
}

/** Builds the page as it is shipped, into the cache folder, and says where. */
export async function buildPage(): Promise<string> {
  const outDir = path.join(root, '.cache', 'browser-tests', 'page');
  await build({ configFile: path.join(root, 'client/vite.config.ts'), logLevel: 'warn', build: { outDir, emptyOutDir: true } });
  return outDir;
}
