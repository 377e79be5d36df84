import { z } from 'zod';
import { requireUnit, UnknownUnitError } from '../../models/brivl/units.js';
import type { ModelView } from '../compute/protocol.js';
import type { Firing, Heat, Relevance } from '../imagination/heat.js';
import { mainOf, parsePrompts } from '../jobs/prompts.js';
import { contentId, lineOfText, modelName, type Notice } from '../jobs/job.js';
import { isKnownPicture } from '../store/jobs.js';
import { findResult } from '../store/results.js';
import { readable } from './picture-body.js';
import { Problem } from './problem.js';
import { route, type Route } from './route.js';
import type { Studio } from './routes.js';
import { errorBody, notice } from './views.js';

const grid = {
  rows: z.int(),
  columns: z.int(),
  values: z.array(z.number()).describe('Row by row; the grid lies over the whole picture'),
};

const percentile = z.number().min(0).max(100).describe('The share of the bundled photographs that drive it less');

const heatView = z.object({
  ...grid,
  activation: z.number().describe('Mean over the map'),
  percentile,
}) satisfies z.ZodType<Heat>;

export type FiringView = Firing & { model: string; layer: string };

const firingView = z.object({
  model: z.string(),
  layer: z.string(),
  rows: z.int().nullable().describe('Of the maps; null in a layer of tokens'),
  columns: z.int().nullable(),
  units: z
    .array(
      z.object({
        channel: z.int(),
        activation: z.number(),
        percentile,
        z: z.number().describe('Deviations above its mean over the bundled photographs'),
        y: z.int().nullable().describe('Row of the maximum'),
        x: z.int().nullable().describe('Column of the maximum'),
        map: z.array(z.number()).nullable(),
      }),
    )
    .describe('Strongest z first'),
}) satisfies z.ZodType<FiringView>;

export type RelevanceView = Relevance & { text: string; notices: Notice[] };

const relevanceView = z.object({
  ...grid,
  text: z.string().describe('The text whose places they are'),
  cos: z.number().min(-1).max(1).describe('Of the whole picture to the text'),
  notices: z.array(notice),
}) satisfies z.ZodType<RelevanceView>;

const model = modelName.default('brivl-nano');
const layer = z.string('the layer is missing').min(1, 'the layer is empty').max(200, 'the layer has at most 200 characters');
const channel = z
  .string()
  .regex(/^\d{1,6}$/, 'the channel must be a whole number from 0')
  .transform(Number);
const top = z
  .string()
  .regex(/^\d{1,3}$/, 'the top must be a whole number from 1 to 200')
  .transform(Number)
  .pipe(z.number().min(1, 'the top must be at least 1').max(200, 'the top must be at most 200'))
  .default(24);
/** A picture that the studio has. */
const stored = {
  result: z.string().max(200).optional().describe('The id of a result'),
  image: z
    .string()
    .regex(contentId, 'an image is the id of an uploaded picture (POST /api/images) or the imageId of a result')
    .optional(),
};

