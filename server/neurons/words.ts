import type { ConceptSpace } from '../../models/brivl/model.js';
import type { Concept } from '../jobs/job.js';
import { best, normalized, productsByRow, rowOf, type Products, type Rows } from './vectors.js';

export const conceptRows = ({ entries, joint }: ConceptSpace): Rows => ({
  count: entries.length,
  length: joint.length / entries.length,
  values: joint,
});

/**
 * The concepts that channels pull the embedding towards, best first, with the cosine to the channel's direction: none where it has none.
 *
 * @param directions [channels, E]
 */
export async function wordsOf(directions: Rows, concepts: ConceptSpace, top: number, products: Products): Promise<Concept[][]> {
  const unit = normalized(directions);
  const found: Concept[][] = [];
  for await (const { row, scores } of productsByRow(unit, conceptRows(concepts), products)) {
    const isSilent = rowOf(unit, row).every((v) => v === 0);
    found.push(isSilent ? [] : best(scores, top).map(({ index, score }) => ({ ...concepts.entries[index], score })));
  }
  return found;
}
