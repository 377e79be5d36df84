import path from 'node:path';
import { requireUnit } from '../../models/brivl/units.js';
import { createRegistry, defaultGenerator, defaultModel, type Registry } from '../../models/registry.js';
import type { ImageModel } from '../../models/brivl/model.js';
import type { ChannelStatistics } from '../../models/brivl/statistics.js';
import type { VqganModel } from '../../models/vqgan/model.js';
import { imagine, type Imagined, type Watcher } from '../imagination/imagine.js';
import { conceptsOf, embedText, lookAt } from '../imagination/look.js';
import { firingOf, heatOf, relevanceOf, type Firing, type Heat } from '../imagination/heat.js';
import { createStatistics, measureStatistics } from '../imagination/statistics.js';
import { jobRequest } from '../jobs/job.js';
import type { DeviceState } from '../live/events.js';
import { createLooker, type Looker } from '../neurons/see.js';
import { drawUnits, type DrawnUnit, type Drawing } from '../neurons/visualize.js';
import { repositoryRoot } from '../root.js';
import { chooseDevice } from './device.js';
import { decodeTo, toPlanes } from './pictures.js';
import type { ImagineAsk, ModelView, Requests } from './protocol.js';
import { createSessions } from './sessions.js';

type Answer<K extends keyof Requests> = Requests[K]['answer'];

/** Models and sessions on one device: all that the studio computes, without processes or messages. */
export interface Engine {
  readonly device: DeviceState;
  models(): ModelView[];
  imagine(ask: ImagineAsk, watcher?: Watcher): Promise<Imagined & { device: string; modelHash: string }>;
  embedText(model: string, text: string): Promise<Answer<'embedText'>>;
  embedImage(model: string, image: Uint8Array): Promise<Answer<'embedImage'>>;
  conceptsOfText(model: string, text: string, top: number, more?: boolean): Promise<Answer<'conceptsOfText'>>;
  conceptsOfImage(model: string, image: Uint8Array, top: number, more?: boolean): Promise<Answer<'conceptsOfImage'>>;
  /** All visual concepts of a model, without scores. */
  conceptNames(model: string): Answer<'conceptNames'>;
  /** What indexes of neurons ask. */
  readonly looker: Looker;
  /** Where a unit answers a picture. */
  heat(model: string, unit: { layer: string; channel: number }, image: Uint8Array): Promise<Heat>;
  /** The units of a layer that a picture drives most. */
  firing(model: string, layer: string, image: Uint8Array, top: number): Promise<Firing>;
  /** Which places of a picture speak for a text. */
  relevance(model: string, text: string, image: Uint8Array): Promise<Answer<'relevance'>>;
  /** Pictures that drive units of a layer, as many at a time as the drawing says. */
  drawUnits(model: string, layer: string, channels: readonly number[], drawing: Drawing): Promise<DrawnUnit[]>;
  /** How all layers of a model answer the bundled photographs, measured anew. */
  measureStatistics(model: string): Promise<Map<string, ChannelStatistics>>;
  /** Builds the sessions of a default job, so that the first Enter does not wait for them. */
  warm(): Promise<void>;
  release(): Promise<void>;
}

const inData = (name: string) => path.join(process.env.DATA_DIR ?? path.join(repositoryRoot, 'data'), name);

/** The bundled models and those imported into DATA_DIR. */
export const openRegistry = (): Registry => createRegistry(repositoryRoot, inData('models'));

