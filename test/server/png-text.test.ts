import fc from 'fast-check';
import sharp from 'sharp';
import { beforeAll, describe, expect, it } from 'vitest';
import { readPngText, withPngText } from '../../server/store/png-text.js';

let png: Buffer;
beforeAll(async () => {
  png = await sharp({ create: { width: 5, height: 4, channels: 3, background: '#123456' } })
    .png()
    .toBuffer();
});

const keyword = fc.stringMatching(/^[!-~]([ -~]{0,20}[!-~])?$/).filter((text) => !text.includes('  '));
const text = fc.string({ unit: 'grapheme' }).filter((value) => !value.includes('\0'));

describe('texts in a PNG', () => {
  it('come back as they were put in, and leave the picture as it is', async () => {
    const pixels = await sharp(png).raw().toBuffer();
    await fc.assert(
      fc.asyncProperty(fc.dictionary(keyword, text, { maxKeys: 4, noNullPrototype: true }), async (entries) => {
        const written = withPngText(png, entries);
        expect(Object.fromEntries(readPngText(written))).toEqual(entries);
        expect((await sharp(written).raw().toBuffer()).equals(pixels)).toBe(true);
      }),
    );
  });

  it('are the same bytes for the same texts', () => {
    const entries = { parameters: 'nature', reverie: '{"text":"自然 🏰"}' };
    expect(withPngText(png, entries).equals(withPngText(Uint8Array.from(png), entries))).toBe(true);
  });

  it('use tEXt for Latin-1 and iTXt for the rest, before the picture data', () => {
    const written = withPngText(png, { a: 'café', b: '梦' }).toString('latin1');
    const [plain, international, data] = ['tEXta\0', 'iTXtb\0\0\0\0\0', 'IDAT'].map((part) => written.indexOf(part));
    expect(plain).toBeGreaterThan(0);
    expect(international).toBeGreaterThan(plain);
    expect(data).toBeGreaterThan(international);
  });

  it('are refused with a sentence where the format forbids them', () => {
    for (const name of ['', ' a', 'a ', 'a  b', '梦', 'x'.repeat(80), 'a\nb'])
      expect(() => withPngText(png, { [name]: 'x' })).toThrow(/cannot name a text/);
    expect(() => withPngText(png, { a: 'x\0y' })).toThrow(/NUL/);
  });

  it('are not looked for in what is no whole PNG', () => {
    expect(() => readPngText(Buffer.from('GIF89a'))).toThrow(/not a PNG/);
    expect(() => readPngText(png.subarray(0, png.length - 5))).toThrow(/cut off/);
    fc.assert(
      fc.property(fc.uint8Array(), (bytes) => {
        const junk = Buffer.concat([png.subarray(0, 33), bytes]);
        try {
          readPngText(junk);
        } catch (error) {
          expect((error as Error).message).toMatch(/^this PNG/);
        }
      }),
    );
  });
});
