/** A line to imagine, in both languages of the page. */
export interface Line {
  zh: string;
  en: string;
}

/** The five lines of the empty page: a concept, a noun in a place, a mood, a proverb, a poem. */
export const firstLines: readonly Line[] = [
  { zh: '自然', en: 'nature' },
  { zh: '云中的城堡', en: 'a castle in the clouds' },
  { zh: '时间', en: 'time' },
  { zh: '黑暗中总有一线光明', en: 'every cloud has a silver lining' },
  { zh: '让生命像夏天的花朵一样美丽', en: 'let life be beautiful like summer flowers' },
];

/** What the dice chooses from, beside the five. Poems are in the public domain. */
export const moreLines: readonly Line[] = [
  { zh: '科学', en: 'science' },
  { zh: '梦', en: 'dream' },
  { zh: '火山', en: 'volcano' },
  { zh: '雏菊', en: 'daisy' },
  { zh: '猫', en: 'a cat' },
  { zh: '孤独', en: 'loneliness' },
  { zh: '故乡', en: 'home, far away' },
  { zh: '春天来了', en: 'spring is here' },
  { zh: '海边的灯塔', en: 'a lighthouse by the sea' },
  { zh: '有积雪的山脉', en: 'mountains with snow' },
  { zh: '有瀑布的山脉', en: 'mountains with a waterfall' },
  { zh: '雨后的街道', en: 'a street after rain' },
  { zh: '热带鱼游过珊瑚', en: 'tropical fish over a coral reef' },
  { zh: '大漠孤烟直', en: 'one straight smoke over the great desert' },
  { zh: '竹外桃花三两枝', en: 'two or three sprays of peach blossom beyond the bamboo' },
  { zh: '孤舟蓑笠翁，独钓寒江雪', en: 'an old man fishing alone in the snow of a cold river' },
  { zh: '采菊东篱下', en: 'picking chrysanthemums by the eastern hedge' },
  { zh: '明月松间照', en: 'the bright moon shines between the pines' },
  { zh: '我独自漫游，像一朵云', en: 'I wandered lonely as a cloud' },
  { zh: '老虎，老虎，燃烧的光辉', en: 'tyger tyger, burning bright' },
];

/** One line by chance, never the one that is there already. `chance` is in [0, 1). */
export function rollLine(language: keyof Line, current: string, chance = Math.random()): string {
  const others = [...firstLines, ...moreLines].map((line) => line[language]).filter((text) => text !== current);
  return others[Math.floor(chance * others.length)];
}

/** A file name that says what the picture is: the text without what file systems forbid, and the seed. */
export function fileNameOf(text: string, seed: number): string {
  const line = [...text.replace(/[\p{P}\p{S}\p{C}\s]+/gu, ' ').trim()].slice(0, 40).join('').trim();
  return `${line.replaceAll(' ', '-') || 'reverie'}-${seed}.png`;
}
