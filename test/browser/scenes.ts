import sharp from 'sharp';
import type { Job } from '../../server/jobs/job.js';

export interface Pixels {
  data: Buffer;
  width: number;
  height: number;
}

/** Numbers from a seed (mulberry32): the same job gives the same scene. */
function chance(seed: number): () => number {
  let state = seed >>> 0;
  return () => {
    state = (state + 0x6d2b79f5) >>> 0;
    let mixed = Math.imul(state ^ (state >>> 15), 1 | state);
    mixed = (mixed + Math.imul(mixed ^ (mixed >>> 7), 61 | mixed)) ^ mixed;
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 4294967296;
  };
}

/** A painted dream for a job: hills, a sky and one thing in front of them, pushed about by turbulence. No network is asked. */
export async function drawScene(job: Job): Promise<Pixels> {
  const { width, height, text } = job;
  const next = chance(job.seed * 7919 + text.length * 31);
  const between = (low: number, high: number) => low + (high - low) * next();
  const hue = Math.floor(between(0, 360));
  const hill = (base: number, depth: number, light: number) => {
    let path = `M-20 260 L-20 ${base}`;
    for (let x = 0; x <= 240; x += 24) path += ` Q${x - 12} ${base - between(0, depth)} ${x} ${base + between(-depth, depth) / 3}`;
    return `<path d="${path} L244 260Z" fill="hsl(${(hue + 70) % 360} ${between(18, 34)}% ${light}%)"/>`;
  };
  const petals = (x: number, y: number, size: number) =>
    Array.from({ length: 13 }, (_, at) => {
      const turn = (at * 360) / 13;
      return `<ellipse cx="${x}" cy="${y - size}" rx="${size * 0.24}" ry="${size * 0.62}" transform="rotate(${turn} ${x} ${y})" fill="hsl(${hue} 16% ${between(82, 94)}%)"/>`;
    }).join('') + `<circle cx="${x}" cy="${y}" r="${size * 0.42}" fill="hsl(44 78% 54%)"/>`;
  const tower = (x: number, y: number, w: number, h: number) =>
    `<path d="M${x} ${y}v${-h}h${w}v${h}zM${x - 3} ${y - h}l${w / 2 + 3} ${-w * 1.1}l${w / 2 + 3} ${w * 1.1}z" fill="hsl(${(hue + 20) % 360} 22% ${between(34, 58)}%)"/>`;
  const thing = /castle|城堡/.test(text)
    ? tower(78, 150, 18, 62) + tower(100, 156, 30, 46) + tower(126, 150, 16, 78) + tower(146, 158, 22, 38)
    : /time|时间|clock/.test(text)
      ? `<circle cx="112" cy="108" r="56" fill="hsl(${hue} 24% 78%)" stroke="hsl(${hue} 40% 26%)" stroke-width="6"/><path d="M112 108L112 70M112 108L140 122" stroke="#221" stroke-width="5" stroke-linecap="round"/>`
      : `<path d="M112 220Q106 160 112 112" stroke="hsl(110 34% 30%)" stroke-width="5" fill="none"/>${petals(112, 104, between(34, 46))}${petals(58, 168, 18)}${petals(172, 176, 15)}`;
  const svg = `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 224 224" width="${width}" height="${height}" preserveAspectRatio="none">
    <defs>
      <linearGradient id="sky" x2="0" y2="1"><stop offset="0" stop-color="hsl(${(hue + 200) % 360} 38% 44%)"/><stop offset="1" stop-color="hsl(${(hue + 160) % 360} 34% 76%)"/></linearGradient>
      <filter id="dream" x="-10%" y="-10%" width="120%" height="120%">
        <feTurbulence type="fractalNoise" baseFrequency="0.045" numOctaves="4" seed="${job.seed % 1000}"/>
        <feDisplacementMap in="SourceGraphic" scale="26" xChannelSelector="R" yChannelSelector="G"/>
      </filter>
      <filter id="grain"><feTurbulence type="fractalNoise" baseFrequency="0.16" numOctaves="3" seed="${(job.seed + 7) % 1000}"/></filter>
    </defs>
    <g filter="url(#dream)">
      <rect x="-20" y="-20" width="264" height="264" fill="url(#sky)"/>
      <circle cx="${between(30, 190)}" cy="${between(24, 60)}" r="${between(10, 18)}" fill="hsl(44 70% 84%)"/>
      ${hill(140, 44, 40)}${hill(168, 30, 32)}${thing}${hill(206, 18, 24)}
    </g>
    <rect width="224" height="224" filter="url(#grain)" opacity="0.3"/>
  </svg>`;
  const { data } = await sharp(Buffer.from(svg))
    .removeAlpha()
    .resize(width, height, { fit: 'fill' })
    .toColourspace('srgb')
    .raw()
    .toBuffer({ resolveWithObject: true });
  return { data, width, height };
}
