import type { Browser, BrowserContext, Page } from 'playwright-core';
import sharp from 'sharp';
import { afterAll, afterEach, beforeAll, describe, expect, test } from 'vitest';
import { buildPage, launchBrowser, openPage, type Visit } from './browser.js';
import { startScriptedServer, type ScriptedServer } from './scripted-server.js';

let browser: Browser;
let server: ScriptedServer;
let context: BrowserContext;
let complaints: string[];

let clientFolder: string;

beforeAll(async () => {
  clientFolder = await buildPage();
  [browser, server] = await Promise.all([launchBrowser(), startScriptedServer({ clientFolder, stepTime: 8, frameEvery: 2 })]);
});
afterAll(async () => {
  await browser?.close();
  await server?.close();
});
afterEach(async () => {
  server.hold(false);
  await context.close();
});

async function visit({ path = '/', ...how }: Visit & { path?: string } = {}): Promise<Page> {
  const opened = await openPage(browser, server.url + path, how);
  ({ context, complaints } = opened);
  return opened.page;
}

const line = (page: Page) => page.getByRole('textbox', { name: /What to imagine|想象什么/ });
const figure = (page: Page) => page.locator('figure');

async function imagine(page: Page, text: string): Promise<void> {
  await line(page).fill(text);
  await line(page).press('Enter');
}

/** How many different brightnesses a 16 x 16 drawing of the stage has, and their mean difference from the middle: 0 while nothing is drawn. */
const structure = (page: Page) =>
  page.evaluate<number>(`(() => {
    const stage = document.querySelector('figure canvas[role=img]');
    const small = Object.assign(document.createElement('canvas'), { width: 16, height: 16 });
    const context = small.getContext('2d');
    context.drawImage(stage, 0, 0, 16, 16);
    const { data } = context.getImageData(0, 0, 16, 16);
    const light = Array.from({ length: 256 }, (_, at) => data[at * 4] + data[at * 4 + 1] + data[at * 4 + 2]);
    const mean = light.reduce((a, b) => a + b) / 256;
    return light.reduce((sum, one) => sum + Math.abs(one - mean), 0) / 256;
  })()`);

const status = (page: Page, wanted: string) => page.locator(`figure[data-status=${wanted}]`).waitFor();
const steps = async (page: Page) => Number(await figure(page).getAttribute('data-step'));

const reached = (page: Page, step: number) => expect.poll(() => steps(page), { timeout: 20_000 }).toBeGreaterThan(step);

