/**
 * Traces the explorer of neurons in a real browser, on the built page and the real server, and prints the four figures of its bars: script
 * and layout of a frame while all 1280 units scroll by (ms, 95th percentile; bar 8), most tiles in the page (bar under 200), first paint (s;
 * bar under 1.5), and a unit's page from the local server (ms; bar under 300). The index is made first, and is not measured.
 *
 * Usage: npx tsx test/bench/explorer.ts [http://127.0.0.1:7860] [--json]     without an address it builds the page and starts a server of its own
 */
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import type { Browser, CDPSession, Page } from 'playwright-core';
import { startCompute } from '../../server/compute/process.js';
import type { LayerView } from '../../server/neurons/view.js';
import { startServer } from '../../server/server.js';
import { buildPage, launchBrowser } from '../browser/browser.js';

const viewport = { width: 1440, height: 900 };
const layer = '/neurons/brivl-nano/LLP';
/** Units of which the page is measured, none of which has been seen before. */
const units = [108, 456, 678, 12, 1279];
const repeats = 5;

interface TraceEvent {
  name: string;
  ph: string;
  ts: number;
  dur?: number;
  pid: number;
  tid: number;
  args: { data?: { name?: string }; name?: string };
}

const median = (values: number[]) => quantile(values, 0.5);
function quantile(values: number[], share: number): number {
  const sorted = [...values].sort((a, b) => a - b);
  return sorted[Math.min(sorted.length - 1, Math.floor(share * sorted.length))];
}

async function waitForIndex(url: string): Promise<LayerView> {
  for (;;) {
    const response = await fetch(`${url}/api/neurons?model=brivl-nano&layer=LLP`);
    if (!response.ok) throw new Error(`GET /api/neurons: ${response.status} ${await response.text()}`);
    const view = (await response.json()) as LayerView;
    if (view.index.state === 'done') return view;
    if (view.index.state === 'failed') throw new Error(`the index failed: ${view.index.error}`);
    await new Promise((resolve) => setTimeout(resolve, 1000));
  }
}

async function freshPage(browser: Browser): Promise<Page> {
  const context = await browser.newContext({ viewport, locale: 'en-GB' });
  return context.newPage();
}

/** The server's content security policy forbids the evaluation that `waitForFunction` needs. */
async function until(page: Page, name: string): Promise<void> {
  while (!(await page.evaluate<boolean>(`window.${name} !== undefined`))) await page.waitForTimeout(20);
}

/** Seconds from the navigation to the first contentful paint, and to a paint that has tiles in it; in a browser that has nothing cached. */
async function firstPaint(browser: Browser, url: string): Promise<{ paint: number; tiles: number }> {
  const page = await freshPage(browser);
  await page.addInitScript(`
    new MutationObserver((_, watch) => {
      if (!document.querySelector('.tile')) return;
      watch.disconnect();
      requestAnimationFrame(() => setTimeout(() => (window.tilesPainted = performance.now())));
    }).observe(document, { childList: true, subtree: true });
  `);
  await page.goto(url + layer);
  await until(page, 'tilesPainted');
  const figures = await page.evaluate<{ paint: number; tiles: number }>(
    `({ paint: performance.getEntriesByName('first-contentful-paint')[0].startTime / 1000, tiles: window.tilesPainted / 1000 })`,
  );
  await page.context().close();
  return figures;
}

/** From the top to the bottom and the most tiles on the way; not traced. */
const countTiles = `(async () => {
  const last = document.documentElement.scrollHeight - innerHeight;
  let most = 0;
  for (let y = 0; y <= last + 60; y += 60) {
    scrollTo(0, y);
    await new Promise((resolve) => requestAnimationFrame(resolve));
    most = Math.max(most, document.querySelectorAll('.tile').length);
  }
  return most;
})()`;

