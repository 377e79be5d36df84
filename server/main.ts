import path from 'node:path';
import { z } from 'zod';
import { startCompute } from './compute/process.js';
import { startServer } from './server.js';

const environment = z.object({
  PORT: z.string().regex(/^\d{1,5}$/, 'PORT must be a number from 0 to 65535').transform(Number).pipe(z.number().max(65535, 'PORT must be at most 65535')).default(7860), // prettier-ignore
  HOST: z.string().min(1).default('127.0.0.1'),
  DATA_DIR: z.string().min(1).transform((folder) => path.resolve(folder)).optional(), // prettier-ignore
  REVERIE_DEVICE: z.string().min(1).default('auto'),
  REVERIE_TOKEN: z.string().optional(),
  REVERIE_HOSTS: z.string().default(''),
});

async function main(): Promise<void> {
  const set = environment.safeParse(process.env);
  if (!set.success) throw new Error(set.error.issues.map(({ message }) => message).join('; '));
  const { PORT, HOST, DATA_DIR, REVERIE_DEVICE, REVERIE_TOKEN, REVERIE_HOSTS } = set.data;
  const server = await startServer({
    port: PORT,
    host: HOST,
    dataDir: DATA_DIR,
    device: REVERIE_DEVICE,
    token: REVERIE_TOKEN,
    hosts: REVERIE_HOSTS.split(/[\s,]+/).filter(Boolean),
    startCompute,
  });

  let isClosing = false;
  const stop = () => {
    // A terminal's Ctrl-C reaches the server more than once (by npm and by itself); the first one counts.
    if (isClosing) return;
    isClosing = true;
    server.close().then(
      () => process.exit(0),
      (error: unknown) => {
        console.error(error);
        process.exit(1);
      },
    );
  };
  process.on('SIGINT', stop).on('SIGTERM', stop);
  console.log(`Reverie is at ${server.url}`);
}

main().catch((error: unknown) => {
  console.error(error instanceof Error ? error.message : error);
  process.exit(1);
});
