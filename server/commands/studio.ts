import { join } from 'node:path';
import { createRegistry } from '../../models/registry.js';
import { createEngine, type Engine } from '../compute/engine.js';
import { repositoryRoot } from '../root.js';

/** The bundled models and those imported into DATA_DIR. */
export const openRegistry = () =>
  createRegistry(repositoryRoot, join(process.env.DATA_DIR ?? join(repositoryRoot, 'data'), 'models'));

/** An engine for one command, in this process. A notice about the device goes to stderr. */
export async function openEngine(device: string | undefined): Promise<Engine> {
  const engine = await createEngine(openRegistry(), device ?? process.env.REVERIE_DEVICE ?? 'auto');
  if (engine.device.notice) console.error(engine.device.notice);
  return engine;
}
