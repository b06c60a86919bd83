// One item in a dialog: its picture, where in the photograph it lies, what is known of it, and what is like it.

import * as api from "./api.js";
import { button, byId, el, svg } from "./dom.js";
import { bars } from "./labels.js";
import { addTerm } from "./question.js";
import { nameOf, score, value } from "./wording.js";

const PHOTO_PX = 1024;
const CROP_PX = 320;
const N_ALIKE = 12;

/** Gives `render(state)`: the dialog is open while the state names an item. */
export function detailView(app) {
  const dialog = byId("detail");
  let shown = null;
  let stop = new AbortController();
  dialog.addEventListener("close", () => shown !== null && app.close());
  dialog.addEventListener("click", (event) => event.target === dialog && dialog.close());
  dialog.addEventListener("keydown", (event) => {
    if (event.key === "ArrowLeft") step(app, -1);
    if (event.key === "ArrowRight") step(app, 1);
  });
  return {
    render({ open }) {
      if (open === shown) return;
      stop.abort();
      stop = new AbortController();
      const last = shown;
      shown = open;
      if (open === null) {
        dialog.close();
        document.querySelector(`.card[data-id="${CSS.escape(last)}"] .open`)?.focus();
        return;
      }
      fill(app, dialog, open, stop.signal);
      if (!dialog.open) dialog.showModal();
    },
  };
}

/** To the next or last item of the results. */
function step(app, by) {
  const ids = app.hits().map((hit) => hit.item_id);
  const to = ids[ids.indexOf(app.state.open) + by];
  if (ids.includes(app.state.open) && to !== undefined) app.go({ open: to }, { replace: true });
}

async function fill(app, dialog, id, signal) {
  const body = el("div", { class: "body", "aria-busy": "true" }, el("p", { class: "quiet" }, "Loading …"));
  const title = el("h2", { id: "detail-title", tabindex: "-1", autofocus: true }, app.hits().find((hit) => hit.item_id === id)?.label ?? id);
  dialog.replaceChildren(head(app, id, title), body);
  dialog.scrollTop = 0;
  if (dialog.open) title.focus();
  try {
    const item = await api.item(id, signal);
    title.textContent = nameOf(item);
    const alike = el("div", { class: "alike" });
    body.removeAttribute("aria-busy");
    body.replaceChildren(el("div", { class: "seen" }, view(app, item)), el("div", { class: "known" }, ways(app, item), alike), facts(item));
    await fillAlike(app, id, alike, signal);
  } catch (error) {
    if (error.name === "AbortError") return;
    body.removeAttribute("aria-busy");
    body.append(el("p", { class: "notice", role: "alert" }, error.message));
  }
}

function head(app, id, title) {
  const ids = app.hits().map((hit) => hit.item_id);
  const at = ids.indexOf(id);
  const place = at >= 0 && el("span", { class: "quiet" }, `${at + 1} of ${ids.length}`);
  return el("div", { class: "head" }, title,
    el("div", { class: "steps" }, place,
      button("‹", () => step(app, -1), { "aria-label": "The one before", disabled: at <= 0 }),
      button("›", () => step(app, 1), { "aria-label": "The next one", disabled: at < 0 || at === ids.length - 1 }),
      button("Close", () => byId("detail").close(), { class: "close" })));
}

function ways(app, item) {
  const add = (weight) => addTerm(app, { kind: "item", value: item.item_id, weight });
  return el("div", { class: "ways" },
    button("More like this", () => app.moreLike(item), { class: "main" }),
    button("+ Add to the question", () => add(1)),
    button("− Less like this", () => add(-1)));
}