/** Where pictures drive units, and which places of them speak for a text. */
export function heatRoutes({ store, compute, description }: Pick<Studio, 'store' | 'compute' | 'description'>): Route[] {
  const require = (name: string, kinds: readonly ModelView['kind'][]): ModelView => {
    const candidates = description().models.filter(({ kind, ready }) => kinds.includes(kind) && ready);
    const found = candidates.find((candidate) => candidate.name === name);
    if (found) return found;
    const known = candidates.map((candidate) => candidate.name).join(', ');
    throw new Problem(400, 'unknown_model', `there is no model ${JSON.stringify(name)} for this: choose one of ${known}`);
  };

  const requireLayer = (name: string, layer: string, channel = 0) => {
    const { layers } = require(name, ['encoder', 'eye']);
    try {
      requireUnit({ name, layers }, { layer, channel, spot: 'mean' });
    } catch (error) {
      throw error instanceof UnknownUnitError ? new Problem(404, 'unknown_neuron', error.message) : error;
    }
  };

  const pictureOf = async ({ result, image }: { result?: string; image?: string }): Promise<Uint8Array> => {
    if ((result === undefined) === (image === undefined))
      throw new Problem(400, 'invalid_request', 'name one picture: result=ID of a finished one, or image=ID of an uploaded one');
    if (image !== undefined && !isKnownPicture(store, image))
      throw new Problem(404, 'not_found', `there is no picture ${image.slice(0, 12)}...: upload it with POST /api/images first`);
    const id = image ?? findResult(store, result!)?.image;
    if (id === undefined)
      throw new Problem(404, 'not_found', `there is no result ${JSON.stringify(result)}: it was deleted or never was`);
    return store.blobs.read(id);
  };

  /** What a result is about: the main text of the last set of its prompts. */
  const textOf = (result: string | undefined): string => {
    const line = result === undefined ? '' : (findResult(store, result)?.job.text ?? '');
    if (line === '') throw new Problem(400, 'invalid_request', 'the text is missing: only a result of a text has one of its own');
    return mainOf(parsePrompts(line).at(-1)!).text;
  };

  const heat = async (model: string, layer: string, channel: number, image: Uint8Array) => ({
    json: await compute.request('heat', { model, layer, channel, image }),
  });
  const relevance = async (model: string, text: string, image: Uint8Array) => ({
    json: { ...(await compute.request('relevance', { model, text, image })), text },
  });

  const heatAnswers = {
    200: { description: "The channel's map", schema: heatView },
    404: { description: 'The model has no such neuron, or there is no such picture', schema: errorBody },
  };
  const relevanceAnswers = {
    200: {
      description:
        'Gradient of the cosine times activation on the last map, summed over channels: positive places speak for the text, negative ones against it. They sum to what the bias of the way to the joint space takes from the cosine: about 0',
      schema: relevanceView,
    },
  };

  return [
    route({
      method: 'post',
      path: '/api/neurons/test',
      summary: 'Which neurons of a layer a picture drives most, against what they are used to, and where',
      query: z.strictObject({ model, layer: layer.default('LLP'), top }),
      body: 'picture',
      answers: { 200: { description: 'The neurons, strongest first', schema: firingView } },
      async handle({ query: { model, layer, top }, body }) {
        requireLayer(model, layer);
        const image = (await readable(body)).png;
        return { json: { model, layer, ...(await compute.request('firing', { model, layer, top, image })) } satisfies FiringView };
      },
    }),
    route({
      method: 'post',
      path: '/api/neurons/heat',
      summary: 'Where a neuron answers a picture',
      query: z.strictObject({ model, layer: layer.default('LLP'), channel }),
      body: 'picture',
      answers: heatAnswers,
      async handle({ query: { model, layer, channel }, body }) {
        requireLayer(model, layer, channel);
        return heat(model, layer, channel, (await readable(body)).png);
      },
    }),
    route({
      method: 'get',
      path: '/api/neurons/:layer/:channel/heat',
      summary: 'Where a neuron answers a result or an uploaded picture',
      params: z.strictObject({ layer, channel }),
      query: z.strictObject({ model, ...stored }),
      answers: heatAnswers,
      async handle({ params: { layer, channel }, query: { model, ...picture } }) {
        requireLayer(model, layer, channel);
        return heat(model, layer, channel, await pictureOf(picture));
      },
    }),
    route({
      method: 'post',
      path: '/api/relevance',
      summary: 'Which places of a picture speak for a text',
      query: z.strictObject({ model, text: lineOfText('text') }),
      body: 'picture',
      answers: relevanceAnswers,
      async handle({ query: { model, text }, body }) {
        require(model, ['encoder']);
        return relevance(model, text, (await readable(body)).png);
      },
    }),
    route({
      method: 'get',
      path: '/api/relevance',
      summary: 'Which places of a result or an uploaded picture speak for a text',
      query: z.strictObject({
        model,
        text: lineOfText('text').optional().describe('When left out, what the result is about'),
        ...stored,
      }),
      answers: relevanceAnswers,
      async handle({ query: { model, text, ...picture } }) {
        require(model, ['encoder']);
        const image = await pictureOf(picture);
        return relevance(model, text ?? textOf(picture.result), image);
      },
    }),
  ];
}
