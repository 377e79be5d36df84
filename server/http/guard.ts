import { createHash, timingSafeEqual } from 'node:crypto';
import type { IncomingMessage } from 'node:http';
import { isIP } from 'node:net';
import { hostname } from 'node:os';
import type { Request, RequestHandler } from 'express';
import { Problem } from './problem.js';

export interface Guard {
  /** For every HTTP request: headers, host, token, origin, in this order. */
  http: RequestHandler;
  /** Why a websocket handshake must not go on, or undefined. */
  refuseHandshake(request: IncomingMessage): string | undefined;
}

const loopbackNames = ['localhost', '127.0.0.1', '[::1]'];
const safeMethods = new Set(['GET', 'HEAD', 'OPTIONS']);
const cookieName = 'reverie_token';

/** A unit's page made for a frame: it shows and does nothing, so that no click in it can be stolen. client/lib/address.svelte.ts asks the same. */
const isFrame = ({ method, path, query }: Request) =>
  (method === 'GET' || method === 'HEAD') && query['embed'] === 'true' && /^\/neurons\/[^/]+\/[^/]+\/\d{1,6}$/.test(path);

/** True for addresses that only this machine can reach. */
export const isLoopback = (host: string) => host === 'localhost' || host === '::1' || /^127(\.\d{1,3}){3}$/.test(host);

/**
 * Keeps other sites and other machines out. Without a token only loopback names are hosts, which a rebound DNS name is not; with a
 * token every request must carry it, as `Authorization: Bearer` or in the cookie that `/?token=` sets.
 * @param hosts further names under which the server is reached, for example behind a proxy (REVERIE_HOSTS)
 */
export function createGuard({ token, host, hosts }: { token?: string; host: string; hosts: string[] }): Guard {
  const names = new Set(
    [...loopbackNames, ...(host.includes(':') ? [`[${host}]`] : [host]), ...hosts].map((name) => name.toLowerCase()),
  );
  if (token !== undefined) names.add(hostname().toLowerCase());

  const refuseHost = (request: IncomingMessage): Problem | undefined => {
    const name = hostnameOf(request.headers.host);
    // An address cannot be rebound; it is only known beforehand when the server is bound to one.
    const isAllowed = name !== undefined && (names.has(name) || (token !== undefined && isIP(name.replace(/^\[|\]$/g, '')) !== 0));
    if (isAllowed) return undefined;
    return new Problem(
      403,
      'host_not_allowed',
      `this server does not answer as ${quoted(request.headers.host)}: open http://127.0.0.1, or name the host in REVERIE_HOSTS`,
    );
  };

  const refuseOrigin = (request: IncomingMessage): Problem | undefined => {
    const { origin, host: own } = request.headers;
    const isForeign =
      origin === undefined ? request.headers['sec-fetch-site'] === 'cross-site' : originHost(origin) !== own?.toLowerCase();
    if (!isForeign) return undefined;
    return new Problem(
      403,
      'cross_origin',
      `a page of ${quoted(origin ?? 'another site')} may not do this: use Reverie's own page or a client without Origin`,
    );
  };

  const hasToken = (request: IncomingMessage): boolean => {
    if (token === undefined) return true;
    const bearer = /^Bearer (.+)$/i.exec(request.headers.authorization ?? '')?.[1];
    if (bearer !== undefined && equal(bearer, token)) return true;
    const cookie = new RegExp(`(?:^|;\\s*)${cookieName}=([0-9a-f]{64})(?:;|$)`).exec(request.headers.cookie ?? '')?.[1];
    return cookie !== undefined && equal(cookie, cookieOf(token));
  };

  return {
    http(request, response, next) {
      response.set({
        'Content-Security-Policy': `default-src 'self'; img-src 'self' blob: data:; style-src 'self' 'unsafe-inline'; object-src 'none'; base-uri 'none'; form-action 'self'; frame-ancestors ${isFrame(request) ? '*' : "'none'"}`,
        'X-Content-Type-Options': 'nosniff',
        'Referrer-Policy': 'no-referrer',
        'Cross-Origin-Resource-Policy': 'same-origin',
        'Cross-Origin-Opener-Policy': 'same-origin',
      });
      const refusal = refuseHost(request) ?? (safeMethods.has(request.method) ? undefined : refuseOrigin(request));
      if (refusal) throw refusal;
      if (request.path === '/healthz') {
        next();
        return;
      }

      const given = request.path === '/' && request.method === 'GET' ? request.query['token'] : undefined;
      if (token !== undefined && typeof given === 'string' && equal(given, token)) {
        response.cookie(cookieName, cookieOf(token), { httpOnly: true, sameSite: 'lax', path: '/', maxAge: 30 * 24 * 3600 * 1000 });
        response.set('Cache-Control', 'no-store').redirect(303, '/');
        return;
      }
      if (!hasToken(request)) {
        response.set('WWW-Authenticate', 'Bearer');
        throw new Problem(
          401,
          'token_required',
          'this server asks for its token: open /?token=... once, or send Authorization: Bearer ...',
        );
      }
      next();
    },
    refuseHandshake(request) {
      return (
        (refuseHost(request) ?? refuseOrigin(request))?.message ??
        (hasToken(request) ? undefined : 'this server asks for its token')
      );
    },
  };
}

const cookieOf = (token: string) => createHash('sha256').update(`${cookieName}:${token}`).digest('hex');

/** In constant time, whatever the lengths. */
function equal(a: string, b: string): boolean {
  const digest = (text: string) => createHash('sha256').update(text).digest();
  return timingSafeEqual(digest(a), digest(b));
}

/** Host name without its port, in lower case; undefined for what is not a host. */
function hostnameOf(host: string | undefined): string | undefined {
  return /^(\[[0-9a-f:.]+\]|[a-z0-9._-]+)(?::\d{1,5})?$/.exec(host?.toLowerCase() ?? '')?.[1];
}

const originHost = (origin: string) => (URL.canParse(origin) ? new URL(origin).host : undefined);

const quoted = (text: string | undefined) => (text === undefined ? 'no host' : JSON.stringify(text.slice(0, 100)));