export async function createEngine(registry: Registry, asked: string): Promise<Engine> {
  const device = await chooseDevice(asked);
  const sessions = createSessions(device.device);
  const decodeSquare = (file: string, side: number) => decodeTo(file, { width: side, height: side });
  const statistics = createStatistics(sessions, decodeSquare, inData('statistics'));

  const pixelsOf = async (model: ImageModel, image: Uint8Array) => {
    const canvas = { width: model.eye.size, height: model.eye.size };
    return { pixels: await decodeTo(image, canvas), canvas };
  };
  const embedImage = async (model: ImageModel, image: Uint8Array) => {
    const { pixels, canvas } = await pixelsOf(model, image);
    return (await lookAt(sessions, model.hash, model.eye, pixels, canvas)).embedding;
  };

  /** A picture before a model's eye, and the way to what a layer of it is used to. */
  const before = async (name: string, layer: string, image: Uint8Array) => {
    const model = registry.openEye(name);
    requireUnit({ name, layers: model.eye.layers }, { layer, channel: 0, spot: 'mean' });
    const sight = { model, ...(await pixelsOf(model, image)) };
    return { model, sight, measured: () => statistics(model, { layer, spot: 'mean' }) };
  };

  return {
    device,
    models: () => [
      ...registry.names().map((name) => viewOf(registry.open(name))),
      ...registry
        .eyes()
        .filter((name) => !registry.names().includes(name))
        .map((name) => eyeView(registry, name)),
      ...registry.generators().map((name) => ({ ...generatorView(registry.openGenerator(name)), name })),
    ],
    async imagine({ job, init, checkpoint }, watcher) {
      const model = registry.open(job.model);
      const generator = job.method === 'vqgan' ? registry.openGenerator(job.generator ?? defaultGenerator) : undefined;
      const start = init && toPlanes(await decodeTo(init, job, 'cover'));
      const done = await imagine(sessions, { job, model, generator, start, checkpoint, statistics }, watcher);
      return { ...done, device: sessions.device, modelHash: model.hash };
    },
    async embedText(name, text) {
      return { model: name, ...(await embedText(sessions, registry.open(name), text)) };
    },
    async embedImage(name, image) {
      return { model: name, embedding: await embedImage(registry.open(name), image) };
    },
    async conceptsOfText(name, text, top, more = false) {
      const model = registry.open(name);
      const { embedding, notices } = await embedText(sessions, model, text);
      return { concepts: conceptsOf(model, embedding, top, more), notices };
    },
    async conceptsOfImage(name, image, top, more = false) {
      const model = registry.open(name);
      return { concepts: conceptsOf(model, await embedImage(model, image), top, more) };
    },
    async heat(name, unit, image) {
      const { model, sight, measured } = await before(name, unit.layer, image);
      requireUnit({ name, layers: model.eye.layers }, { ...unit, spot: 'mean' });
      return heatOf(sessions, sight, unit, await measured());
    },
    async firing(name, layer, image, top) {
      const { sight, measured } = await before(name, layer, image);
      return firingOf(sessions, sight, layer, await measured(), top);
    },
    async relevance(name, text, image) {
      const model = registry.open(name);
      const { embedding, notices } = await embedText(sessions, model, text);
      return { ...(await relevanceOf(sessions, { model, ...(await pixelsOf(model, image)) }, embedding)), notices };
    },
    async drawUnits(name, layer, channels, drawing) {
      const model = registry.openEye(name);
      for (const channel of channels) requireUnit({ name, layers: model.eye.layers }, { layer, channel, spot: 'mean' });
      return drawUnits(sessions, { model, layer, statistics: await statistics(model, { layer, spot: 'mean' }) }, channels, drawing);
    },
    conceptNames: (name) => ({ names: registry.open(name).concepts.entries }),
    looker: createLooker(
      sessions,
      (name) => registry.openEye(name),
      (model, layer) => statistics(model, { layer, spot: 'mean' }),
    ),
    async measureStatistics(name) {
      const model = registry.openEye(name);
      const layers = model.eye.layers.map(({ name: layer }) => layer);
      const sites = layers.map((layer) => ({ layer, spot: 'mean' as const }));
      const measured = await measureStatistics(sessions, model, sites, decodeSquare);
      return new Map(layers.map((layer, i) => [layer, measured[i]]));
    },
    async warm() {
      const model = registry.open(defaultModel);
      const job = jobRequest.parse({ text: 'warm' });
      // Two steps: the first run allocates what later ones use again.
      await imagine(sessions, { job: { ...job, steps: 2 }, model });
    },
    release: () => sessions.release(),
  };
}

const viewOf = (model: ImageModel): ModelView => ({
  name: model.name,
  kind: 'encoder',
  description: model.description,
  hash: model.hash,
  parameters: model.parameters,
  bytes: model.bytes,
  inputSize: model.eye.size,
  embed: model.eye.embed,
  channels: model.eye.channels,
  layers: model.eye.layers,
  ready: true,
});

/** A network that cannot be opened is listed with the reason: the others are not to blame. */
function eyeView(registry: Registry, name: string): ModelView {
  try {
    return { ...viewOf(registry.openEye(name)), kind: 'eye' };
  } catch (error) {
    const none = { hash: '', parameters: 0, bytes: 0, inputSize: 0, embed: 0, channels: 0, layers: [] };
    return { name, kind: 'eye', description: (error as Error).message, ...none, ready: false };
  }
}

/** `embed` counts the numbers of a code; there are no neurons to choose. */
const generatorView = ({ name, description, hash, parameters, bytes, config }: VqganModel): ModelView => ({
  name,
  kind: 'generator',
  description,
  hash,
  parameters,
  bytes,
  inputSize: config.resolution,
  embed: config.embedDim,
  channels: 0,
  layers: [],
  ready: true,
});
