// Mouse, pen and fingers on the map: move, magnify, point at an item, draw a rectangle.

import { moved, nearest, toPlane, zoomed } from "./map_picture.js";

const REACH_PX = { mouse: 10, pen: 12, touch: 22 };
const STILL_PX = 5; // what moves less is a click

/**
 * Connect the canvas.
 * @param {HTMLCanvasElement} canvas
 * @param {object} map scene(), look(view), point(row), outline(box), select(box), choose(row), isSelecting()
 */
export function listenToPointers(canvas, map) {
  const down = new Map(); // pointer id -> [x, y] in units of the side
  let start = null; // where the first pointer went down, and whether it draws a rectangle
  let isStill = true;
  let chosen = null; // row that a click opens

  const at = (event) => {
    const { left, top, width } = canvas.getBoundingClientRect();
    return [(event.clientX - left) / width, (event.clientY - top) / width];
  };
  const plane = ([x, y]) => toPlane(map.scene().view, 1, x, y);
  const rowAt = (event, [x, y]) => {
    const side = canvas.clientWidth;
    return nearest(map.scene(), side, x * side, y * side, REACH_PX[event.pointerType] ?? 10);
  };

  canvas.addEventListener("pointerdown", (event) => {
    if (event.button !== 0) return;
    canvas.setPointerCapture(event.pointerId);
    down.set(event.pointerId, at(event));
    isStill = down.size === 1;
    start = down.size === 1 ? { place: at(event), corner: plane(at(event)), draws: map.isSelecting() !== event.shiftKey } : null;
    if (down.size > 1) map.outline(null);
  });

  canvas.addEventListener("pointermove", (event) => {
    const place = at(event);
    const before = down.get(event.pointerId);
    if (!before) return map.point(rowAt(event, place));
    if (start) isStill &&= Math.hypot(place[0] - start.place[0], place[1] - start.place[1]) * canvas.clientWidth < STILL_PX;
    const others = [...down].filter(([id]) => id !== event.pointerId).map(([, other]) => other);
    down.set(event.pointerId, place);
    if (others.length) return pinch(before, place, others[0]);
    if (isStill) return undefined;
    map.point(null);
    if (start?.draws) return map.outline(boxOf(start.corner, plane(place)));
    return map.look(moved(map.scene().view, place[0] - before[0], place[1] - before[1]));
  });

  const pinch = (before, now, other) => {
    const ratio = Math.hypot(now[0] - other[0], now[1] - other[1]) / Math.max(0.01, Math.hypot(before[0] - other[0], before[1] - other[1]));
    map.look(zoomed(map.scene().view, ratio, (now[0] + other[0]) / 2, (now[1] + other[1]) / 2));
  };

  canvas.addEventListener("pointerup", (event) => {
    const place = at(event);
    if (start && down.size === 1) {
      if (isStill) tap(event.pointerType, rowAt(event, place));
      else if (start.draws) map.select(boxOf(start.corner, plane(place)));
    }
    down.delete(event.pointerId);
    start = null;
  });

  // A finger has no hover: the first tap shows what a point is, the second opens it.
  const tap = (pointer, row) => {
    chosen = pointer !== "touch" || map.scene().cursor === row ? row : null;
    map.point(row);
  };

  // Not sooner, or the click would fall on what has opened above the map.
  canvas.addEventListener("click", () => {
    const row = chosen;
    chosen = null;
    if (row !== null) map.choose(row);
  });

  canvas.addEventListener("pointercancel", (event) => {
    down.delete(event.pointerId);
    start = null;
    map.outline(null);
  });
  canvas.addEventListener("pointerleave", (event) => event.pointerType === "mouse" && !down.size && map.point(null));

  // The wheel alone goes on scrolling the page; with Ctrl, as a pinch on a touchpad sends it, it magnifies.
  canvas.addEventListener("wheel", (event) => {
    if (!event.ctrlKey && !event.metaKey) return;
    event.preventDefault();
    map.look(zoomed(map.scene().view, 2 ** (-event.deltaY / 150), ...at(event)));
  }, { passive: false });
}

/** A rectangle from two corners, each in any order. */
export const boxOf = ([xa, ya], [xb, yb]) => [Math.min(xa, xb), Math.min(ya, yb), Math.max(xa, xb), Math.max(ya, yb)];
