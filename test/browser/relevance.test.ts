import type { Browser, BrowserContext, Page } from 'playwright-core';
import { afterAll, afterEach, beforeAll, expect, test } from 'vitest';
import { buildPage, launchBrowser, openPage, type Visit } from './browser.js';
import { startScriptedServer, type ScriptedServer } from './scripted-server.js';

let browser: Browser;
let server: ScriptedServer;
let context: BrowserContext;
let complaints: string[];

beforeAll(async () => {
  const clientFolder = await buildPage();
  [browser, server] = await Promise.all([launchBrowser(), startScriptedServer({ clientFolder, stepTime: 2, frameEvery: 20 })]);
});
afterAll(async () => {
  await browser?.close();
  await server?.close();
});
afterEach(() => context.close());

async function imagined(text: string, how: Visit = {}): Promise<Page> {
  const opened = await openPage(browser, `${server.url}/`, how);
  ({ context, complaints } = opened);
  const { page } = opened;
  const line = page.getByRole('textbox', { name: /What to imagine|想象什么/ });
  await line.fill(text);
  await line.press('Enter');
  await page.locator('figure[data-status=succeeded]').waitFor();
  // Single letters act only outside the line.
  await line.blur();
  return page;
}

/** Alphas of the veil over the picture: dark where the text is not. */
const veil = (page: Page) =>
  page.evaluate<number[]>(`(() => {
    const canvas = document.querySelector('figure .sheet > canvas[aria-hidden=true]');
    if (!canvas || canvas.width !== 2) return [];
    const { data } = canvas.getContext('2d').getImageData(0, 0, canvas.width, canvas.height);
    return Array.from({ length: data.length / 4 }, (_, at) => data[4 * at + 3]);
  })()`);

test('where the text is: by key and by button, over the finished picture', async () => {
  const page = await imagined('a castle in the clouds');
  await page.keyboard.press('h');
  await page.getByText('Lit: what speaks for “a castle in the clouds”').waitFor();
  const [lit, half, dark] = await veil(page);
  expect(lit).toBe(0);
  expect(half).toBeGreaterThan(lit);
  expect(dark).toBeGreaterThan(half);
  const button = page.getByRole('button', { name: 'Where the text is' });
  expect(await button.getAttribute('aria-pressed')).toBe('true');
  await button.click();
  await expect.poll(() => veil(page)).toEqual([]);
  expect(complaints).toEqual([]);
});

test('in Chinese, on a phone, and with what the server says when it cannot', async () => {
  const page = await imagined('refuse relevance', { locale: 'zh-CN', phone: true });
  await page.getByRole('button', { name: '文字在哪里' }).tap();
  await page.getByText('the scripted server refuses').waitFor();
  expect(await veil(page)).toEqual([]);
});
