import { crc32 } from 'node:zlib';

const signature = Buffer.from([0x89, 0x50, 0x4e, 0x47, 0x0d, 0x0a, 0x1a, 0x0a]);
const isLatin1 = (text: string) => /^[\n\x20-\x7e\xa1-\xff]*$/.test(text);

interface Chunk {
  type: string;
  data: Buffer;
}

/**
 * The PNG with one text chunk for each entry, before the picture's data: tEXt where Latin-1 says it all, else iTXt (UTF-8), uncompressed.
 * Equal input gives equal bytes. Source: PNG 1.2 (RFC 2083), 11.3.4.
 * @param entries keyword (1-79 printable Latin-1 characters, no spaces at its ends or doubled) and text (no NUL)
 * @throws Error for bytes that are not a PNG, for a keyword the format forbids, and for a NUL in a text.
 */
export function withPngText(png: Uint8Array, entries: Readonly<Record<string, string>>): Buffer {
  const [header, ...rest] = chunksOf(png);
  return Buffer.concat([signature, ...[header, ...Object.entries(entries).map(textChunk), ...rest].map(encodeChunk)]);
}

/** The texts of a PNG by keyword, from tEXt and uncompressed iTXt chunks. They come from a stranger: size and shape are the caller's to check. */
export function readPngText(png: Uint8Array): Map<string, string> {
  const texts = new Map<string, string>();
  for (const { type, data } of chunksOf(png)) {
    const keywordEnd = data.indexOf(0);
    if ((type !== 'tEXt' && type !== 'iTXt') || keywordEnd < 1) continue;
    const keyword = data.toString('latin1', 0, keywordEnd);
    if (type === 'tEXt') texts.set(keyword, data.toString('latin1', keywordEnd + 1));
    else {
      const languageEnd = data.indexOf(0, keywordEnd + 3);
      const translationEnd = data.indexOf(0, languageEnd + 1);
      const isCompressed = data[keywordEnd + 1] !== 0;
      if (languageEnd > 0 && translationEnd > 0 && !isCompressed) texts.set(keyword, data.toString('utf8', translationEnd + 1));
    }
  }
  return texts;
}

function textChunk([keyword, text]: [string, string]): Chunk {
  if (!/^[\x21-\x7e\xa1-\xff]([\x20-\x7e\xa1-\xff]{0,77}[\x21-\x7e\xa1-\xff])?$/.test(keyword) || keyword.includes('  '))
    throw new Error(`${JSON.stringify(keyword)} cannot name a text in a PNG: use 1 to 79 printable Latin-1 characters`);
  if (text.includes('\0')) throw new Error(`the text ${JSON.stringify(keyword)} has a NUL character, which a PNG cannot hold`);
  if (isLatin1(text)) return { type: 'tEXt', data: Buffer.from(`${keyword}\0${text}`, 'latin1') };
  // keyword, NUL, compression flag and method 0, empty language tag, empty translated keyword
  return { type: 'iTXt', data: Buffer.concat([Buffer.from(`${keyword}\0\0\0\0\0`, 'latin1'), Buffer.from(text, 'utf8')]) };
}

function encodeChunk({ type, data }: Chunk): Buffer {
  const chunk = Buffer.alloc(data.length + 12);
  chunk.writeUInt32BE(data.length, 0);
  chunk.write(type, 4, 'latin1');
  data.copy(chunk, 8);
  chunk.writeUInt32BE(crc32(chunk.subarray(4, 8 + data.length)), 8 + data.length);
  return chunk;
}

function chunksOf(png: Uint8Array): Chunk[] {
  const bytes = Buffer.from(png.buffer, png.byteOffset, png.byteLength);
  if (!bytes.subarray(0, 8).equals(signature)) throw new Error('these bytes are not a PNG: its signature is missing');
  const chunks: Chunk[] = [];
  for (let at = 8; at < bytes.length;) {
    const length = at + 12 <= bytes.length ? bytes.readUInt32BE(at) : Infinity;
    if (at + 12 + length > bytes.length) throw new Error(`this PNG is cut off in the chunk at byte ${at}`);
    chunks.push({ type: bytes.toString('latin1', at + 4, at + 8), data: bytes.subarray(at + 8, at + 8 + length) });
    at += 12 + length;
  }
  if (chunks[0]?.type !== 'IHDR') throw new Error('this PNG does not begin with its header');
  return chunks;
}
