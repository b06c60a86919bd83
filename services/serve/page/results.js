// The results: a grid of cards that stay the same elements while they stay in the answer.

import { thumbnail } from "./api.js";
import { button, byId, el } from "./dom.js";
import { addTerm } from "./question.js";
import { TOPS } from "./state.js";
import { count, counted, nameOf, score } from "./wording.js";

const SIDE_PX = 320; // thumbnails, sharp on screens with two dots a pixel

/** Gives `busy()`, `show(answer)` and `clear()`. */
export function resultsView(app) {
  const list = byId("hits");
  const more = byId("more");
  const cards = new Map(); // item id -> card
  let wanted = null; // place that gets the focus once more results are there
  list.addEventListener("keydown", walk);
  more.addEventListener("click", () => {
    wanted = list.children.length;
    app.go({ top: nextTop(app) }, { replace: true });
  });
  byId("unique").addEventListener("change", (event) => app.go({ unique: event.target.checked }));
  return {
    render: (state) => (byId("unique").checked = state.unique),
    busy() {
      list.setAttribute("aria-busy", "true");
      more.disabled = true;
      if (!list.children.length) list.replaceChildren(...Array.from({ length: 12 }, skeleton));
    },
    show(answer) {
      const best = Math.max(...answer.hits.map((hit) => hit.score ?? 0), 1e-9);
      const kept = answer.hits.map((hit) => update(app, cards.get(hit.item_id) ?? card(app, hit), hit, best));
      cards.clear();
      for (const one of kept) cards.set(one.id, one);
      // Elements that stay are not taken out, so that they keep focus and picture.
      place(list, kept.map((one) => one.node));
      list.removeAttribute("aria-busy");
      byId("count").textContent = summary(answer, app);
      const top = nextTop(app);
      more.disabled = false;
      more.hidden = top === null || answer.hits.length < app.state.top;
      more.textContent = top === null ? "" : `Show up to ${count(top)}`;
      if (wanted !== null) list.children[wanted]?.querySelector(".open").focus();
      wanted = null;
    },
    clear() {
      cards.clear();
      list.replaceChildren();
      list.removeAttribute("aria-busy");
      more.hidden = true;
      byId("count").textContent = "";
    },
  };
}

function nextTop(app) {
  const most = app.about.limits.top;
  return TOPS.find((top) => top > app.state.top && top <= most) ?? null;
}

function summary({ hits, n_searched: n, took_ms: took }, app) {
  if (!hits.length) return "Nothing found";
  const what = app.state.terms.length ? "best" : "first";
  const shown = hits.length < n ? `The ${what} ${count(hits.length)} of ${counted(n, "item")}` : counted(n, "item");
  return took == null ? shown : `${shown}, ${took < 10 ? took.toFixed(1) : Math.round(took)} ms`;
}

function place(list, nodes) {
  const staying = new Set(nodes);
  for (const child of [...list.children]) if (!staying.has(child)) child.remove();
  nodes.forEach((node, index) => {
    if (list.children[index] !== node) list.insertBefore(node, list.children[index] ?? null);
  });
}

const skeleton = () => el("li", { class: "card skeleton", "aria-hidden": "true" }, el("div", { class: "picture" }), el("div", { class: "under" }));

function card(app, hit) {
  const parts = {
    label: el("span", { class: "label" }),
    score: el("span", { class: "score" }),
    bar: el("span", { class: "track" }),
    folded: el("span", { class: "folded", hidden: true }),
  };
  const open = button("", () => app.open(hit.item_id), { class: "open" });
  open.append(el("span", { class: "picture" }, picture(hit), parts.folded), el("span", { class: "under" }, parts.label, el("span", { class: "scored" }, parts.bar, parts.score)));
  const name = `${nameOf(hit)} ${hit.item_id}`;
  const actions = el("div", { class: "actions" },
    button("Similar", () => app.moreLike(hit), { title: "more like this", "aria-label": `Similar: more like ${name}` }),
    button("+", () => addTerm(app, { kind: "item", value: hit.item_id, weight: 1 }), { class: "sign", title: "add to the question", "aria-label": `Add to the question: ${name}` }),
    button("−", () => addTerm(app, { kind: "item", value: hit.item_id, weight: -1 }), { class: "sign", title: "less like this", "aria-label": `Less like this: ${name}` }));
  return { id: hit.item_id, node: el("li", { class: "card", "data-id": hit.item_id }, open, actions), parts, open };
}

function picture(hit) {
  const image = el("img", { src: thumbnail(hit.item_id, SIDE_PX), alt: "", loading: "lazy", decoding: "async" });
  image.addEventListener("error", () => image.replaceWith(el("span", { class: "lost" }, "no picture")));
  return image;
}

function update(app, one, hit, best) {
  const { label, score: number, bar, folded } = one.parts;
  label.textContent = hit.metadata?.[app.labels()] ?? nameOf(hit);
  label.title = hit.item_id;
  number.textContent = score(hit.score);
  number.title = hit.score == null ? "" : `cosine similarity ${hit.score}`;
  number.parentElement.hidden = hit.score == null;
  bar.style.setProperty("--share", `${Math.max(0, (100 * (hit.score ?? 0)) / best)}%`);
  folded.hidden = !hit.folded?.length;
  folded.textContent = `+${hit.folded?.length ?? 0} alike`;
  one.open.setAttribute("aria-label", [label.textContent, hit.item_id, hit.score == null ? null : `score ${score(hit.score)}`, "details"].filter(Boolean).join(", "));
  return one;
}

/** Arrow keys go from card to card, Home and End to the first and last. */
function walk(event) {
  const opens = [...event.currentTarget.querySelectorAll(".open")];
  const at = opens.findIndex((one) => one.closest(".card").contains(event.target));
  if (at < 0 || event.target.matches("select, input")) return;
  const tops = opens.map((one) => one.getBoundingClientRect().top);
  const n_columns = Math.max(1, tops.filter((top) => Math.abs(top - tops[0]) < 4).length);
  const to = { ArrowRight: at + 1, ArrowLeft: at - 1, ArrowDown: at + n_columns, ArrowUp: at - n_columns, Home: 0, End: opens.length - 1 }[event.key];
  if (to === undefined || !opens[to]) return;
  event.preventDefault();
  opens[to].focus();
}
