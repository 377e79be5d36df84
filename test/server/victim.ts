import { startServer } from '../../server/server.js';
import { ScriptedCompute } from './scripted-compute.js';

// A server for faults.test.ts to kill: every job is held at step 12.
const compute = new ScriptedCompute();
void compute.holdAt(12);
const { url } = await startServer({ port: 0, dataDir: process.argv[2], startCompute: () => Promise.resolve(compute) });
console.log(url);