describe('the page', () => {
  test.each([
    ['en-GB', 'en', 'A word, or a line of a poem', 'a castle in the clouds'],
    ['zh-CN', 'zh', '一个词，或一句诗', '云中的城堡'],
  ])('speaks the language of the browser (%s)', async (locale, lang, hint, example) => {
    const page = await visit({ locale });
    await page.getByPlaceholder(hint).waitFor();
    expect(await page.getAttribute('html', 'lang')).toBe(lang);
    await page.getByRole('button', { name: example }).waitFor();
    expect(complaints).toEqual([]);
  });

  test('switches the language and remembers it', async () => {
    const page = await visit();
    await page.getByRole('button', { name: '中文' }).click();
    await page.getByPlaceholder('一个词，或一句诗').waitFor();
    await page.reload();
    await page.getByPlaceholder('一个词，或一句诗').waitFor();
  });

  test('switches to rice paper and remembers it', async () => {
    const page = await visit();
    await page.getByRole('button', { name: 'Paper' }).click();
    await page.reload();
    await page.getByRole('button', { name: 'Darkroom' }).waitFor();
    expect(await page.getAttribute('html', 'data-theme')).toBe('light');
  });

  test('says what the text calls up while it is being written', async () => {
    const page = await visit();
    await line(page).pressSequentially('time');
    await page.getByText('hourglass').waitFor();
    expect(await page.getByText('.64').count()).toBe(1);
  });

  test('draws what arrives: Enter, frames, done, download', async () => {
    const page = await visit();
    await imagine(page, 'a castle in the clouds');
    await status(page, 'running');
    expect(new URL(page.url()).pathname).toMatch(/^\/jobs\/job-/);
    await reached(page, 20);
    const early = await structure(page);
    expect(early).toBeGreaterThan(0);
    const progress = page.getByText(/\d+ \/ 120 steps/);
    expect(await progress.count()).toBe(1);
    await page.getByText('steps/s').waitFor();
    await page.getByText(/\d s left/).waitFor();
    await page.getByText('second opinion').waitFor();

    await status(page, 'succeeded');
    expect(await steps(page)).toBe(120);
    expect(await structure(page)).toBeGreaterThan(early);
    const link = page.getByRole('link', { name: 'Download PNG' });
    expect(await link.getAttribute('download')).toBe('a-castle-in-the-clouds-1.png');
    const [download] = await Promise.all([page.waitForEvent('download'), link.click()]);
    expect(await download.failure()).toBeNull();
    await page.waitForURL('**/results/*');
    expect(complaints).toEqual([]);
  });

  test('keeps a film that can be scrubbed while it runs', async () => {
    const page = await visit();
    await imagine(page, 'nature');
    await reached(page, 40);
    const film = page.getByRole('slider', { name: /Film strip/ });
    const box = (await film.boundingBox())!;
    await page.mouse.click(box.x + box.width * 0.1, box.y + box.height / 2);
    expect(await steps(page)).toBeLessThan(20);
    await page.waitForTimeout(300);
    expect(await steps(page)).toBeLessThan(20);
    await film.press('End');
    await reached(page, 45);
    await status(page, 'succeeded');
  });

  test('stops with Esc, and keeps what has formed', async () => {
    const page = await visit();
    await imagine(page, 'time');
    await reached(page, 5);
    server.hold(true);
    await page.keyboard.press('Escape');
    await status(page, 'canceled');
    await page.getByText(/Stopped at step \d+/).waitFor();
    expect(await structure(page)).toBeGreaterThan(0);
    expect(await line(page).inputValue()).toBe('time');
  });

  test('re-attaches after a refresh', async () => {
    const page = await visit();
    await imagine(page, 'let life be beautiful like summer flowers');
    await reached(page, 10);
    server.hold(true);
    const url = page.url();
    await page.reload();
    await status(page, 'running');
    expect(page.url()).toBe(url);
    expect(await line(page).inputValue()).toBe('let life be beautiful like summer flowers');
    // The snapshot brings the latest frame, though no new one comes.
    await reached(page, 10);
    await expect.poll(() => structure(page)).toBeGreaterThan(0);
    server.hold(false);
    await status(page, 'succeeded');
    await page.reload();
    await status(page, 'succeeded');
    await page.getByRole('link', { name: 'Download PNG' }).waitFor();
  });

  test('comes back by itself after a lost connection', async () => {
    const page = await visit();
    await imagine(page, 'nature');
    await reached(page, 5);
    await context.setOffline(true);
    server.cut();
    await page.getByText(/The connection is lost/).waitFor();
    await context.setOffline(false);
    await page.getByText(/The connection is lost/).waitFor({ state: 'detached' });
    await status(page, 'succeeded');
  });

  test('an error says its sentence and keeps the text', async () => {
    const page = await visit();
    await imagine(page, 'hope !refuse');
    await page.getByRole('alert').filter({ hasText: '200 jobs wait already: cancel some or try again later' }).waitFor();
    expect(await line(page).inputValue()).toBe('hope !refuse');
    await imagine(page, 'x'.repeat(600));
    await page.getByRole('alert').filter({ hasText: 'at most 500 characters' }).waitFor();
    expect(await line(page).inputValue()).toHaveLength(600);
    await imagine(page, 'dream !break');
    await status(page, 'failed');
    await page.getByRole('alert').filter({ hasText: 'imagine the text again' }).waitFor();
    expect(await line(page).inputValue()).toBe('dream !break');
  });

  test('an empty text is not sent, and says why', async () => {
    const page = await visit();
    const before = server.asked.length;
    await line(page).press('Enter');
    await page.getByRole('alert').waitFor();
    expect(server.asked).toHaveLength(before);
  });

  test('several pictures are several jobs of consecutive seeds, switched by number', async () => {
    const page = await visit();
    const before = server.asked.length;
    await line(page).fill('science');
    await line(page).press('Shift+Enter');
    await page.getByRole('list', { name: 'Pictures of this imagination' }).getByRole('button').nth(3).waitFor();
    const asked = server.asked.slice(before);
    expect(asked.map(({ seed }) => seed)).toEqual([1, 2, 3, 4]);
    await line(page).blur();
    await page.keyboard.press('3');
    expect(await page.getByRole('button', { name: /^Seed 3, / }).getAttribute('aria-pressed')).toBe('true');
    await page
      .getByText(/Waits for \d pictures before it|Waits for the picture before it/)
      .first()
      .waitFor();
    // Cancelling what waits leaves alone what runs.
    await page.keyboard.press('Escape');
    await status(page, 'canceled');
    await page.keyboard.press('1');
    await page.locator('figure:is([data-status=running], [data-status=succeeded])').waitFor();
    for (const button of [2, 4]) {
      await page.keyboard.press(String(button));
      await page.keyboard.press('Escape');
      await status(page, 'canceled');
    }
  });

  test('settings reach the job, and only they change', async () => {
    const page = await visit();
    await page.getByRole('button', { name: 'More' }).click();
    await page.getByText('Phase only (MACO)').click();
    await page.getByLabel('Steps', { exact: true }).fill('30');
    await page.getByRole('button', { name: 'Add a text to move away from' }).click();
    await page.getByLabel('Text to move away from', { exact: true }).fill('people');
    await page.keyboard.press('Escape');
    await page.getByRole('textbox', { name: 'Seed' }).fill('77');
    await imagine(page, 'daisy');
    await status(page, 'succeeded');
    const job = server.asked.at(-1)!;
    expect(job).toMatchObject({
      text: 'daisy',
      parameters: 'maco',
      steps: 30,
      negative: ['people'],
      seed: 77,
      width: 224,
      views: 8,
    });
    // A typed seed stays.
    expect(await page.getByRole('textbox', { name: 'Seed' }).inputValue()).toBe('77');
  });

  test('begins from a picture that is chosen, and from one that was imagined', async () => {
    const page = await visit();
    const red = await sharp({ create: { width: 1600, height: 1200, channels: 3, background: 'crimson' } })
      .png()
      .toBuffer();
    await page.locator('input[type=file]').setInputFiles({ name: 'red.png', mimeType: 'image/png', buffer: red });
    await page.getByText('Starts from red.png').waitFor();
    await imagine(page, 'volcano');
    await status(page, 'succeeded');
    expect(server.asked.at(-1)!.init).toMatch(/^[0-9a-f]{64}$/);
    await page.getByRole('button', { name: 'Continue' }).click();
    await page.getByText('Starts from this picture', { exact: true }).waitFor();
    await page.getByRole('button', { name: 'Start from nothing again' }).click();
    await page
      .locator('input[type=file]')
      .setInputFiles({ name: 'words.txt', mimeType: 'text/plain', buffer: Buffer.from('no picture') });
    await page.getByRole('alert').filter({ hasText: 'not a picture' }).waitFor();
  });

  test('the gallery opens, repeats and deletes', async () => {
    const page = await visit();
    await imagine(page, 'gallery piece');
    await status(page, 'succeeded');
    await page.getByRole('link', { name: 'Gallery' }).click();
    const piece = page.getByRole('listitem').filter({ hasText: 'gallery piece' });
    await piece.waitFor();
    await piece.getByRole('link', { name: /Open/ }).click();
    await status(page, 'succeeded');
    await page.goBack();
    await piece.getByRole('button', { name: 'Another seed' }).click();
    await status(page, 'running');
    expect(server.asked.at(-1)).toMatchObject({ text: 'gallery piece', seed: 2 });
    await status(page, 'succeeded');
    await page.getByRole('link', { name: 'Gallery' }).click();
    await piece.nth(1).waitFor();
    const pieces = await piece.count();
    await piece.first().getByRole('button', { name: 'Delete' }).click();
    await piece.first().getByRole('button', { name: 'Delete' }).click();
    await expect.poll(() => piece.count()).toBe(pieces - 1);
  });

  test('the models page says what is loaded and what it runs on', async () => {
    const page = await visit({ path: '/models' });
    await page.getByRole('heading', { name: /brivl-nano/ }).waitFor();
    await page.getByText('How nano differs').waitFor();
    expect(await page.getByText('CPU').count()).toBeGreaterThan(0);
  });

  test('a result that is gone says so', async () => {
    const page = await visit({ path: '/results/nowhere' });
    await page.getByRole('alert').filter({ hasText: 'not here' }).waitFor();
  });
});

