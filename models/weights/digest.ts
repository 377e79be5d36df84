import { createHash } from 'node:crypto';
import { readFileSync } from 'node:fs';

/** What identifies a model: SHA-256 over its files one after another, 16 hexadecimal digits, and their size in bytes. */
export function digestOf(files: readonly string[]): { hash: string; bytes: number } {
  const sha = createHash('sha256');
  let bytes = 0;
  for (const file of files) {
    const content = readFileSync(file);
    sha.update(content);
    bytes += content.length;
  }
  return { hash: sha.digest('hex').slice(0, 16), bytes };
}
