import { z } from 'zod';
import { parseUnit, UnknownUnitError, unitName } from '../../models/brivl/units.js';
import { parsePrompts, PromptError } from './prompts.js';

/**
 * Bounds of a job, shared by the page, the command line and the server. `textCharacters` of one text and `lineCharacters` of a line of
 * prompts count Unicode characters; `side` is in pixels.
 */
export const limits = {
  textCharacters: 500,
  lineCharacters: 4000,
  /** Of a story. */
  lines: 64,
  side: { min: 64, max: 1024 },
  steps: 2000,
  views: 64,
  seed: 0xffffffff,
  copies: 9,
} as const;

export const methods = ['feavis', 'vqgan'] as const;
export const parametrizations = ['fourier', 'pixels', 'maco'] as const;
export const objectives = ['dot-cos', 'cos', 'spherical'] as const;
export const optimizers = ['adam', 'nadam', 'sgd'] as const;
export const schedules = ['constant', 'cosine', 'warmup-cosine'] as const;
/** Where tokens begin without a picture: at those of smooth random colours, or at random ones. */
export const latentForms = ['spectrum', 'map'] as const;
export const starts = ['smooth', 'codes', 'grey'] as const;
export const anchors = ['zero', 'start'] as const;

/** Every VQGAN's pictures are that much larger than its grid of tokens, or a multiple of it. */
const tokenSide = 8;

/** A content address: the SHA-256 of a stored file's bytes, in lower-case hexadecimal. */
export const contentId = /^[0-9a-f]{64}$/;

const string = (what: string) =>
  z.string({
    error: (issue) => (issue.input === undefined ? `the ${what} is missing: write a concept or a line of a poem` : undefined),
  });

const isBlank = (text: string) => /^[\p{Cf}\p{Z}\s]*$/u.test(text);

/** One line that a tower can read: NFC, trimmed, no control characters, something visible in it. Emoji are text. */
export const lineOfText = (what: string, characters: number = limits.textCharacters) =>
  string(what)
    .transform((text) => text.normalize('NFC').trim())
    .pipe(
      z
        .string()
        .refine((text) => !/^[\p{Cf}\p{Z}]*$/u.test(text), {
          error: `the ${what} is empty: write a concept or a line of a poem`,
          abort: true,
        })
        .refine((text) => text.length <= characters || [...text].length <= characters, {
          error: `the ${what} must be at most ${characters} characters: shorten it`,
          abort: true,
        })
        .refine((text) => !/[\p{Cc}\p{Cs}\p{Zl}\p{Zp}]/u.test(text), {
          error: `the ${what} has control characters or line breaks: remove them`,
        }),
    );

const wholeNumber = (what: string, min: number, max: number, unit = '') =>
  z
    .number(`the ${what} must be a number`)
    .int(`the ${what} must be a whole number${unit}`)
    .min(min, `the ${what} must be at least ${min}${unit}`)
    .max(max, `the ${what} must be at most ${max}${unit}`);

const finite = (what: string, min: number, max: number) =>
  z
    .number(`the ${what} must be a number from ${min} to ${max}`)
    .min(min, `the ${what} must be at least ${min}`)
    .max(max, `the ${what} must be at most ${max}`);

const choice = <const Values extends readonly [string, ...string[]]>(what: string, values: Values) =>
  z.enum(values, `the ${what} must be ${values.length > 1 ? 'one of ' : ''}${values.join(', ')}`);

const side = (name: string) => wholeNumber(name, limits.side.min, limits.side.max, ' pixels');

/** A text with a weight: 1 is the strength of the main text, a negative weight pushes the picture away. */
export const weightedText = z.strictObject({
  text: lineOfText('weighted text'),
  weight: finite('weight of a text', -10, 10),
});

/** Of a neuron, in deviations: chosen by test/measurements.md, "neurons". */
export const usualPull = 0.15;

