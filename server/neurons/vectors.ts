/** Rows of one length, one after another: [count, length]. */
export interface Rows {
  count: number;
  length: number;
  values: Float32Array;
}

export const rowOf = ({ length, values }: Rows, row: number): Float32Array => values.subarray(row * length, (row + 1) * length);

/** In float64, four sums at a time: as fast as a plain loop can be here. */
export function dot(a: Float32Array, b: Float32Array): number {
  let [s0, s1, s2, s3] = [0, 0, 0, 0];
  const whole = a.length - (a.length % 4);
  for (let i = 0; i < whole; i += 4) {
    s0 += a[i] * b[i];
    s1 += a[i + 1] * b[i + 1];
    s2 += a[i + 2] * b[i + 2];
    s3 += a[i + 3] * b[i + 3];
  }
  for (let i = whole; i < a.length; i++) s0 += a[i] * b[i];
  return s0 + s1 + (s2 + s3);
}

/** Each row over its length; rows of zeros stay. */
export function normalized({ count, length, values }: Rows): Rows {
  const out = new Float32Array(values.length);
  for (let row = 0; row < count; row++) {
    const from = values.subarray(row * length, (row + 1) * length);
    const norm = Math.sqrt(dot(from, from));
    if (norm > 0) for (let i = 0; i < length; i++) out[row * length + i] = from[i] / norm;
  }
  return { count, length, values: out };
}

/** All inner products of the rows of two sets, [a.count, b.count]: where networks run is where this is fast. */
export type Products = (a: Rows, b: Rows) => Promise<Float32Array>;

/** Rows that are multiplied together: what is in memory is a block of them times all others. */
const block = 256;

/** The inner products of each row of `a`, in turn, with all rows of `b`. */
export async function* productsByRow(a: Rows, b: Rows, products: Products): AsyncGenerator<{ row: number; scores: Float32Array }> {
  for (let start = 0; start < a.count; start += block) {
    const count = Math.min(block, a.count - start);
    const values = a.values.subarray(start * a.length, (start + count) * a.length);
    const some = await products({ count, length: a.length, values }, b);
    for (let i = 0; i < count; i++) yield { row: start + i, scores: some.subarray(i * b.count, (i + 1) * b.count) };
  }
}

export interface Scored {
  index: number;
  score: number;
}

/** The `top` greatest scores, best first; of equal ones the lower index. `skip` is left out. */
export function best(scores: ArrayLike<number>, top: number, skip = -1): Scored[] {
  const found: Scored[] = [];
  for (let index = 0; index < scores.length; index++) {
    const score = scores[index];
    if (index === skip || (found.length === top && !(score > found[top - 1].score))) continue;
    let at = found.length < top ? found.length : top - 1;
    found[at] = { index, score };
    for (; at > 0 && found[at].score > found[at - 1].score; at--) [found[at - 1], found[at]] = [found[at], found[at - 1]];
  }
  return found;
}

/** Lets others have the thread while long work is done in pieces: resolves at once, or after their turn when a while has passed. */
export type Breathe = () => Promise<void>;

/** @param every how long work may go on, in milliseconds */
export function createBreath(every = 15): Breathe {
  let since = performance.now();
  return async () => {
    if (performance.now() - since < every) return;
    await new Promise((resolve) => setImmediate(resolve));
    since = performance.now();
  };
}
