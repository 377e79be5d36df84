import { io, type Socket } from 'socket.io-client';
import type { ClientToServer, Frame, QueueState, ServerToClient } from '../../server/live/events.js';
import { machine } from './machine.svelte.js';
import type { CurvePoint, JobView } from '../../server/jobs/job.js';

/** Who wants to hear of one job. */
export interface Watcher {
  readonly id: string;
  snapshot(job: JobView, frame?: Frame, curve?: CurvePoint[]): void;
  frame(frame: Frame): void;
  done(resultId: string): void;
  failed(error: string, canceled: boolean): void;
  /** The server will not let this job be watched, and why. */
  lost(error: string): void;
}

/** The socket. It reconnects by itself and then watches again what was watched; the server answers with a snapshot, so nothing is lost but frames. */
class Live {
  connection: 'opening' | 'open' | 'lost' = $state('opening');
  queue: QueueState = $state.raw({ running: null, waiting: [] });

  #socket: Socket<ServerToClient, ClientToServer> | null = null;
  #watchers = new Map<string, Watcher>();

  open(): void {
    if (this.#socket) return;
    const socket: Socket<ServerToClient, ClientToServer> = io({ reconnectionDelay: 300, reconnectionDelayMax: 3000 });
    this.#socket = socket;
    socket.on('connect', () => {
      this.connection = 'open';
      for (const watcher of this.#watchers.values()) this.#ask(watcher);
    });
    socket.on('disconnect', () => (this.connection = 'lost'));
    socket.on('connect_error', () => (this.connection = 'lost'));
    socket.on('queue', (queue) => (this.queue = queue));
    socket.on('device', (device) => (machine.device = device));
    socket.on('snapshot', ({ job, frame, curve }) => this.#watchers.get(job.id)?.snapshot(job, frame, curve));
    socket.on('frame', (frame) => this.#watchers.get(frame.jobId)?.frame(frame));
    socket.on('done', ({ jobId, resultId }) => this.#watchers.get(jobId)?.done(resultId));
    socket.on('failed', ({ jobId, error, canceled }) => this.#watchers.get(jobId)?.failed(error, canceled));
  }

  watch(watcher: Watcher): void {
    this.#watchers.set(watcher.id, watcher);
    if (this.#socket?.connected) this.#ask(watcher);
  }

  unwatch(watcher: Watcher): void {
    // Another may watch the same job by now.
    if (this.#watchers.get(watcher.id) !== watcher) return;
    this.#watchers.delete(watcher.id);
    if (this.#socket?.connected) this.#socket.emit('unwatch', { jobId: watcher.id });
  }

  #ask(watcher: Watcher): void {
    this.#socket?.emit('watch', { jobId: watcher.id }, (answer) => {
      if (!answer.ok) watcher.lost(answer.error);
    });
  }
}

export const live = new Live();
