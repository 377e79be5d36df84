/**
 * Does work that can be ended by Ctrl-C with what it has by then: it asks between steps. A second Ctrl-C ends the process at once.
 */
export async function untilInterrupted<T>(work: (isInterrupted: () => boolean) => Promise<T>): Promise<T> {
  let isInterrupted = false;
  const stop = () => {
    isInterrupted = true;
    console.error('stopping after this step: what there is by then is kept');
  };
  process.once('SIGINT', stop);
  try {
    return await work(() => isInterrupted);
  } finally {
    process.off('SIGINT', stop);
  }
}
