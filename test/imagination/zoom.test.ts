import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { moved, type Motion } from '../../server/imagination/zoom.js';
import { randomStream } from '../graph/session.js';

const still: Motion = { zoom: 1, shift: [0, 0], rotate: 0 };
const noise = (width: number, height: number, seed: number): Uint8Array => {
  const random = randomStream(seed);
  return Uint8Array.from({ length: 3 * width * height }, () => Math.floor(256 * random()));
};

/** Every pixel of a picture that mirrors repeat without end, by its weight at the place that each pixel came from: no code of zoom.ts. */
function oracle(pixels: Uint8Array, width: number, height: number, { zoom, shift, rotate }: Motion): number[] {
  const kernel = (x: number) =>
    x === 0 ? 1 : Math.abs(x) >= 3 ? 0 : (3 * Math.sin(Math.PI * x) * Math.sin((Math.PI * x) / 3)) / (Math.PI * x) ** 2;
  const stretch = zoom < 1 ? 1 / zoom : 1;
  const angle = (-rotate * Math.PI) / 180;
  const fold = (i: number, n: number): number => (i < 0 ? fold(-1 - i, n) : i >= n ? fold(2 * n - 1 - i, n) : i);
  const out: number[] = [];
  for (let y = 0; y < height; y++)
    for (let x = 0; x < width; x++) {
      // From the centre: back by the shift, turned back, made small again.
      const [u, v] = [x + 0.5 - width / 2 - shift[0], y + 0.5 - height / 2 - shift[1]];
      const fromX = (u * Math.cos(angle) - v * Math.sin(angle)) / zoom + width / 2 - 0.5;
      const fromY = (u * Math.sin(angle) + v * Math.cos(angle)) / zoom + height / 2 - 0.5;
      const sum = [0, 0, 0];
      let total = 0;
      for (let j = Math.floor(fromY) - 8; j <= fromY + 8; j++)
        for (let i = Math.floor(fromX) - 8; i <= fromX + 8; i++) {
          const weight = kernel((i - fromX) / stretch) * kernel((j - fromY) / stretch);
          total += weight;
          for (let c = 0; c < 3; c++) sum[c] += weight * pixels[3 * (fold(j, height) * width + fold(i, width)) + c];
        }
      for (const channel of sum) out.push(Math.min(255, Math.max(0, channel / total)));
    }
  return out;
}

describe('a picture that moves', () => {
  it('is that of the naive oracle, to half a level of brightness', () => {
    const motion = fc.record({
      zoom: fc.double({ min: 0.5, max: 2, noNaN: true }),
      shift: fc.tuple(fc.double({ min: -40, max: 40, noNaN: true }), fc.double({ min: -40, max: 40, noNaN: true })),
      rotate: fc.double({ min: -180, max: 180, noNaN: true }),
    });
    fc.assert(
      fc.property(motion, fc.integer({ min: 8, max: 14 }), fc.integer({ min: 8, max: 14 }), (asked, width, height) => {
        const pixels = noise(width, height, width);
        const expected = oracle(pixels, width, height, asked);
        const found = moved(pixels, { width, height }, asked);
        expect(Math.max(...expected.map((v, i) => Math.abs(v - found[i])))).toBeLessThan(0.5 + 1e-6);
      }),
      { numRuns: 40 },
    );
  });

  it('is the same picture when it does not move, and is not written over', () => {
    const pixels = noise(9, 7, 1);
    const before = pixels.slice();
    expect(moved(pixels, { width: 9, height: 7 }, still)).toEqual(before);
    moved(pixels, { width: 9, height: 7 }, { ...still, zoom: 1.3 });
    expect(pixels).toEqual(before);
  });

  it('goes right and down by whole pixels, mirrored where it comes in', () => {
    const [width, height] = [6, 5];
    const pixels = noise(width, height, 2);
    const found = moved(pixels, { width, height }, { ...still, shift: [2, 1] });
    const at = (of: Uint8Array, x: number, y: number) => of[3 * (y * width + x)];
    expect(at(found, 4, 3)).toBe(at(pixels, 2, 2));
    expect([at(found, 1, 1), at(found, 0, 1), at(found, 2, 0)]).toEqual([at(pixels, 0, 0), at(pixels, 1, 0), at(pixels, 0, 0)]);
  });

  it('turns clockwise: what is at the top comes to the right', () => {
    const side = 6;
    const pixels = noise(side, side, 3);
    const found = moved(pixels, { width: side, height: side }, { ...still, rotate: 90 });
    for (let y = 0; y < side; y++)
      for (let x = 0; x < side; x++) expect(found[3 * (x * side + side - 1 - y)]).toBe(pixels[3 * (y * side + x)]);
  });

  it('grows about its centre', () => {
    const side = 40;
    // A square of 10 in the middle.
    const inside = (i: number) => i >= 15 && i < 25;
    const pixels = Uint8Array.from({ length: 3 * side * side }, (_, i) => {
      const [y, x] = [Math.floor(i / 3 / side), Math.floor(i / 3) % side];
      return inside(x) && inside(y) ? 200 : 20;
    });
    const found = moved(pixels, { width: side, height: side }, { ...still, zoom: 2 });
    const row = Array.from({ length: side }, (_, x) => found[3 * ((side / 2) * side + x)] > 110);
    expect([row.indexOf(true), row.lastIndexOf(true)]).toEqual([10, 29]);
  });
});
