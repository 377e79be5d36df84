import { createHash } from 'node:crypto';
import { readFileSync } from 'node:fs';

/** What identifies a model: SHA-256 over its files one after another and then `text`, 16 hexadecimal digits, and the files' size in bytes. */
export function digestOf(files: readonly string[], text = ''): { hash: string; bytes: number } {
  const sha = createHash('sha256');
  let bytes = 0;
  for (const file of files) {
    const content = readFileSync(file);
    sha.update(content);
    bytes += content.length;
  }
  sha.update(text);
  return { hash: sha.digest('hex').slice(0, 16), bytes };
}