describe('with a VQGAN', () => {
  const chosen = (page: Page) => page.getByRole('group', { name: 'Method' }).getByRole('radio', { checked: true });
  const methodOf = async (page: Page) => chosen(page).inputValue();
  const grid = (page: Page) => page.getByRole('grid');
  const resultOf = (page: Page) => new URL(page.url()).pathname.split('/').at(-1)!;

  /** Imagines with a VQGAN to the end, and shows the codes. */
  async function withCodes(page: Page, text: string): Promise<number[]> {
    await line(page).blur();
    await page.keyboard.press('v');
    await imagine(page, text);
    await status(page, 'succeeded');
    await page.waitForURL('**/results/*');
    await line(page).blur();
    await page.keyboard.press('k');
    await grid(page).waitFor();
    const answer = await page.request.get(`${server.url}/api/results/${resultOf(page)}/tokens`);
    return ((await answer.json()) as { codes: number[] }).codes;
  }

  /** What the page says of a cell. */
  function sentenceOf(codes: number[], cell: number): string {
    const others = codes.filter((code) => code === codes[cell]).length - 1;
    return `Code ${codes[cell]} · ${others === 0 ? 'no other cell' : others === 1 ? '1 other cell' : `${others} other cells`}`;
  }

  test('either method has its own settings, which outlive the other and a reload', async () => {
    const page = await visit();
    await page.getByRole('button', { name: 'More' }).click();
    await page.getByText('Pixels', { exact: true }).click();
    await page.getByLabel('Width').fill('300');
    await page.keyboard.press('Escape');
    await chosen(page).focus();
    await page.keyboard.press('ArrowRight');
    expect(await methodOf(page)).toBe('vqgan');
    await page.getByRole('button', { name: 'More' }).click();
    expect(await page.getByLabel('Width').inputValue()).toBe('256');
    await page.getByText('Random codes', { exact: true }).click();
    await page.getByLabel('Tries').fill('3');
    await page.getByLabel('Width').fill('301');
    await page.getByLabel('Height').fill('192');
    await page.getByLabel('Anchor', { exact: true }).fill('0.5');
    await page.getByLabel('Anchored to').selectOption('start');
    await page.keyboard.press('Escape');
    await page.reload();
    expect(await methodOf(page)).toBe('vqgan');
    await imagine(page, 'volcano');
    await status(page, 'succeeded');
    // Sides are made multiples of eight.
    expect(server.asked.at(-1)).toMatchObject({
      ...{ method: 'vqgan', start: 'codes', tries: 3, width: 304, height: 192, anchor: 0.5, anchorTo: 'start' },
      ...{ parameters: 'fourier', generator: 'vqgan-nano' },
    });
    await line(page).blur();
    await page.keyboard.press('v');
    expect(await methodOf(page)).toBe('feavis');
    await imagine(page, 'volcano again');
    await status(page, 'running');
    expect(server.asked.at(-1)).toMatchObject({ method: 'feavis', parameters: 'pixels', width: 300, height: 224 });
    expect(complaints).toEqual([]);
  });

  test('a link brings the method along, and a picture can be gone on from', async () => {
    const page = await visit();
    await withCodes(page, 'daisy');
    await page.getByText('drawn by vqgan-nano · 5d0c7be1aa').waitFor();
    const url = page.url();
    await context.close();
    const other = await visit({ path: new URL(url).pathname });
    await status(other, 'succeeded');
    expect(await methodOf(other)).toBe('vqgan');
    await other.getByRole('button', { name: 'Continue' }).click();
    await imagine(other, 'daisies');
    await status(other, 'running');
    const job = server.asked.at(-1)!;
    expect([job.method, job.init?.length, 'start' in job]).toEqual(['vqgan', 64, false]);
  });

  test('shows the codes while the picture forms, and marks those that change', async () => {
    const page = await visit();
    await line(page).blur();
    await page.keyboard.press('v');
    await imagine(page, 'a castle');
    await reached(page, 4);
    await page.getByRole('button', { name: 'Codes' }).click();
    const seen = new Set<number>();
    await expect
      .poll(async () => seen.add(Number(await grid(page).getAttribute('data-changed'))).size, { timeout: 20_000, interval: 20 })
      .toBeGreaterThan(4);
    await page.getByText(/^\d+ different codes · \d+ changed$/).waitFor();
    await status(page, 'succeeded');
    // It is one drawing, not a thousand elements.
    expect(await page.locator('figure *').count()).toBeLessThan(60);
    await page.keyboard.press('k');
    await grid(page).waitFor({ state: 'detached' });
  });

  test('a cell tells its code and how many hold it, in the grid and in the picture', async () => {
    const page = await visit();
    const codes = await withCodes(page, 'time');
    const box = (await grid(page).boundingBox())!;
    const at = (cell: number) =>
      [box.x + (((cell % 32) + 0.5) * box.width) / 32, box.y + ((Math.floor(cell / 32) + 0.5) * box.height) / 32] as const;
    for (const cell of [0, 528, 1023]) {
      await page.mouse.move(...at(cell));
      await page.getByText(sentenceOf(codes, cell), { exact: true }).first().waitFor();
    }
    // In the picture the same cells stay clear, all others are veiled.
    const common = codes.findIndex((code, cell) => cell > 32 && codes.filter((other) => other === code).length > 3);
    await page.mouse.move(...at(common));
    const veiled = await page.evaluate<boolean[]>(`(() => {
      const veil = document.querySelector('.sheet canvas:not([role=img])');
      const { width, height, data } = veil.getContext('2d').getImageData(0, 0, veil.width, veil.height);
      const middle = (at, size) => Math.floor(((at + .5) * size) / 32);
      return Array.from({ length: 1024 }, (_, cell) =>
        data[4 * (middle(Math.floor(cell / 32), height) * width + middle(cell % 32, width)) + 3] > 0);
    })()`);
    expect(veiled).toEqual(codes.map((code) => code !== codes[common]));
    // Arrow keys walk, to the edge and not over it.
    await page.mouse.move(5, 5);
    await grid(page).focus();
    for (const key of ['End', 'ArrowRight', 'ArrowDown', 'ArrowDown', 'ArrowLeft', 'Home', 'ArrowUp'])
      await page.keyboard.press(key);
    await page.getByText(sentenceOf(codes, 32), { exact: true }).first().waitFor();
    const told = page.locator(`[id="${await grid(page).getAttribute('aria-activedescendant')}"]`);
    expect(await told.textContent()).toBe(sentenceOf(codes, 32));
    expect(await told.getAttribute('aria-colindex')).toBe('1');
    // The picture's own cells can be pointed at too.
    const picture = (await page.locator('.sheet').boundingBox())!;
    await page.mouse.move(picture.x + 2, picture.y + 2);
    await page.getByText(sentenceOf(codes, 0), { exact: true }).first().waitFor();
    expect(complaints).toEqual([]);
  });

  test('a finished picture has its codes after a reload', async () => {
    const page = await visit();
    const codes = await withCodes(page, 'nature');
    await page.reload();
    await status(page, 'succeeded');
    await page.getByText(`${new Set(codes).size} different codes`, { exact: true }).waitFor();
    expect(await grid(page).getAttribute('aria-rowcount')).toBe('32');
  });

  test('the picture before quantization is there while a key or the button is held', async () => {
    const page = await visit();
    await withCodes(page, 'dream');
    const isSeen = () =>
      page.evaluate<boolean>(`(() => {
        const image = document.querySelector('figure img');
        return image.complete && image.naturalWidth === 256 && getComputedStyle(image).visibility === 'visible';
      })()`);
    expect(await isSeen()).toBe(false);
    await page.keyboard.down('b');
    await expect.poll(isSeen).toBe(true);
    await page.getByRole('status').filter({ hasText: 'Before quantization' }).waitFor();
    await page.keyboard.up('b');
    await expect.poll(isSeen).toBe(false);
    const button = page.getByRole('button', { name: 'Before quantization' });
    await button.hover();
    await page.mouse.down();
    await expect.poll(isSeen).toBe(true);
    // Let go elsewhere it is let go as well.
    await page.mouse.move(5, 5);
    await page.mouse.up();
    await expect.poll(isSeen).toBe(false);
    await button.focus();
    await page.keyboard.down(' ');
    await expect.poll(isSeen).toBe(true);
    await page.keyboard.up(' ');
    await expect.poll(isSeen).toBe(false);
    // An earlier frame has no such picture.
    await button.blur();
    await page.keyboard.press('ArrowLeft');
    await button.waitFor({ state: 'detached' });
    expect(complaints).toEqual([]);
  });

  test('says why it cannot be chosen where there is none, and what to do', async () => {
    const without = await startScriptedServer({ clientFolder, stepTime: 8, withoutGenerator: true });
    ({ context, complaints } = await openPage(browser, without.url, {}));
    const [page] = context.pages();
    const method = page.getByRole('radio', { name: 'VQGAN' });
    await expect.poll(() => method.isDisabled()).toBe(true);
    await line(page).blur();
    await page.keyboard.press('v');
    expect(await methodOf(page)).toBe('feavis');
    await page.getByRole('button', { name: 'More' }).click();
    await page.getByText(/There is no VQGAN on this machine. Put the folder of one .* into DATA_DIR\/models/).waitFor();
    await imagine(page, 'nature');
    await status(page, 'succeeded');
    expect(without.asked.at(-1)!.method).toBe('feavis');
    await without.close();
  });

  test('on a phone the codes stand under the picture and answer to a tap', async () => {
    const page = await visit({ phone: true });
    await page.getByText('VQGAN', { exact: true }).tap();
    await imagine(page, 'a castle');
    await status(page, 'succeeded');
    await page.getByRole('button', { name: 'Codes' }).tap();
    const picture = (await page.locator('.sheet').boundingBox())!;
    const box = (await grid(page).boundingBox())!;
    expect(box.y).toBeGreaterThanOrEqual(picture.y + picture.height);
    expect(await page.evaluate<number>('document.documentElement.scrollWidth')).toBeLessThanOrEqual(390);
    await page.touchscreen.tap(box.x + box.width / 2, box.y + box.height / 2);
    await page
      .getByText(/^Code \d+ · /)
      .first()
      .waitFor();
  });
});

