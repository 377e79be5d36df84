import type { Browser, BrowserContext, Page } from 'playwright-core';
import { afterAll, afterEach, beforeAll, describe, expect, test } from 'vitest';
import { buildPage, launchBrowser, openPage, type Visit } from './browser.js';
import { startScriptedServer, type ScriptedServer } from './scripted-server.js';

let browser: Browser;
let server: ScriptedServer;
let context: BrowserContext;
let complaints: string[];

beforeAll(async () => {
  const clientFolder = await buildPage();
  [browser, server] = await Promise.all([launchBrowser(), startScriptedServer({ clientFolder, stepTime: 4, frameEvery: 4 })]);
});
afterAll(async () => {
  await browser?.close();
  await server?.close();
});
afterEach(() => context.close());

async function visit({ path = '/', ...how }: Visit & { path?: string } = {}): Promise<Page> {
  const opened = await openPage(browser, server.url + path, how);
  ({ context, complaints } = opened);
  return opened.page;
}

const chips = (page: Page) => page.getByRole('group', { name: /Neurons that the picture|画面要激活/ });
const field = (page: Page) => chips(page).getByRole('combobox');
const line = (page: Page) => page.getByRole('textbox', { name: /What to imagine|想象什么/ });
const finished = (page: Page) => page.locator('figure[data-status=succeeded]').waitFor();
const readings = (page: Page) => page.getByRole('list', { name: /does to the neurons|对这些神经元/ });

async function add(page: Page, ...typed: string[]): Promise<void> {
  for (const one of typed) {
    await field(page).fill(one);
    await field(page).press('Enter');
  }
}

describe('neurons beside the line', () => {
  test('are typed, kept over a reload, sent with the text, and read under the picture', async () => {
    const page = await visit();
    await add(page, '108', 'LLP-456=-0.5');
    await page.reload();
    await chips(page).getByRole('link', { name: 'LLP-456=-0.5' }).waitFor();
    await line(page).fill('nature');
    await line(page).press('Enter');
    await finished(page);
    expect(server.asked.at(-1)).toMatchObject({
      text: 'nature',
      neurons: [{ unit: 'LLP-108' }, { unit: 'LLP-456', weight: -0.5 }],
    });
    await readings(page).getByText('99.6').waitFor();
    const [first, second] = await readings(page).getByRole('listitem').allInnerTexts();
    expect(first.replace(/\s+/g, ' ')).toBe('brivl-nano · LLP · 108 activation 3.21 percentile 99.6');
    expect(second.replace(/\s+/g, ' ')).toBe('brivl-nano · LLP · 456 activation 2.21 percentile 89.6');
    const link = readings(page).getByRole('link').first();
    expect(await link.getAttribute('href')).toBe('/neurons/brivl-nano/LLP/108');
    expect(complaints).toEqual([]);
  });

  test('that an earlier version kept twice are shown, and one can be taken away', async () => {
    const page = await visit();
    await page.evaluate(`localStorage.setItem('reverie.draft', JSON.stringify({
      text: 'nature', settings: { neurons: [{ unit: 'LLP-1' }, { unit: 'LLP-1', weight: 2 }] },
    }))`);
    const again = await context.newPage();
    again.on('pageerror', ({ message }) => complaints.push(message));
    await page.close({ runBeforeUnload: false });
    await again.goto(server.url);
    await chips(again).getByRole('button', { name: 'Remove LLP-1' }).nth(1).click();
    expect(await chips(again).getByRole('link').count()).toBe(1);
    expect(complaints).toEqual([]);
  });

  test('more than there can be are not taken, and said to be too many', async () => {
    const page = await visit();
    await add(page, Array.from({ length: 17 }, (_, unit) => `LLP-${unit}`).join(' '));
    await page.getByRole('alert').getByText('at most 16').waitFor();
    expect(await chips(page).getByRole('link').count()).toBe(0);
  });

  test('that are none say what would be one', async () => {
    const page = await visit({ locale: 'zh-CN' });
    await add(page, 'LLP-1280');
    await page.getByRole('alert').getByText('LLP-0 到 LLP-1279').waitFor();
    await add(page, 'nature');
    await page.getByRole('alert').getByText('不是神经元').waitFor();
    expect(await chips(page).getByRole('link').count()).toBe(0);
    await add(page, 'LLP-1279');
    expect(await page.getByRole('alert').count()).toBe(0);
    expect(await chips(page).getByRole('link').count()).toBe(1);
  });

  test('alone are imagined without a line, with their percentile in the place of a cosine', async () => {
    const page = await visit();
    await add(page, 'LLP-7', 'LLP-8');
    await field(page).press('Enter');
    await finished(page);
    expect(server.asked.at(-1)).toMatchObject({ text: '' });
    expect(await page.title()).toBe('LLP-7 + LLP-8 · Reverie');
    await page.getByRole('img', { name: 'Percentile of LLP-7 by step; now 99.6' }).waitFor();
    expect(await page.locator('body').innerText()).not.toMatch(/\bcos\b/);
    await page.getByRole('link', { name: 'Gallery' }).first().click();
    await page.getByText('LLP-7 + LLP-8').waitFor();
    await page.getByText('percentile 99.6').waitFor();
    expect(complaints).toEqual([]);
  });

  test('come and go by keyboard, and come back with the picture that they were asked for', async () => {
    const page = await visit();
    await add(page, 'LLP-1', 'LLP-2=3');
    // Backspace takes the last one into the field again.
    await field(page).press('Backspace');
    expect(await field(page).inputValue()).toBe('LLP-2=3');
    await field(page).press('Enter');
    await line(page).fill('time');
    await line(page).press('Enter');
    await finished(page);
    const { pathname } = new URL(page.url());
    await chips(page).getByRole('link', { name: 'LLP-1' }).press('Delete');
    expect(await chips(page).getByRole('link').allInnerTexts()).toEqual(['LLP-2=3']);
    expect(await page.evaluate('document.activeElement.textContent')).toBe('LLP-2=3');
    await chips(page).getByRole('button', { name: 'Remove LLP-2' }).press('Enter');
    expect(await chips(page).getByRole('link').count()).toBe(0);
    await page.goto(server.url + pathname);
    await chips(page).getByRole('link', { name: 'LLP-2=3' }).waitFor();
    expect(await chips(page).getByRole('link').count()).toBe(2);
  });

  test('copies are a sheet as wide as they need', async () => {
    const page = await visit({ phone: true });
    await page.getByRole('button', { name: /More/ }).click();
    await page.getByRole('spinbutton', { name: 'Copies' }).fill('2');
    await page.getByRole('spinbutton', { name: 'Diversity' }).fill('5');
    await page.getByRole('button', { name: 'Close' }).click();
    await line(page).fill('nature');
    await line(page).press('Enter');
    await finished(page);
    expect(server.asked.at(-1)).toMatchObject({ copies: 2, diversity: 5, views: 8 });
    const box = (await page.locator('figure canvas[role=img]').boundingBox())!;
    expect(box.width / box.height).toBeCloseTo(2, 1);
    expect(await page.evaluate<number>('document.documentElement.scrollWidth - innerWidth')).toBeLessThanOrEqual(0);
  });
});