/** A unit of an image tower as units.ts reads it: whether a model has it is not asked here. */
export const unit = z
  .string("a neuron is written LLP-108, or another layer's as block7.1/ch-33")
  .max(200, 'the name of a neuron must be at most 200 characters')
  .transform((typed, context) => {
    try {
      return unitName(parseUnit(typed.trim()));
    } catch (error) {
      if (!(error instanceof UnknownUnitError)) throw error;
      context.addIssue({ code: 'custom', message: error.message });
      return z.NEVER;
    }
  })
  .describe("LLP-108, or another layer's as block7.1/ch-33; with @centre or @row,column one place of its map");

/** A constraint on one unit, with a weight in standard deviations of what it answers over the bundled photographs; a negative one silences. */
export const neuronConstraint = z.strictObject({
  unit,
  weight: finite('weight of a neuron', -100, 100).default(usualPull),
});

export const modelName = z
  .string()
  .regex(/^[a-z0-9][a-z0-9._-]{0,63}$/, 'a model is named by lower-case letters, digits, dots and dashes: see GET /api/models');

const usualViews = 8;

/** The normalised job. Together with the model's hash it determines the result to the byte. */
export const job = z.strictObject({
  text: z
    .union([lineOfText('text', limits.lineCharacters), z.literal('')])
    .describe('What to imagine; empty where only neurons are asked for'),
  weighted: z.array(weightedText).max(8, 'there can be at most 8 weighted texts').default([]),
  negative: z.array(lineOfText('negative text')).max(8, 'there can be at most 8 negative texts').default([]),
  neurons: z.array(neuronConstraint).max(16, 'there can be at most 16 neurons').default([]),
  method: choice('method', methods).default('feavis'),
  parameters: choice('parameters', parametrizations).default('fourier'),
  objective: choice('objective', objectives).default('dot-cos'),
  totalVariation: finite('total variation', 0, 10).default(0.5),
  optimizer: choice('optimizer', optimizers).optional(),
  learningRate: z
    .number('the learning rate must be a number above 0')
    .positive('the learning rate must be above 0')
    .max(100, 'the learning rate must be at most 100')
    .optional(),
  schedule: choice('schedule', schedules).default('constant'),
  model: modelName.default('brivl-nano'),
  width: side('width').default(224),
  height: side('height').default(224),
  steps: wholeNumber('number of steps', 1, limits.steps).default(120),
  views: wholeNumber('number of views', 1, limits.views).default(usualViews),
  seed: wholeNumber('seed', 0, limits.seed).default(1),
  init: z
    .string()
    .regex(contentId, 'init must be the id of an uploaded image (POST /api/images) or the imageId of a result')
    .optional(),
  batch: wholeNumber('batch of views', 1, limits.views)
    .optional()
    .describe('Views that are looked at together, a divisor of views: less take less memory and more time; all when left out'),
  generator: modelName.optional().describe('For vqgan: the VQGAN that draws; vqgan-nano when left out'),
  latents: choice('latents', latentForms)
    .optional()
    .describe(
      'For vqgan: what moves is the spectrum of the latent map, counted in how photographs vary (when left out), or the map itself',
    ),
  start: choice('start', starts)
    .optional()
    .describe(
      'For vqgan without init: begin with nearly grey (when left out), with the codes of smooth random colours (when left out, for a map and where there are tries), or with random codes',
    ),
  tries: wholeNumber('number of tries', 1, 64)
    .optional()
    .describe('For vqgan without init: starts that are drawn, of which the one nearest to the text is taken; 1 when left out'),
  average: finite('average', 0, 0.999)
    .optional()
    .describe('For vqgan: decay of the moving average of latent maps, which is what is shown; .9 when left out, 0 for none'),
  anchor: finite('anchor', 0, 1000)
    .optional()
    .describe('For vqgan: weight of the mean squared distance to anchorTo, falling to 0 at the end; 0 when left out'),
  anchorTo: choice('anchorTo', anchors).optional().describe('For vqgan: what anchor holds the latent map near; zero when left out'),
  restarts: wholeNumber('number of restarts', 0, 100)
    .optional()
    .describe('For vqgan: how often the optimizer and its schedule begin anew, evenly over the steps; 0 when left out'),
  from: lineOfText('from')
    .optional()
    .describe('The picture moves along the direction that leads from this text to the text, and cos is measured along it'),
  cosPower: finite('cos power', 0, 4)
    .optional()
    .describe('Of dot-cos: 0 asks for a strong answer alone, more for the right direction above all; 1 when left out'),
  copies: wholeNumber('number of copies', 1, limits.copies)
    .optional()
    .describe('Pictures that are imagined together and laid out side by side, each of width x height; 1 when left out'),
  diversity: finite('diversity', 0, 100).optional().describe('Of copies: how strongly they are held apart; 0 when left out'),
});

