import type { Graph, Target, TypedArray } from '../../models/graph/index.js';

/** Named tensors without their shapes, which the graph fixes. */
export type Feeds = Readonly<Record<string, TypedArray>>;

/** A graph that can be run. */
export interface Runner {
  run(feeds: Feeds): Promise<Record<string, TypedArray>>;
}

/** Where graphs run: sessions are built once per key and kept. */
export interface Sessions {
  readonly device: string;
  readonly target: Target;
  /** `build` is called only when there is no session under the key yet. */
  runner(key: string, build: () => Graph): Promise<Runner>;
}
