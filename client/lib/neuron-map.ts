/** The geometry of the map of units. The map is the square [0, 1] x [0, 1]; the window is in CSS pixels. */

export interface Window {
  width: number;
  height: number;
}

/** Which part of the map is seen: `x, y` of the map is in the middle of the window; a whole map is `scale` pixels wide. */
export interface MapView {
  x: number;
  y: number;
  scale: number;
}

export interface Place {
  x: number;
  y: number;
}

/** Closest look, as a multiple of the whole map. */
const mostZoom = 24;
const margin = 34;

/** From this side on (pixels) units are pictures; below they are dots in their pictures' colours. */
export const spriteFrom = 16;

/** Everything in sight, with a margin. The map may be stretched to the window's shape: distances on it are only near and far. */
export const wholeMap = (window: Window): MapView => ({ x: 0.5, y: 0.5, scale: fitOf(window) });

const fitOf = (window: Window) =>
  Math.max(40, Math.min(window.width - 2 * margin, (window.height - 2 * margin) * aspectOf(window)));

/** Width over height of the map on the page. */
export const aspectOf = ({ width, height }: Window): number => Math.max(0.7, Math.min(1.8, width / Math.max(1, height)));

export function toWindow(place: Place, { x, y, scale }: MapView, window: Window): Place {
  return {
    x: window.width / 2 + (place.x - x) * scale,
    y: window.height / 2 + ((place.y - y) * scale) / aspectOf(window),
  };
}

export function toMap(point: Place, { x, y, scale }: MapView, window: Window): Place {
  return {
    x: x + (point.x - window.width / 2) / scale,
    y: y + ((point.y - window.height / 2) * aspectOf(window)) / scale,
  };
}

/** Closer by `factor`, with what is under `point` (of the window) staying there. */
export function zoomed(view: MapView, window: Window, factor: number, point: Place): MapView {
  const fit = fitOf(window);
  const scale = Math.max(fit * 0.8, Math.min(fit * mostZoom, view.scale * factor));
  const under = toMap(point, view, window);
  const moved = toMap(point, { ...view, scale }, window);
  return within({ x: view.x + under.x - moved.x, y: view.y + under.y - moved.y, scale });
}

/** Moved by pixels of the window, as a hand that drags it does. */
export function dragged(view: MapView, window: Window, dx: number, dy: number): MapView {
  return within({ ...view, x: view.x - dx / view.scale, y: view.y - (dy * aspectOf(window)) / view.scale });
}

/** The middle of the window stays on the map, so that nobody gets lost beside it. */
const within = ({ x, y, scale }: MapView): MapView => ({
  x: Math.max(0, Math.min(1, x)),
  y: Math.max(0, Math.min(1, y)),
  scale,
});

/** The side of a unit's picture: half of the mean distance of `count` units at the whole map, growing slower than the zoom, so that they part. */
export function sideOf({ scale }: MapView, window: Window, count: number): number {
  const zoom = scale / fitOf(window);
  const apart = fitOf(window) / Math.sqrt(Math.max(1, count));
  return Math.min(96, Math.max(5, apart * 0.42 * zoom ** 0.82));
}

/** The unit nearest to a point of the window within `reach` pixels. */
export function nearestUnit<Unit extends { x: number | null; y: number | null }>(
  units: readonly Unit[],
  point: Place,
  view: MapView,
  window: Window,
  reach = Infinity,
): Unit | null {
  let nearest: Unit | null = null;
  let least = reach ** 2;
  for (const unit of units) {
    if (unit.x === null || unit.y === null) continue;
    const at = toWindow({ x: unit.x, y: unit.y }, view, window);
    const squared = (at.x - point.x) ** 2 + (at.y - point.y) ** 2;
    if (squared <= least) [nearest, least] = [unit, squared];
  }
  return nearest;
}
