import { Random } from '../imagination/random.js';
import { best, dot, normalized, productsByRow, rowOf, type Breathe, type Products, type Rows } from './vectors.js';

// UMAP (McInnes, Healy & Melville 2018, arXiv 1802.03426) of a few thousand directions: neighbours are found exactly, the start is the plane of
// the two main components, and chance comes from one seeded generator. umap-js would do, but it is not kept up (its code and its tools are of
// 2019), brings a matrix library along to fit two constants, and its licence file contradicts its manifest.

const neighbours = 15;
const epochs = 200;
const negatives = 5;
/** The curve 1 / (1 + a d^2b) that UMAP fits for a least distance of 0.1 and a spread of 1. */
const curve = { a: 1.576943460405378, b: 0.8950608781227859 };
const seed = 1;

export interface Place {
  x: number;
  y: number;
}

/**
 * A place for each direction, in [0, 1] x [0, 1], near to those that it is near to by cosine. Equal directions give equal places.
 *
 * @param directions [n, E]
 */
export async function layout(directions: Rows, products: Products, breathe: Breathe): Promise<Place[]> {
  const n = directions.count;
  if (n === 0) return [];
  const unit = normalized(directions);
  const random = new Random(seed);
  const points = await mainPlane(unit, random, breathe);
  if (n > 3) {
    const graph = fuzzyGraph(await nearestNeighbours(unit, Math.min(neighbours, n - 1), products), n);
    spread(points, 10);
    await settle(points, graph, random, breathe);
  }
  spread(points, 1);
  return Array.from({ length: n }, (_, i) => ({ x: points[2 * i], y: points[2 * i + 1] }));
}

/** Each axis stretched to [0, side]; one on which all are equal, to its middle. */
function spread(points: Float64Array, side: number): void {
  for (const axis of [0, 1]) {
    let [low, high] = [Infinity, -Infinity];
    for (let i = axis; i < points.length; i += 2) {
      low = Math.min(low, points[i]);
      high = Math.max(high, points[i]);
    }
    for (let i = axis; i < points.length; i += 2)
      points[i] = high > low ? Math.min(side, (side * (points[i] - low)) / (high - low)) : side / 2;
  }
}

/** Coordinates along the two main components, [n, 2], by power iteration on the rows' covariance. */
export async function mainPlane(rows: Rows, random: Random, breathe: Breathe): Promise<Float64Array> {
  const { count: n, length } = rows;
  const mean = new Float64Array(length);
  for (let i = 0; i < n; i++) rowOf(rows, i).forEach((v, k) => (mean[k] += v / n));
  const centred = Float32Array.from(rows.values, (v, i) => v - mean[i % length]);
  const row = (i: number) => centred.subarray(i * length, (i + 1) * length);
  const points = new Float64Array(2 * n);
  const found: Float32Array[] = [];
  for (const axis of [0, 1]) {
    let component = Float32Array.from({ length }, () => random.normal());
    for (let turn = 0; turn < 30; turn++) {
      await breathe();
      const sum = new Float64Array(length);
      for (let i = 0; i < n; i++) {
        const along = dot(row(i), component);
        const values = row(i);
        for (let k = 0; k < length; k++) sum[k] += along * values[k];
      }
      for (const before of found) {
        const along = before.reduce((total, v, k) => total + v * sum[k], 0);
        before.forEach((v, k) => (sum[k] -= along * v));
      }
      const norm = Math.sqrt(sum.reduce((total, v) => total + v * v, 0));
      if (norm < 1e-12) break;
      component = Float32Array.from(sum, (v) => v / norm);
    }
    found.push(component);
    for (let i = 0; i < n; i++) points[2 * i + axis] = dot(row(i), component);
  }
  return points;
}

/** For each row its k nearest by cosine distance, nearest first. */
async function nearestNeighbours(unit: Rows, k: number, products: Products) {
  const found: { index: number; distance: number }[][] = [];
  for await (const { row, scores } of productsByRow(unit, unit, products))
    found.push(best(scores, k, row).map(({ index, score }) => ({ index, distance: Math.max(0, 1 - score) })));
  return found;
}

