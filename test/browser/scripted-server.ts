import { randomBytes } from 'node:crypto';
import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import path from 'node:path';
import express, { type Express, type Response } from 'express';
import sharp from 'sharp';
import { Server } from 'socket.io';
import { parseUnit } from '../../models/brivl/units.js';
import {
  jobRequest,
  type Concept,
  type CurvePoint,
  type ErrorBody,
  type Job,
  type JobView,
  type ResultView,
} from '../../server/jobs/job.js';
import type { ClassifyRequest, LabelSetView, SimilarityRequest } from '../../server/compare/requests.js';
import type { ModelView } from '../../server/compute/protocol.js';
import type { Tokens } from '../../server/imagination/generator.js';
import { packed } from '../../server/jobs/frames.js';
import type { ClientToServer, DeviceState, Frame, ServerToClient } from '../../server/live/events.js';
import { drawScene, type Pixels } from './scenes.js';

export interface ScriptedServer {
  url: string;
  /** Requests for jobs that came, in order. */
  asked: Job[];
  jobs: Map<string, { view: JobView }>;
  /** Requests for comparisons that came, in order. */
  compared: (SimilarityRequest | ClassifyRequest)[];
  /** Cuts every socket, as a lost network does; they may come back. */
  cut(): void;
  /** Holds every running job at its step, and lets it go on. */
  hold(on: boolean): void;
  close(): Promise<void>;
}

/** What a scripted VQGAN leaves with its picture. */
interface Drawn {
  tokens: Tokens;
  unquantized: Buffer;
}

interface Script {
  clientFolder: string;
  /** Milliseconds a step takes; 0 is as fast as frames can be encoded. */
  stepTime?: number;
  /** Every how many steps there is a frame. */
  frameEvery?: number;
  device?: DeviceState;
  /** As on a machine without a VQGAN. */
  withoutGenerator?: boolean;
  draw?: (job: Job) => Promise<Pixels>;
  /** More routes, for pages that have parts of their own. */
  extend?: (app: Express) => void;
}

const concepts: Record<'castle' | 'daisy' | 'clock' | 'valley', [string, string, string, number][]> = {
  castle: [
    ['n02980441', 'castle', '城堡', 0.66],
    ['n03781244', 'monastery', '修道院', 0.47],
    ['n09193705', 'alp', '高山', 0.41],
    ['n03028079', 'church', '教堂', 0.36],
    ['n04346328', 'stupa', '佛塔', 0.33],
  ],
  daisy: [
    ['n11939491', 'daisy', '雏菊', 0.61],
    ['n02281406', 'sulphur butterfly', '粉蝶', 0.52],
    ['n04522168', 'vase', '花瓶', 0.42],
    ['n02206856', 'bee', '蜜蜂', 0.39],
    ['n07730033', 'cardoon', '刺菜蓟', 0.31],
  ],
  clock: [
    ['n02708093', 'analog clock', '时钟', 0.64],
    ['n04548280', 'wall clock', '挂钟', 0.6],
    ['n04355338', 'sundial', '日晷', 0.44],
    ['n03544143', 'hourglass', '沙漏', 0.4],
    ['n04328186', 'stopwatch', '秒表', 0.37],
  ],
  valley: [
    ['n09468604', 'valley', '山谷', 0.58],
    ['n09332890', 'lakeside', '湖畔', 0.49],
    ['n07802026', 'hay', '干草', 0.37],
    ['n11939491', 'daisy', '雏菊', 0.33],
    ['n09246464', 'cliff', '悬崖', 0.29],
  ],
};

const textOf = (text: string): keyof typeof concepts =>
  /castle|城堡/i.test(text)
    ? 'castle'
    : /time|时间|clock/i.test(text)
      ? 'clock'
      : /flower|daisy|花|菊/i.test(text)
        ? 'daisy'
        : 'valley';

const told = (rows: [string, string, string, number][], scale = 1): Concept[] =>
  rows
    .map(([wnid, word, zh, score]) => ({ wnid, word, zh, score: Number((score * scale).toFixed(4)) }))
    .sort((a, b) => b.score - a.score);

/** What the picture calls up on its way: noise is like a sea of things, then more and more what was asked. */
function onTheWay(text: string, share: number): Concept[] {
  const noise: [string, string, string, number][] = [
    ['n04589890', 'window screen', '纱窗', 0.34 * (1 - share)],
    ['n03530642', 'honeycomb', '蜂窝', 0.3 * (1 - share)],
    ['n04209239', 'shower curtain', '浴帘', 0.26 * (1 - share)],
  ];
  const own = concepts[textOf(text)].map(([wnid, word, zh, score], at): [string, string, string, number] => [
    wnid,
    word,
    zh,
    score * share * (1 + 0.25 * Math.sin(share * 9 + at * 2)),
  ]);
  return told([...noise, ...own]).slice(0, 5);
}

