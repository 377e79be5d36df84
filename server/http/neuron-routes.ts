import { z } from 'zod';
import { requireUnit, UnknownUnitError } from '../../models/brivl/units.js';
import { createMemory } from '../compare/remembering.js';
import type { Compute } from '../compute/protocol.js';
import { modelName } from '../jobs/job.js';
import { atlasOf, createTiles } from '../neurons/atlas.js';
import type { Indexer } from '../neurons/indexer.js';
import { photographFile } from '../neurons/pictures.js';
import { firstLayerOf, lookerOver, type EyeView } from '../neurons/see.js';
import { indexView, layerView, unitView, unknownUnitView, type LayerView, type UnitView } from '../neurons/view.js';
import type { ChannelStatistics } from '../../models/brivl/statistics.js';
import { findIndex, findIndexImage, listIndexes } from '../store/neurons.js';
import type { Store } from '../store/store.js';
import * as views from './neuron-views.js';
import { Problem } from './problem.js';
import { route, type Route } from './route.js';
import { sendBlob, sendBytes, sendFile } from './send.js';
import { errorBody } from './views.js';

const model = modelName.default('brivl-nano');
const layerName = z.string().min(1).max(200);
const channelNumber = z
  .string()
  .regex(/^\d{1,6}$/, 'a channel is a number from 0')
  .transform(Number);

const indexRequest = z.strictObject({
  model,
  layers: z
    .array(layerName)
    .min(1, 'there are no layers: leave them out for the first one')
    .max(32, 'there can be at most 32 layers')
    .optional(),
  folder: z
    .undefined('folders are indexed on the command line: reverie index DIR; over HTTP it is the bundled photographs')
    .optional(),
});

