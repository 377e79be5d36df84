import type { Response } from 'express';
import { z } from 'zod';
import { parseUnit, requireUnit, UnknownUnitError } from '../../models/brivl/units.js';
import { embedPictures, embedTexts, rank, scoresOf } from '../compare/compare.js';
import { bundledLabels, conceptLabels, conceptsAsLabels, labelsIn, readBundledLabels, type LabelFile } from '../compare/labels.js';
import { rememberingEmbedders } from '../compare/remembering.js';
import { classifyRequest, compareLimits, similarityRequest, type LabelSetView } from '../compare/requests.js';
import { defaultTemplates, plainTemplates } from '../compare/templates.js';
import type { Compute, ModelView } from '../compute/protocol.js';
import { contentId, jobRequest, jobStatuses, lineOfText, modelName, storyRequest, type Job, type JobStatus } from '../jobs/job.js';
import type { Scheduler } from '../jobs/scheduler.js';
import type { DeviceState } from '../live/events.js';
import type { Indexer } from '../neurons/indexer.js';
import { countJobsByStatus, findJobByKey, isKnownPicture, listJobs } from '../store/jobs.js';
import { deleteResult, findResult, keepImage, listResults, resultView } from '../store/results.js';
import type { Store } from '../store/store.js';
import { heatRoutes } from './heat-routes.js';
import { neuronRoutes } from './neuron-routes.js';
import { readable } from './picture-body.js';
import { Problem } from './problem.js';
import { route, type Route } from './route.js';
import { sendBlob } from './send.js';
import * as views from './views.js';

/** What the API stands on. */
export interface Studio {
  store: Store;
  scheduler: Scheduler;
  compute: Compute;
  indexer: Indexer;
  /** What compute said of itself last. */
  description: () => { device: DeviceState; models: ModelView[] };
}

/** Jobs that may wait or run at a time. */
export const queueLimit = 200;

const idParams = z.strictObject({ id: z.string().max(200).describe('As the API gave it') });
const page = {
  cursor: z
    .string()
    .regex(/^\d{1,15}$/, 'a cursor is the "next" of the page before')
    .transform(Number)
    .optional()
    .describe('The "next" of the page before'),
  limit: queryNumber('limit', 1, 100).default(50),
};
const top = queryNumber('top', 1, 100).default(10);
const more = z
  .enum(['true', 'false'])
  .default('false')
  .transform((value) => value === 'true')
  .describe('Also concepts that were made from pictures, beyond the classes of the network');

