import type { ErrorRequestHandler } from 'express';
import type { z } from 'zod';
import { BadRequest, ComputeCrash } from '../compute/protocol.js';
import type { ErrorBody } from '../jobs/job.js';

/** What went wrong with a request, for the person who sent it: one sentence with the value and what to do. */
export class Problem extends Error {
  constructor(
    readonly status: number,
    readonly code: string,
    message: string,
    readonly issues?: ErrorBody['error']['issues'],
    readonly headers?: Record<string, string>,
  ) {
    super(message);
  }

  get body(): ErrorBody {
    return { error: { code: this.code, message: this.message, ...(this.issues && { issues: this.issues }) } };
  }
}

/**
 * The value as the schema makes it.
 * @throws Problem (400 invalid_request) that names each field, the value that was sent and what it must be.
 */
export function validated<Schema extends z.ZodType>(schema: Schema, value: unknown): z.output<Schema> {
  const parsed = schema.safeParse(value, { reportInput: true });
  if (parsed.success) return parsed.data;
  const issues = parsed.error.issues
    .slice(0, 20)
    .map((issue) => ({ path: issue.path.join('.'), message: inWords(issue), ...placeIn(issue) }));
  throw new Problem(
    400,
    'invalid_request',
    issues
      .map(({ message }) => message)
      .join('; ')
      .slice(0, 2000),
    issues,
  );
}

/** Where in a line of prompts its mistake is (job.ts). */
const placeIn = (issue: z.core.$ZodIssue): { position?: number } =>
  issue.code === 'custom' && typeof issue.params?.position === 'number' ? { position: issue.params.position } : {};

function inWords(issue: z.core.$ZodIssue): string {
  const where = issue.path.join('.');
  if (issue.code === 'unrecognized_keys')
    return `${issue.keys.slice(0, 5).map(short).join(', ')} ${issue.keys.length > 1 ? 'are not fields' : 'is not a field'} here: remove it or see /api/openapi.json`;
  if (issue.input === undefined)
    return where === ''
      ? 'the request has no body: send JSON'
      : /missing/.test(issue.message)
        ? issue.message
        : `${where} is missing: ${lower(issue.message)}`;
  if (issue.code === 'custom' && typeof issue.input === 'object') return issue.message;
  return `${where || 'the request'} is ${short(issue.input)}: ${lower(issue.message)}`;
}

const lower = (message: string) => message.charAt(0).toLowerCase() + message.slice(1);

/** A value in a sentence: as JSON, at most 60 characters. */
function short(value: unknown): string {
  const json = typeof value === 'number' && !Number.isFinite(value) ? String(value) : (JSON.stringify(value) ?? typeof value);
  return json.length <= 60 ? json : `${[...json].slice(0, 40).join('')}... (${json.length} characters)`;
}

/** Every error leaves as `{error: {code, message, issues?}}`; what is not the sender's fault is told in the log, not to the sender. */
export const answerProblem: ErrorRequestHandler = (error: unknown, request, response, next) => {
  const problem = asProblem(error);
  if (problem.status >= 500 && problem !== error) console.error(`${request.method} ${request.path}:`, error);
  if (response.headersSent) {
    next(error);
    return;
  }
  response
    .status(problem.status)
    .set({ 'Cache-Control': 'no-store', ...problem.headers })
    .json(problem.body);
};

/** Errors of the body parsers carry a `type`, those of express a `status`. */
function asProblem(error: unknown): Problem {
  if (error instanceof Problem) return error;
  const { type, status, message } = error as { type?: string; status?: number; message?: string };
  switch (type) {
    case 'entity.parse.failed':
      return new Problem(
        400,
        'malformed_json',
        'the body is not JSON: check its quotes, commas and numbers (NaN and Infinity are not JSON)',
      );
    case 'entity.too.large':
      return new Problem(413, 'too_large', 'the body is too large: JSON may have 64 KiB, a picture 20 MiB');
    case 'charset.unsupported':
    case 'encoding.unsupported':
      return new Problem(
        415,
        'unsupported_encoding',
        'the body has an encoding that is not read here: send UTF-8, uncompressed or gzip',
      );
  }
  if (error instanceof BadRequest) return new Problem(400, 'invalid_request', error.message);
  if (error instanceof ComputeCrash)
    return new Problem(
      503,
      'compute_restarting',
      'the compute process ended and starts anew: try again in a few seconds',
      undefined,
      { 'Retry-After': '5' },
    );
  if (status !== undefined && status >= 400 && status < 500)
    return new Problem(status, 'bad_request', `the request cannot be read: ${message ?? 'check it'}`);
  return new Problem(500, 'internal', 'something went wrong on the server: its log says what');
}
