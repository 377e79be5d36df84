import { ComputeCrash } from '../compute/protocol.js';
import type { Scheduler } from '../jobs/scheduler.js';
import { claimIndex, findIndex, indexOfLayer, isElsewhere, updateIndex, type IndexRecord } from '../store/neurons.js';
import type { Store } from '../store/store.js';
import { prepareIndex, runIndex, StoppedCounting, type IndexOptions } from './index.js';
import { bundledSet } from './pictures.js';
import type { EyeView, Looker } from './see.js';

/** How often an index looks whether it is its turn, in milliseconds. */
const lookEvery = 200;
/** And says that it is still there. */
const sayEvery = 10_000;
/** An index that ends the compute process is tried once more, from where it was saved. */
const crashLimit = 2;

/** Makes indexes of the bundled photographs behind the jobs that draw: one at a time, and none of its batches while a job runs or waits. */
export interface Indexer {
  /**
   * The index that tells of a layer; where none is done, that of the bundled photographs is begun or taken up again, unless it was stopped by
   * `stop` or has failed.
   */
  ensure(eye: EyeView, layer: string): IndexRecord | undefined;
  /** Begins an index, or goes on with one. @throws BadRequest, UnknownModelError's sentence among them */
  start(model: string, layers: readonly string[]): Promise<IndexRecord>;
  /** Between two batches; what it has is kept. @returns false for one that does not run here */
  stop(id: string): boolean;
  /** Resolves when nothing is written any more. What ran goes on when it is asked for in the next process. */
  close(): Promise<void>;
}

interface Running {
  model: string;
  layers: readonly string[];
  /** Known when its pictures have been counted. */
  id: string | null;
  isStopped: boolean;
}

export function createIndexer(store: Store, looker: Looker, scheduler: Scheduler): Indexer {
  const queue: Running[] = [];
  /** Those that a person stopped: a visit does not take them up, `start` does. */
  const unwanted = new Set<string>();
  let working: Promise<void> | undefined;
  let isClosing = false;

  /** Resolves when no job runs or waits, or the index is to end. */
  const turnOf = (mine: Running) => async () => {
    let said = Date.now();
    const isBusy = () => {
      const { running, waiting } = scheduler.queue();
      return running !== null || waiting.length > 0;
    };
    while (isBusy() && !mine.isStopped && !isClosing) {
      await new Promise((resolve) => setTimeout(resolve, lookEvery).unref());
      if (mine.id === null || Date.now() - said < sayEvery || isClosing) continue;
      said = Date.now();
      updateIndex(store, mine.id, { seenAt: said });
    }
  };

  const optionsOf = (mine: Running): IndexOptions => ({
    store,
    looker,
    model: mine.model,
    layers: mine.layers,
    set: bundledSet,
    isStopped: () => mine.isStopped || isClosing,
    turn: turnOf(mine),
  });

  const run = async (mine: Running): Promise<void> => {
    for (let crashes = 0; ;) {
      try {
        mine.id ??= (await prepareIndex(optionsOf(mine))).id;
        const { state } = await runIndex(optionsOf(mine));
        // Whoever stopped the server did not mean to stop the index.
        if (state === 'stopped' && !mine.isStopped) updateIndex(store, mine.id, { state: 'running' });
        return;
      } catch (error) {
        if (error instanceof StoppedCounting) {
          if (mine.id !== null && mine.isStopped) updateIndex(store, mine.id, { state: 'stopped', pid: null });
          return;
        }
        if (!(error instanceof ComputeCrash) || ++crashes >= crashLimit || isClosing) throw error;
      }
    }
  };

  const drain = async () => {
    for (let mine = queue[0]; mine !== undefined && !isClosing; mine = queue[0]) {
      await run(mine).catch((error: unknown) => {
        // The server is going: the store may be closed, and compute is.
        if (!isClosing) console.error(`index of ${mine.layers.join(', ')} of ${mine.model}:`, error);
        else if (mine.id !== null) updateIndex(store, mine.id, { state: 'running', error: null });
      });
      queue.shift();
    }
    working = undefined;
  };

  const isSame = (mine: Running, model: string, layers: readonly string[]) =>
    mine.model === model && JSON.stringify(mine.layers) === JSON.stringify(layers);

  const enqueue = (model: string, layers: readonly string[]): Running => {
    const known = queue.find((mine) => isSame(mine, model, layers) && !mine.isStopped);
    if (known) return known;
    const mine: Running = { model, layers, id: null, isStopped: false };
    queue.push(mine);
    working ??= drain();
    return mine;
  };

  return {
    ensure(eye, layer) {
      const record = indexOfLayer(store, eye.hash, layer);
      if (isClosing) return record;
      if (record === undefined) {
        enqueue(eye.name, [layer]);
        return record;
      }
      const isCut = (record.state === 'running' && !isElsewhere(record)) || record.state === 'stopped';
      if (!isCut || unwanted.has(record.id)) return record;
      // A page that reads `stopped` would not ask again.
      if (record.state === 'stopped') claimIndex(store, record);
      enqueue(eye.name, record.layers);
      return findIndex(store, record.id);
    },
    async start(model, layers) {
      const mine: Running = { model, layers, id: null, isStopped: false };
      const record = await prepareIndex(optionsOf(mine));
      if (record.state === 'done' || isElsewhere(record)) return record;
      claimIndex(store, record);
      unwanted.delete(record.id);
      enqueue(model, layers).id ??= record.id;
      return findIndex(store, record.id)!;
    },
    stop(id) {
      const mine = queue.find((running) => running.id === id && !running.isStopped);
      if (!mine) return false;
      mine.isStopped = true;
      unwanted.add(id);
      if (mine !== queue[0]) {
        queue.splice(queue.indexOf(mine), 1);
        updateIndex(store, id, { state: 'stopped', pid: null });
      }
      return true;
    },
    async close() {
      isClosing = true;
      await working;
    },
  };
}