/** The rows of the API in the order in which its description lists them. */
export function apiRoutes({ store, scheduler, compute, indexer, description }: Studio): Route[] {
  const requireModel = (name: string): ModelView => {
    const encoders = description().models.filter(({ kind }) => kind === 'encoder');
    const model = encoders.find((candidate) => candidate.name === name);
    if (!model) {
      const known = encoders.map((candidate) => candidate.name).join(', ');
      throw new Problem(
        400,
        'unknown_model',
        `there is no model ${JSON.stringify(name)}: choose one of ${known || 'those that you import'}`,
      );
    }
    if (!model.ready) throw new Problem(400, 'model_not_ready', `the model ${name} is not ready: GET /api/models says which are`);
    return model;
  };

  const requirePossible = (job: Job) => {
    const model = requireModel(job.model);
    try {
      for (const { unit } of job.neurons) requireUnit(model, parseUnit(unit));
    } catch (error) {
      throw error instanceof UnknownUnitError ? new Problem(400, 'unknown_neuron', error.message) : error;
    }
    if (job.generator !== undefined) requireGenerator(job.generator);
    if (job.init !== undefined) requirePicture(job.init);
  };

  const requireGenerator = (name: string) => {
    const known = description().models.flatMap((model) => (model.kind === 'generator' ? [model.name] : []));
    if (!known.includes(name))
      throw new Problem(
        400,
        'unknown_generator',
        `there is no generator ${JSON.stringify(name)}: ${known.length > 0 ? `choose one of ${known.join(', ')}` : "put a VQGAN's folder into DATA_DIR/models"}`,
      );
  };

  const requirePicture = (id: string) => {
    if (!isKnownPicture(store, id))
      throw new Problem(400, 'unknown_image', `there is no picture ${id.slice(0, 12)}...: upload it with POST /api/images first`);
  };

  const requireRoom = (jobs = 1) => {
    const { queued = 0, running = 0, canceling = 0 } = countJobsByStatus(store);
    const room = queueLimit - queued - running - canceling;
    if (jobs > room)
      throw new Problem(
        429,
        'queue_full',
        `the queue takes ${queueLimit} jobs and has room for ${room}, not for ${jobs}: cancel some or try again later`,
        undefined,
        { 'Retry-After': '30' },
      );
  };

  const embedderOf = rememberingEmbedders(compute, store.blobs);
  let comparing = 0;

  /** Runs a comparison for as long as its asker waits: a page whose texts have changed goes away, and the work ends between two embeddings. */
  const compare = async <T>(response: Response, work: (signal: AbortSignal) => Promise<T>): Promise<T> => {
    if (comparing >= compareLimits.atATime)
      throw new Problem(429, 'busy', `${compareLimits.atATime} comparisons run already: try again in a few seconds`, undefined, {
        'Retry-After': '2',
      });
    const gone = new AbortController();
    response.once('close', () => gone.abort());
    comparing += 1;
    try {
      return await work(gone.signal);
    } catch (error) {
      throw gone.signal.aborted ? new Problem(499, 'given_up', 'the request was given up before its answer') : error;
    } finally {
      comparing -= 1;
    }
  };

  const conceptsOf = async (model: string): Promise<LabelFile> =>
    conceptsAsLabels((await compute.request('conceptNames', { model })).names);

  const labelsOf = async (labels: string | string[], model: string): Promise<LabelFile> => {
    if (typeof labels !== 'string') return { templates: {}, labels: labels.map((text) => ({ en: text, zh: text })) };
    if (labels === conceptLabels) return conceptsOf(model);
    const known = bundledLabels();
    if (known.includes(labels)) return readBundledLabels(labels);
    throw new Problem(
      400,
      'unknown_labels',
      `there are no labels ${JSON.stringify(labels)}: choose one of ${[...known, conceptLabels].join(', ')}, or send a list of texts`,
    );
  };

  const missing = (what: string, id: string) =>
    new Problem(404, 'not_found', `there is no ${what} ${JSON.stringify(id)}: it was deleted or never was`);

  const drawnFromTokens = (id: string) => {
    const record = findResult(store, id);
    if (!record) throw missing('result', id);
    const { tokens, unquantized, job } = record;
    if (tokens === null || unquantized === null)
      throw new Problem(404, 'no_tokens', `the result ${id} was not drawn from tokens that are known: its method is ${job.method}`);
    return { tokens, unquantized };
  };

  return [
    route({
      method: 'post',
      path: '/api/jobs',
      summary: 'Imagine a text: puts a job at the end of the queue',
      headers: {
        'Idempotency-Key': {
          description: 'Up to 200 printable characters; the same key with the same job gives the same job again',
        },
      },
      body: jobRequest,
      answers: {
        201: { description: 'The job', schema: views.jobView },
        409: { description: 'The key was used for another job', schema: views.errorBody },
        429: { description: 'The queue is full', schema: views.errorBody },
      },
      handle({ body, request }) {
        const key = request.get('Idempotency-Key');
        if (key !== undefined && !/^[\x21-\x7e]{1,200}$/.test(key))
          throw new Problem(
            400,
            'invalid_request',
            'the Idempotency-Key must be 1 to 200 printable ASCII characters without spaces',
          );
        const before = key === undefined ? undefined : findJobByKey(store, key);
        if (before) {
          if (JSON.stringify(before.job) !== JSON.stringify(body))
            throw new Problem(409, 'idempotency_conflict', 'this Idempotency-Key was used for another job: take a new one');
          return { status: 201, json: scheduler.find(before.id) };
        }
        requirePossible(body);
        requireRoom();
        const view = scheduler.create(body, key);
        return { status: 201, json: view, headers: { Location: `/api/jobs/${view.id}` } };
      },
    }),
    route({
      method: 'post',
      path: '/api/stories',
      summary: 'Imagine each line of a poem: puts a job for every line at the end of the queue, with one seed and start',
      body: storyRequest,
      answers: {
        201: { description: 'The jobs, in the order of the lines', schema: z.object({ jobIds: z.array(z.string()) }) },
        429: { description: 'The queue has no room for all of them', schema: views.errorBody },
      },
      handle({ body: jobs }) {
        // They differ in nothing but the text.
        requirePossible(jobs[0]);
        requireRoom(jobs.length);
        return { status: 201, json: { jobIds: jobs.map((job) => scheduler.create(job).id) } };
      },
    }),
    route({
      method: 'get',
      path: '/api/jobs',
      summary: 'Jobs, newest first',
      query: z.strictObject({ status: statusList().optional(), ...page }),
      answers: { 200: { description: 'A page of jobs', schema: views.jobPage } },
      handle({ query: { status, cursor, limit } }) {
        const records = listJobs(store, { statuses: status, before: cursor, limit: limit + 1 });
        return { json: { jobs: scheduler.views(records.slice(0, limit)), next: nextCursor(records, limit) } };
      },
    }),
    route({
      method: 'get',
      path: '/api/jobs/:id',
      summary: 'One job',
      params: idParams,
      answers: { 200: { description: 'The job', schema: views.jobView } },
      handle({ params: { id } }) {
        const view = scheduler.find(id);
        if (!view) throw missing('job', id);
        return { json: view };
      },
    }),
    route({
      method: 'delete',
      path: '/api/jobs/:id',
      summary: 'Cancel one job: a waiting one at once, a running one between two steps',
      params: idParams,
      answers: {
        202: { description: 'The job, canceled or canceling', schema: views.jobView },
        409: { description: 'The job has already finished', schema: views.errorBody },
      },
      handle({ params: { id } }) {
        const view = scheduler.cancel(id);
        if (!view) throw missing('job', id);
        if (view.status === 'succeeded' || view.status === 'failed')
          throw new Problem(409, 'already_finished', `the job ${id} has already ${view.status}: there is nothing left to cancel`);
        return { status: 202, json: view };
      },
    }),
    route({
      method: 'get',
      path: '/api/results',
      summary: 'Finished pictures, newest first',
      query: z.strictObject(page),
      answers: { 200: { description: 'A page of results', schema: views.resultPage } },
      handle({ query: { cursor, limit } }) {
        const records = listResults(store, { before: cursor, limit: limit + 1 });
        return { json: { results: records.slice(0, limit).map(resultView), next: nextCursor(records, limit) } };
      },
    }),
    route({
      method: 'get',
      path: '/api/results/:id',
      summary: 'One finished picture: what made it and how it went',
      params: idParams,
      answers: { 200: { description: 'The result', schema: views.resultView } },
      handle({ params: { id } }) {
        const record = findResult(store, id);
        if (!record) throw missing('result', id);
        return { json: resultView(record) };
      },
    }),
    route({
      method: 'get',
      path: '/api/results/:id/image.png',
      summary: 'The picture, with its parameters inside',
      params: idParams,
      query: z.strictObject({ download: z.enum(['0', '1'], 'download must be 0 or 1').default('0') }),
      answers: { 200: { description: 'The picture', mime: 'image/png' } },
      handle({ params: { id }, query: { download }, response }) {
        const record = findResult(store, id);
        if (!record) throw missing('result', id);
        if (download === '1') response.attachment(`reverie ${fileWords(record.job.text)} seed ${record.job.seed}.png`);
        return sendBlob(response, store, record.image, 'image/png');
      },
    }),
    route({
      method: 'get',
      path: '/api/results/:id/unquantized.png',
      summary: 'The picture drawn from the latent map itself instead of its nearest codes, with vqgan',
      params: idParams,
      answers: { 200: { description: 'The picture before quantization', mime: 'image/png' } },
      handle({ params: { id }, response }) {
        return sendBlob(response, store, drawnFromTokens(id).unquantized, 'image/png');
      },
    }),
    route({
      method: 'get',
      path: '/api/results/:id/tokens',
      summary: 'The codes that a finished picture was drawn from, with vqgan',
      params: idParams,
      answers: { 200: { description: 'The grid of codes', schema: views.tokens } },
      handle: ({ params: { id } }) => ({ json: drawnFromTokens(id).tokens }),
    }),
    route({
      method: 'delete',
      path: '/api/results/:id',
      summary: 'Delete a finished picture',
      params: idParams,
      answers: { 204: { description: 'Deleted' } },
      async handle({ params: { id }, response }) {
        if (!(await deleteResult(store, id))) throw missing('result', id);
        response.status(204).end();
        return undefined;
      },
    }),
    route({
      method: 'post',
      path: '/api/images',
      summary: 'Upload a picture to begin from; it is decoded and kept as a PNG without metadata',
      body: 'picture',
      answers: { 201: { description: 'Its id, for the init of a job', schema: views.uploaded } },
      async handle({ body }) {
        const picture = await readable(body);
        const id = await keepImage(store, picture);
        return {
          status: 201,
          json: { id, width: picture.width, height: picture.height },
          headers: { Location: `/api/images/${id}` },
        };
      },
    }),
    route({
      method: 'get',
      path: '/api/images/:id',
      summary: 'An uploaded picture, or that of a result by its imageId',
      params: idParams,
      answers: { 200: { description: 'The picture', mime: 'image/png' } },
      handle({ params: { id }, response }) {
        if (!contentId.test(id) || !isKnownPicture(store, id)) throw missing('picture', id);
        return sendBlob(response, store, id, 'image/png');
      },
    }),
    route({
      method: 'get',
      path: '/api/models',
      summary: 'The models on this machine and the device that runs them',
      answers: { 200: { description: 'Models and device', schema: views.modelList } },
      handle: () => ({ json: { models: description().models, device: description().device } }),
    }),
    route({
      method: 'get',
      path: '/api/concepts',
      summary: 'The visual concepts nearest to a text',
      query: z.strictObject({ text: lineOfText('text'), top, more, model: modelName.default('brivl-nano') }),
      answers: { 200: { description: 'Concepts, nearest first', schema: views.conceptList } },
      async handle({ query: { text, top, more, model } }) {
        requireModel(model);
        return { json: await compute.request('conceptsOfText', { model, text, top, more }) };
      },
    }),
    route({
      method: 'post',
      path: '/api/concepts',
      summary: 'The visual concepts nearest to a picture',
      query: z.strictObject({ top, more, model: modelName.default('brivl-nano') }),
      body: 'picture',
      answers: { 200: { description: 'Concepts, nearest first', schema: views.conceptList } },
      async handle({ query: { top, more, model }, body }) {
        requireModel(model);
        const { png } = await readable(body);
        const { concepts } = await compute.request('conceptsOfImage', { model, image: png, top, more });
        return { json: { concepts, notices: [] } };
      },
    }),
    route({
      method: 'get',
      path: '/api/embed',
      summary: 'The embedding of a text, of length 1',
      query: z.strictObject({ text: lineOfText('text'), model: modelName.default('brivl-nano') }),
      answers: { 200: { description: 'The embedding', schema: views.embedding } },
      async handle({ query: { text, model } }) {
        requireModel(model);
        const { embedding, notices } = await compute.request('embedText', { model, text });
        return { json: { model, embedding: [...embedding], notices } };
      },
    }),
    route({
      method: 'get',
      path: '/api/labels',
      summary: 'The label sets that pictures can be classified with',
      answers: { 200: { description: 'Label sets; the concepts are those of the default model', schema: views.labelSets } },
      async handle() {
        const files = bundledLabels().map((name) => [name, readBundledLabels(name)] as const);
        const sets = [...files, [conceptLabels, await conceptsOf('brivl-nano')] as const].map(
          ([name, { title = { en: name, zh: name }, templates, labels }]): LabelSetView => ({
            name,
            title,
            templates: { en: templates.en ?? [...defaultTemplates.en], zh: templates.zh ?? [...defaultTemplates.zh] },
            labels,
          }),
        );
        return { json: { sets } };
      },
    }),
    route({
      method: 'post',
      path: '/api/similarity',
      summary: `How near up to ${compareLimits.images} pictures are to up to ${compareLimits.texts} texts`,
      body: similarityRequest,
      answers: {
        200: { description: 'Cosines, a row for each picture', schema: views.similarity },
        429: { description: 'Too many comparisons at a time', schema: views.errorBody },
      },
      async handle({ body: { images, texts, template, model }, response }) {
        const embedder = embedderOf(requireModel(model));
        images.forEach(requirePicture);
        return compare(response, async (signal) => {
          const { directions, notices } = await embedTexts(embedder, texts, template ? [template] : plainTemplates, { signal });
          const matrix: number[][] = [];
          for await (const { embedding } of embedPictures(embedder, images, { signal }))
            matrix.push(scoresOf(embedding, directions));
          return { json: { model, images, texts, matrix, notices } };
        });
      },
    }),
    route({
      method: 'post',
      path: '/api/classify',
      summary: `Which labels fit up to ${compareLimits.images} pictures best, without training (zero-shot)`,
      body: classifyRequest,
      answers: {
        200: { description: 'The best labels of each picture with their cosines', schema: views.classification },
        429: { description: 'Too many comparisons at a time', schema: views.errorBody },
      },
      async handle({ body: { images, labels: asked, language, templates: own, top, model }, response }) {
        const embedder = embedderOf(requireModel(model));
        images.forEach(requirePicture);
        const file = await labelsOf(asked, model);
        const labels = labelsIn(file.labels, language);
        const templates = own ?? file.templates[language] ?? defaultTemplates[language];
        const prompts = labels.length * templates.length;
        if (prompts > compareLimits.prompts)
          throw new Problem(
            400,
            'too_many_prompts',
            `${labels.length} labels in ${templates.length} templates are ${prompts} prompts, at most ${compareLimits.prompts} are embedded: take fewer templates`,
          );
        return compare(response, async (signal) => {
          const texts = labels.map(({ text }) => text);
          const { directions, notices } = await embedTexts(embedder, texts, templates, { signal });
          const ranked: { id: string; top: { label: string; score: number }[] }[] = [];
          for await (const { name: id, embedding } of embedPictures(embedder, images, { signal })) {
            const best = rank(scoresOf(embedding, directions), top);
            ranked.push({ id, top: best.map(({ index, score }) => ({ label: texts[index], score })) });
          }
          return { json: { model, images: ranked, notices } };
        });
      },
    }),
    ...heatRoutes({ store, compute, description }),
    ...neuronRoutes({ store, compute, indexer }),
  ];
}