/** The explorer's side of the API: layers, units, their examples, and the indexes that they come from. */
export function neuronRoutes({ store, compute, indexer }: { store: Store; compute: Compute; indexer: Indexer }): Route[] {
  const looker = lookerOver(compute);
  const tiles = createTiles();
  // A network that was opened stays as it is; asking again would wait for the step of a running imagination.
  const eyes = createMemory<EyeView>(16);
  const eyeOf = (model: string) => eyes(model, () => looker.eye(model));
  const statistics = createMemory<ChannelStatistics>(16);

  const requireLayer = (eye: EyeView, layer: string, channel = 0) => {
    try {
      requireUnit(eye, { layer, channel, spot: 'mean' });
    } catch (error) {
      if (error instanceof UnknownUnitError) throw new Problem(404, 'unknown_unit', error.message);
      throw error;
    }
  };
  /** An index that was asked for just now is still counting its pictures. */
  const begun = <View extends LayerView | UnitView>(view: View): View =>
    view.index.state === 'none' ? { ...view, index: { ...view.index, state: 'running' } } : view;
  const missing = (what: string) => new Problem(404, 'not_found', `there is no ${what}: it was removed or never was`);

  return [
    route({
      method: 'get',
      path: '/api/neurons',
      summary: 'All channels of a layer. Where nothing is known of it yet, an index of the bundled photographs is begun: ask again',
      query: z.strictObject({ model, layer: layerName.optional().describe('LLP, or the last layer of a network that has none') }),
      answers: { 200: { description: 'The layer', schema: views.layerView } },
      async handle({ query }) {
        const eye = await eyeOf(query.model);
        const layer = query.layer ?? firstLayerOf(eye);
        requireLayer(eye, layer);
        const record = indexer.ensure(eye, layer);
        const sheet = atlasOf(eye, layer);
        // Whoever looks at a layer opens a unit next. What is wrong with the sheet is said to those who ask for it.
        if (sheet) void tiles.prepare(sheet).catch(() => undefined);
        return { json: begun(layerView(store, eye, layer, record)) };
      },
    }),
    route({
      method: 'get',
      path: '/api/neurons/indexes',
      summary: 'Indexes, newest first',
      answers: { 200: { description: 'Indexes', schema: views.indexList } },
      handle: () => ({ json: { indexes: listIndexes(store).map(indexView) } }),
    }),
    route({
      method: 'post',
      path: '/api/neurons/indexes',
      summary: 'Index layers over the bundled photographs, or go on with an index that was stopped',
      body: indexRequest,
      answers: { 202: { description: 'The index', schema: views.indexView } },
      async handle({ body }) {
        const eye = await eyeOf(body.model);
        const layers = [...new Set(body.layers ?? [firstLayerOf(eye)])];
        for (const layer of layers) requireLayer(eye, layer);
        return { status: 202, json: indexView(await indexer.start(body.model, layers)) };
      },
    }),
    route({
      method: 'delete',
      path: '/api/neurons/indexes/:id',
      summary: 'Stop an index between two batches; what it has is kept',
      params: z.strictObject({ id: z.string().max(64) }),
      answers: {
        202: { description: 'The index, which is stopping', schema: views.indexView },
        409: { description: 'It does not run in this server', schema: errorBody },
      },
      handle({ params: { id } }) {
        const record = findIndex(store, id);
        if (!record) throw missing(`index ${JSON.stringify(id)}`);
        if (!indexer.stop(id))
          throw new Problem(409, 'not_running', `the index ${id} is not running here: its state is ${record.state}`);
        return { status: 202, json: indexView(findIndex(store, id)!) };
      },
    }),
    route({
      method: 'get',
      path: '/api/neurons/examples/:id',
      summary: "A picture of a user's index, at most 192 pixels a side",
      params: z.strictObject({ id: z.string().regex(/^\d{1,15}$/, 'an example is a number, as a unit gives it') }),
      answers: { 200: { description: 'The picture', mime: 'image/jpeg' } },
      handle({ params: { id }, response }) {
        const image = findIndexImage(store, Number(id));
        if (!image?.thumbnail) throw missing(`example ${id}`);
        // Numbers of rows are given again in another database: what lies under one may change.
        return sendBlob(response, store, image.thumbnail, 'image/jpeg', 'asking');
      },
    }),
    route({
      method: 'get',
      path: '/api/neurons/atlas/:model/:layer.webp',
      summary: 'A sheet of pictures of all channels of a layer',
      params: z.strictObject({ model: modelName, layer: layerName }),
      answers: { 200: { description: 'The sheet', mime: 'image/webp' } },
      async handle({ params, response }) {
        const sheet = atlasOf(await eyeOf(params.model), params.layer);
        if (!sheet) throw missing(`sheet of ${JSON.stringify(params.layer)} of ${params.model}`);
        return sendFile(response, sheet.file, 'image/webp', 'hour');
      },
    }),
    route({
      method: 'get',
      path: '/api/neurons/atlas/:model/:layer/:channel.webp',
      summary: "One channel's picture from that sheet",
      params: z.strictObject({ model: modelName, layer: layerName, channel: channelNumber }),
      answers: { 200: { description: 'The picture', mime: 'image/webp' } },
      async handle({ params: { model, layer, channel }, response }) {
        const eye = await eyeOf(model);
        requireLayer(eye, layer, channel);
        const sheet = atlasOf(eye, layer);
        const picture = sheet && (await tiles.tile(sheet, channel));
        if (!picture) throw missing(`picture of channel ${channel} of ${JSON.stringify(layer)} of ${model}`);
        return sendBytes(response, picture, 'image/webp', 'hour');
      },
    }),
    route({
      method: 'get',
      path: '/api/neurons/:layer/:channel',
      summary:
        'One unit: its statistics, words, examples with maps, and units like it. Begins an index where there is none, as its layer does',
      params: z.strictObject({ layer: layerName, channel: channelNumber }),
      query: z.strictObject({ model }),
      answers: { 200: { description: 'The unit', schema: views.unitView } },
      async handle({ params: { layer, channel }, query }) {
        const eye = await eyeOf(query.model);
        requireLayer(eye, layer, channel);
        const record = indexer.ensure(eye, layer);
        if (record?.state !== 'done') return { json: begun(unknownUnitView(eye, { layer, channel }, record)) };
        const known = await statistics(`${eye.hash}:${layer}`, () => looker.statistics(query.model, layer));
        const view = unitView(store, eye, { layer, channel }, record, known);
        if (!view) throw missing(`unit ${channel} of ${layer} in the index ${record.id}`);
        return { json: view };
      },
    }),
    route({
      method: 'get',
      path: '/api/photographs/:name',
      summary: 'A bundled photograph',
      params: z.strictObject({ name: z.string().max(100) }),
      answers: { 200: { description: 'The photograph', mime: 'image/jpeg' } },
      handle({ params: { name }, response }) {
        const file = photographFile(name);
        if (file === undefined) throw missing(`photograph ${JSON.stringify(name)}`);
        return sendFile(response, file, 'image/jpeg', 'hour');
      },
    }),
  ];
}
