import path from 'node:path';
import { createRegistry, defaultGenerator, defaultModel, type Registry } from '../../models/registry.js';
import type { BrivlModel } from '../../models/brivl/model.js';
import type { VqganModel } from '../../models/vqgan/model.js';
import { imagine, type Imagined, type Watcher } from '../imagination/imagine.js';
import { conceptsOf, embedText, lookAt } from '../imagination/look.js';
import { jobRequest } from '../jobs/job.js';
import type { DeviceState } from '../live/events.js';
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
  /** Builds the sessions of a default job, so that the first Enter does not wait for them. */
  warm(): Promise<void>;
  release(): Promise<void>;
}

/** The bundled models and those imported into DATA_DIR. */
export const openRegistry = (): Registry =>
  createRegistry(repositoryRoot, path.join(process.env.DATA_DIR ?? path.join(repositoryRoot, 'data'), 'models'));

export async function createEngine(registry: Registry, asked: string): Promise<Engine> {
  const device = await chooseDevice(asked);
  const sessions = createSessions(device.device);

  const pixelsOf = async (model: BrivlModel, image: Uint8Array) => {
    const canvas = { width: model.eye.size, height: model.eye.size };
    return { pixels: await decodeTo(image, canvas), canvas };
  };
  const embedImage = async (model: BrivlModel, image: Uint8Array) => {
    const { pixels, canvas } = await pixelsOf(model, image);
    return (await lookAt(sessions, model.hash, model.eye, pixels, canvas)).embedding;
  };

  return {
    device,
    models: () => [
      ...registry.names().map((name) => viewOf(registry.open(name))),
      ...registry.generators().map((name) => ({ ...generatorView(registry.openGenerator(name)), name })),
    ],
    async imagine({ job, init, checkpoint }, watcher) {
      const model = registry.open(job.model);
      const generator = job.method === 'vqgan' ? registry.openGenerator(job.generator ?? defaultGenerator) : undefined;
      const start = init && toPlanes(await decodeTo(init, job, 'cover'));
      const done = await imagine(sessions, { job, model, generator, start, checkpoint }, watcher);
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
    conceptNames: (name) => ({ names: registry.open(name).concepts.entries }),
    async warm() {
      const model = registry.open(defaultModel);
      const job = jobRequest.parse({ text: 'warm' });
      // Two steps: the first run allocates what later ones use again.
      await imagine(sessions, { job: { ...job, steps: 2 }, model });
    },
    release: () => sessions.release(),
  };
}

const viewOf = (model: BrivlModel): ModelView => ({
  name: model.name,
  kind: 'encoder',
  description: model.description,
  hash: model.hash,
  parameters: model.parameters,
  bytes: model.bytes,
  inputSize: model.eye.size,
  embed: model.eye.embed,
  channels: model.eye.channels,
  ready: true,
});

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
  ready: true,
});
