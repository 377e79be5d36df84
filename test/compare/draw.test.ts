import sharp from 'sharp';
import { describe, expect, it } from 'vitest';
import { drawConfusion, drawHeatMap, fitted, wrapped } from '../../server/compare/draw.js';

const colour = (background: string) =>
  sharp({ create: { width: 40, height: 20, channels: 3, background } })
    .png()
    .toBuffer();

async function pixels(png: Buffer) {
  const { data, info } = await sharp(png).removeAlpha().raw().toBuffer({ resolveWithObject: true });
  const at = (x: number, y: number) => [...data.subarray((y * info.width + x) * 3, (y * info.width + x) * 3 + 3)];
  const all = Array.from({ length: info.width * info.height }, (_, i) => at(i % info.width, Math.floor(i / info.width)));
  const count = (r: number, g: number, b: number) =>
    all.filter((pixel) => pixel.every((value, i) => Math.abs(value - [r, g, b][i]) < 3)).length;
  return { ...info, count };
}

describe('the heat map', () => {
  it('has a thumbnail a row, and its hottest cell in full vermilion', async () => {
    const rows = [
      { name: 'red', thumbnail: await colour('#ff0000') },
      { name: 'blue & <b>', thumbnail: await colour('#0000ff') },
    ];
    const png = await drawHeatMap({ title: 'm', rows, columns: ['a', '云中的城堡 & <x>', 'c\u0007'], matrix: [[0.1, 0.9, 0.2], [0, 0.1, 0.3]] }); // prettier-ignore
    const { count, width, height } = await pixels(png);
    expect([width, height].every((side) => side > 200 && side < 900)).toBe(true);
    expect(count(255, 0, 0)).toBeGreaterThan(56 * 56 * 0.95);
    expect(count(0, 0, 255)).toBeGreaterThan(56 * 56 * 0.95);
    expect(count(0xc2, 0x3d, 0x22)).toBeGreaterThan(1500);
  });

  it('is drawn also where all values are one', async () => {
    const png = await drawHeatMap({ title: '', rows: [{ name: '', thumbnail: await colour('#fff') }], columns: [''], matrix: [[-1]] }); // prettier-ignore
    expect((await sharp(png).metadata()).format).toBe('png');
  });
});

it('the confusion picture is jade where answers are right and vermilion where they are not', async () => {
  const right = await pixels(await drawConfusion('t', { labels: ['猫', 'dog'], counts: [[3, 0], [0, 2]] }, 'zh')); // prettier-ignore
  const wrong = await pixels(await drawConfusion('t', { labels: ['猫', 'dog'], counts: [[0, 3], [0, 0]] }, 'en')); // prettier-ignore
  const jade = ({ count }: typeof right) => count(0x2f, 0x6f, 0x59) > 700;
  const vermilion = ({ count }: typeof right) => count(0xc2, 0x3d, 0x22) > 700;
  expect([jade(right), vermilion(right), jade(wrong), vermilion(wrong)]).toEqual([true, false, false, true]);
});

describe('texts', () => {
  it('are cut with an ellipsis', () => {
    expect(fitted('short', 100)).toBe('short');
    expect(fitted('让生命像夏天的花朵一样美丽', 60)).toBe('让生命…');
    expect(fitted('', 0)).toBe('');
  });

  it('break at spaces and between Chinese characters, once', () => {
    expect(wrapped('a castle in the clouds', 120)).toEqual(['a castle in', 'the clouds']);
    expect(wrapped('让生命像夏天，的花朵', 97)).toEqual(['让生命像夏', '天，的花朵']);
    expect(wrapped('x'.repeat(50), 100)).toEqual([fitted('x'.repeat(50), 100)]);
    expect(wrapped('a castle in the clouds of heaven over the sea', 100).at(-1)).toMatch(/…$/);
  });
});
