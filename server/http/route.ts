import type { Request, Response } from 'express';
import { z } from 'zod';

/** What a handler gives back to be sent as JSON; a handler that sends a file itself gives back nothing. */
export interface Reply {
  status?: number;
  json: unknown;
  headers?: Record<string, string>;
}

export interface Input<Params, Query, Body> {
  params: Params;
  query: Query;
  body: Body;
  request: Request;
  response: Response;
}

export interface Answer {
  description: string;
  /** Of a JSON answer. */
  schema?: z.ZodType;
  /** Of any other. */
  mime?: string;
}

type Method = 'get' | 'post' | 'delete';

/** One row of the API: what serves it is also what documents it. */
export interface Route {
  method: Method;
  /** Express form: `/api/jobs/:id`. */
  path: string;
  summary: string;
  params: z.ZodObject;
  query: z.ZodObject;
  /** A schema for JSON, `picture` for the bytes of a PNG, JPEG or WebP, absent when there is no body. */
  body?: z.ZodType | 'picture';
  headers?: Record<string, { description: string }>;
  answers: Record<number, Answer>;
  handle(input: Input<never, never, never>): Promise<Reply | undefined> | Reply | undefined;
}

type BodyOf<Body> = Body extends z.ZodType ? z.output<Body> : Body extends 'picture' ? Buffer : undefined;

/** A route with the types of its input taken from its schemas. */
export function route<
  Params extends z.ZodObject,
  Query extends z.ZodObject,
  const Body extends z.ZodType | 'picture' | undefined = undefined,
>(
  definition: Omit<Route, 'params' | 'query' | 'body' | 'handle'> & {
    params?: Params;
    query?: Query;
    body?: Body;
    handle(input: Input<z.output<Params>, z.output<Query>, BodyOf<Body>>): Promise<Reply | undefined> | Reply | undefined;
  },
): Route {
  return { params: z.strictObject({}), query: z.strictObject({}), ...definition };
}
