export { differentiate, type DifferentiateOptions } from './differentiate.js';
export { Graph, type Constant, type FileBytes, type Node, type Value } from './graph.js';
export { readOnnx, writeOnnx, type OnnxModel, type ReadOptions } from './onnx.js';
export type { Target } from './operator.js';
export { simplify } from './simplify.js';
export * from './tensor.js';
