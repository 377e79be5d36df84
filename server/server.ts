import { createServer, type RequestListener } from 'node:http';
import type { AddressInfo } from 'node:net';
import path from 'node:path';
import type { Compute } from './compute/protocol.js';
import { createApp } from './http/app.js';
import { createGuard, isLoopback } from './http/guard.js';
import { startScheduler } from './jobs/scheduler.js';
import { startLive } from './live/live.js';
import { createIndexer } from './neurons/indexer.js';
import { lookerOver } from './neurons/see.js';
import { repositoryRoot } from './root.js';
import { openStore } from './store/store.js';
import { blockExoticDecoders } from './store/uploads.js';

export interface ServerOptions {
  /** 0 takes a free port. */
  port?: number;
  host?: string;
  dataDir?: string;
  /** `auto`, or the name of an execution provider. */
  device?: string;
  /** Needed for any host but loopback. */
  token?: string;
  /** Further host names under which the server is reached. */
  hosts?: string[];
  /** Starts the compute process; tests give a scripted one. */
  startCompute: (options: { device: string }) => Promise<Compute>;
  pageFolder?: string;
}

export interface RunningServer {
  /** Without a slash at its end. */
  url: string;
  /** Answers no more requests, lets the running step end and its checkpoint reach the disk, ends the compute process. */
  close(): Promise<void>;
}

/**
 * Starts store, compute, queue, HTTP and live, in this order.
 * @throws Error with a sentence when the host needs a token, the port is taken, or the data folder cannot be used.
 */
export async function startServer(options: ServerOptions): Promise<RunningServer> {
  const { port = 7860, host = '127.0.0.1', token, hosts = [], device = 'auto' } = options;
  if (token === '') throw new Error('REVERIE_TOKEN is empty: give it a value that nobody guesses, or unset it');
  if (!isLoopback(host) && token === undefined)
    throw new Error(`HOST ${host} can be reached from other machines: set REVERIE_TOKEN, or leave HOST out for this machine alone`);

  blockExoticDecoders();
  // What was opened last is closed first: requests, pages, queue, compute, store.
  const closers: (() => Promise<unknown>)[] = [];
  const close = async () => {
    for (const closer of closers.splice(0).reverse()) await closer();
  };
  try {
    let answer = answerStarting;
    const http = createServer((request, response) => {
      answer(request, response);
    });
    await listen(http, port, host);
    closers.push(
      () =>
        new Promise((resolve) => {
          http.close(resolve);
          http.closeAllConnections();
        }),
    );
    const store = await openStore(options.dataDir ?? path.join(repositoryRoot, 'data'));
    closers.push(() => store.close());
    const compute = await options.startCompute({ device });
    closers.push(() => compute.close());
    let description = await compute.request('hello', { device });
    const scheduler = startScheduler(store, compute);
    closers.push(() => scheduler.stop());

    const indexer = createIndexer(store, lookerOver(compute), scheduler);
    closers.push(() => indexer.close());

    const guard = createGuard({ token, host, hosts });
    const pageFolder = options.pageFolder ?? path.join(repositoryRoot, 'dist/client');
    const app = createApp({ store, scheduler, compute, indexer, description: () => description }, { guard, pageFolder });
    answer = app;
    const live = startLive(http, { store, scheduler, guard, device: () => description.device });
    closers.push(() => live.close());
    closers.push(() => {
      http.closeAllConnections();
      return Promise.resolve();
    });

    // A compute process that started anew may have taken another device.
    let crashes = 0;
    scheduler.onEvent(() => {
      const { computeCrashes } = scheduler.counts();
      if (computeCrashes === crashes) return;
      crashes = computeCrashes;
      compute
        .request('hello', { device })
        .then((answer) => {
          description = answer;
          live.tellDevice(answer.device);
        })
        .catch((error: unknown) => {
          console.error('the compute process does not answer:', error);
        });
    });

    const { port: taken } = http.address() as AddressInfo;
    return { url: `http://${host.includes(':') ? `[${host}]` : host}:${taken}`, close };
  } catch (error) {
    await close();
    throw error;
  }
}

const answerStarting: RequestListener = (_request, response) => {
  response.writeHead(503, { 'Content-Type': 'application/json', 'Retry-After': '2' });
  response.end(JSON.stringify({ error: { code: 'starting', message: 'Reverie is starting: try again in two seconds' } }));
};

/** Taken first, so that a second server neither opens the first one's store nor starts a compute process. */
function listen(http: ReturnType<typeof createServer>, port: number, host: string): Promise<void> {
  return new Promise((resolve, reject) => {
    http.once('error', (error: NodeJS.ErrnoException) => {
      reject(
        error.code === 'EADDRINUSE'
          ? new Error(`port ${port} on ${host} is in use: stop what uses it, or choose another with PORT=${port + 1}`, {
              cause: error,
            })
          : error.code === 'EACCES'
            ? new Error(`port ${port} may not be opened: choose one above 1023 with PORT=7860`, { cause: error })
            : new Error(`${host}:${port} cannot be listened on (${error.message}): check HOST and PORT`, { cause: error }),
      );
    });
    http.listen(port, host, resolve);
  });
}
