import type { Progress } from '../compute/protocol.js';
import type { Tokens } from '../imagination/generator.js';
import type { Frame, PackedTokens } from '../live/events.js';
import { previewFile } from '../store/picture.js';

export type StepProgress = Extract<Progress, { kind: 'step' }>;

export const packed = ({ codes, ...grid }: Tokens): PackedTokens => ({
  ...grid,
  codes: Uint8Array.from({ length: 2 * codes.length }, (_, i) => codes[i >> 1] >> (8 * (i & 1))),
});

/**
 * Turns the pictures of steps into frames, in order. While one is encoded, a newer picture takes the place of the one that waits;
 * a picture that finds nothing before it is always encoded.
 */
export function startFrames(jobId: string, onFrame: (frame: Frame) => void) {
  let waiting: StepProgress | undefined;
  let encoding: Promise<void> | undefined;
  let isClosed = false;

  const drain = async () => {
    while (waiting) {
      const { step, steps, cos, secondOpinion, percentile, concepts, stepsPerSecond, secondsLeft, tokens, ...picture } = waiting;
      waiting = undefined;
      const told = {
        ...(secondOpinion !== undefined && { secondOpinion }),
        ...(percentile !== undefined && { percentile }),
        ...(concepts && { concepts }),
        ...(tokens && { tokens: packed(tokens) }),
      };
      try {
        const data = await previewFile(picture);
        onFrame({ jobId, step, steps, cos, ...told, stepsPerSecond, secondsLeft, mime: 'image/webp', data });
      } catch (error) {
        console.error(`the frame of job ${jobId} at step ${step} was not made: ${String(error)}`);
      }
    }
    encoding = undefined;
  };

  return {
    offer(progress: StepProgress) {
      if (isClosed) return;
      waiting = progress;
      encoding ??= drain();
    },
    /** Encodes what still waits and resolves; later pictures are ignored. */
    async close() {
      isClosed = true;
      await encoding;
    },
  };
}
