import { recall, remember } from './memory.js';
import { chinese } from './words/zh.js';
import { english, type Words } from './words/en.js';

export type LanguageCode = 'en' | 'zh';

const dictionaries: Record<LanguageCode, Words> = { en: english, zh: chinese };

const isLanguage = (value: unknown): value is LanguageCode => value === 'en' || value === 'zh';

function fromBrowser(): LanguageCode {
  return navigator.languages?.some((tag) => /^zh\b/i.test(tag)) && !/^en\b/i.test(navigator.language) ? 'zh' : 'en';
}

/** The language of the page: what was chosen before, else the browser's. `language.say` is the dictionary. */
class Language {
  code: LanguageCode = $state(recall('language', isLanguage) ?? fromBrowser());
  say: Words = $derived(dictionaries[this.code]);

  choose(code: LanguageCode): void {
    this.code = code;
    remember('language', code);
  }

  toggle(): void {
    this.choose(this.code === 'en' ? 'zh' : 'en');
  }
}

export const language = new Language();
