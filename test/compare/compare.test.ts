import { describe, expect, it } from 'vitest';
import {
  accuracy,
  confusionOf,
  embedPictures,
  embedTexts,
  meanDirection,
  rank,
  scoresOf,
  type Embedder,
  type Verdict,
} from '../../server/compare/compare.js';
import { labelsIn } from '../../server/compare/labels.js';
import { createMemory } from '../../server/compare/remembering.js';
import { filled, template } from '../../server/compare/templates.js';

/** Unit vectors of the plane: `12` is the direction of 12 degrees; `bad` cannot be read. */
const at = (degrees: number) => Float32Array.of(Math.cos((degrees * Math.PI) / 180), Math.sin((degrees * Math.PI) / 180));

function planeEmbedder() {
  const asked: string[] = [];
  let open = 0;
  let mostOpen = 0;
  const embedder: Embedder = {
    text(text) {
      asked.push(text);
      const notices = text.includes('long') ? [{ code: 'text-cut', message: 'cut' }] : [];
      return Promise.resolve({ embedding: at(parseFloat(/-?\d+/.exec(text)?.[0] ?? '0')), notices });
    },
    async picture(name) {
      mostOpen = Math.max(mostOpen, ++open);
      await new Promise((resolve) => setTimeout(resolve, name.length % 3));
      open -= 1;
      if (name.startsWith('bad')) throw new Error(`${name} is bad`);
      return at(parseFloat(name));
    },
  };
  return { embedder, asked, mostOpen: () => mostOpen };
}

const all = async <T>(generator: AsyncGenerator<T>): Promise<T[]> => {
  const told: T[] = [];
  for await (const one of generator) told.push(one);
  return told;
};

describe('embedding', () => {
  it('puts texts into templates, and averages several into one direction', async () => {
    const { embedder, asked } = planeEmbedder();
    const { directions, notices } = await embedTexts(embedder, ['10', 'long 50'], ['{}', 'a photo of {}']);
    expect(asked).toEqual(['10', 'a photo of 10', 'long 50', 'a photo of long 50']);
    expect(directions[0][0]).toBeCloseTo(at(10)[0], 6);
    expect(directions[1][1]).toBeCloseTo(at(50)[1], 6);
    // Told once, however many texts it is true of.
    expect(notices).toEqual([{ code: 'text-cut', message: 'cut' }]);
    expect([...meanDirection([at(0), at(90)])]).toEqual([...at(45)].map((v) => expect.closeTo(v, 6) as number));
    expect([...meanDirection([at(0), at(180)])].every(Number.isFinite)).toBe(true);
  });

  it('looks at pictures in order, a few at a time, and leaves out what cannot be read', async () => {
    const { embedder, mostOpen } = planeEmbedder();
    const names = Array.from({ length: 11 }, (_, i) => (i === 5 ? 'bad' : `${i}${'0'.repeat(i % 3)}`));
    const skipped: string[] = [];
    const done: number[] = [];
    const seen = await all(embedPictures(embedder, names, { progress: (n) => done.push(n) }, (name) => skipped.push(name)));
    expect(seen.map(({ name }) => name)).toEqual(names.filter((name) => name !== 'bad'));
    expect(skipped).toEqual(['bad']);
    expect(done).toEqual(names.map((_, i) => i + 1));
    expect(mostOpen()).toBeLessThanOrEqual(4);
    await expect(all(embedPictures(embedder, names))).rejects.toThrow('bad is bad');
  });

  it('stops between two embeddings', async () => {
    const { embedder, asked } = planeEmbedder();
    const stop = new AbortController();
    const progress = (done: number) => done === 2 && stop.abort();
    await expect(embedTexts(embedder, ['1', '2', '3'], ['{}'], { signal: stop.signal, progress })).rejects.toThrow(/abort/i);
    expect(asked).toEqual(['1', '2']);
    await expect(all(embedPictures(embedder, ['1'], { signal: stop.signal }))).rejects.toThrow(/abort/i);
  });

  it('scores by cosine', () => {
    expect(scoresOf(at(0), [at(0), at(60), at(180)])).toEqual([1, 0.5, -1].map((v) => expect.closeTo(v, 6) as number));
  });
});

describe('classes', () => {
  it('ranks, ties in the order of the labels', () => {
    expect(rank([0.1, 0.9, 0.5, 0.9], 3).map(({ index }) => index)).toEqual([1, 3, 2]);
    expect(rank([0.1], 5)).toHaveLength(1);
  });

  // Counted by hand: a a a are taken for a b a, the one b for c, and d, whose class is unknown, for a.
  const labels = labelsIn(
    ['a', 'b', 'c', 'd', 'e', 'f', 'g'].map((en) => ({ en })),
    'en',
  );
  const verdicts: Verdict[] = [
    { truth: 0, ranking: [0, 1, 2, 3, 4, 5] },
    { truth: 0, ranking: [1, 0, 2, 3, 4, 5] },
    { truth: 0, ranking: [0, 5, 2, 3, 4, 1] },
    { truth: 1, ranking: [2, 3, 4, 5, 6, 1] },
    { truth: undefined, ranking: [0, 1, 2, 3, 4, 5] },
  ];

  it('counts how often the truth is first, and among the first five', () => {
    expect(accuracy(verdicts, 1)).toBe(2 / 4);
    expect(accuracy(verdicts, 5)).toBe(3 / 4);
    expect(accuracy([verdicts[4]], 1)).toBeNull();
    expect(accuracy([], 1)).toBeNull();
  });

  it('counts what is taken for what, over the classes that occur', () => {
    expect(confusionOf(verdicts, labels)).toEqual({ labels: ['a', 'b', 'c'], counts: [[2, 1, 0], [0, 0, 1], [0, 0, 0]] }); // prettier-ignore
    expect(confusionOf([verdicts[4]], labels)).toBeNull();
  });
});

describe('templates', () => {
  it('have {} once', () => {
    expect(template.parse(' a photo of {} ')).toBe('a photo of {}');
    for (const bad of ['', 'a photo', '{} and {}', 'a\n{}', `${'a'.repeat(500)}{}`])
      expect(template.safeParse(bad).success).toBe(false);
    expect(template.safeParse('a photo').error!.issues[0].message).toMatch(/has \{\} once.*"a photo of \{\}"/);
  });

  it('take any text as it is', () => {
    expect(filled('x {} y', "$& $1 {} $'")).toBe("x $& $1 {} $' y");
  });
});

it('remembers the values used last', async () => {
  const made: string[] = [];
  const memory = createMemory<string>(2);
  const get = (key: string) =>
    memory(key, () => {
      made.push(key);
      return Promise.resolve(key);
    });
  for (const key of ['a', 'b', 'a', 'c', 'a', 'b']) await get(key);
  expect(made).toEqual(['a', 'b', 'c', 'b']);
});