const forVqgan = ['generator', 'latents', 'start', 'tries', 'average', 'anchor', 'anchorTo', 'restarts'] as const;

/** What fields ask of each other. */
const consistentJob = job.superRefine((asked, context) => {
  const complain = (path: keyof typeof asked, message: string) => context.addIssue({ code: 'custom', path: [path], message });
  const { text, from, objective, method, width, height, views, batch, copies = 1, steps, restarts = 0 } = asked;
  const sets = text === '' ? 0 : parsePrompts(text).length;
  const units = asked.neurons.map(({ unit }) => unit);
  for (const [i, unit] of units.entries())
    if (units.indexOf(unit) < i)
      context.addIssue({
        code: 'custom',
        path: ['neurons', i, 'unit'],
        message: `${unit} is named twice: name it once, with the weight that it shall have`,
      });
  if (text === '' && from !== undefined) complain('from', 'from without a text leads nowhere: write a text too');
  if (from !== undefined && from === text) complain('from', 'from is the text itself, and nothing leads there: change one of them');
  if (asked.cosPower !== undefined && objective !== 'dot-cos')
    complain('cosPower', `cosPower belongs to the objective dot-cos: take it, or leave cosPower out`);
  if (views % copies)
    complain(
      'views',
      `${views} views cannot be shared out evenly to ${copies} copies: take ${Math.ceil(views / copies) * copies} views`,
    );
  else if (batch !== undefined && batch % copies)
    complain(
      'batch',
      `a batch of ${batch} views does not show each of ${copies} copies equally often: take a multiple of ${copies}`,
    );
  if (asked.diversity !== undefined && copies === 1)
    complain('diversity', 'one picture has nothing to be different from: ask for copies too, or leave diversity out');
  if (sets > steps)
    complain('steps', `${sets} prompts in series do not fit into ${steps} steps: take more steps, or fewer prompts between ^`);
  if (batch !== undefined && views % batch)
    complain('batch', `${views} views cannot be looked at ${batch} at a time: batch must divide views`);
  if (method === 'feavis') {
    for (const field of forVqgan)
      if (asked[field] !== undefined) complain(field, `${field} belongs to the method vqgan: set it, or leave ${field} out`);
    return;
  }
  const [w, h] = [width, height].map((side) => Math.round(side / tokenSide) * tokenSide);
  if (w !== width || h !== height)
    complain(
      'width',
      `with vqgan both sides must be multiples of ${tokenSide}, and ${width} x ${height} are not: take ${w} x ${h}`,
    );
  if (asked.parameters !== 'fourier')
    complain('parameters', `the parameters of vqgan are its tokens, not ${asked.parameters}: leave parameters out`);
  for (const field of ['start', 'tries'] as const)
    if (asked.init !== undefined && asked[field] !== undefined)
      complain(field, `a picture to start from leaves ${field} ${asked[field]} nothing to choose: give init or ${field}`);
  if (asked.anchorTo !== undefined && asked.anchor === undefined)
    complain('anchorTo', 'anchorTo without anchor holds nothing: give anchor a weight too, for example 1');
  if (restarts >= steps) complain('restarts', `${restarts} restarts do not fit into ${steps} steps: fewer of them, or more steps`);
});

