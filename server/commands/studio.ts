import { createEngine, openRegistry, type Engine } from '../compute/engine.js';

/** An engine for one command, in this process. A notice about the device goes to stderr. */
export async function openEngine(device: string | undefined): Promise<Engine> {
  const engine = await createEngine(openRegistry(), device ?? process.env.REVERIE_DEVICE ?? 'auto');
  if (engine.device.notice) console.error(engine.device.notice);
  return engine;
}
