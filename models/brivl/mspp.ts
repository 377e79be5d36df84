import type { Graph, Value } from '../graph/index.js';

/**
 * Weights of BriVL's multi-scale patch pooling along one axis of n cells, [boxes, n]: row b averages `roi` bilinear samples of its box.
 * theta is written for align_corners=True while both samplers run with False; the mismatch is the network's, so it is reproduced
 * (shared reference, brivl.md, "MSPP").
 *
 * @param edges box limits in cells of the map, [from, to] each.
 */
export function samplingWeights(n: number, edges: readonly (readonly [number, number])[], roi: number): Float32Array {
  const weights = new Float32Array(edges.length * n);
  edges.forEach(([from, to], b) => {
    const scale = (to - from) / (n - 1);
    const shift = (from + to - n + 1) / (n - 1);
    for (let i = 0; i < roi; i++) {
      const grid = (2 * i + 1) / roi - 1;
      const at = ((scale * grid + shift + 1) * n - 1) / 2;
      const low = Math.floor(at);
      // Outside the map bilinear sampling reads zeros.
      for (const [cell, weight] of [
        [low, 1 - (at - low)],
        [low + 1, at - low],
      ])
        if (cell >= 0 && cell < n) weights[b * n + cell] += weight / roi;
    }
  });
  return weights;
}

/** Boxes of a grid of k x k cells over n map cells, as limits along one axis. */
const gridEdges = (k: number, n: number): [number, number][] =>
  Array.from({ length: k }, (_, i) => [(i * n) / k, ((i + 1) * n) / k]);

/**
 * The pooling matrix [tokens, h * w] for grids such as [6, 1]: 36 cells, x in the outer loop, then the whole map. It is linear, so
 * one matrix product does it.
 */
export function poolingMatrix(
  h: number,
  w: number,
  grids: readonly number[],
  roi: number,
): { matrix: Float32Array; tokens: number } {
  const tokens = grids.reduce((sum, k) => sum + k * k, 0);
  const matrix = new Float32Array(tokens * h * w);
  let token = 0;
  for (const k of grids) {
    const [across, down] = [samplingWeights(w, gridEdges(k, w), roi), samplingWeights(h, gridEdges(k, h), roi)];
    for (let i = 0; i < k; i++)
      for (let j = 0; j < k; j++, token++)
        for (let y = 0; y < h; y++)
          for (let x = 0; x < w; x++) matrix[(token * h + y) * w + x] = down[j * h + y] * across[i * w + x];
  }
  return { matrix, tokens };
}

/** [N, C, H, W] -> [N, tokens, C]. */
export function multiScalePatches(g: Graph, map: Value, grids: readonly number[], roi: number): Value {
  const [n, c, h, w] = map.shape;
  const { matrix, tokens } = poolingMatrix(h, w, grids, roi);
  const flat = g.reshape(map, [n, c, h * w]);
  const columns = new Float32Array(matrix.length);
  for (let t = 0; t < tokens; t++) for (let p = 0; p < h * w; p++) columns[p * tokens + t] = matrix[t * h * w + p];
  return g.transpose(g.matMul(flat, g.floats(columns, [h * w, tokens], 'mspp')), [0, 2, 1]);
}
