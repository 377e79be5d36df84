import { existsSync } from 'node:fs';
import path from 'node:path';
import express, { type Express, type RequestHandler } from 'express';
import { uploadLimits, uploadMimes } from '../store/uploads.js';
import type { Guard } from './guard.js';
import { countRequests, metricsText, type RequestCounts } from './metrics.js';
import { openApi } from './openapi.js';
import { answerProblem, Problem, validated } from './problem.js';
import type { Input, Route } from './route.js';
import { apiRoutes, type Studio } from './routes.js';

/** The HTTP side of the server. `pageFolder` holds the built page. */
export function createApp(studio: Studio, { guard, pageFolder }: { guard: Guard; pageFolder: string }): Express {
  const requests = countRequests();
  const routes = apiRoutes(studio);
  const description = openApi(routes);

  const app = express();
  app.disable('x-powered-by');
  app.set('query parser', 'simple');
  app.use(counting(requests));
  app.use(guard.http);

  app.get('/healthz', (_request, response) => {
    response.set('Cache-Control', 'no-store').json({ ok: true });
  });
  app.get('/metrics', (_request, response) => {
    response.type('text/plain; version=0.0.4').send(metricsText(studio.store, studio.scheduler, requests));
  });
  app.get('/api/openapi.json', (_request, response) => {
    response.json(description);
  });
  for (const route of routes) app[route.method](route.path, ...bodyReaders(route), handler(route));
  refuseOtherMethods(app, routes);
  app.use('/api', (request) => {
    throw new Problem(
      404,
      'not_found',
      `there is nothing at ${JSON.stringify(request.originalUrl.slice(0, 100))}: see /api/openapi.json`,
    );
  });
  servePage(app, pageFolder);
  app.use(answerProblem);
  return app;
}

/** A request is validated whole before its handler sees it. */
function handler({ params, query, body, handle }: Route): RequestHandler {
  return async (request, response) => {
    const input = {
      params: validated(params, request.params),
      query: validated(query, { ...request.query }),
      body: body === undefined || body === 'picture' ? (request.body as unknown) : validated(body, request.body),
      request,
      response,
    };
    const reply = await handle(input as Input<never, never, never>);
    if (!reply) return;
    const status = reply.status ?? 200;
    response.status(status).set({ 'Cache-Control': 'no-store', ...reply.headers });
    response.json(reply.json);
  };
}

const readJson = express.json({ limit: '64kb', type: 'application/json', strict: false });
const readPicture = express.raw({ limit: uploadLimits.bytes, type: [...uploadMimes], inflate: false });

/** Only the content types that a route names are read: a form of another site cannot send them. */
function bodyReaders({ body }: Route): RequestHandler[] {
  if (body === undefined) return [];
  const accepted = body === 'picture' ? [...uploadMimes] : ['application/json'];
  return [
    (request, _response, next) => {
      const type = request.get('Content-Type');
      // `is` answers null, not false, when there is no body: that is told by the validation.
      if (type === undefined || request.is(accepted) === false)
        throw new Problem(
          415,
          'unsupported_type',
          `the body is ${type === undefined ? 'of no type' : JSON.stringify(type.slice(0, 100))}: send ${accepted.join(', ')} and name it in Content-Type`,
        );
      next();
    },
    body === 'picture' ? readPicture : readJson,
  ];
}

function refuseOtherMethods(app: Express, routes: Route[]): void {
  for (const path of new Set(routes.map((route) => route.path))) {
    const methods = routes.filter((route) => route.path === path).map((route) => route.method.toUpperCase());
    app.all(path, (request) => {
      const allowed = methods.join(', ');
      throw new Problem(405, 'method_not_allowed', `${request.method} is not possible here: use ${allowed}`, undefined, {
        Allow: allowed,
      });
    });
  }
}

function counting(requests: RequestCounts): RequestHandler {
  return (request, response, next) => {
    response.once('finish', () => {
      const route = (request.route as { path?: string } | undefined)?.path ?? 'other';
      requests.count(request.method, route, response.statusCode);
    });
    next();
  };
}

/** Hashed assets are kept for good, the few other files for an hour; every other path is the page, whose own router knows it. */
function servePage(app: Express, folder: string): void {
  const index = path.join(folder, 'index.html');
  app.use(
    express.static(folder, {
      index: false,
      setHeaders: (response, file) => {
        const isHashed = path.relative(folder, file).startsWith(`assets${path.sep}`);
        response.setHeader('Cache-Control', isHashed ? 'public, max-age=31536000, immutable' : 'public, max-age=3600');
      },
    }),
  );
  app.get('/{*page}', (request, response) => {
    // A layer's name may have dots, as block7.1 does.
    if (path.extname(request.path) !== '' && !request.path.startsWith('/neurons/'))
      throw new Problem(404, 'not_found', `there is no file ${JSON.stringify(request.path.slice(0, 100))}`);
    if (!existsSync(index))
      throw new Problem(503, 'page_not_built', 'the page is not built: run npm start, or use the API at /api/openapi.json');
    const unit = /^\/neurons\/([\w.~%-]+)\/([\w.~%-]+)\/(\d{1,6})$/.exec(request.path);
    // As the page will ask for it (client/lib/api.ts), while its script is on the way.
    if (unit)
      response.set('Link', `</api/neurons/${unit[2]}/${unit[3]}?model=${unit[1]}>; rel=preload; as=fetch; crossorigin=anonymous`);
    response.set('Cache-Control', 'no-cache').sendFile('index.html', { root: folder, cacheControl: false });
  });
  app.use((request) => {
    throw new Problem(405, 'method_not_allowed', `${request.method} is not possible here: use GET`, undefined, {
      Allow: 'GET, HEAD',
    });
  });
}