/** A line of prompts (prompts.ts) as it was typed: every text in it is one that a tower can read. Its mistakes tell their position. */
const lineOfPrompts = string('text')
  .superRefine((typed, context) => {
    if (isBlank(typed)) return;
    try {
      parsePrompts(typed, (text) => lineOfText('text').safeParse(text).error?.issues[0].message);
    } catch (error) {
      if (!(error instanceof PromptError)) throw error;
      context.addIssue({ code: 'custom', message: error.message, params: { position: error.position } });
    }
  })
  .pipe(lineOfText('text', limits.lineCharacters))
  .describe(
    'A text, or prompts: text:weight:stop, with | between texts that push together and ^ between texts in series; \\: \\| \\^ are the characters themselves',
  );

/** Undefined where there is none, '' where nothing is written. */
const anyLineOfPrompts = z
  .string()
  .optional()
  .transform((typed, context) => {
    if (typed === undefined || isBlank(typed)) return typed && '';
    const { data, error } = lineOfPrompts.safeParse(typed);
    for (const { message, ...issue } of error?.issues ?? [])
      context.addIssue({ code: 'custom', message, ...('params' in issue && { params: issue.params }) });
    return data;
  })
  .describe(`${lineOfPrompts.description}. It may be left out where there are neurons`);

const sizeForm = 'the size must be a number of pixels or "WIDTHxHEIGHT", for example "320x224"';
const canvasSize = z
  .union([side('size'), z.string().regex(/^\d{1,6}([x×*]\d{1,6})?$/i, sizeForm)], sizeForm)
  .transform((size) => {
    const [width, height = width] = String(size).split(/[x×*]/i).map(Number);
    return { width, height };
  })
  .pipe(z.object({ width: side('width in size'), height: side('height in size') }));

const requestShape = {
  ...job.shape,
  text: anyLineOfPrompts,
  views: job.shape.views.unwrap().optional().describe('Of each step; 8 when left out, or with copies the next multiple'),
  negative: z.union([lineOfText('negative text'), job.shape.negative], 'negative must be a text or a list of texts').default([]),
  width: side('width').optional().describe('Pixels; 224 when neither width nor size is given, 256 with vqgan'),
  height: side('height').optional().describe('Pixels; 224 when neither height nor size is given, 256 with vqgan'),
  size: canvasSize.optional().describe('Pixels: one number for a square, or "WIDTHxHEIGHT"'),
};
type Asked = z.output<z.ZodObject<typeof requestShape>>;

function refuseTwoSizes({ size, width, height }: Omit<Asked, 'text'>, context: z.core.$RefinementCtx): void {
  if (size && (width !== undefined || height !== undefined))
    context.addIssue({ code: 'custom', path: ['size'], message: 'give either size or width and height, not both' });
}

function refuseNothing({ text, neurons }: Asked, context: z.core.$RefinementCtx): void {
  if (!text && neurons.length === 0)
    context.addIssue({
      code: 'custom',
      path: ['text'],
      input: text,
      message: `the text is ${text === undefined ? 'missing' : 'empty'}: write a concept or a line of a poem`,
    });
}

function withDefaults({ size, negative, width, height, views, text = '', ...rest }: Asked): z.input<typeof job> {
  const usual = rest.method === 'vqgan' ? 256 : 224;
  const { copies = 1 } = rest;
  return {
    ...rest,
    text,
    views: views ?? Math.ceil(usualViews / copies) * copies,
    ...(rest.method === 'vqgan' && { generator: rest.generator ?? 'vqgan-nano' }),
    negative: typeof negative === 'string' ? [negative] : negative,
    width: size?.width ?? width ?? usual,
    height: size?.height ?? height ?? usual,
  };
}

/**
 * What a person asks for. Every field but `text` has a default, and with neurons it may be left out too. Beside the fields of a job it takes `size` (`224` or `"320x224"`) in
 * place of `width` and `height`, and one negative text without the list around it.
 */
export const jobRequest = z
  .strictObject(requestShape)
  .superRefine(refuseTwoSizes)
  .superRefine(refuseNothing)
  .transform(withDefaults)
  // Equal jobs have equal JSON, whatever order they were asked for in.
  .pipe(consistentJob);

const { text: _, ...sharedByLines } = requestShape;

