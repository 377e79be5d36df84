import { z } from 'zod';
import { version } from '../root.js';
import { uploadMimes } from '../store/uploads.js';
import type { Route } from './route.js';
import { errorBody } from './views.js';

type Json = Record<string, unknown>;

const schemaOf = (schema: z.ZodType, io: 'input' | 'output'): Json => {
  const { $schema: _, ...json } = z.toJSONSchema(schema, { io, unrepresentable: 'any' });
  return json;
};

const parametersOf = (schema: z.ZodObject, place: 'path' | 'query'): Json[] => {
  const { properties = {}, required = [] } = z.toJSONSchema(schema, { io: 'input', unrepresentable: 'any' });
  return Object.entries(properties).map(([name, property]) => ({
    name,
    in: place,
    required: place === 'path' || required.includes(name),
    schema: property,
  }));
};

const bodyOf = (body: NonNullable<Route['body']>): Json => ({
  required: true,
  content:
    body === 'picture'
      ? Object.fromEntries(uploadMimes.map((mime) => [mime, { schema: { type: 'string', format: 'binary' } }]))
      : { 'application/json': { schema: schemaOf(body, 'input') } },
});

/** The OpenAPI 3.1 description of the routes. */
export function openApi(routes: Route[]): Json {
  const error = { description: 'What was wrong, with which value, and what to do', content: { 'application/json': { schema: { $ref: '#/components/schemas/Error' } } } }; // prettier-ignore
  const paths: Record<string, Json> = {};
  for (const { method, path, summary, params, query, body, headers = {}, answers } of routes) {
    const responses = Object.entries(answers).map(([status, { description, schema, mime }]) => {
      const content = schema
        ? {
            'application/json': {
              schema: schema === errorBody ? { $ref: '#/components/schemas/Error' } : schemaOf(schema, 'output'),
            },
          }
        : mime && { [mime]: { schema: { type: 'string', format: 'binary' } } };
      return [status, { description, ...(content && { content }) }] as const;
    });
    (paths[path.replace(/:(\w+)/g, '{$1}')] ??= {})[method] = {
      summary,
      parameters: [
        ...parametersOf(params, 'path'),
        ...parametersOf(query, 'query'),
        ...Object.entries(headers).map(([name, { description }]) => ({
          name,
          in: 'header',
          required: false,
          description,
          schema: { type: 'string' },
        })),
      ],
      ...(body && { requestBody: bodyOf(body) }),
      responses: { ...Object.fromEntries<Json>(responses), default: error },
    };
  }
  return {
    openapi: '3.1.0',
    info: { title: 'Reverie', version, description: 'Watch a frozen vision-language network imagine a text.', license: { name: 'Apache-2.0', identifier: 'Apache-2.0' } }, // prettier-ignore
    paths,
    components: {
      schemas: { Error: schemaOf(errorBody, 'output') },
      securitySchemes: {
        token: { type: 'http', scheme: 'bearer', description: 'Only where the server was started with REVERIE_TOKEN' },
      },
    },
    security: [{}, { token: [] }],
  };
}
