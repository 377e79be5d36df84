import type { Browser, BrowserContext, Page } from 'playwright-core';
import sharp from 'sharp';
import { afterAll, afterEach, beforeAll, describe, expect, test } from 'vitest';
import { buildPage, launchBrowser, openPage, type Visit } from './browser.js';
import { scriptedNeurons, type ScriptedNeurons } from './scripted-neurons.js';
import { startScriptedServer, type ScriptedServer } from './scripted-server.js';

let browser: Browser;
let server: ScriptedServer;
let script: ScriptedNeurons;
let context: BrowserContext;
let complaints: string[];

beforeAll(async () => {
  const clientFolder = await buildPage();
  script = scriptedNeurons();
  [browser, server] = await Promise.all([
    launchBrowser(),
    startScriptedServer({ clientFolder, stepTime: 4, frameEvery: 4, extend: script.extend }),
  ]);
});
afterAll(async () => {
  await browser?.close();
  await server?.close();
});
afterEach(async () => {
  script.looked(Infinity);
  await context.close();
});

async function visit({ path = '/neurons', ...how }: Visit & { path?: string } = {}): Promise<Page> {
  const opened = await openPage(browser, server.url + path, how);
  ({ context, complaints } = opened);
  return opened.page;
}

const grid = (page: Page) => page.getByRole('grid');
const tiles = (page: Page) => page.locator('.tile');
const search = (page: Page) => page.getByRole('textbox', { name: /Search neurons|查神经元/ });
const current = (page: Page) => grid(page).getAttribute('aria-activedescendant');
const pathOf = (page: Page) => new URL(page.url()).pathname;
const unitShown = (page: Page, name: string) => page.locator(`[data-unit="${name}"]`).waitFor();

describe('the grid of neurons', () => {
  test('shows a layer with fewer than 200 tiles however far it is scrolled, and returns to where it was', async () => {
    const page = await visit();
    await expect.poll(() => tiles(page).count()).toBeGreaterThan(50);
    expect(pathOf(page)).toBe('/neurons/brivl-nano/LLP');
    await page.evaluate('scrollTo(0, document.documentElement.scrollHeight)');
    await page.getByRole('link', { name: /^LLP-1279,/ }).waitFor();
    expect(await tiles(page).count()).toBeLessThan(200);
    await page.getByRole('link', { name: /^LLP-1270,/ }).click();
    await unitShown(page, 'LLP-1270');
    await page.goBack();
    await page.getByRole('link', { name: /^LLP-1279,/ }).waitFor();
    expect(complaints).toEqual([]);
  });

  test('is walked with the keys, and Enter opens', async () => {
    const page = await visit();
    await grid(page).focus();
    for (const key of ['ArrowRight', 'ArrowRight', 'ArrowDown', 'ArrowLeft']) await page.keyboard.press(key);
    const columns = Number(await grid(page).getAttribute('aria-colcount'));
    expect(await current(page)).toBe(`unit-${columns + 1}`);
    await page.keyboard.press('End');
    expect(await current(page)).toBe('unit-1279');
    await expect.poll(() => page.locator('#unit-1279').isVisible()).toBe(true);
    await page.keyboard.press('Enter');
    await unitShown(page, 'LLP-1279');
    // A key for the way back, and the same tile is current.
    await page.keyboard.press('Escape');
    await expect.poll(() => current(page)).toBe('unit-1279');
  });

  test.each([
    ['en-GB', 'clock'],
    ['zh-CN', '钟'],
  ])('is searched by a word, and by number (%s)', async (locale, word) => {
    const page = await visit({ locale });
    await expect.poll(() => tiles(page).count()).toBeGreaterThan(50);
    await page.keyboard.press('/');
    await page.keyboard.type(word);
    await expect
      .poll(async () => (await tiles(page).first().getAttribute('aria-label')) ?? '')
      .toMatch(locale === 'zh-CN' ? /钟$/ : /clock$/);
    const found = await page.locator('.hits').textContent();
    expect(Number(/\d+/.exec(found ?? '')?.[0])).toBeLessThan(700);
    await search(page).fill('不存在的词');
    expect(await tiles(page).count()).toBe(0);
    await page.keyboard.press('Escape');
    await search(page).fill('LLP-1108');
    await page.locator('#unit-1108.current').waitFor();
    await page.keyboard.press('Enter');
    await unitShown(page, 'LLP-1108');
    expect(complaints).toEqual([]);
  });

  test('is sorted by a measure, and goes to another layer, which has no sheet', async () => {
    const page = await visit();
    await page.getByLabel('Order').selectOption('density');
    const shares = await page.locator('.measure').allTextContents();
    const firsts = shares.slice(0, 12).map((text) => parseFloat(text));
    expect(firsts).toEqual([...firsts].sort((a, b) => b - a));
    await page.getByLabel('Layer').selectOption('block7.1');
    await page.waitForURL('**/neurons/brivl-nano/block7.1');
    await page.locator('.tile img').first().waitFor();
    await page.reload();
    await page
      .getByRole('link', { name: /^block7\.1\/ch-/ })
      .first()
      .waitFor();
    expect(complaints).toEqual([]);
  });

  test('tells how far the photographs are, and goes on by itself', async () => {
    script.looked(40);
    const page = await visit();
    await page.getByText('Looking at photographs: 40 of 161').waitFor();
    expect(await tiles(page).first().getAttribute('aria-label')).toBe('LLP-0');
    script.looked(161);
    await page.getByText(/Looking at photographs/).waitFor({ state: 'detached' });
    expect(await tiles(page).first().getAttribute('aria-label')).toMatch(/^LLP-0, /);
  });
});