const models: ModelView[] = [
  {
    ...{ name: 'brivl-nano', kind: 'encoder' as const, ready: true, hash: 'b3c1f09a77d2e64410aa0b5f' },
    description: 'EfficientNet-Lite0 with MSPP; multilingual e5-small, pruned to Chinese and English. Imagines and is the default.',
    ...{
      parameters: 26_400_000,
      bytes: 21_300_000,
      inputSize: 224,
      embed: 384,
      channels: 1280,
      layers: [{ name: 'LLP', channels: 1280 }],
    },
  },
  {
    ...{ name: 'second-opinion', kind: 'encoder' as const, ready: true, hash: '7721aa0c15dd9e4fb2370c88' },
    description: 'EfficientNet-Lite2 with its own projection into concepts. Scores pictures, never draws them.',
    ...{
      parameters: 4_900_000,
      bytes: 9_800_000,
      inputSize: 224,
      embed: 384,
      channels: 1280,
      layers: [{ name: 'LLP', channels: 1280 }],
    },
  },
];

const generator: ModelView = {
  ...{ name: 'vqgan-nano', kind: 'generator' as const, ready: true, hash: '5d0c7be1aa90f2647e1b3c88' },
  description: 'A VQGAN of 4096 codes, eight pixels a code.',
  ...{ parameters: 7_600_000, bytes: 7_700_000, inputSize: 256, embed: 16, channels: 0, layers: [] },
};

const labelSets: LabelSetView[] = [
  {
    name: 'uc-merced',
    title: { en: 'UC Merced', zh: 'UC Merced 土地利用' },
    templates: { en: ['a satellite photo of {}'], zh: ['{}的卫星图'] },
    labels: [
      { folder: 'airplane', en: 'airplane', zh: '飞机' },
      { folder: 'beach', en: 'beach', zh: '海滩' },
      { folder: 'forest', en: 'forest', zh: '森林' },
    ],
  },
];

/** The n-th picture is nearest to the n-th text. */
const nearness = (picture: number, text: number) => Number((0.6 - 0.17 * Math.abs(picture - text)).toFixed(4));

const refuse = (response: Response, status: number, code: string, message: string, issues?: ErrorBody['error']['issues']) =>
  response.status(status).json({ error: { code, message, issues } } satisfies ErrorBody);

/**
 * A server that only plays its part: the real routes and events, no network behind them. Pictures are drawn by `scenes.ts` and come out
 * of grey noise; numbers rise as they do in a real run. The text decides: `!refuse` is refused, `!break` fails half way.
 */
