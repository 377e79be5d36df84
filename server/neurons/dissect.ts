import { best, productsByRow, type Breathe, type Products, type Rows, type Scored } from './vectors.js';

/** CLIP-Dissect's constants: sharpness of the softmax, weight of how common a concept is, and how sure it is that the first and last picture count. */
const sharpness = 10;
const commonness = 1;
const sureness = { first: 0.998, last: 0.97 };
const least = 1e-7;

/**
 * Which concept labels each unit, by soft-WPMI of CLIP-Dissect (Oikarinen & Weng 2023, "CLIP-Dissect: Automatic Description of Neuron
 * Representations in Deep Vision Networks", ICLR; `similarity.soft_wpmi` of github.com/Trustworthy-ML-Lab/CLIP-dissect, with its constants):
 * the log probability that a unit's strongest pictures show the concept, less that of any unit's. The higher a picture ranks the more surely
 * it counts. The paper takes the 100 strongest of a probing set; here they are the few that the index keeps, and the model's own joint space
 * stands in for CLIP's.
 *
 * @param units for each unit its strongest pictures, best first, as rows of `pictures`
 * @param pictures [P, E], L2-normalised
 * @param concepts [K, E], L2-normalised
 * @returns the best concept of each unit, its score in nats; null for a unit without pictures
 */
export async function labels(
  units: readonly (readonly number[])[],
  pictures: Rows,
  concepts: Rows,
  products: Products,
  breathe: Breathe,
): Promise<(Scored | null)[]> {
  const { count } = concepts;
  const sums = new Float64Array(units.length * count);
  const uses = usesOf(units, pictures.count);
  const shares = new Float64Array(count);
  for await (const { row: picture, scores } of productsByRow(pictures, concepts, products)) {
    if (uses[picture].length === 0) continue;
    await breathe();
    softmaxOver(scores, shares);
    for (const { unit, rank } of uses[picture]) {
      const sure = sureness.first - (rank / units[unit].length) * (sureness.first - sureness.last);
      const at = unit * count;
      for (let k = 0; k < count; k++) sums[at + k] += Math.log(1 + sure * (shares[k] - 1) + least);
    }
  }
  const spoken = units.flatMap((strongest, unit) => (strongest.length > 0 ? [unit] : []));
  const common = commonOf(sums, spoken, count);
  const found: (Scored | null)[] = [];
  for (const [unit, strongest] of units.entries()) {
    await breathe();
    const scores = sums.subarray(unit * count, (unit + 1) * count).map((sum, k) => sum - commonness * common[k]);
    found.push(strongest.length === 0 ? null : (best(scores, 1)[0] ?? null));
  }
  return found;
}

/** By picture: of which units it is one of the strongest, and at which rank. */
function usesOf(units: readonly (readonly number[])[], pictures: number): { unit: number; rank: number }[][] {
  const uses = Array.from({ length: pictures }, (): { unit: number; rank: number }[] => []);
  for (const [unit, strongest] of units.entries())
    for (const [rank, picture] of strongest.entries()) uses[picture].push({ unit, rank });
  return uses;
}

/** The probability of each concept in a picture. @param cosines of the picture to each */
function softmaxOver(cosines: Float32Array, out: Float64Array): void {
  let sum = 0;
  for (let k = 0; k < out.length; k++) sum += out[k] = Math.exp(sharpness * cosines[k]);
  for (let k = 0; k < out.length; k++) out[k] /= sum;
}

/** For each concept the log of the mean over units of exp(sum). */
function commonOf(sums: Float64Array, units: readonly number[], count: number): Float64Array {
  const most = new Float64Array(count).fill(-Infinity);
  for (const unit of units) for (let k = 0; k < count; k++) most[k] = Math.max(most[k], sums[unit * count + k]);
  const total = new Float64Array(count);
  for (const unit of units) for (let k = 0; k < count; k++) total[k] += Math.exp(sums[unit * count + k] - most[k]);
  return total.map((sum, k) => most[k] + Math.log(sum / units.length));
}