describe('what is not there', () => {
  test.each(['stopped', 'failed'] as const)('an index that is %s goes on by a button, on both pages', async (state) => {
    script.looked(40);
    script.ended(state);
    const page = await visit();
    const told = page.getByText(state === 'failed' ? /the device is gone/ : /stopped at 40 of 161/);
    const goOn = page.getByRole('button', { name: 'Go on looking' });
    await told.waitFor();
    expect(await page.getByRole('progressbar').count()).toBe(0);
    await goOn.click();
    await page.getByRole('progressbar', { name: 'Photographs looked at' }).waitFor();
    await search(page).fill('clock');
    await page.getByText('Words find neurons when the photographs have been looked at.').waitFor();
    script.ended(state);
    await page.goto(`${server.url}/neurons/brivl-nano/LLP/3`);
    await told.waitFor();
    await goOn.click();
    await page.getByText('Looking at photographs: 40 of 161').waitFor();
    script.looked(161);
    await page.locator('.top figure').first().waitFor();
    expect(complaints).toEqual([]);
  });

  test('a bad link is not where the page opens from then on, and a model alone is entered at its first layer', async () => {
    const page = await visit({ path: '/neurons/brivl-nano/stem' });
    await page.getByText('32 neurons').waitFor();
    for (const path of ['/neurons/brivl-nano/block99', '/neurons/brivl-nano/block99/3']) {
      await page.goto(server.url + path);
      await page.getByRole('alert').waitFor();
      await page.keyboard.press('n');
      await page.waitForURL('**/neurons/brivl-nano/stem');
      await page.getByText('32 neurons').waitFor();
      expect(await page.getByRole('alert').count()).toBe(0);
    }
    await page.goto(`${server.url}/neurons/brivl-nano`);
    await page.waitForURL('**/neurons/brivl-nano/LLP');
    await page.getByText('1280 neurons').waitFor();
  });

  test('a server that is away for a while leaves what is shown, and is asked again', async () => {
    const page = await visit({ path: '/neurons/brivl-nano/LLP/108' });
    await page.getByText('channel 108 of 1280').waitFor();
    await page.route('**/api/neurons/LLP/109?*', (route) => route.abort());
    await page.keyboard.press('ArrowRight');
    await page.getByRole('alert').waitFor();
    expect(await page.locator('.top figure').count()).toBe(12);
    await page.unroute('**/api/neurons/LLP/109?*');
    await unitShown(page, 'LLP-109');
    expect(await page.getByRole('alert').count()).toBe(0);
  });
});

describe('the map', () => {
  const surface = (page: Page) => page.getByRole('application');
  const zoom = async (page: Page) => Number(await surface(page).getAttribute('data-zoom'));

  test('zooms by wheel and keys, moves, and Enter opens what is in the middle', async () => {
    const page = await visit();
    await page.keyboard.press('v');
    await surface(page).waitFor();
    expect(await zoom(page)).toBe(1);
    await surface(page).hover();
    await page.mouse.wheel(0, -400);
    await expect.poll(() => zoom(page)).toBeGreaterThan(1.5);
    await page.keyboard.press('0');
    await expect.poll(() => zoom(page)).toBe(1);
    await surface(page).focus();
    for (const key of ['+', 'ArrowLeft', 'ArrowUp']) await page.keyboard.press(key);
    expect(await zoom(page)).toBeCloseTo(1.4);
    await page.locator('.read b').waitFor();
    const name = (await page.locator('.read b').textContent())!;
    await page.keyboard.press('Enter');
    await unitShown(page, name);
    expect(complaints).toEqual([]);
  });

  test('a drag moves it, a click opens', async () => {
    const page = await visit();
    await page.getByText('Map', { exact: true }).click();
    const box = (await surface(page).boundingBox())!;
    const from = { x: box.x + box.width / 2, y: box.y + box.height / 2 };
    await page.mouse.move(from.x, from.y);
    await page.mouse.down();
    await page.mouse.move(from.x - 260, from.y, { steps: 4 });
    await page.mouse.up();
    expect(pathOf(page)).toBe('/neurons/brivl-nano/LLP');
    // Somewhere along this line there is a unit under the pointer.
    for (let x = box.x + 40; x < box.x + box.width - 80 && (await page.locator('.read b').count()) === 0; x += 12)
      await page.mouse.move(x, from.y);
    const name = (await page.locator('.read b').textContent())!;
    await page.mouse.down();
    await page.mouse.up();
    await unitShown(page, name);
  });
});