export async function startScriptedServer({
  clientFolder,
  stepTime = 40,
  frameEvery = 1,
  device,
  withoutGenerator = false,
  draw = drawScene,
  extend,
}: Script): Promise<ScriptedServer> {
  const app = express();
  const http = createServer(app);
  const io = new Server<ClientToServer, ServerToClient>(http, { serveClient: false });
  const jobs = new Map<string, { view: JobView; latest?: Frame }>();
  const results = new Map<string, { view: ResultView; png: Buffer; drawn?: Drawn }>();
  const uploads = new Map<string, Buffer>();
  const queue: string[] = [];
  const asked: Job[] = [];
  const compared: (SimilarityRequest | ClassifyRequest)[] = [];
  const state: DeviceState = device ?? { device: 'cpu', available: ['cpu'], notice: null };
  let running: string | null = null;
  let held = false;
  let closed = false;
  let count = 0;

  app.use((_request, response, next) => {
    response.set(
      'Content-Security-Policy',
      "default-src 'self'; img-src 'self' blob: data:; style-src 'self' 'unsafe-inline'; object-src 'none'; base-uri 'none'",
    );
    next();
  });
  app.post('/api/jobs', express.json(), (request, response) => {
    const parsed = jobRequest.safeParse(request.body);
    if (!parsed.success) {
      const issues = parsed.error.issues.map((issue) => ({ path: issue.path.join('.'), message: issue.message }));
      return refuse(response, 400, 'invalid_request', issues[0].message, issues);
    }
    const job = parsed.data;
    if (job.text.includes('!refuse'))
      return refuse(response, 429, 'queue_full', '200 jobs wait already: cancel some or try again later');
    asked.push(job);
    const id = `job-${++count}-${randomBytes(4).toString('hex')}`;
    const view: JobView = {
      ...{ id, status: 'queued', job, step: 0, steps: job.steps, cos: null, secondOpinion: null },
      ...{
        textConcepts: job.text === '' ? [] : told(concepts[textOf(job.text)]),
        notices: noticesOf(job.text),
        error: null,
        resultId: null,
      },
      ...{ position: queue.length + (running === null ? 0 : 1), createdAt: Date.now(), startedAt: null, finishedAt: null },
    };
    jobs.set(id, { view });
    queue.push(id);
    tellQueue();
    setTimeout(() => void work(), 0);
    return response.status(201).json(view);
  });
  app.get('/api/jobs/:id', (request, response) => {
    const known = jobs.get(request.params.id);
    return known ? response.json(known.view) : refuse(response, 404, 'not_found', `there is no job "${request.params.id}"`);
  });
  app.delete('/api/jobs/:id', (request, response) => {
    const known = jobs.get(request.params.id);
    if (!known) return refuse(response, 404, 'not_found', `there is no job "${request.params.id}"`);
    if (known.view.status === 'queued') {
      queue.splice(queue.indexOf(known.view.id), 1);
      known.view.status = 'canceled';
      io.to(known.view.id).emit('failed', { jobId: known.view.id, error: 'canceled', canceled: true });
      tellQueue();
    } else if (known.view.status === 'running') known.view.status = 'canceling';
    return response.status(202).json(known.view);
  });
  app.get('/api/results', (request, response) => {
    const all = [...results.values()].map(({ view }) => view).reverse();
    const from = Number(request.query['cursor'] ?? 0);
    response.json({ results: all.slice(from, from + 12), next: from + 12 < all.length ? String(from + 12) : null });
  });
  app.get('/api/results/:id', (request, response) => {
    const known = results.get(request.params.id);
    return known ? response.json(known.view) : refuse(response, 404, 'not_found', `there is no result "${request.params.id}"`);
  });
  app.delete('/api/results/:id', (request, response) => {
    results.delete(request.params.id);
    response.status(204).end();
  });
  app.get('/api/results/:id/image.png', (request, response) => {
    const known = results.get(request.params.id);
    return known ? response.type('png').send(known.png) : refuse(response, 404, 'not_found', 'there is no such picture');
  });
  app.get('/api/results/:id/unquantized.png', (request, response) => {
    response.type('png').send(results.get(request.params.id)!.drawn!.unquantized);
  });
  app.get('/api/results/:id/tokens', (request, response) => response.json(results.get(request.params.id)!.drawn!.tokens));
  app.post('/api/images', express.raw({ type: () => true, limit: '20mb' }), (request, response) => {
    const id = randomBytes(32).toString('hex');
    uploads.set(id, request.body as Buffer);
    response.status(201).json({ id, width: 224, height: 224 });
  });
  app.get('/api/images/:id', (request, response) => {
    const { id } = request.params;
    const known = uploads.get(id) ?? [...results.values()].find(({ view }) => view.imageId === id)?.png;
    return known ? response.type('png').send(known) : refuse(response, 404, 'not_found', 'there is no such picture');
  });
  app.get('/api/labels', (_request, response) => response.json({ sets: labelSets }));
  app.post('/api/similarity', express.json(), async (request, response) => {
    const { images, texts } = request.body as SimilarityRequest;
    compared.push(request.body as SimilarityRequest);
    if (texts.some((text) => text.includes('!refuse')))
      return refuse(response, 429, 'busy', '4 comparisons run already: try again in a few seconds');
    if (texts.some((text) => text.includes('!slow'))) await pause(1500);
    return response.json({ model: 'brivl-nano', images, texts, matrix: images.map((_, i) => texts.map((_, j) => nearness(i, j))), notices: [] }); // prettier-ignore
  });
  app.post('/api/classify', express.json(), (request, response) => {
    const { images, labels, language = 'en' } = request.body as ClassifyRequest;
    compared.push(request.body as ClassifyRequest);
    const names = typeof labels === 'string' ? labelSets.find(({ name }) => name === labels)!.labels.map((row) => row[language]!) : labels; // prettier-ignore
    const top = (i: number) => names.map((label, j) => ({ label, score: nearness(i, j) })).sort((a, b) => b.score - a.score).slice(0, 5); // prettier-ignore
    response.json({ model: 'brivl-nano', images: images.map((id, i) => ({ id, top: top(i) })), notices: [] });
  });
  app.get('/api/models', (_request, response) =>
    response.json({ models: [...models, ...(withoutGenerator ? [] : [generator])], device: state }),
  );
  app.get('/api/concepts', (request, response) => {
    const text = new URL(request.originalUrl, 'http://here').searchParams.get('text') ?? '';
    if (text.length > 500) return refuse(response, 400, 'invalid_request', 'the text must be at most 500 characters: shorten it');
    return response.json({ concepts: told(concepts[textOf(text)]), notices: noticesOf(text) });
  });
  extend?.(app);
  app.get('/api/relevance', ({ query }, response) => {
    const text = [...results.values()].find(({ view }) => view.id === query.result)?.view.job.text;
    if (text === 'refuse relevance') refuse(response, 503, 'refused', 'the scripted server refuses');
    else response.json({ rows: 2, columns: 2, values: [0.4, 0.2, -0.3, -0.3], text, cos: 0.3, notices: [] });
  });
  app.use('/api', (_request, response) => refuse(response, 404, 'not_found', 'there is nothing here'));
  app.use(express.static(clientFolder, { index: false }));
  app.get('/{*page}', (request, response) => {
    if (path.extname(request.path) !== '' && !request.path.startsWith('/neurons/'))
      return refuse(response, 404, 'not_found', 'there is no such file');
    return response.sendFile('index.html', { root: clientFolder });
  });

  io.on('connection', (socket) => {
    socket.emit('queue', { running, waiting: [...queue] });
    socket.emit('device', state);
    socket.on('watch', ({ jobId }, answer) => {
      const known = jobs.get(jobId);
      if (!known) return answer?.({ ok: false, error: `there is no job "${jobId}"` });
      void socket.join(jobId);
      socket.emit('snapshot', { job: known.view, frame: known.latest });
      return answer?.({ ok: true });
    });
    socket.on('unwatch', ({ jobId }, answer) => {
      void socket.leave(jobId);
      answer?.({ ok: true });
    });
  });

  function noticesOf(text: string) {
    return text.length > 120
      ? [{ code: 'text_cut', message: 'The text is longer than the network reads: its end was left out.' }]
      : [];
  }

  function tellQueue(): void {
    io.emit('queue', { running, waiting: [...queue] });
  }

  async function work(): Promise<void> {
    if (running !== null || closed) return;
    const id = queue.shift();
    if (id === undefined) return;
    running = id;
    tellQueue();
    try {
      await play(jobs.get(id)!);
    } finally {
      running = null;
      tellQueue();
      void work();
    }
  }

  async function play(one: { view: JobView; latest?: Frame }): Promise<void> {
    const { view } = one;
    const { job } = view;
    Object.assign(view, { status: 'running', startedAt: Date.now(), position: 0 });
    io.to(view.id).emit('snapshot', { job: view });
    const target = await draw(job);
    const noise = noiseFor(target, job.seed);
    const curve: CurvePoint[] = [];
    const begun = performance.now();
    for (let step = 1; step <= job.steps; step++) {
      if (stepTime > 0) await pause(stepTime);
      while (held && !closed && view.status === 'running') await pause(20);
      if (closed) return;
      if ((view.status as string) === 'canceling') {
        Object.assign(view, { status: 'canceled', finishedAt: Date.now() });
        io.to(view.id).emit('failed', { jobId: view.id, error: 'canceled', canceled: true });
        return;
      }
      if (job.text.includes('!break') && step > job.steps / 2) {
        const error = 'the compute process ended in the middle of a step: it has been started again, so imagine the text again';
        Object.assign(view, { status: 'failed', error, finishedAt: Date.now() });
        io.to(view.id).emit('failed', { jobId: view.id, error, canceled: false });
        return;
      }
      const share = 1 - Math.exp((-3.6 * step) / job.steps);
      const wobble = Math.sin(step * 1.7 + job.seed) * 0.012;
      const point: CurvePoint = {
        step,
        cos: job.text === '' ? null : Number((0.76 * share + wobble).toFixed(4)),
        ...(job.neurons.length > 0 && { percentile: Number((99.6 * share).toFixed(2)) }),
      };
      const asks = step % 5 === 1 || step === job.steps;
      if (asks && job.text !== '') point.secondOpinion = Number((0.47 * share ** 1.4 + wobble / 2).toFixed(4));
      curve.push(point);
      Object.assign(view, { step, cos: point.cos, secondOpinion: point.secondOpinion ?? view.secondOpinion });
      const seconds = (performance.now() - begun) / 1000;
      if (step % frameEvery !== 0 && step !== job.steps && step !== 1) continue;
      const png = step === job.steps;
      const pixels = mixed(noise, target, share);
      const tokens = job.method === 'vqgan' ? tokensOf(pixels, target) : undefined;
      const raw = { width: target.width, height: target.height, channels: 3 as const };
      const picture = sharp(pixels, { raw });
      const data = await (png ? picture.png() : picture.webp({ quality: 84 })).toBuffer();
      one.latest = {
        ...{
          jobId: view.id,
          ...point,
          steps: job.steps,
          stepsPerSecond: step / seconds,
          secondsLeft: ((job.steps - step) * seconds) / step,
        },
        ...(asks ? { concepts: onTheWay(job.text, share) } : {}),
        ...{ mime: png ? ('image/png' as const) : ('image/webp' as const), data },
        ...(tokens && { tokens: packed(tokens) }),
      };
      io.to(view.id).emit('frame', one.latest);
      if (!png) continue;
      const drawn = tokens && { tokens, unquantized: await sharp(pixels, { raw }).negate().png().toBuffer() };
      finish(view, curve, seconds, data, drawn);
    }
  }

  function finish(view: JobView, curve: CurvePoint[], seconds: number, png: Buffer, drawn?: Drawn): void {
    const { job } = view;
    const id = `result-${count}-${randomBytes(4).toString('hex')}`;
    const result: ResultView = {
      ...{
        id,
        jobId: view.id,
        job,
        model: { name: job.model, hash: models[0].hash },
        generator: drawn ? { name: generator.name, hash: generator.hash } : null,
        device: state.device,
        width: job.width,
        height: job.height,
      },
      ...{
        cos: view.cos,
        secondOpinion: view.secondOpinion,
        textConcepts: view.textConcepts,
        pictureConcepts: onTheWay(job.text, 1),
      },
      ...{ secondOpinionConcepts: onTheWay(job.text, 0.9), curve, seconds, notices: [], imageId: randomBytes(32).toString('hex') },
      ...{ imageUrl: `/api/results/${id}/image.png`, createdAt: Date.now() },
      neurons: job.neurons.map(({ unit }, index) => {
        const { layer, channel } = parseUnit(unit);
        return { unit, layer, channel, activation: 3.21 - index, percentile: Math.max(0, 99.6 - 10 * index) };
      }),
      unquantizedUrl: drawn ? `/api/results/${id}/unquantized.png` : null,
    };
    results.set(id, { view: result, png, drawn });
    Object.assign(view, { status: 'succeeded', resultId: id, finishedAt: Date.now() });
    io.to(view.id).emit('done', { jobId: view.id, resultId: id });
  }

  await new Promise<void>((resolve) => http.listen(0, '127.0.0.1', resolve));
  return {
    url: `http://127.0.0.1:${(http.address() as AddressInfo).port}`,
    asked,
    compared,
    jobs,
    cut: () => {
      for (const socket of io.sockets.sockets.values()) socket.conn.close();
    },
    hold: (on) => (held = on),
    async close() {
      closed = true;
      await io.close();
      http.closeAllConnections();
    },
  };
}