/** The item by itself, and the photograph with the boxes of all its items. */
function view(app, item) {
  const crop = el("img", { class: "crop", src: api.thumbnail(item.item_id, CROP_PX), alt: `The picture of ${nameOf(item)}` });
  if (!item.photograph) return el("figure", { class: "alone" }, crop, el("figcaption", { class: "quiet" }, size(app, item)));
  const { photograph } = item;
  const image = el("img", { src: api.photograph(item.item_id, PHOTO_PX), alt: `The photograph ${photograph.image_id}`, width: photograph.width_px, height: photograph.height_px });
  const frame = el("div", { class: "photo" }, image, boxes(app, item));
  const n_others = photograph.items.length;
  const caption = el("figcaption", { class: "quiet" }, `${photograph.image_id}, ${photograph.width_px} × ${photograph.height_px} px${n_others ? `; ${n_others} other ${n_others === 1 ? "item" : "items"} on it: choose a box` : ""}`);
  image.addEventListener("error", () => frame.replaceWith(el("p", { class: "quiet" }, "The photograph is not at hand.")));
  // What is no part of its photograph would be shown twice.
  if (!photograph.box) return el("div", {}, el("figure", {}, frame, caption));
  return el("div", {}, el("figure", {}, frame, caption), el("figure", { class: "beside" }, crop, el("figcaption", { class: "quiet" }, size(app, item))));
}

/** How large the item's picture is, and how large the backbone that is asked sees it. */
function size(app, { picture }) {
  const seen = app.backbone()?.input_px;
  const own = `${picture.width_px} × ${picture.height_px} px`;
  return seen ? `${own}; ${app.backbone().name} is given ${seen[1]} × ${seen[0]} px of it` : own;
}

function boxes(app, { label, photograph }) {
  const drawn = svg("svg", { viewBox: `0 0 ${photograph.width_px} ${photograph.height_px}`, preserveAspectRatio: "none" });
  const area = ({ box }) => box[2] * box[3];
  // Small boxes last, so that they can be reached inside of large ones.
  for (const other of photograph.items.filter((one) => one.box).sort((a, b) => area(b) - area(a))) drawn.append(otherBox(app, other));
  if (photograph.box) {
    const [x, y, width, height] = photograph.box;
    for (const layer of ["halo", "line"]) drawn.append(svg("rect", { class: `own ${layer}`, x, y, width, height }));
    drawn.append(svg("title", {}, `${label ?? "The item"}, in its box`));
  }
  return drawn;
}

function otherBox(app, { item_id: id, label, box: [x, y, width, height] }) {
  const go = () => app.go({ open: id }, { replace: true });
  const isKey = (event) => ["Enter", " "].includes(event.key);
  const keyed = (event) => {
    if (!isKey(event)) return;
    event.preventDefault();
    go();
  };
  return svg("rect", { class: "other", x, y, width, height, tabindex: 0, role: "button", "aria-label": `${label ?? id}, on the same photograph`, on: { click: go, keydown: keyed } }, svg("title", {}, label ?? id));
}

function facts(item) {
  const rows = Object.entries({ item_id: item.item_id, ...item.metadata, key: item.key });
  return el("section", { class: "told" }, el("h3", {}, "What is known"), el("table", { class: "facts" }, el("tbody", {}, ...rows.map(([name, given]) => el("tr", {}, el("th", { scope: "row" }, name), el("td", {}, value(given)))))));
}

async function fillAlike(app, id, place, signal) {
  const column = app.labels();
  const answer = await api.search({ backbone: app.state.backbone, terms: [{ kind: "item", value: id, weight: 1 }], top: N_ALIKE, filters: [], unique: false, leave_out_named: true, labels: column }, signal);
  if (answer.labels?.length) place.append(el("section", {}, el("h3", {}, "Nearest labels"), el("ul", { class: "bars" }, ...bars(answer.labels))));
  const tiles = answer.hits.map((hit) => {
    const name = `${nameOf(hit)}, score ${score(hit.score)}`;
    return el("li", {}, el("button", { type: "button", title: name, "aria-label": `${name}, ${hit.item_id}`, on: { click: () => app.go({ open: hit.item_id }, { replace: true }) } }, el("img", { src: api.thumbnail(hit.item_id, 128), alt: "" })));
  });
  if (tiles.length) place.append(el("section", {}, el("h3", {}, "Most like it"), el("ul", { class: "tiles" }, ...tiles)));
}
