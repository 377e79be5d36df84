/** Runs `then` when the page has nothing to draw, after `atMost` milliseconds in any case. Safari has no requestIdleCallback. */
export function whenIdle(then: () => void, atMost = 600): void {
  if ('requestIdleCallback' in window) requestIdleCallback(then, { timeout: atMost });
  else setTimeout(then, atMost / 2);
}