const pause = (milliseconds: number) => new Promise<void>((resolve) => setTimeout(resolve, milliseconds));

/** Grey with a little structure, as a Fourier image begins. */
function noiseFor({ width, height }: Pixels, seed: number): Float32Array {
  const noise = new Float32Array(width * height * 3);
  for (let y = 0; y < height; y++)
    for (let x = 0; x < width; x++)
      for (let c = 0; c < 3; c++) {
        const wave =
          Math.sin(x * 0.11 + seed + c) * Math.cos(y * 0.13 - seed * 2 + c * 2) + 0.5 * Math.sin((x + y) * 0.31 + seed * 3);
        noise[(y * width + x) * 3 + c] = 122 + 9 * wave;
      }
  return noise;
}

/** Codes of eight pixels a side: their mean colours, in sixteen steps a channel. */
function tokensOf(pixels: Buffer, { width, height }: Pixels): Tokens {
  const [rows, columns] = [height / 8, width / 8];
  const step = (cell: number, channel: number) => {
    const corner = Math.floor(cell / columns) * 8 * width + (cell % columns) * 8;
    let sum = 0;
    for (let at = 0; at < 64; at++) sum += pixels[(corner + (at >> 3) * width + (at & 7)) * 3 + channel];
    return Math.floor(sum / 64 / 16);
  };
  const codes = Array.from({ length: rows * columns }, (_, cell) => 256 * step(cell, 0) + 16 * step(cell, 1) + step(cell, 2));
  return { rows, columns, codebook: 4096, codes };
}

/** Coarse things come first: the share of the picture grows from its means to its details. */
function mixed(noise: Float32Array, { data }: Pixels, share: number): Buffer {
  const out = Buffer.alloc(data.length);
  for (let at = 0; at < data.length; at++) out[at] = noise[at] * (1 - share) + data[at] * share;
  return out;
}