/** A number in a query. @throws (in validation) for anything but plain decimal digits. */
function queryNumber(name: string, min: number, max: number) {
  return z
    .string()
    .regex(/^\d{1,9}$/, `the ${name} must be a whole number from ${min} to ${max}`)
    .transform(Number)
    .pipe(z.number().min(min, `the ${name} must be at least ${min}`).max(max, `the ${name} must be at most ${max}`));
}

function statusList() {
  const known: ReadonlySet<string> = new Set(jobStatuses);
  return z
    .string()
    .refine(
      (text) => text.split(',').every((status) => known.has(status)),
      `the status must be one or more of ${jobStatuses.join(', ')}, with commas`,
    )
    .transform((text) => text.split(',') as JobStatus[]);
}

/** `next` when there is more than a page; lists ask for one row beyond it. */
const nextCursor = (records: { seq: number }[], limit: number): string | null =>
  records.length > limit ? String(records[limit - 1].seq) : null;

/** The words of a text that may stand in a file name on every system; at most 60 characters. */
const fileWords = (text: string) =>
  [
    ...text
      .replace(/[\p{C}\\/:*?"<>|.%]/gu, ' ')
      .replace(/\s+/g, ' ')
      .trim(),
  ]
    .slice(0, 60)
    .join('')
    .trim() || 'picture';
