import { recall, remember } from './memory.js';

export type ThemeName = 'dark' | 'light';

const isTheme = (value: unknown): value is ThemeName => value === 'dark' || value === 'light';

/** Darkroom (the default) or rice paper; theme.css holds the colours. */
class Theme {
  name: ThemeName = $state(recall('theme', isTheme) ?? 'dark');

  toggle(): void {
    this.name = this.name === 'dark' ? 'light' : 'dark';
    remember('theme', this.name);
  }
}

export const theme = new Theme();