describe('the page of a neuron', () => {
  const unit = '/neurons/brivl-nano/LLP/108';

  test('shows visualization and photographs with heat maps, words in both languages, and credits', async () => {
    const page = await visit({ path: unit });
    await unitShown(page, 'LLP-108');
    await page.getByRole('img', { name: 'What LLP-108 wants to see' }).waitFor();
    expect(await page.locator('.top figure').count()).toBe(12);
    expect(await page.locator('.top figure canvas').count()).toBe(12);
    await page.keyboard.press('h');
    await expect.poll(() => page.locator('.top figure canvas').count()).toBe(0);
    for (const strip of ['Upper quartile', 'Median', 'Lower quartile', 'Least'])
      await page.getByRole('heading', { name: strip }).waitFor();
    expect(await page.locator('ol.jade li').count()).toBe(10);
    expect(await page.locator('ol.jade li small').count()).toBe(10);
    await page.getByText('Credits of the photographs').click();
    await page.getByText(/ · CC/).first().waitFor();
    const json = await page.request.get(
      new URL((await page.getByRole('link', { name: 'JSON' }).getAttribute('href'))!, server.url).href,
    );
    expect(await json.json()).toMatchObject({ unit: 'LLP-108', layer: 'LLP', channel: 108 });
    expect(complaints).toEqual([]);
  });

  test('opened by its address, is asked for once, ahead of its script; what lies below the pictures comes by itself', async () => {
    const page = await visit({ path: '/neurons/brivl-nano/LLP' });
    await tiles(page).first().waitFor();
    const asked: string[] = [];
    page.on('request', (request) => request.url().includes('/api/neurons/LLP/') && asked.push(request.url()));
    await page.goto(`${server.url}/neurons/brivl-nano/LLP/7`);
    await page.getByRole('heading', { name: 'Opposite neurons' }).waitFor();
    expect(asked).toHaveLength(1);
    expect(complaints).toEqual([]);
  });

  test('leads to the neuron before, after, by chance, and to similar ones', async () => {
    const page = await visit({ path: unit });
    // Before the count is known nothing is the next.
    await page.getByText('channel 108 of 1280').waitFor();
    const steps = () => page.evaluate<number>('history.length');
    const before = await steps();
    await page.keyboard.press('ArrowRight');
    await unitShown(page, 'LLP-109');
    expect(pathOf(page)).toBe('/neurons/brivl-nano/LLP/109');
    expect(await steps()).toBe(before);
    await page.keyboard.press('ArrowLeft');
    await page.keyboard.press('ArrowLeft');
    await unitShown(page, 'LLP-107');
    await page.getByText('channel 107 of 1280').waitFor();
    await page.keyboard.press('r');
    await expect.poll(() => pathOf(page)).not.toBe('/neurons/brivl-nano/LLP/107');
    await page.goto(server.url + unit);
    await page.getByRole('link', { name: /^LLP-139, / }).click();
    await unitShown(page, 'LLP-139');
  });

  test('imagines it alone, live, and finds the picture again', async () => {
    const page = await visit({ path: unit });
    await page.getByText('MACO').click();
    await page.getByText('Not imagined yet').waitFor();
    await page.getByRole('button', { name: 'Imagine it at full size' }).click();
    await page.locator('.sheet[data-status=running]').waitFor();
    await page.locator('.sheet[data-status=succeeded]').waitFor();
    expect(server.asked.at(-1)).toMatchObject({ text: '', parameters: 'maco', neurons: [{ unit: 'LLP-108' }] });
    await page.getByText('Four faces').click();
    await page.getByRole('button', { name: 'Imagine it at full size' }).click();
    await page.locator('.sheet[data-status=running]').waitFor();
    expect(server.asked.at(-1)).toMatchObject({ text: '', copies: 4, neurons: [{ unit: 'LLP-108' }] });
    await page.keyboard.press('Escape');
    await page.locator('.sheet[data-status=canceled]').waitFor();
    await page.reload();
    await page.getByText('MACO').click();
    await page.locator('.sheet[data-status=succeeded]').waitFor();
    await page.getByRole('link', { name: 'Open this picture' }).waitFor();
    expect(complaints).toEqual([]);
  });

  test('tests a picture: what fires there, and where', async () => {
    const page = await visit({ path: unit });
    await unitShown(page, 'LLP-108');
    const buffer = await sharp({ create: { width: 60, height: 60, channels: 3, background: 'teal' } })
      .png()
      .toBuffer();
    await page.locator('input[type=file]').setInputFiles({ name: 'teal.png', mimeType: 'image/png', buffer });
    const fired = page.getByRole('list', { name: 'Strongest here' }).getByRole('listitem');
    await expect.poll(() => fired.count()).toBe(24);
    await page.getByText('3.00 · more than 99% of the photographs').waitFor();
    await fired.nth(3).hover();
    await page.getByText('2.70 · more than 96% of the photographs').waitFor();
    expect(script.tested.at(-1)?.layer).toBe('LLP');
    await page.locator('input[type=file]').setInputFiles({ name: 'x.txt', mimeType: 'text/plain', buffer: Buffer.from('no') });
    await page.getByRole('alert').filter({ hasText: 'not a picture' }).waitFor();
  });

  test('imagines a text with it', async () => {
    const page = await visit({ path: unit, locale: 'zh-CN' });
    await page.getByLabel('带着它想象一句话').fill('自然');
    await page.keyboard.press('Enter');
    await page.waitForURL(/\/(jobs|results)\//);
    expect(server.asked.at(-1)).toMatchObject({ text: '自然', neurons: [{ unit: 'LLP-108', weight: 0.15 }] });
    await expect.poll(() => page.getByRole('textbox', { name: '想象什么' }).inputValue()).toBe('自然');
  });

  test('says what is wrong with a number, and waits for photographs that are being looked at', async () => {
    const page = await visit({ path: '/neurons/brivl-nano/LLP/5000' });
    await page.getByRole('alert').filter({ hasText: 'its neurons are LLP-0 to LLP-1279' }).waitFor();
    script.looked(12);
    await page.goto(`${server.url}/neurons/brivl-nano/stem/3`);
    await page.getByText('Looking at photographs: 12 of 161').waitFor();
    script.looked(161);
    await unitShown(page, 'stem/ch-3');
  });

  test('in a frame it shows and does nothing', async () => {
    const page = await visit({ path: `${unit}?embed=true` });
    await unitShown(page, 'LLP-108');
    expect(await page.getByRole('navigation').count()).toBe(0);
    expect(await page.locator('input, form').count()).toBe(0);
    expect(await page.getByRole('button').allTextContents()).toEqual([expect.stringContaining('Heat')]);
    await page.keyboard.press('g');
    await page.keyboard.press('ArrowRight');
    expect(pathOf(page)).toBe(unit);
    const out = page.getByRole('link', { name: 'Open in Reverie' });
    expect([await out.getAttribute('target'), await out.getAttribute('href')]).toEqual(['_blank', unit]);
    await page.setViewportSize({ width: 320, height: 420 });
    expect(await page.evaluate<number>('document.documentElement.scrollWidth')).toBeLessThanOrEqual(320);
    expect(complaints).toEqual([]);
    // Elsewhere the word opens nothing to frames.
    await page.goto(`${server.url}/?embed=true`);
    expect(await page.getByRole('textbox').count()).toBe(0);
  });
});

describe('on a phone', () => {
  test('the first touch of the map names a unit, and the second opens it', async () => {
    const page = await visit({ phone: true });
    await page.getByText('Map', { exact: true }).tap();
    const box = (await page.getByRole('application').boundingBox())!;
    const name = page.locator('.read b');
    let at = { x: box.x + box.width / 2, y: box.y + 40 };
    for (; at.y < box.y + box.height - 40 && (await name.count()) === 0; at = { ...at, y: at.y + 24 })
      await page.touchscreen.tap(at.x, at.y);
    const named = (await name.textContent())!;
    await page.touchscreen.tap(at.x, at.y - 24);
    await unitShown(page, named);
  });

  test('names stand on the tiles, a tap opens, and nothing is wider than the page', async () => {
    const page = await visit({ phone: true, locale: 'zh-CN' });
    await page.locator('.name').first().waitFor();
    const width = () => page.evaluate<number>('document.documentElement.scrollWidth');
    expect(await width()).toBeLessThanOrEqual(390);
    await tiles(page).nth(5).tap();
    await page.locator('[data-unit]').waitFor();
    expect(await width()).toBeLessThanOrEqual(390);
    // Both at once: the first photographs are beside the visualization.
    const [sheet, photograph] = await Promise.all([
      page.locator('.sheet').first().boundingBox(),
      page.locator('.top figure').first().boundingBox(),
    ]);
    expect(photograph!.x).toBeGreaterThan(sheet!.x + sheet!.width);
    expect(Math.abs(photograph!.y - sheet!.y)).toBeLessThan(30);
    expect(complaints).toEqual([]);
  });
});
