import { best, dot, normalized, productsByRow, rowOf, type Products, type Rows } from './vectors.js';

// The measures of SemanticLens (Dreyer, Berend, Labarta, Vielhaben, Wiegand, Lapuschkin, Samek 2025, "Mechanistic understanding and validation
// of large AI models with SemanticLens", Nature Machine Intelligence) over the embeddings of the pictures that drive a unit most, as
// `semanticlens/scores.py` of github.com/jim-berend/semanticlens has them. There a foundation model embeds the pictures; here the
// model's own joint space does.

/**
 * How alike the pictures are that drive a unit: the mean cosine of all pairs, ((|mean|^2 - 1/n) n / (n - 1)) of normalised embeddings. From
 * -1/(n - 1) to 1; null for fewer than two.
 *
 * @param embeddings [n, E]
 */
export function clarity(embeddings: Rows): number | null {
  const { count: n } = embeddings;
  if (n < 2) return null;
  const { length, values } = normalized(embeddings);
  let square = 0;
  for (let k = 0; k < length; k++) {
    let sum = 0;
    for (let i = 0; i < n; i++) sum += values[i * length + k];
    square += (sum / n) ** 2;
  }
  return ((square - 1 / n) * n) / (n - 1);
}

/** More pictures than that have too many partitions to try. */
const mostParted = 16;

/**
 * How far apart the two halves of what drives a unit are: 1 - clarity of the centres of the best two clusters (2-means). Where one cluster is a
 * single picture, 1 - the mean clarity of the centre of all and one picture, over the first ten. From 0 to 2; null for fewer than two pictures.
 *
 * SemanticLens runs k-means from ten starts; with so few pictures all partitions can be tried, so this is its optimum.
 *
 * @param embeddings [n, E], n at most 16
 */
export function polysemanticity(embeddings: Rows): number | null {
  const { count: n, length } = embeddings;
  if (n < 2) return null;
  if (n > mostParted) throw new Error(`${n} pictures are too many to part: at most ${mostParted}`);
  const centreOf = (members: readonly number[]) => {
    const centre = new Float32Array(length);
    for (const i of members) rowOf(embeddings, i).forEach((v, k) => (centre[k] += v / members.length));
    return centre;
  };
  const apart = (a: Float32Array, b: Float32Array) => 1 - clarity({ count: 2, length, values: Float32Array.from([...a, ...b]) })!;
  const all = Array.from({ length: n }, (_, i) => i);
  const inFirst = bestPartition(embeddings);
  const [first, second] = [all.filter((i) => inFirst[i]), all.filter((i) => !inFirst[i])];
  if (Math.min(first.length, second.length) >= 2) return apart(centreOf(first), centreOf(second));
  const centre = centreOf(all);
  const some = all.slice(0, 10);
  return some.reduce((sum, i) => sum + apart(centre, rowOf(embeddings, i)), 0) / some.length;
}

/**
 * The two clusters with the least squared distance to their centres, which is where the sum over clusters of |sum of members|^2 / members is
 * greatest. One picture changes sides at a time (Gray code), so each of the 2^(n-1) partitions costs n additions. The last picture never does.
 */
function bestPartition(embeddings: Rows): boolean[] {
  const { count: n } = embeddings;
  const gram = Array.from({ length: n }, (_, i) =>
    Float64Array.from({ length: n }, (_, j) => dot(rowOf(embeddings, i), rowOf(embeddings, j))),
  );
  const inFirst = new Array<boolean>(n).fill(false);
  // Of the first cluster: its size, |its sum|^2, its sum's product with all and with each picture; the second is what is left.
  let [size, square, cross] = [0, 0, 0];
  const along = new Float64Array(n);
  const totals = gram.map((row) => row.reduce((a, b) => a + b, 0));
  const total = totals.reduce((a, b) => a + b, 0);
  let most = -Infinity;
  let found = [...inFirst];
  for (let code = 1; code < 2 ** (n - 1); code++) {
    const moved = 31 - Math.clz32(code & -code);
    const sign = inFirst[moved] ? -1 : 1;
    square += sign * 2 * along[moved] + gram[moved][moved];
    for (let i = 0; i < n; i++) along[i] += sign * gram[moved][i];
    size += sign;
    cross += sign * totals[moved];
    inFirst[moved] = !inFirst[moved];
    const value = square / size + (total - 2 * cross + square) / (n - size);
    if (size > 0 && value > most + 1e-12) [most, found] = [value, [...inFirst]];
  }
  return found;
}

/**
 * How much a unit says what another says too: the greatest cosine of its mean embedding to that of another unit. From -1 to 1; null where
 * there is no other, or the unit has no pictures (a row of zeros).
 *
 * @param means [units, E]
 */
export async function redundancies(means: Rows, products: Products): Promise<(number | null)[]> {
  const directions = normalized(means);
  const isSilent = Array.from({ length: means.count }, (_, i) => rowOf(means, i).every((v) => v === 0));
  const found: (number | null)[] = [];
  for await (const { row, scores } of productsByRow(directions, directions, products)) {
    const heard = scores.map((score, other) => (isSilent[other] ? -Infinity : score));
    const nearest = best(heard, 1, row).at(0);
    found.push(isSilent[row] || !nearest || nearest.score === -Infinity ? null : nearest.score);
  }
  return found;
}
