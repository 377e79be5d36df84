import { differentiate, Graph, imagine, writeOnnx } from 'reverie';
import sharp from 'sharp';

const { pixels, width, height, cos } = await imagine({ text: 'a castle in the clouds', size: 64, steps: 2, views: 1 });
const png = await sharp(pixels, { raw: { width, height, channels: 3 } }).png().toBuffer(); // prettier-ignore

const graph = new Graph();
graph.output('y', graph.op('Exp', [graph.input('x', [3])]));
const { bytes } = differentiate(writeOnnx(graph).bytes); // any forward ONNX model; its outputs are now y and d/x
console.log(`cos ${cos!.toFixed(3)}, ${png.length} bytes of PNG, ${bytes.length} bytes of ONNX`);
