// `node probe.mjs DEVICE`, on stdin [{side, model}] as JSON, `model` an ONNX model in base64 with one input x [side, side], small ones first:
// prints the milliseconds of the last one that was tried, {side, time}. A process of its own: a GPU driver that crashes, hangs or writes to
// stderr does so here. Plain JavaScript: it starts in a tenth of a second.
import { json } from 'node:stream/consumers';
import ort from 'onnxruntime-node';

/** A software driver takes this long for the small one, in milliseconds; the large one would take it half a minute. */
const slow = 50;

const executionProviders = [process.argv[2]];
let told;
for (const { side, model } of await json(process.stdin)) {
  const session = await ort.InferenceSession.create(Buffer.from(model, 'base64'), { executionProviders });
  const identity = Float32Array.from({ length: side * side }, (_, i) => (i % (side + 1) === 0 ? 1 : 0));
  const feeds = { x: new ort.Tensor('float32', identity, [side, side]) };
  // The first run compiles and allocates.
  await session.run(feeds);
  const start = performance.now();
  await session.run(feeds);
  told = { side, time: performance.now() - start };
  if (told.time > slow) break;
}
process.stdout.write(JSON.stringify(told), () => process.exit());
