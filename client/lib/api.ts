import type {
  ClassificationView,
  ClassifyRequest,
  LabelSetView,
  SimilarityRequest,
  SimilarityView,
} from '../../server/compare/requests.js';
import type { RelevanceView } from '../../server/http/heat-routes.js';
import type { Concept, ErrorBody, JobRequest, JobView, Notice, ResultView } from '../../server/jobs/job.js';
import type { Tokens } from '../../server/imagination/generator.js';
import type { DeviceState } from '../../server/live/events.js';
import type { ModelView } from '../../server/compute/protocol.js';
import type { HeatView, LayerView, TestView, UnitView } from './neurons.js';

/** The server said no: `message` is its sentence for the person, `issues` what was wrong field by field. */
export class Refusal extends Error {
  constructor(
    readonly status: number,
    readonly code: string,
    message: string,
    readonly issues: { path: string; message: string }[] = [],
  ) {
    super(message);
  }
}

/** No answer at all: the server is down or the network is. */
export class Unreachable extends Error {}

async function ask<T>(method: 'GET' | 'POST' | 'DELETE', path: string, body?: unknown, signal?: AbortSignal): Promise<T> {
  const raw = body instanceof Blob;
  let response: Response;
  try {
    response = await fetch(path, {
      method,
      signal,
      headers: body === undefined ? {} : { 'content-type': raw ? body.type || 'application/octet-stream' : 'application/json' },
      body: body === undefined ? undefined : raw ? body : JSON.stringify(body),
    });
  } catch (error) {
    if (signal?.aborted) throw error;
    throw new Unreachable(`${method} ${path}: no answer`, { cause: error });
  }
  const text = await response.text();
  if (!response.ok) throw refusalFrom(response.status, text);
  return (text === '' ? undefined : JSON.parse(text)) as T;
}

function refusalFrom(status: number, text: string): Refusal {
  try {
    const { error } = JSON.parse(text) as ErrorBody;
    return new Refusal(status, error.code, error.message, error.issues);
  } catch {
    return new Refusal(status, 'unreadable', text.slice(0, 200));
  }
}

const query = (given: Record<string, string | number | null | undefined>) => {
  const pairs = Object.entries(given).filter(([, value]) => value !== null && value !== undefined);
  return pairs.length === 0 ? '' : `?${new URLSearchParams(pairs.map(([name, value]) => [name, String(value)]))}`;
};

/** Where all that is known of a unit is given as JSON. */
export const neuronPath = (model: string, layer: string, channel: number) =>
  `/api/neurons/${encodeURIComponent(layer)}/${channel}${query({ model })}`;

/** The server's HTTP side, one function a route. Each may throw `Refusal` or `Unreachable`. */
export const api = {
  createJob: (request: JobRequest) => ask<JobView>('POST', '/api/jobs', request),
  job: (id: string) => ask<JobView>('GET', `/api/jobs/${encodeURIComponent(id)}`),
  cancelJob: (id: string) => ask<unknown>('DELETE', `/api/jobs/${encodeURIComponent(id)}`),
  results: (cursor: string | null) =>
    ask<{ results: ResultView[]; next: string | null }>('GET', `/api/results${query({ cursor })}`),
  result: (id: string) => ask<ResultView>('GET', `/api/results/${encodeURIComponent(id)}`),
  tokens: (id: string) => ask<Tokens>('GET', `/api/results/${encodeURIComponent(id)}/tokens`),
  deleteResult: (id: string) => ask<unknown>('DELETE', `/api/results/${encodeURIComponent(id)}`),
  conceptsOf: (text: string, top: number, signal: AbortSignal) =>
    ask<{ concepts: Concept[]; notices?: Notice[] }>(
      'GET',
      `/api/concepts${query({ text, top, more: 'true' })}`,
      undefined,
      signal,
    ),
  labelSets: () => ask<{ sets: LabelSetView[] }>('GET', '/api/labels'),
  similarity: (request: SimilarityRequest, signal: AbortSignal) => ask<SimilarityView>('POST', '/api/similarity', request, signal),
  classify: (request: ClassifyRequest, signal: AbortSignal) => ask<ClassificationView>('POST', '/api/classify', request, signal),
  models: () => ask<{ models: ModelView[]; device: DeviceState }>('GET', '/api/models'),
  neurons: (model: string, layer: string, signal?: AbortSignal) =>
    ask<LayerView>('GET', `/api/neurons${query({ model, layer })}`, undefined, signal),
  neuron: (model: string, layer: string, channel: number, signal?: AbortSignal) =>
    ask<UnitView>('GET', neuronPath(model, layer, channel), undefined, signal),
  /** Begins the index of a layer over the bundled photographs, or goes on with it. */
  startIndex: (model: string, layer: string) => ask<unknown>('POST', '/api/neurons/indexes', { model, layers: [layer] }),
  testNeurons: (model: string, layer: string, image: Blob, top: number) =>
    ask<TestView>('POST', `/api/neurons/test${query({ model, layer, top })}`, image),
  heat: (model: string, layer: string, channel: number, image: Blob) =>
    ask<HeatView>('POST', `/api/neurons/heat${query({ model, layer, channel })}`, image),
  /** Which places of a finished picture speak for what it is about. */
  relevance: (model: string, result: string, signal: AbortSignal) =>
    ask<RelevanceView>('GET', `/api/relevance${query({ model, result })}`, undefined, signal),
  uploadImage: (image: Blob) => ask<{ id: string }>('POST', '/api/images', image),
  /** The bytes of a stored picture, for the canvas. */
  async picture(url: string): Promise<Blob> {
    const response = await fetch(url).catch((cause: unknown) => {
      throw new Unreachable(`GET ${url}: no answer`, { cause });
    });
    if (!response.ok) throw refusalFrom(response.status, await response.text());
    return response.blob();
  },
};
