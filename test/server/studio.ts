import { mkdtemp, rm } from 'node:fs/promises';
import { request, type IncomingHttpHeaders } from 'node:http';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { io, type Socket } from 'socket.io-client';
import type { JobView, ResultView } from '../../server/jobs/job.js';
import type { ClientToServer, Frame, ServerToClient } from '../../server/live/events.js';
import { startServer, type RunningServer, type ServerOptions } from '../../server/server.js';
import { ScriptedCompute } from './scripted-compute.js';

/** A server over a scripted compute, on a free port and in a folder of its own. */
export interface TestStudio {
  url: string;
  compute: ScriptedCompute;
  dataDir: string;
  get(path: string, init?: RequestInit): Promise<Response>;
  post(body: unknown, headers?: Record<string, string>): Promise<Response>;
  /** Posts a job that must be accepted. */
  imagine(job: Record<string, unknown>): Promise<JobView>;
  job(id: string): Promise<JobView>;
  result(id: string): Promise<ResultView>;
  /** Resolves with the job when it is in one of the statuses. */
  until(id: string, ...statuses: JobView['status'][]): Promise<JobView>;
  /** Sends and reads over a socket of its own. */
  socket(): Socket<ServerToClient, ClientToServer>;
  watch(id: string): Promise<WatchedJob>;
  close(): Promise<void>;
}

export interface WatchedJob {
  snapshots: { job: JobView; frame?: Frame }[];
  frames: Frame[];
  done: { jobId: string; resultId: string }[];
  failed: { jobId: string; error: string; canceled: boolean }[];
  /** Events in the order in which they came. */
  order: string[];
  ended: Promise<void>;
}

/** A request whose every header, Host among them, is the test's; `fetch` would set its own. */
export function rawRequest(
  url: string,
  { method = 'GET', headers = {}, body }: { method?: string; headers?: Record<string, string>; body?: string } = {},
): Promise<{ status: number; headers: IncomingHttpHeaders; text: string }> {
  return new Promise((resolve, reject) => {
    const sent = request(url, { method, headers }, (response) => {
      let text = '';
      response.setEncoding('utf8').on('data', (part: string) => (text += part));
      response.on('end', () => resolve({ status: response.statusCode ?? 0, headers: response.headers, text }));
    });
    sent.on('error', reject).end(body);
  });
}

export const temporaryFolder = () => mkdtemp(path.join(tmpdir(), 'reverie-test-'));

export async function startStudio(
  options: Partial<ServerOptions> & { compute?: ScriptedCompute; keepData?: boolean } = {},
): Promise<TestStudio> {
  const { compute = new ScriptedCompute(), keepData = false, ...serverOptions } = options;
  const dataDir = options.dataDir ?? (await temporaryFolder());
  const server: RunningServer = await startServer({
    port: 0,
    startCompute: () => Promise.resolve(compute),
    ...serverOptions,
    dataDir,
  }).catch(async (error: unknown) => {
    if (!keepData) await rm(dataDir, { recursive: true, force: true });
    throw error;
  });
  const { url } = server;
  const sockets: Socket[] = [];
  const get = (route: string, init?: RequestInit) => fetch(url + route, init);
  const json = async <T>(route: string) => (await get(route)).json() as Promise<T>;
  const post = (body: unknown, headers: Record<string, string> = {}) =>
    get('/api/jobs', {
      method: 'POST',
      headers: { 'Content-Type': 'application/json', ...headers },
      body: typeof body === 'string' ? body : JSON.stringify(body),
    });
  const job = (id: string) => json<JobView>(`/api/jobs/${id}`);
  const socket = () => {
    const made: Socket<ServerToClient, ClientToServer> = io(url, { transports: ['websocket'], forceNew: true });
    sockets.push(made);
    return made;
  };

  return {
    url,
    compute,
    dataDir,
    get,
    post,
    job,
    socket,
    result: (id) => json<ResultView>(`/api/results/${id}`),
    async imagine(request) {
      const response = await post(request);
      if (response.status !== 201) throw new Error(`${response.status} ${await response.text()}`);
      return response.json() as Promise<JobView>;
    },
    async until(id, ...statuses) {
      for (;;) {
        const view = await job(id);
        if (statuses.includes(view.status)) return view;
        await new Promise((resolve) => setTimeout(resolve, 5));
      }
    },
    async watch(id) {
      const made = socket();
      const watched: WatchedJob = { snapshots: [], frames: [], done: [], failed: [], order: [], ended: Promise.resolve() };
      watched.ended = new Promise((resolve) => {
        made.on('snapshot', (message) => {
          watched.snapshots.push(message);
          watched.order.push('snapshot');
        });
        made.on('frame', (message) => {
          watched.frames.push(message);
          watched.order.push('frame');
        });
        made.on('done', (message) => {
          watched.done.push(message);
          watched.order.push('done');
          resolve();
        });
        made.on('failed', (message) => {
          watched.failed.push(message);
          watched.order.push('failed');
          resolve();
        });
      });
      const answer = await new Promise<unknown>((resolve) => made.emit('watch', { jobId: id }, resolve));
      if (JSON.stringify(answer) !== '{"ok":true}') throw new Error(JSON.stringify(answer));
      return watched;
    },
    async close() {
      for (const made of sockets) made.disconnect();
      await server.close();
      if (!keepData) await rm(dataDir, { recursive: true, force: true });
    },
  };
}
