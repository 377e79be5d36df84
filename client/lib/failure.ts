import { Refusal, Unreachable } from './api.js';
import { language } from './language.svelte.js';

/** What to tell the person about something thrown: the server's own sentences, or ours where it said none. */
export function sentenceOf(error: unknown): string {
  if (error instanceof Unreachable) return language.say.unreachable;
  if (!(error instanceof Refusal)) return language.say.strangeAnswer;
  const issues = error.issues.map(({ message }) => message).filter((message) => !error.message.includes(message));
  return [error.message, ...issues].filter((part) => part !== '').join(' · ') || language.say.strangeAnswer;
}
