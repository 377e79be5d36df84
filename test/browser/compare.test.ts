import type { Browser, BrowserContext, Page } from 'playwright-core';
import sharp from 'sharp';
import { afterAll, afterEach, beforeAll, describe, expect, test } from 'vitest';
import { buildPage, launchBrowser, openPage, type Visit } from './browser.js';
import { startScriptedServer, type ScriptedServer } from './scripted-server.js';

let browser: Browser;
let server: ScriptedServer;
let context: BrowserContext;
let complaints: string[];

beforeAll(async () => {
  const clientFolder = await buildPage();
  [browser, server] = await Promise.all([launchBrowser(), startScriptedServer({ clientFolder, stepTime: 0, frameEvery: 10 })]);
});
afterAll(async () => {
  await browser?.close();
  await server?.close();
});
afterEach(() => context.close());

async function visit({ path = '/compare', ...how }: Visit & { path?: string } = {}): Promise<Page> {
  const opened = await openPage(browser, server.url + path, how);
  ({ context, complaints } = opened);
  return opened.page;
}

async function choose(page: Page, ...colours: string[]): Promise<void> {
  const files = await Promise.all(
    colours.map(async (background) => ({
      name: `${background}.png`,
      mimeType: 'image/png',
      buffer: await sharp({ create: { width: 60, height: 60, channels: 3, background } })
        .png()
        .toBuffer(),
    })),
  );
  await page.locator('input[type=file]').setInputFiles(files);
}

const texts = (page: Page) => page.getByRole('textbox', { name: /^(Texts|文字|Labels)$/ });
const grid = (page: Page) => page.getByRole('grid');
const cells = (page: Page) => grid(page).locator('[data-cell]');
const framed = (page: Page) =>
  page.evaluate<string[]>(`[...document.querySelectorAll('td.best')].map(({ dataset }) => dataset.cell)`);