async function traced(session: CDPSession, act: () => Promise<unknown>): Promise<TraceEvent[]> {
  const events: TraceEvent[] = [];
  session.on('Tracing.dataCollected', ({ value }) => events.push(...(value as unknown as TraceEvent[])));
  const complete = new Promise<void>((resolve) => session.once('Tracing.tracingComplete', () => resolve()));
  await session.send('Tracing.start', {
    transferMode: 'ReportEvents',
    traceConfig: {
      includedCategories: [
        'devtools.timeline',
        'disabled-by-default-devtools.timeline.frame',
        'devtools.timeline.frame',
        'toplevel',
      ],
    },
  });
  await act();
  await session.send('Tracing.end');
  await complete;
  return events;
}

const script = new Set([
  'FunctionCall',
  'EvaluateScript',
  'EventDispatch',
  'FireAnimationFrame',
  'TimerFire',
  'RunMicrotasks',
  'v8.run',
]);
const layout = new Set(['UpdateLayoutTree', 'Layout', 'PrePaint', 'UpdateLayerTree', 'Layerize']);

/** Script and layout of each frame of the page, in ms of the wall clock: the union of their events on its main thread between the beginnings of two frames. */
function workOfFrames(events: TraceEvent[]): number[] {
  const mains = events.filter(({ name, args }) => name === 'thread_name' && args.name === 'CrRendererMain');
  const frames = events.filter(({ name }) => name === 'BeginMainThreadFrame').sort((a, b) => a.ts - b.ts);
  const busiest = mains
    .map((main) => ({ main, count: frames.filter(({ pid, tid }) => pid === main.pid && tid === main.tid).length }))
    .sort((a, b) => b.count - a.count)[0];
  if (!busiest || busiest.count === 0) throw new Error('the trace has no frames: is this a Chromium of 2020 or later?');
  const onMain = ({ pid, tid }: TraceEvent) => pid === busiest.main.pid && tid === busiest.main.tid;
  const begins = frames.filter(onMain).map(({ ts }) => ts);
  const work = events
    .filter((event) => onMain(event) && event.ph === 'X' && (script.has(event.name) || layout.has(event.name)))
    .map(({ ts, dur = 0 }) => ({ from: ts, to: ts + dur }))
    .sort((a, b) => a.from - b.from);
  const spent = begins.map(() => 0);
  let frame = 0;
  let until = 0;
  for (const { from, to } of work) {
    while (frame + 1 < begins.length && begins[frame + 1] <= from) frame++;
    if (from < begins[0]) continue;
    // What lies within another event has been counted with it.
    spent[frame] += Math.max(0, to - Math.max(from, until)) / 1000;
    until = Math.max(until, to);
  }
  return spent;
}

async function scroll(browser: Browser, url: string): Promise<{ work: number[]; tiles: number }> {
  const page = await freshPage(browser);
  await page.goto(url + layer);
  await page.locator('.tile').first().waitFor();
  await page.waitForTimeout(1500);
  const session = await page.context().newCDPSession(page);
  const distance = await page.evaluate<number>('document.documentElement.scrollHeight - innerHeight');
  // As a hand at a trackpad does it: 40 pixels a frame, a row in less than three frames. The page runs no script of ours meanwhile.
  const events = await traced(session, () =>
    session.send('Input.synthesizeScrollGesture', {
      x: 700,
      y: 500,
      yDistance: -distance,
      speed: 2400,
      gestureSourceType: 'mouse',
      preventFling: true,
    }),
  );
  const tiles = await page.evaluate<number>(countTiles);
  await page.context().close();
  return { work: workOfFrames(events), tiles };
}

