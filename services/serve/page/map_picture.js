// Draws a map of points on a canvas. Pure of the page: it is given all that it shows.

import { colourOf, pathOf } from "./palette.js";

const MARGIN = 0.024; // of the side, so that points at the rim are whole

/** The part of the plane that is seen: magnification and the corner, in units of the side. */
export const WHOLE = Object.freeze({ zoom: 1, left: 0, top: 0 });
export const MOST_ZOOM = 40;

/** Place in px of a point given in 0 … 1. */
export function toScreen(view, side_px, x, y) {
  const place = (value, corner) => ((MARGIN + value * (1 - 2 * MARGIN)) * view.zoom - corner) * side_px;
  return [place(x, view.left), place(y, view.top)];
}

/** The other way. */
export function toPlane(view, side_px, x_px, y_px) {
  const place = (value, corner) => ((value / side_px + corner) / view.zoom - MARGIN) / (1 - 2 * MARGIN);
  return [place(x_px, view.left), place(y_px, view.top)];
}

/** The view magnified around a place of the screen (in units of the side), kept inside of the plane. */
export function zoomed(view, factor, x, y) {
  const zoom = Math.min(MOST_ZOOM, Math.max(1, view.zoom * factor));
  const ratio = zoom / view.zoom;
  return kept({ zoom, left: (view.left + x) * ratio - x, top: (view.top + y) * ratio - y });
}

/** The view moved, in units of the side. */
export const moved = (view, dx, dy) => kept({ ...view, left: view.left - dx, top: view.top - dy });

const kept = ({ zoom, left, top }) => ({ zoom, left: clamp(left, zoom - 1), top: clamp(top, zoom - 1) });
const clamp = (value, most) => Math.min(Math.max(0, value), most);

/** Point sizes grow a little with the magnification. */
const radius_px = (view, n) => Math.min(7, (n > 4000 ? 2 : n > 800 ? 2.8 : 4) * view.zoom ** 0.35);

/**
 * Draw everything.
 * @param {HTMLCanvasElement} canvas
 * @param {object} scene view, points {x, y, labels, order}, n_classes, hits (Set of rows), cursor (row or null), corner and
 *   rectangle ([x0, y0, x1, y1] in 0 … 1 or null), lit (class shown alone, or undefined).
 */
export function draw(canvas, scene) {
  const side_px = canvas.clientWidth;
  const ratio = window.devicePixelRatio || 1;
  if (canvas.width !== Math.round(side_px * ratio)) canvas.width = canvas.height = Math.round(side_px * ratio);
  const context = canvas.getContext("2d");
  const colour = ((style) => (name) => style.getPropertyValue(name).trim())(getComputedStyle(canvas));
  context.setTransform(ratio, 0, 0, ratio, 0, 0);
  context.clearRect(0, 0, side_px, side_px);
  drawPoints(context, scene, side_px, ratio, colour);
  drawHits(context, scene, side_px, colour);
  if (scene.rectangle) drawRectangle(context, scene, side_px, colour("--accent"));
  if (scene.cursor !== null) drawCursor(context, scene, side_px, colour);
}

function drawPoints(context, { view, points, n_classes, hits, lit }, side_px, ratio, colour) {
  const r = radius_px(view, points.x.length);
  const stamps = new Map([null, ...Array(n_classes).keys()].map((code) => [code, stamp(code, r, ratio, colour(colourOf(code)))]));
  const half = 2 * r;
  for (const row of points.order) {
    const [x, y] = toScreen(view, side_px, points.x[row], points.y[row]);
    if (x < -half || y < -half || x > side_px + half || y > side_px + half) continue;
    const code = points.labels[row] ?? null;
    context.globalAlpha = lit !== undefined && code !== lit ? 0.1 : hits.size && !hits.has(row) ? 0.45 : 0.85;
    context.drawImage(stamps.get(code), x - half, y - half, 2 * half, 2 * half);
  }
  context.globalAlpha = 1;
}

/** One class's point, drawn once and then copied. */
function stamp(code, r, ratio, fill) {
  const found = document.createElement("canvas");
  found.width = found.height = Math.ceil(4 * r * ratio);
  const context = found.getContext("2d");
  const unit = (found.width / (4 * r)) * (code === null ? 0.8 * r : r);
  context.setTransform(unit, 0, 0, unit, found.width / 2, found.width / 2);
  context.fillStyle = fill;
  context.fill(pathOf(code));
  return found;
}

function drawHits(context, { view, points, hits }, side_px, colour) {
  const r = radius_px(view, points.x.length) + 2.5;
  for (const [width, stroke] of [[3.5, "--card"], [1.5, "--ink"]]) {
    context.strokeStyle = colour(stroke);
    context.lineWidth = width;
    for (const row of hits) {
      const [x, y] = toScreen(view, side_px, points.x[row], points.y[row]);
      context.beginPath();
      context.arc(x, y, r, 0, 2 * Math.PI);
      context.stroke();
    }
  }
}

function drawRectangle(context, { view, rectangle }, side_px, stroke) {
  const [x0, y0] = toScreen(view, side_px, rectangle[0], rectangle[1]);
  const [x1, y1] = toScreen(view, side_px, rectangle[2], rectangle[3]);
  context.strokeStyle = context.fillStyle = stroke;
  context.lineWidth = 2;
  context.globalAlpha = 0.12;
  context.fillRect(x0, y0, x1 - x0, y1 - y0);
  context.globalAlpha = 1;
  context.strokeRect(x0, y0, x1 - x0, y1 - y0);
}

function drawCursor(context, { view, points, cursor }, side_px, colour) {
  const [x, y] = toScreen(view, side_px, points.x[cursor], points.y[cursor]);
  for (const [width, stroke] of [[5, "--card"], [2.5, "--accent"]]) {
    context.strokeStyle = colour(stroke);
    context.lineWidth = width;
    context.beginPath();
    context.arc(x, y, 10, 0, 2 * Math.PI);
    context.stroke();
  }
}

/** The row nearest to a place in px, at most `reach_px` away; null where there is none. */
export function nearest({ view, points }, side_px, x_px, y_px, reach_px) {
  let found = null;
  let least = reach_px ** 2;
  for (let row = 0; row < points.x.length; row += 1) {
    const [x, y] = toScreen(view, side_px, points.x[row], points.y[row]);
    const distance = (x - x_px) ** 2 + (y - y_px) ** 2;
    if (distance <= least) [found, least] = [row, distance];
  }
  return found;
}

/** The nearest row in a direction (dx, dy of -1, 0, 1): within 45° of it, rather straight than near. */
export function towards({ x, y }, from, dx, dy) {
  let found = from;
  let least = Infinity;
  for (let row = 0; row < x.length; row += 1) {
    const ahead = (x[row] - x[from]) * dx + (y[row] - y[from]) * dy;
    const aside = Math.abs((x[row] - x[from]) * dy + (y[row] - y[from]) * dx);
    if (ahead <= 0 || aside > ahead) continue;
    const cost = ahead + 2 * aside;
    if (cost < least) [found, least] = [row, cost];
  }
  return found;
}

/** Rows within a rectangle of the plane. */
export function within({ x, y }, [x0, y0, x1, y1]) {
  const rows = [];
  for (let row = 0; row < x.length; row += 1) {
    if (x[row] >= x0 && x[row] <= x1 && y[row] >= y0 && y[row] <= y1) rows.push(row);
  }
  return rows;
}
