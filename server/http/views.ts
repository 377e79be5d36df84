import { z } from 'zod';
import type { ClassificationView, LabelSetView, SimilarityView } from '../compare/requests.js';
import { labelRow, type Language } from '../compare/labels.js';
import type { ModelView } from '../compute/protocol.js';
import type { Tokens } from '../imagination/generator.js';
import {
  job,
  jobStatuses,
  type Concept,
  type CurvePoint,
  type ErrorBody,
  type JobView,
  type NeuronReading,
  type Notice,
  type ResultView,
} from '../jobs/job.js';
import type { DeviceState } from '../live/events.js';

// The answers of the API as schemas, for its OpenAPI description. `satisfies` holds each to the type that the code uses.

const time = z.int().describe('Milliseconds since 1970');
const cosine = z.number().min(-1).max(1);

export const concept = z.object({
  wnid: z.string(),
  word: z.string(),
  zh: z.string().nullable(),
  score: cosine,
}) satisfies z.ZodType<Concept>;

export const notice = z.object({ code: z.string(), message: z.string() }) satisfies z.ZodType<Notice>;

const percentile = z.number().min(0).max(100);

const curvePoint = z.object({
  step: z.int(),
  cos: cosine.nullable(),
  secondOpinion: cosine.optional(),
  percentile: percentile.optional().describe('Of the first neuron'),
}) satisfies z.ZodType<CurvePoint>;

const neuronReading = z.object({
  unit: z.string(),
  layer: z.string(),
  channel: z.int(),
  activation: z.number().describe("The mean of the channel over the picture's map, or its value at the unit's spot"),
  percentile: percentile.nullable().describe('The share of the bundled photographs that drive it less'),
}) satisfies z.ZodType<NeuronReading>;

export const jobView = z.object({
  id: z.string(),
  status: z.enum(jobStatuses),
  job,
  step: z.int(),
  steps: z.int(),
  cos: cosine.nullable(),
  secondOpinion: cosine.nullable(),
  textConcepts: z.array(concept),
  notices: z.array(notice),
  error: z.string().nullable(),
  resultId: z.string().nullable(),
  position: z.int().describe('Jobs that run before this one; 0 for the running one'),
  createdAt: time,
  startedAt: time.nullable(),
  finishedAt: time.nullable(),
}) satisfies z.ZodType<JobView>;

export const resultView = z.object({
  id: z.string(),
  jobId: z.string(),
  job,
  model: z.object({ name: z.string(), hash: z.string() }),
  generator: z.object({ name: z.string(), hash: z.string() }).nullable().describe('The VQGAN that drew it, with vqgan'),
  device: z.string(),
  width: z.int(),
  height: z.int(),
  cos: cosine.nullable().describe('To the text; null where the job has none'),
  secondOpinion: cosine.nullable(),
  textConcepts: z.array(concept),
  pictureConcepts: z.array(concept),
  secondOpinionConcepts: z.array(concept),
  neurons: z.array(neuronReading).describe('What the finished picture does to the neurons that the job names'),
  curve: z.array(curvePoint),
  seconds: z.number(),
  notices: z.array(notice),
  imageId: z.string(),
  imageUrl: z.string(),
  unquantizedUrl: z.string().nullable().describe('The picture before quantization, with vqgan'),
  createdAt: time,
}) satisfies z.ZodType<ResultView>;

export const tokens = z.object({
  rows: z.int(),
  columns: z.int(),
  codebook: z.int().describe('How many codes there are to choose from'),
  codes: z.array(z.int()).describe('[rows, columns], row by row: which code each is, from 0'),
}) satisfies z.ZodType<Tokens>;

const model = z.object({
  name: z.string(),
  kind: z.enum(['encoder', 'eye', 'generator']),
  description: z.string(),
  hash: z.string(),
  parameters: z.int(),
  bytes: z.int(),
  inputSize: z.int(),
  embed: z.int(),
  channels: z.int(),
  layers: z.array(z.object({ name: z.string(), channels: z.int() })),
  ready: z.boolean(),
}) satisfies z.ZodType<ModelView>;

const device = z.object({
  device: z.string(),
  available: z.array(z.string()),
  notice: z.string().nullable(),
}) satisfies z.ZodType<DeviceState>;

const next = z.string().nullable().describe('The cursor of the next page, null on the last');

export const jobPage = z.object({ jobs: z.array(jobView), next });
export const resultPage = z.object({ results: z.array(resultView), next });
export const modelList = z.object({ models: z.array(model), device });
export const conceptList = z.object({ concepts: z.array(concept), notices: z.array(notice) });
export const embedding = z.object({ model: z.string(), embedding: z.array(z.number()), notices: z.array(notice) });
export const uploaded = z.object({ id: z.string(), width: z.int(), height: z.int() });

export const similarity = z.object({
  model: z.string(),
  images: z.array(z.string()),
  texts: z.array(z.string()),
  matrix: z.array(z.array(cosine)).describe('[images, texts]: the cosine of each picture to each text'),
  notices: z.array(notice),
}) satisfies z.ZodType<SimilarityView>;

export const classification = z.object({
  model: z.string(),
  images: z.array(
    z.object({
      id: z.string(),
      top: z.array(z.object({ label: z.string(), score: cosine })).describe('The best labels, best first'),
    }),
  ),
  notices: z.array(notice),
}) satisfies z.ZodType<ClassificationView>;

const perLanguage = <T extends z.ZodType>(value: T) => z.object({ en: value, zh: value } satisfies Record<Language, z.ZodType>);

export const labelSets = z.object({
  sets: z.array(
    z.object({
      name: z.string(),
      title: perLanguage(z.string()),
      templates: perLanguage(z.array(z.string())),
      labels: z.array(labelRow),
    }) satisfies z.ZodType<LabelSetView>,
  ),
});

export const errorBody = z.object({
  error: z.object({
    code: z.string(),
    message: z.string(),
    issues: z.array(z.object({ path: z.string(), message: z.string(), position: z.number().optional() })).optional(),
  }),
}) satisfies z.ZodType<ErrorBody>;