/** Until a unit's page stands with its photographs, in ms: opened by its address in a new tab, and by a click in the grid. */
async function unitPage(browser: Browser, url: string, unit: number): Promise<{ opened: number; clicked: number }> {
  const watch = `(() => {
    const stands = () => document.querySelector('[data-unit="LLP-${unit}"] .top img') !== null;
    const painted = () => requestAnimationFrame(() => setTimeout(() => (window.unitPainted = performance.now())));
    new MutationObserver((_, watch) => {
      if (!stands()) return;
      watch.disconnect();
      painted();
    }).observe(document, { childList: true, subtree: true, attributes: true });
  })()`;
  const page = await freshPage(browser);
  // The browser's own start is not the page's: its files are there, as on any visit but the very first.
  await page.goto(`${url}/neurons/brivl-nano/LLP/${(unit + 300) % 1280}`);
  await page.locator('.top img').first().waitFor();
  await page.addInitScript(watch);
  await page.goto(`${url}/neurons/brivl-nano/LLP/${unit}`);
  await until(page, 'unitPainted');
  const opened = await page.evaluate<number>('window.unitPainted');
  await page.context().close();

  const other = await freshPage(browser);
  await other.goto(url + layer);
  await other.locator('.tile').first().waitFor();
  await other.waitForTimeout(1000);
  await other.getByRole('textbox').fill(String(unit));
  await other.locator(`#unit-${unit}.current a`).waitFor();
  await other.waitForTimeout(500);
  await other.evaluate(watch);
  await other.evaluate(`addEventListener('click', () => (window.clickedAt = performance.now()), { capture: true, once: true })`);
  await other.locator(`#unit-${unit}.current a`).click();
  await until(other, 'unitPainted');
  const clicked = await other.evaluate<number>('window.unitPainted - window.clickedAt');
  await other.context().close();
  return { opened, clicked };
}

async function main(): Promise<void> {
  const given = process.argv.slice(2).find((argument) => argument.startsWith('http'));
  const dataDir = await mkdtemp(path.join(tmpdir(), 'reverie-explorer-'));
  const server = given
    ? undefined
    : await startServer({ port: 0, dataDir, pageFolder: await buildPage(), device: 'cpu', startCompute });
  const url = given ?? server!.url;
  const browser = await launchBrowser();
  try {
    const { units: all, atlas } = await waitForIndex(url);
    const paints: { paint: number; tiles: number }[] = [];
    for (let i = 0; i < repeats; i++) paints.push(await firstPaint(browser, url));
    const { work, tiles } = await scroll(browser, url);
    const pages: { opened: number; clicked: number }[] = [];
    for (const unit of units) pages.push(await unitPage(browser, url, unit));
    const figures = {
      ...{ units: all.length, atlas: atlas !== null, frames: work.length },
      frame: { p50: median(work), p95: quantile(work, 0.95), most: Math.max(...work) },
      tiles,
      firstPaint: median(paints.map(({ paint }) => paint)),
      firstTiles: median(paints.map((one) => one.tiles)),
      unitPage: { opened: median(pages.map(({ opened }) => opened)), clicked: median(pages.map(({ clicked }) => clicked)) },
    };
    if (process.argv.includes('--json')) return console.log(JSON.stringify(figures));
    const { frame, unitPage: unit } = figures;
    console.log(
      `${figures.units} units${figures.atlas ? '' : ', without a sheet'}; Chromium ${browser.version()}, ${viewport.width} x ${viewport.height}`,
    );
    console.log(
      `script + layout a frame   p95 ${frame.p95.toFixed(2)} ms (p50 ${frame.p50.toFixed(2)}, most ${frame.most.toFixed(1)}, ${figures.frames} frames)   bar 8 ms`,
    );
    console.log(`tiles in the page         ${tiles}   bar under 200`);
    console.log(
      `first paint               ${figures.firstPaint.toFixed(2)} s, with tiles ${figures.firstTiles.toFixed(2)} s (median of ${repeats})   bar 1.5 s`,
    );
    console.log(
      `a unit's page             opened ${unit.opened.toFixed(0)} ms, clicked ${unit.clicked.toFixed(0)} ms (median of ${units.length})   bar 300 ms`,
    );
  } finally {
    await browser.close();
    await server?.close();
    await rm(dataDir, { recursive: true, force: true });
  }
}

await main();
