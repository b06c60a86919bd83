// The map of all items: coloured by label, with the hits ringed; a rectangle or a class becomes a filter.

import * as api from "./api.js";
import { button, byId, el, svg } from "./dom.js";
import { boxOf, listenToPointers } from "./map_pointer.js";
import { draw, moved, toScreen, towards, WHOLE, within, zoomed } from "./map_picture.js";
import { colourOf, outlineOf } from "./palette.js";
import { count, counted } from "./wording.js";

const MOST_IDS = 5000; // values that one filter may have
const LAYOUT_WORDS = { tsne: "t-SNE", pca: "PCA" };
const ARROWS = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };

/** Gives `render(state)`, `mark(hits)` and `idsWithin(area)`. */
export const mapView = (app) => new MapView(app);

class MapView {
  constructor(app) {
    this.app = app;
    this.fetched = new Map(); // address -> promise of a map
    this.layout = null; // null: the server's first
    this.map = null;
    this.view = WHOLE;
    this.hits = new Set();
    this.cursor = null;
    this.corner = null; // of a rectangle that is drawn with the keyboard
    this.drawn = null; // rectangle being drawn
    this.lit = undefined;
    this.fold = byId("map");
    this.build();
    this.fold.addEventListener("toggle", () => this.refresh());
    // Beside the results where there is room; elsewhere it waits until it is asked for.
    this.fold.open = matchMedia("(min-width: 1200px)").matches;
    matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => this.paint());
    new ResizeObserver(() => this.paint()).observe(this.canvas);
  }

  build() {
    const select = button("Select", () => this.mode(true), { class: "mode" });
    const move = button("Move", () => this.mode(false), { class: "mode" });
    this.modes = { select, move };
    this.canvas = el("canvas", { class: "points" });
    this.tip = el("div", { class: "tip", hidden: true });
    this.said = el("p", { class: "unseen", role: "status" });
    this.stage = el("div", { class: "stage", tabindex: 0, role: "application", "aria-roledescription": "map", "aria-label": "Map of the items", "aria-describedby": "map-keys" }, this.canvas, this.tip);
    this.layouts = el("select", { "aria-label": "Layout of the map", on: { change: () => this.relayout() } });
    this.legend = el("ul", { class: "legend", "aria-label": "Classes on the map" });
    this.about = el("p", { class: "quiet" });
    const zoom = (factor) => this.look(zoomed(this.view, factor, 0.5, 0.5));
    const tools = el("div", { class: "tools" },
      el("div", { class: "group", role: "group", "aria-label": "What dragging does" }, select, move),
      el("div", { class: "group", role: "group", "aria-label": "Magnification" }, button("+", () => zoom(1.6), { "aria-label": "Magnify" }), button("−", () => zoom(1 / 1.6), { "aria-label": "Reduce" }), button("All", () => this.look(WHOLE), { "aria-label": "Show the whole map" })),
      this.layouts);
    const keys = el("p", { id: "map-keys", class: "quiet" }, "“Select” and drag a rectangle to search within it.", el("span", { class: "keys" }, " Keys: arrows go from item to item, Enter opens one, Space sets the two corners of a rectangle, + and − magnify."));
    byId("map-body").append(tools, this.stage, this.about, this.legend, keys, this.said);
    this.stage.addEventListener("keydown", (event) => this.key(event));
    this.stage.addEventListener("blur", () => this.point(null));
    listenToPointers(this.canvas, {
      scene: () => this.scene(), isSelecting: () => this.isSelecting, look: (view) => this.look(view), point: (row) => this.point(row),
      outline: (box) => this.outline(box), select: (box) => this.select(box), choose: (row) => this.app.open(this.map.ids[row]),
    });
    // Under a finger the map must not hold the page fast before that is wanted.
    this.mode(!matchMedia("(pointer: coarse)").matches);
  }

  /** The map of the backbone that is asked, fetched once. */
  fetch(backbone, layout, labels) {
    const key = (name) => JSON.stringify([backbone, name, labels]);
    if (!this.fetched.has(key(layout))) {
      const asked = api.map(backbone, layout, labels);
      this.fetched.set(key(layout), asked);
      asked.then((found) => this.fetched.set(key(found.layout), asked), () => this.fetched.delete(key(layout)));
    }
    return this.fetched.get(key(layout));
  }

  /** Ids of the items within a rectangle of a map. */
  async idsWithin({ backbone, layout, box }) {
    const found = await this.fetch(backbone, layout, this.app.labels());
    const rows = within(found, box);
    if (rows.length > MOST_IDS) throw new api.ApiError(`The selection holds ${count(rows.length)} items; at most ${count(MOST_IDS)} can be selected on the map. Draw a smaller rectangle.`);
    return rows.map((row) => found.ids[row]);
  }

  render({ area }) {
    const backbone = this.app.backbone();
    this.fold.hidden = !backbone?.has_map;
    this.area = area;
    if (area && area.backbone === backbone?.name) this.layout = area.layout;
    this.refresh();
  }

  async refresh() {
    const backbone = this.app.backbone();
    if (!this.fold.open || this.fold.hidden || !backbone) return;
    const wanted = [backbone.name, this.layout, this.app.labels()];
    const key = JSON.stringify(wanted);
    if (key === this.shownKey) return this.paint();
    this.shownKey = key;
    this.about.textContent = "Loading the map …";
    try {
      const found = await this.fetch(...wanted);
      if (this.shownKey !== key) return undefined;
      this.layout = found.layout;
      this.shownKey = JSON.stringify([backbone.name, found.layout, this.app.labels()]);
      this.show(found);
    } catch (error) {
      this.shownKey = null;
      if (!(error instanceof api.ApiError)) throw error;
      this.about.textContent = error.message;
    }
    return undefined;
  }

  show(found) {
    this.map = ranked(found);
    this.rows = new Map(found.ids.map((id, row) => [id, row]));
    this.view = WHOLE;
    this.corner = this.drawn = null;
    this.lit = undefined;
    this.point(null);
    this.layouts.replaceChildren(...found.layouts.map((name) => el("option", { value: name, selected: name === found.layout }, LAYOUT_WORDS[name] ?? name)));
    this.layouts.hidden = found.layouts.length < 2;
    const drawn = found.n_shown < found.n_items ? `${count(found.n_shown)} of ${counted(found.n_items, "item")}, drawn at random` : counted(found.n_items, "item");
    this.about.textContent = `${drawn}, as ${found.backbone} sees them; the rings are the results.`;
    this.stage.setAttribute("aria-label", `Map of ${counted(found.n_shown, "item")}`);
    this.fillLegend();
    this.mark(this.app.hits());
  }

  fillLegend() {
    const { classes, sizes } = this.map;
    const column = this.app.labels();
    const only = (name) => this.app.go({ filters: [...this.app.state.filters.filter((one) => one.column !== column), { column, op: "in", value: [name] }] });
    const entry = (name, code) => {
      const light = () => this.light(code);
      const off = () => this.light(undefined);
      return el("li", {}, el("button", { type: "button", class: "plain", title: `only ${name}`, "aria-label": `${name}, ${counted(sizes[code], "item")}; show only these`, on: { click: () => only(name), pointerenter: light, focus: light, pointerleave: off, blur: off } },
        key(code), el("span", { class: "label" }, name), el("span", { class: "n" }, count(sizes[code]))));
    };
    const codes = classes.map((_, code) => code).filter((code) => sizes[code]).sort((a, b) => sizes[b] - sizes[a]);
    this.legend.replaceChildren(...codes.map((code) => entry(classes[code], code)));
  }

  relayout() {
    this.layout = this.layouts.value;
    if (this.app.state.area) this.app.go({ area: null });
    else this.refresh();
  }

  /** Ring the items that were found. */
  mark(hits) {
    const isAll = this.app.state.terms.length === 0 && !this.app.state.filters.length && !this.area;
    this.hits = new Set(isAll ? [] : hits.map((hit) => this.rows?.get(hit.item_id)).filter((row) => row !== undefined));
    this.paint();
  }

  scene() {
    const rectangle = this.drawn ?? (this.area && this.area.backbone === this.map?.backbone && this.area.layout === this.map?.layout ? this.area.box : null);
    return { view: this.view, points: this.map, n_classes: this.map?.classes.length ?? 0, hits: this.hits, cursor: this.cursor, rectangle, lit: this.lit };
  }

  paint() {
    if (!this.map || this.frame) return;
    this.frame = requestAnimationFrame(() => {
      this.frame = null;
      if (this.canvas.clientWidth) draw(this.canvas, this.scene());
    });
  }

  look(view) {
    this.view = view;
    this.touch();
    this.point(null);
  }

  mode(isSelecting) {
    this.isSelecting = isSelecting;
    this.modes.select.setAttribute("aria-pressed", isSelecting);
    this.modes.move.setAttribute("aria-pressed", !isSelecting);
    this.touch();
  }

  /** Where there is nothing to move, a finger scrolls the page. */
  touch() {
    this.canvas.classList.toggle("scrolls", !this.isSelecting && this.view.zoom === 1);
    this.canvas.classList.toggle("moves", !this.isSelecting);
  }

  light(code) {
    this.lit = code;
    this.paint();
  }

  outline(box) {
    this.drawn = box;
    this.paint();
  }

  select(box) {
    this.drawn = null;
    const n = within(this.map, box).length;
    if (!n) {
      this.said.textContent = "No item lies in the rectangle.";
      return this.paint();
    }
    this.said.textContent = `${counted(n, "item")} selected.`;
    return this.app.go({ area: { backbone: this.map.backbone, layout: this.map.layout, box: box.map((one) => Number(one.toFixed(4))) } });
  }

  /** Show what a point is; null: nothing. */
  point(row) {
    if (row !== this.cursor || row === null) this.cursor = row;
    this.tip.hidden = row === null;
    if (row !== null) this.fillTip(row);
    this.canvas.classList.toggle("on-point", row !== null);
    this.paint();
  }

  fillTip(row) {
    const id = this.map.ids[row];
    const [x, y] = toScreen(this.view, 1, this.map.x[row], this.map.y[row]);
    const label = this.map.classes[this.map.labels[row]] ?? "no label";
    if (this.tip.dataset.id !== id) this.tip.replaceChildren(el("img", { src: api.thumbnail(id, 128), alt: "" }), el("b", {}, label), el("small", {}, id));
    this.tip.dataset.id = id;
    this.tip.classList.toggle("left", x > 0.5);
    this.tip.classList.toggle("above", y > 0.5);
    this.tip.style.setProperty("--x", `${100 * x}%`);
    this.tip.style.setProperty("--y", `${100 * y}%`);
  }

  key(event) {
    if (!this.map || event.ctrlKey || event.metaKey || event.altKey) return;
    const steps = {
      "+": () => this.magnify(1.6), "=": () => this.magnify(1.6), "-": () => this.magnify(1 / 1.6), "0": () => this.look(WHOLE),
      "Escape": () => this.leave(), "Enter": () => this.cursor !== null && this.app.open(this.map.ids[this.cursor]), " ": () => this.setCorner(),
    };
    const step = ARROWS[event.key] ? () => this.walk(...ARROWS[event.key]) : steps[event.key];
    if (!step) return;
    event.preventDefault();
    step();
  }

  magnify(factor) {
    const row = this.cursor;
    const [x, y] = row === null ? [0.5, 0.5] : toScreen(this.view, 1, this.map.x[row], this.map.y[row]);
    this.look(zoomed(this.view, factor, x, y));
    this.point(row);
  }

  leave() {
    this.corner = this.drawn = null;
    this.point(null);
  }

  walk(dx, dy) {
    const first = () => this.hits.values().next().value ?? middle(this.map);
    const row = this.cursor === null ? first() : towards(this.map, this.cursor, dx, dy);
    const [x, y] = toScreen(this.view, 1, this.map.x[row], this.map.y[row]);
    const beyond = (value) => (value < 0.05 ? 0.3 - value : value > 0.95 ? 0.7 - value : 0);
    this.view = moved(this.view, beyond(x), beyond(y));
    this.point(row);
    if (this.corner !== null) this.outline(boxOf(this.placeOf(this.corner), this.placeOf(row)));
    this.said.textContent = `${this.map.classes[this.map.labels[row]] ?? "no label"}, ${this.map.ids[row]}${this.hits.has(row) ? ", one of the results" : ""}`;
  }

  placeOf(row) {
    return [this.map.x[row], this.map.y[row]];
  }

  setCorner() {
    if (this.cursor === null) this.walk(0, 0);
    else if (this.corner === null) {
      this.corner = this.cursor;
      this.said.textContent = "First corner set. Go to the opposite corner and press Space.";
    } else {
      const box = boxOf(this.placeOf(this.corner), this.placeOf(this.cursor));
      this.corner = null;
      this.select(box);
    }
  }
}

/** The map with the size of each class, and rows in the order of drawing: rare classes above the frequent ones. */
function ranked(found) {
  const sizes = new Array(found.classes.length).fill(0);
  for (const code of found.labels) if (code !== null) sizes[code] += 1;
  const size = (row) => (found.labels[row] === null ? -1 : sizes[found.labels[row]]);
  return { ...found, sizes, order: [...found.ids.keys()].sort((a, b) => size(b) - size(a)) };
}

/** The row nearest to the middle of the plane. */
function middle({ x, y }) {
  let found = 0;
  const distance = (row) => (x[row] - 0.5) ** 2 + (y[row] - 0.5) ** 2;
  for (let row = 1; row < x.length; row += 1) if (distance(row) < distance(found)) found = row;
  return found;
}

/** The sign of a class as in the map. */
function key(code) {
  return svg("svg", { class: "key", viewBox: "-8 -8 16 16", "aria-hidden": "true" }, svg("path", { d: outlineOf(code), transform: "scale(5)", vars: { color: `var(${colourOf(code)})` } }));
}