describe('by keyboard alone', () => {
  test('everything on the page can be reached, and says what it is', async () => {
    const page = await visit();
    await line(page).focus();
    const seen: string[] = [];
    for (let press = 0; press < 40; press++) {
      await page.keyboard.press('Tab');
      const name = await page.evaluate<string>(`(() => {
        const at = document.activeElement;
        const label = at.getAttribute('aria-label') ?? at.labels?.[0]?.textContent ?? at.textContent;
        return at === document.body ? '' : at.tagName + ': ' + label.trim().replace(/\\s+/g, ' ');
      })()`);
      if (name !== '') seen.push(name);
    }
    expect(seen.filter((name) => name.endsWith(': '))).toEqual([]);
    for (const wanted of [
      'Imagine',
      'FeaVis',
      'From a picture',
      'Seed',
      'Roll another seed',
      'More',
      'nature',
      'Gallery',
      'Models',
      '中文',
    ])
      expect(
        seen.some((name) => name.includes(wanted)),
        `${wanted} in ${seen.join(' | ')}`,
      ).toBe(true);
  });

  test('? lists the keys, letters act outside of text, and can be turned off', async () => {
    const page = await visit();
    await line(page).blur();
    await page.keyboard.press('?');
    const list = page.getByRole('dialog', { name: 'Keys' });
    await list.waitFor();
    await list.getByLabel('Single-letter keys').uncheck();
    await page.keyboard.press('Escape');
    await list.waitFor({ state: 'detached' });
    await page.keyboard.press('g');
    expect(new URL(page.url()).pathname).toBe('/');
    await page.keyboard.press('?');
    await list.getByLabel('Single-letter keys').check();
    await page.keyboard.press('Escape');
    await list.waitFor({ state: 'detached' });
    await page.keyboard.press('g');
    await page.waitForURL('**/gallery');
    await page.keyboard.press('i');
    await line(page).waitFor();
    await line(page).fill('');
    await page.keyboard.type('gm?');
    expect(await line(page).inputValue()).toBe('gm?');
    expect(new URL(page.url()).pathname).toBe('/');
  });

  test('ArrowUp brings back earlier lines, ArrowDown what was being written', async () => {
    const page = await visit();
    for (const text of ['first line', 'second line']) {
      await imagine(page, text);
      await status(page, 'running');
      await page.keyboard.press('Escape');
      await status(page, 'canceled');
    }
    await line(page).fill('third');
    await line(page).press('Home');
    await page.keyboard.press('ArrowUp');
    expect(await line(page).inputValue()).toBe('second line');
    await line(page).press('Home');
    await page.keyboard.press('ArrowUp');
    expect(await line(page).inputValue()).toBe('first line');
    await line(page).press('End');
    await page.keyboard.press('ArrowDown');
    await line(page).press('End');
    await page.keyboard.press('ArrowDown');
    expect(await line(page).inputValue()).toBe('third');
  });

  test('Enter that ends a Chinese word does not send the line', async () => {
    const page = await visit({ locale: 'zh-CN' });
    const before = server.asked.length;
    await line(page).fill('时间');
    await line(page).dispatchEvent('keydown', { key: 'Enter', isComposing: true, keyCode: 229, bubbles: true });
    await page.waitForTimeout(200);
    expect(server.asked).toHaveLength(before);
  });
});