/**
 * How much a point holds each of its neighbours: exp(-(d - nearest) / width), with the width at which these sum to log2(k).
 * @param distances ascending, at least one
 */
export function memberships(distances: readonly number[]): number[] {
  const nearest = distances.find((d) => d > 0) ?? 0;
  const target = Math.log2(distances.length);
  const at = (width: number) => distances.map((d) => (d <= nearest ? 1 : Math.exp(-(d - nearest) / width)));
  const sumAt = (width: number) => at(width).reduce((a, b) => a + b, 0);
  let [low, high, width] = [0, Infinity, 1];
  for (let turn = 0; turn < 64; turn++) {
    if (sumAt(width) > target) high = width;
    else low = width;
    width = high === Infinity ? width * 2 : (low + high) / 2;
  }
  const mean = distances.reduce((a, b) => a + b, 0) / distances.length;
  // As UMAP does: distances that hardly differ have no width of their own.
  return at(Math.max(width, 1e-3 * mean, 1e-12));
}

interface Edge {
  from: number;
  to: number;
  weight: number;
}

/** Neighbourhoods joined: a or b, a + b - ab. Edges in both directions, in the order of their ends. */
function fuzzyGraph(near: readonly { index: number; distance: number }[][], n: number): Edge[] {
  const weights = Array.from({ length: n }, () => new Map<number, number>());
  near.forEach((found, i) => {
    memberships(found.map(({ distance }) => distance)).forEach((weight, k) => weights[i].set(found[k].index, weight));
  });
  const edges: Edge[] = [];
  weights.forEach((own, i) => {
    for (const [j, a] of own) {
      const b = weights[j].get(i);
      if (b !== undefined && j < i) continue;
      const weight = b === undefined ? a : a + b - a * b;
      edges.push({ from: i, to: j, weight }, { from: j, to: i, weight });
    }
  });
  return edges.sort((a, b) => a.from - b.from || a.to - b.to);
}

/** Pulls the ends of edges together, as often as their weight says, and pushes each from a few points by chance. */
async function settle(points: Float64Array, edges: readonly Edge[], random: Random, breathe: Breathe): Promise<void> {
  const n = points.length / 2;
  const { a, b } = curve;
  const heaviest = edges.reduce((most, { weight }) => Math.max(most, weight), 0);
  const every = Float64Array.from(edges, ({ weight }) => heaviest / weight);
  const due = every.slice();
  const clip = (v: number) => Math.max(-4, Math.min(4, v));
  for (let epoch = 1; epoch <= epochs; epoch++) {
    await breathe();
    const rate = 1 - (epoch - 1) / epochs;
    for (let e = 0; e < edges.length; e++) {
      if (due[e] > epoch) continue;
      due[e] += every[e];
      const [i, j] = [2 * edges[e].from, 2 * edges[e].to];
      const [dx, dy] = [points[i] - points[j], points[i + 1] - points[j + 1]];
      const square = dx * dx + dy * dy;
      if (square > 0) {
        const pull = (-2 * a * b * square ** (b - 1)) / (1 + a * square ** b);
        const [sx, sy] = [rate * clip(pull * dx), rate * clip(pull * dy)];
        points[i] += sx;
        points[i + 1] += sy;
        points[j] -= sx;
        points[j + 1] -= sy;
      }
      for (let k = 0; k < negatives; k++) {
        const other = 2 * random.below(n);
        if (other === i) continue;
        const [ex, ey] = [points[i] - points[other], points[i + 1] - points[other + 1]];
        const far = ex * ex + ey * ey;
        const push = far > 0 ? (2 * b) / ((0.001 + far) * (1 + a * far ** b)) : 0;
        points[i] += rate * (far > 0 ? clip(push * ex) : 4);
        points[i + 1] += rate * (far > 0 ? clip(push * ey) : 4);
      }
    }
  }
}
