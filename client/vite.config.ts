import { fileURLToPath } from 'node:url';
import { svelte } from '@sveltejs/vite-plugin-svelte';
import { defineConfig } from 'vite';

const at = (path: string) => fileURLToPath(new URL(path, import.meta.url));

/** In development the page is served by Vite and everything live by the server at `REVERIE_SERVER` (by default the port of `npm start`). */
const server = process.env['REVERIE_SERVER'] ?? 'http://127.0.0.1:7860';

export default defineConfig({
  root: at('.'),
  plugins: [svelte({ configFile: false })],
  build: {
    outDir: at('../dist/client'),
    emptyOutDir: true,
    // The server's CSP is default-src 'self': nothing may be inlined, neither scripts nor small files as data URLs.
    assetsInlineLimit: 0,
    modulePreload: { polyfill: false },
    target: 'es2022',
  },
  server: {
    proxy: {
      '/api': server,
      '/socket.io': { target: server, ws: true },
    },
  },
});
