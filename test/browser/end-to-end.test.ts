import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import type { Browser } from 'playwright-core';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { startCompute } from '../../server/compute/process.js';
import { startServer, type RunningServer } from '../../server/server.js';
import { buildPage, launchBrowser } from './browser.js';

let browser: Browser;
let server: RunningServer;
let dataDir: string;

beforeAll(async () => {
  dataDir = await mkdtemp(path.join(tmpdir(), 'reverie-end-to-end-'));
  const pageFolder = await buildPage();
  [browser, server] = await Promise.all([
    launchBrowser(),
    startServer({ port: 0, dataDir, pageFolder, device: 'cpu', startCompute }),
  ]);
});
afterAll(async () => {
  await browser?.close();
  await server?.close();
  await rm(dataDir, { recursive: true, force: true });
});

test('a person types a text and watches the real network imagine it', async () => {
  const context = await browser.newContext({ locale: 'zh-CN', viewport: { width: 1400, height: 880 } });
  const page = await context.newPage();
  const complaints: string[] = [];
  page.on('console', (message) => message.type() === 'error' && complaints.push(message.text()));
  page.on('pageerror', (error) => complaints.push(error.message));
  await page.goto(server.url);

  const line = page.getByRole('textbox', { name: '想象什么' });
  await line.fill('volcano');
  // What the text calls up comes before anything is drawn.
  await page.locator('ol.jade').getByText('volcano').waitFor();
  await page.getByRole('button', { name: '更多' }).click();
  await page.getByLabel('步数', { exact: true }).fill('40');
  await page.keyboard.press('Escape');
  await line.press('Enter');

  const figure = page.locator('figure');
  const steps = new Set<number>();
  await expect
    .poll(
      async () => {
        steps.add(Number(await figure.getAttribute('data-step')));
        return figure.getAttribute('data-status');
      },
      { timeout: 150_000, interval: 50 },
    )
    .toBe('succeeded');
  expect([...steps].filter((step) => step > 0).length).toBeGreaterThan(5);
  expect(await figure.getAttribute('data-step')).toBe('40');

  // The picture calls up what was asked, the second opinion was heard, and the file is there and is the stage's picture.
  await page.locator('ol.vermilion').getByText('volcano').waitFor();
  await page.getByText('旁观者').first().waitFor();
  const link = page.getByRole('link', { name: '下载 PNG' });
  const image = await page.request.get(new URL((await link.getAttribute('href'))!, server.url).href);
  expect(image.headers()['content-type']).toBe('image/png');
  expect((await image.body()).length).toBeGreaterThan(10_000);
  await page.waitForURL('**/results/*');

  await page.getByRole('link', { name: '画廊' }).click();
  await page.getByRole('listitem').filter({ hasText: 'volcano' }).waitFor();
  expect(complaints).toEqual([]);
});
