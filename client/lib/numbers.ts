import type { Words } from './words/en.js';

/** A cosine as the page writes it: two or three digits and no zero before the point (.61, −.04, 1.00). */
export function cosine(value: number, digits = 2): string {
  const text = Math.abs(value).toFixed(digits);
  return (value < 0 && Number(text) !== 0 ? '−' : '') + text.replace(/^0\./, '.');
}

/** Steps per second: one digit while it is slow enough to matter. */
export function rate(value: number): string {
  return value >= 20 ? String(Math.round(value)) : value.toFixed(1);
}

/** A stretch of time in the page's language, to the second; minutes from 90 s on. */
export function duration(seconds: number, say: Pick<Words, 'seconds' | 'minutes'>): string {
  const whole = Math.max(0, Math.round(seconds));
  if (whole < 90) return say.seconds(String(whole));
  return say.minutes(String(Math.floor(whole / 60)), String(whole % 60));
}

/** 4_690_000 -> "4.7", in millions; also bytes to MB. */
export function millions(value: number): string {
  const m = value / 1e6;
  return m >= 100 ? String(Math.round(m)) : m.toFixed(1);
}