/** A story: a job for each of its lines, which is the text; the other fields are those of a job request, and of every line. */
export const storyRequest = z
  .strictObject({
    ...sharedByLines,
    lines: z
      .array(lineOfPrompts, 'the lines must be a list of texts')
      .min(1, 'a story has at least one line: send a list of texts')
      .max(limits.lines, `a story has at most ${limits.lines} lines`),
  })
  .superRefine(refuseTwoSizes)
  .transform(({ lines, ...shared }, context) => {
    const jobs: Job[] = [];
    for (const text of lines) {
      const { data, error } = consistentJob.safeParse(withDefaults({ ...shared, text }));
      if (!data) {
        // What does not fit together does not for any line.
        for (const { message, path } of error.issues) context.addIssue({ code: 'custom', message, path });
        return z.NEVER;
      }
      jobs.push(data);
    }
    return jobs;
  });

export type JobRequest = z.input<typeof jobRequest>;
export type Job = z.output<typeof job>;

/** A job as it was stored, possibly by an earlier version: fields that came later take their defaults. */
export const storedJob = z.object(job.shape);

export const jobStatuses = ['queued', 'running', 'canceling', 'succeeded', 'failed', 'canceled'] as const;
export type JobStatus = (typeof jobStatuses)[number];

/** A visual concept and how near it is (cosine in the model's joint space). `zh` is null where a model has no Chinese names. */
export interface Concept {
  wnid: string;
  word: string;
  zh: string | null;
  score: number;
}

/** One unit over a whole picture: what it answers there, and the share of photographs (0 to 100) whose channel's mean is below that. */
export interface NeuronReading {
  /** As the job names it: `LLP-108`, `block7.1/ch-33@centre`. */
  unit: string;
  layer: string;
  channel: number;
  /** The mean of its channel over the picture's map, or its value at the unit's spot. */
  activation: number;
  /** Null in results from before other models' channels were measured. */
  percentile: number | null;
}

/** Something a person should know that did not stop the job (text cut, unknown characters, device fell back). */
export interface Notice {
  code: string;
  message: string;
}

/** A job as the API tells it. Times are milliseconds since 1970. */
export interface JobView {
  id: string;
  status: JobStatus;
  job: Job;
  step: number;
  steps: number;
  cos: number | null;
  secondOpinion: number | null;
  /** Nearest concepts of the text, known before the first step. */
  textConcepts: Concept[];
  notices: Notice[];
  error: string | null;
  resultId: string | null;
  /** Jobs that run before this one; 0 for the running one. */
  position: number;
  createdAt: number;
  startedAt: number | null;
  finishedAt: number | null;
}

/**
 * One point of the curves: cos to the text by the imagining model, and by the second opinion where it was asked. Without a text cos is null,
 * and the percentile of the first neuron is told, where it was read.
 */
export interface CurvePoint {
  step: number;
  cos: number | null;
  secondOpinion?: number;
  percentile?: number;
}

/** A finished picture. `imageUrl` serves the PNG, whose bytes are also the last live frame. */
export interface ResultView {
  id: string;
  jobId: string;
  job: Job;
  model: { name: string; hash: string };
  /** The VQGAN that drew it, with vqgan. */
  generator: { name: string; hash: string } | null;
  device: string;
  width: number;
  height: number;
  /** To the text; null where the job has none. */
  cos: number | null;
  secondOpinion: number | null;
  textConcepts: Concept[];
  pictureConcepts: Concept[];
  secondOpinionConcepts: Concept[];
  /** How the finished picture drives the neurons that the job names, in their order. */
  neurons: NeuronReading[];
  curve: CurvePoint[];
  seconds: number;
  notices: Notice[];
  imageId: string;
  imageUrl: string;
  /** Where it is served as it was before quantization, with vqgan. */
  unquantizedUrl: string | null;
  createdAt: number;
}

/** `position` is the character of a line of prompts to look at: Unicode code points, from 0. */
export interface ErrorBody {
  error: { code: string; message: string; issues?: { path: string; message: string; position?: number }[] };
}
