import { existsSync } from 'node:fs';
import path from 'node:path';
import { defineConfig } from 'vite';

const root = path.resolve(import.meta.dirname, '..');
const entries = ['main', 'cli', 'library', 'compute/child'];

// One bundle a way in; packages stay in node_modules. Weights, migrations and recipes are not built in: they are read from the repository.
export default defineConfig({
  root,
  publicDir: false,
  ssr: { target: 'node', external: true },
  build: {
    ssr: true,
    target: 'node20',
    outDir: path.join(root, 'dist/server'),
    emptyOutDir: true,
    sourcemap: true,
    minify: false,
    reportCompressedSize: false,
    rolldownOptions: {
      input: Object.fromEntries(
        entries.map((entry) => [entry, path.join(root, 'server', `${entry}.ts`)] as const).filter(([, file]) => existsSync(file)),
      ),
      output: { format: 'esm', entryFileNames: '[name].js', chunkFileNames: 'parts/[name]-[hash].js' },
    },
  },
});