describe('the compare page', () => {
  test('holds every picture against every text, and frames the nearest', async () => {
    const page = await visit();
    await page.getByRole('heading', { name: 'Put pictures beside texts' }).waitFor();
    await choose(page, 'red', 'green', 'blue');
    await page.getByText('Now write texts').waitFor();
    await texts(page).fill('a castle\n\n 时间 \nred');
    await expect.poll(() => cells(page).count()).toBe(9);
    expect(await framed(page)).toEqual(['0-0', '1-1', '2-2']);
    expect(await cells(page).first().textContent()).toBe('.60nearest');
    expect(await grid(page).getByRole('columnheader').allTextContents()).toEqual(['a castle', '时间', 'red']);
    expect(server.compared.at(-1)).toMatchObject({ texts: ['a castle', '时间', 'red'] });
    // What is pointed at is told in full.
    await cells(page).nth(5).hover();
    await page.getByText('.430 green · red').waitFor();
    // A picture that is taken away is not asked about.
    await page.getByRole('button', { name: 'Remove green' }).click();
    await expect.poll(() => cells(page).count()).toBe(6);
    await page.reload();
    await expect.poll(() => cells(page).count()).toBe(6);
    expect(complaints).toEqual([]);
  });

  test('asks once the texts rest, and lets a newer question overtake an older one', async () => {
    const page = await visit();
    await choose(page, 'red');
    const before = server.compared.length;
    await texts(page).pressSequentially('nature', { delay: 30 });
    await expect.poll(() => cells(page).count()).toBe(1);
    expect(server.compared.length - before).toBe(1);
    await texts(page).fill('one\ntwo !slow');
    await expect.poll(() => server.compared.length - before).toBe(2);
    await page.getByText('Looking…').waitFor();
    await texts(page).fill('one\ntwo\nthree');
    await expect.poll(() => cells(page).count()).toBe(3);
    await page.waitForTimeout(1600);
    expect(await cells(page).count()).toBe(3);
    expect(await page.getByText('Looking…').count()).toBe(0);
  });

  test('is walked with the arrow keys', async () => {
    const page = await visit();
    await choose(page, 'red', 'blue');
    await texts(page).fill('one\ntwo\nthree');
    await expect.poll(() => cells(page).count()).toBe(6);
    await cells(page).first().focus();
    for (const key of ['ArrowRight', 'ArrowDown', 'ArrowDown', 'End']) await page.keyboard.press(key);
    await page.getByText('.430 blue · three').waitFor();
    expect(await page.evaluate<string>('document.activeElement.dataset.cell')).toBe('1-2');
    expect(await grid(page).locator('[tabindex="0"]').count()).toBe(1);
  });

  test('classifies with a set of labels, in either language, or with its own', async () => {
    const page = await visit();
    await choose(page, 'red', 'blue');
    await page.getByText('Classify', { exact: true }).click();
    await page.getByLabel('Labels').first().selectOption('uc-merced');
    const verdicts = page.getByRole('list', { name: 'What each picture is taken for' }).locator('> li');
    await verdicts.nth(1).waitFor();
    expect(await verdicts.nth(1).locator('.name').allTextContents()).toEqual(['beach', 'airplane', 'forest']);
    await page.getByText('a satellite photo of {}').waitFor();
    await page.locator('.labels').getByText('中文').click();
    await verdicts.getByText('海滩').first().waitFor();
    expect(server.compared.at(-1)).toMatchObject({ labels: 'uc-merced', language: 'zh' });
    await page.getByLabel('Labels').first().selectOption('own');
    await page.getByText('Write at least two labels').waitFor();
    await page.locator('#texts').fill('cat\ndog');
    await page.getByLabel('Around each text').fill('一张{}的图');
    await verdicts.getByText('dog').first().waitFor();
    await expect.poll(() => server.compared.at(-1)).toMatchObject({ labels: ['cat', 'dog'], templates: ['一张{}的图'] });
    expect(complaints).toEqual([]);
  });

  test('takes pictures from the gallery', async () => {
    const page = await visit({ path: '/' });
    await page.getByRole('textbox', { name: 'What to imagine' }).fill('volcano');
    await page.keyboard.press('Enter');
    await page.locator('figure[data-status=succeeded]').waitFor();
    await page.getByRole('textbox', { name: 'What to imagine' }).blur();
    await page.keyboard.press('c');
    await page.waitForURL('**/compare');
    await page.getByRole('button', { name: 'Take the picture of the gallery' }).click();
    await page.getByRole('button', { name: 'Example texts' }).click();
    await expect.poll(() => cells(page).count()).toBe(5);
    await page.getByRole('button', { name: 'From the gallery' }).click();
    const choice = page.getByRole('list', { name: 'From the gallery' }).getByRole('button', { name: 'volcano' });
    expect(await choice.getAttribute('aria-pressed')).toBe('true');
    await choice.click();
    await page.getByRole('heading', { name: 'Put pictures beside texts' }).waitFor();
    expect(complaints).toEqual([]);
  });

  test('says what went wrong, and keeps the texts', async () => {
    const page = await visit();
    await page.locator('input[type=file]').setInputFiles({ name: 'words.txt', mimeType: 'text/plain', buffer: Buffer.from('no') });
    await page.getByRole('alert').filter({ hasText: 'words.txt' }).waitFor();
    await choose(page, 'red');
    await page.getByRole('alert').waitFor({ state: 'detached' });
    await texts(page).fill('nature !refuse');
    await page.getByRole('alert').filter({ hasText: '4 comparisons run already' }).waitFor();
    expect(await texts(page).inputValue()).toBe('nature !refuse');
    await texts(page).fill('nature');
    await expect.poll(() => cells(page).count()).toBe(1);
    expect(await page.getByRole('alert').count()).toBe(0);
  });

  test('many texts stand upright; on a phone nothing scrolls but the map', async () => {
    const page = await visit({ locale: 'zh-CN', phone: true });
    await choose(page, 'red', 'blue');
    await texts(page).fill(Array.from({ length: 20 }, (_, i) => `第${i}句话`).join('\n'));
    await expect.poll(() => cells(page).count()).toBe(40);
    expect(await grid(page).getAttribute('class')).toContain('dense');
    expect(await page.evaluate<number>('document.documentElement.scrollWidth')).toBeLessThanOrEqual(390);
    expect(complaints).toEqual([]);
  });
});
