import type { IncomingMessage, Server as HttpServer } from 'node:http';
import { Server } from 'socket.io';
import { z } from 'zod';
import type { Guard } from '../http/guard.js';
import { packed } from '../jobs/frames.js';
import type { JobEvent, Scheduler } from '../jobs/scheduler.js';
import { findResult } from '../store/results.js';
import type { Store } from '../store/store.js';
import type { Answer, ClientToServer, DeviceState, Frame, ServerToClient } from './events.js';

const watchMessage = z.strictObject({ jobId: z.string().min(1).max(64) });
const roomOf = (jobId: string) => `job:${jobId}`;
/** How many jobs one page may watch at a time. */
const roomLimit = 256;

export interface Live {
  tellDevice(state: DeviceState): void;
  close(): Promise<void>;
}

/** Socket.io beside the HTTP server: one room a job, the queue for everyone. Pages only watch; work is asked for over HTTP. */
export function startLive(
  server: HttpServer,
  { store, scheduler, guard, device }: { store: Store; scheduler: Scheduler; guard: Guard; device: () => DeviceState },
): Live {
  const io = new Server<ClientToServer, ServerToClient>(server, {
    serveClient: false,
    // Clients send nothing but ids.
    maxHttpBufferSize: 16 * 1024,
    // The cors option does not hold for websockets: every handshake passes the same guard as a request.
    allowRequest: (request: IncomingMessage, decide) => {
      const refusal = guard.refuseHandshake(request);
      decide(refusal ?? null, refusal === undefined);
    },
  });

  io.on('connection', (socket) => {
    socket.emit('queue', scheduler.queue());
    socket.emit('device', device());

    socket.on('watch', async (message, answer) => {
      const reply = answering(answer);
      const { data } = watchMessage.safeParse(message);
      if (!data) return reply({ ok: false, error: 'watch takes {"jobId": "..."}' });
      const { jobId } = data;
      if (!scheduler.find(jobId)) return reply({ ok: false, error: `there is no job ${JSON.stringify(jobId)}` });
      if (socket.rooms.size > roomLimit)
        return reply({ ok: false, error: `a page can watch ${roomLimit} jobs at a time: unwatch some first` });
      await socket.join(roomOf(jobId));
      await sendSnapshot(jobId, (snapshot) => socket.emit('snapshot', snapshot));
      reply({ ok: true });
    });

    socket.on('unwatch', async (message, answer) => {
      const reply = answering(answer);
      const { data } = watchMessage.safeParse(message);
      if (!data) return reply({ ok: false, error: 'unwatch takes {"jobId": "..."}' });
      await socket.leave(roomOf(data.jobId));
      reply({ ok: true });
    });
  });

  const sendSnapshot = async (jobId: string, send: (snapshot: Parameters<ServerToClient['snapshot']>[0]) => void) => {
    const stored = scheduler.find(jobId)?.resultId;
    const png = stored ? await storedFrame(store, jobId, stored) : undefined;
    // Looked up again after the wait, so that no newer state overtakes it.
    const job = scheduler.find(jobId);
    const frame = png ?? scheduler.latestFrame(jobId);
    const curve = scheduler.curve(jobId);
    if (job) send({ job, ...(frame && { frame }), ...(curve && { curve }) });
  };

  scheduler.onEvent((event) => {
    tell(io, event);
  });

  return {
    tellDevice: (state) => io.emit('device', state),
    close: () => io.close(),
  };
}

function tell(io: Server<ClientToServer, ServerToClient>, event: JobEvent): void {
  switch (event.kind) {
    case 'changed':
      io.to(roomOf(event.job.id)).emit('snapshot', { job: event.job });
      break;
    case 'frame':
      // A slow connection skips frames instead of falling behind; the last one always arrives.
      (event.isLast ? io : io.volatile).to(roomOf(event.frame.jobId)).emit('frame', event.frame);
      break;
    case 'done':
      io.to(roomOf(event.jobId)).emit('done', { jobId: event.jobId, resultId: event.resultId });
      break;
    case 'failed':
      io.to(roomOf(event.jobId)).emit('failed', { jobId: event.jobId, error: event.error, canceled: event.canceled });
      break;
    case 'queue':
      io.emit('queue', event.state);
  }
}

/** The stored PNG of a finished job as its last frame, or nothing when it is gone. */
async function storedFrame(store: Store, jobId: string, resultId: string): Promise<Frame | undefined> {
  const result = findResult(store, resultId);
  const data = result && (await store.blobs.read(result.image).catch(() => undefined));
  if (!result || !data) return undefined;
  const { job, cos, secondOpinion, pictureConcepts, seconds, tokens, neurons } = result;
  const percentile = neurons?.[0]?.percentile ?? null;
  return {
    jobId,
    step: job.steps,
    steps: job.steps,
    cos,
    ...(secondOpinion !== null && { secondOpinion }),
    ...(percentile !== null && { percentile }),
    concepts: pictureConcepts,
    stepsPerSecond: seconds > 0 ? job.steps / seconds : 0,
    secondsLeft: 0,
    mime: 'image/png',
    data,
    ...(tokens && { tokens: packed(tokens) }),
  };
}

/** A client may leave the acknowledgement out, or send something else in its place. */
const answering = (answer: unknown) => (told: Answer) => {
  if (typeof answer === 'function') (answer as (answer: Answer) => void)(told);
};
