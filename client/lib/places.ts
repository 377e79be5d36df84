import { unitOfPath, type UnitPlace } from './neurons.js';

/** The pages there are, in the order of the rail. A later page is one line here, one in App.svelte and one in each dictionary. */
export const pages = [
  { id: 'imagine', path: '/', key: 'i' },
  { id: 'neurons', path: '/neurons', key: 'n' },
  { id: 'gallery', path: '/gallery', key: 'g' },
  { id: 'compare', path: '/compare', key: 'c' },
  { id: 'models', path: '/models', key: 'm' },
] as const;

export type PageId = (typeof pages)[number]['id'];

export interface Place {
  page: PageId;
  /** A job or a result that the imagine page shows. */
  jobId: string | null;
  resultId: string | null;
  /** What the neurons page shows. */
  unit?: UnitPlace;
}

/** Where a path leads. Unknown paths lead to the imagine page. */
export function placeOf(path: string): Place {
  const [, first = '', id = ''] = path.split('/');
  if (first === 'jobs' && id !== '') return { page: 'imagine', jobId: id, resultId: null };
  if (first === 'results' && id !== '') return { page: 'imagine', jobId: null, resultId: id };
  if (first === 'neurons') return { page: 'neurons', jobId: null, resultId: null, unit: unitOfPath(path) };
  return { page: pages.find(({ path: known }) => known === `/${first}`)?.id ?? 'imagine', jobId: null, resultId: null };
}