describe('every control has a name', () => {
  test.each(['/', '/gallery', '/compare', '/models'])('%s', async (path) => {
    const page = await visit({ path });
    await page.getByRole('navigation').waitFor();
    if (path === '/') await page.getByRole('button', { name: 'More' }).click();
    const nameless = await page.evaluate<
      string[]
    >(`[...document.querySelectorAll('button, a[href], input, select, textarea, [role=slider], [role=img]')]
      .filter((one) => {
        const name = one.getAttribute('aria-label') ?? [...(one.labels ?? [])].map((label) => label.textContent).join('') + one.textContent;
        return name.trim() === '';
      })
      .map((one) => one.outerHTML.slice(0, 120))`);
    expect(nameless).toEqual([]);
    const levels = await page.evaluate<number>(`document.querySelectorAll('h1').length`);
    expect(levels).toBe(1);
    const ids = await page.evaluate<string[]>(`[...document.querySelectorAll('[id]')].map(({ id }) => id)`);
    expect(new Set(ids).size).toBe(ids.length);
    expect(complaints).toEqual([]);
  });
});

describe('on a phone', () => {
  test.each(['/', '/gallery', '/compare', '/models'])('%s has no sideways scroll', async (path) => {
    const page = await visit({ path, phone: true });
    await page.getByRole('navigation').waitFor();
    expect(await page.evaluate<number>('document.documentElement.scrollWidth')).toBeLessThanOrEqual(390);
  });

  test('picture, line, and a sheet from below', async () => {
    const page = await visit({ phone: true });
    await imagine(page, 'a castle in the clouds');
    await reached(page, 5);
    server.hold(true);
    const picture = (await figure(page).boundingBox())!;
    const text = (await line(page).boundingBox())!;
    expect(picture.y + picture.height).toBeLessThanOrEqual(text.y);
    expect(picture.width).toBeGreaterThan(300);
    expect(text.y + text.height).toBeLessThan(844);
    expect(await page.evaluate<number>('document.documentElement.scrollWidth')).toBeLessThanOrEqual(390);
    await page.getByRole('button', { name: /What it thinks/ }).tap();
    await page.getByText('The text calls up').waitFor();
    await page.getByText('monastery').first().waitFor();
    await page.getByRole('button', { name: 'Fold away' }).tap();
    await page.getByRole('button', { name: 'Stop' }).tap();
    await status(page, 'canceled');
    const small = await page.evaluate<string[]>(`[...document.querySelectorAll('button, nav a')]
      .filter((one) => one.checkVisibility({ visibilityProperty: true }))
      .filter((one) => one.getBoundingClientRect().height < 40)
      .map((one) => one.textContent.trim() || one.getAttribute('aria-label'))`);
    expect(small).toEqual([]);
  });
});

test('with reduced motion nothing fades', async () => {
  const page = await visit();
  await page.emulateMedia({ reducedMotion: 'reduce' });
  const longest = await page.evaluate<number>(`Math.max(...[...document.querySelectorAll('*')].flatMap((one) => {
    const { transitionDuration, animationDuration } = getComputedStyle(one);
    return [transitionDuration, animationDuration].flatMap((list) => list.split(',').map(parseFloat));
  }))`);
  expect(longest).toBe(0);
});
