// Filters over the metadata: one fold per column with what fits its type, and those in force as chips.

import { button, byId, el, refill } from "./dom.js";
import { count, counted, filterInWords, value as inWords } from "./wording.js";

const N_SHOWN = 6;
const N_SEARCHED = 12; // from so many values on there is a box to find one
const FAMILIES = {
  values: ["in", "not in", "=", "!="],
  range: ["between", ">=", "<=", ">", "<"],
  text: ["contains", "starts with"],
  missing: ["is null", "is not null"],
};

/** Builds the folds; gives `render(state)` and `passing(n)`. */
export function filtersView(app) {
  const facets = ordered(app.about).map((column) => facet(app, column));
  const few = facets.slice(0, N_SHOWN);
  const rest = facets.slice(N_SHOWN);
  byId("facets").replaceChildren(...few.map((one) => one.node));
  if (rest.length) {
    byId("facets").append(el("details", { class: "others" }, el("summary", {}, `${counted(rest.length, "more column")}`), ...rest.map((one) => one.node)));
  }
  if (few.length) few[0].node.open = true;
  return {
    render(state) {
      for (const one of facets) one.sync(state.filters);
      renderChips(app, state);
    },
    passing: (n) => {
      const all = count(app.about.items);
      byId("passing").textContent = n === app.about.items ? `All ${all} items are searched.` : `${count(n)} of ${all} items pass.`;
    },
  };
}

/** Labels first, then what has few values, then numbers, then the rest. */
function ordered({ columns, label_columns: labels }) {
  const rank = (column) => {
    if (labels.includes(column.name)) return labels.indexOf(column.name) - labels.length;
    if (isChoice(column)) return 0;
    return column.type === "number" || column.type === "date" ? 1 : 2;
  };
  return columns.filter((one) => one.n_values > 1 || (one.n_values > 0 && one.n_null > 0)).sort((a, b) => rank(a) - rank(b));
}

const isChoice = ({ type, values }) => type !== "number" && type !== "date" && values?.length > 0;

function facet(app, column) {
  const parts = [];
  if (isChoice(column)) parts.push(choices(app, column));
  else if (column.type === "number" || column.type === "date") parts.push(range(app, column));
  else parts.push(containing(app, column));
  if (column.n_null > 0) parts.push(missing(app, column));
  const mark = el("span", { class: "mark", hidden: true }, "in force");
  const node = el("details", { class: "facet" }, el("summary", {}, el("span", { class: "column" }, column.name), mark, el("small", {}, about(column))), ...parts.map((one) => one.node));
  return {
    node,
    sync(filters) {
      const own = filters.filter((one) => one.column === column.name);
      mark.hidden = own.length === 0;
      for (const part of parts) part.sync(own.find((one) => FAMILIES[part.family].includes(one.op)));
    },
  };
}

function about({ type, n_values: n, min, max }) {
  if (type === "number" && min != null) return `${inWords(min)} to ${inWords(max)}`;
  return counted(n, "value");
}

/** Put one filter of a column and family in the place of another; none: take it away. */
function put(app, column, family, filter) {
  const kept = app.state.filters.filter((one) => one.column !== column.name || !FAMILIES[family].includes(one.op));
  const most = app.about.limits.filters;
  if (filter && kept.length >= most) return app.notice(`There may be ${most} filters; remove one first.`);
  return app.go({ filters: filter ? [...kept, { column: column.name, ...filter }] : kept });
}

function choices(app, column) {
  const isList = column.type === "list";
  const boxes = column.values.map(([value, n]) => {
    const input = el("input", { type: isList ? "radio" : "checkbox", name: `facet ${column.name}`, on: { change: () => changed(value) } });
    const shown = inWords(value);
    return { value, input, row: el("label", { class: "choice" }, input, el("span", { class: "value" }, shown), el("span", { class: "n" }, count(n))), text: shown.toLowerCase() };
  });
  const changed = (value) => {
    // Of lists one asks whether they contain a value; the operators for single values do not fit them.
    if (isList) return put(app, column, "text", { op: "contains", value });
    const chosen = boxes.filter((one) => one.input.checked).map((one) => one.value);
    const before = app.state.filters.find((one) => one.column === column.name && one.op === "not in");
    return put(app, column, "values", chosen.length ? { op: before ? "not in" : "in", value: chosen } : null);
  };
  const node = el("fieldset", { class: "choices-of" }, el("legend", { class: "unseen" }, `Values of ${column.name}`));
  if (boxes.length >= N_SEARCHED) node.append(finder(column, boxes));
  node.append(el("div", { class: "boxes", tabindex: boxes.length > 8 ? 0 : null, role: "group", "aria-label": `Values of ${column.name}` }, ...boxes.map((one) => one.row)));
  if (column.n_values > boxes.length) node.append(el("p", { class: "quiet" }, `The ${boxes.length} most frequent of ${count(column.n_values)}.`));
  const sync = (filter) => {
    const values = Array.isArray(filter?.value) ? filter.value : filter ? [filter.value] : [];
    for (const one of boxes) one.input.checked = values.includes(one.value);
  };
  return { node, sync, family: isList ? "text" : "values" };
}

function finder(column, boxes) {
  const narrow = (event) => {
    const wanted = event.target.value.trim().toLowerCase();
    for (const one of boxes) one.row.hidden = !one.text.includes(wanted) && !one.input.checked;
  };
  return el("input", { type: "search", class: "finder", placeholder: "find a value", "aria-label": `Find a value of ${column.name}`, on: { input: narrow } });
}

function range(app, column) {
  const type = column.type === "number" ? "number" : "date";
  const read = (input) => (input.value === "" ? null : type === "number" ? Number(input.value) : input.value);
  const changed = () => {
    const [a, b] = [read(low), read(high)];
    if (a === null && b === null) return put(app, column, "range", null);
    if (a === null) return put(app, column, "range", { op: "<=", value: b });
    if (b === null) return put(app, column, "range", { op: ">=", value: a });
    return put(app, column, "range", { op: "between", value: a <= b ? [a, b] : [b, a] });
  };
  const bound = (word, shown) => el("input", { type, step: "any", placeholder: shown == null ? "" : inWords(shown), "aria-label": `${column.name} ${word}`, on: { change: changed } });
  const low = bound("from", column.min);
  const high = bound("to", column.max);
  const node = el("div", { class: "range" }, low, el("span", {}, "to"), high);
  const sync = (filter) => {
    const [a, b] = bounds(filter);
    low.value = a ?? "";
    high.value = b ?? "";
  };
  return { node, sync, family: "range" };
}

function bounds(filter) {
  if (!filter) return [null, null];
  if (filter.op === "between") return filter.value;
  return filter.op.startsWith(">") ? [filter.value, null] : [null, filter.value];
}

function containing(app, column) {
  const read = () => put(app, column, "text", input.value.trim() ? { op: "contains", value: input.value.trim() } : null);
  const input = el("input", { type: "search", placeholder: "contains …", "aria-label": `${column.name} contains`, on: { change: read } });
  return { node: el("div", { class: "containing" }, input), sync: (filter) => (input.value = filter?.value ?? ""), family: "text" };
}

function missing(app, column) {
  const select = el("select", { "aria-label": `${column.name}: with or without a value`, on: { change: () => put(app, column, "missing", select.value ? { op: select.value } : null) } },
    el("option", { value: "" }, "with or without a value"),
    el("option", { value: "is not null" }, "with a value"),
    el("option", { value: "is null" }, `without a value (${count(column.n_null)})`));
  return { node: el("div", { class: "missing" }, select), sync: (filter) => (select.value = filter?.op ?? ""), family: "missing" };
}

const OPPOSITE = new Map([["in", "not in"], ["not in", "in"], ["=", "!="], ["!=", "="], ["is null", "is not null"], ["is not null", "is null"]]);

function renderChips(app, state) {
  const list = byId("active");
  const chips = state.filters.map((filter, index) => filterChip(app, filter, index));
  if (state.area) chips.push(areaChip(app));
  if (chips.length > 1) chips.push(el("li", {}, button("Remove all filters", () => app.go({ filters: [], area: null }), { class: "plain", "data-key": "all" })));
  list.hidden = chips.length === 0;
  refill(list, ...chips);
}

function filterChip(app, filter, index) {
  const words = filterInWords(filter);
  const opposite = OPPOSITE.get(filter.op);
  const turn = () => app.go({ filters: app.state.filters.map((one, other) => (other === index ? { ...one, op: opposite } : one)) });
  const remove = () => {
    byId("results").focus({ preventScroll: true });
    app.go({ filters: app.state.filters.filter((_, other) => other !== index) });
  };
  return el("li", { class: "chip filter" },
    opposite ? button(words, turn, { class: "words", title: "turn into its opposite", "aria-label": `${words}; turn into its opposite`, "data-key": `turn ${index}` }) : el("span", { class: "face" }, words),
    button("×", remove, { class: "remove", "aria-label": `Remove the filter: ${words}`, "data-key": `drop ${index}` }));
}

function areaChip(app) {
  return el("li", { class: "chip filter" }, el("span", { class: "face", id: "area-words" }, "selected on the map"),
    button("×", () => app.go({ area: null }), { class: "remove", "aria-label": "Remove the selection on the map", "data-key": "area" }));
}

/** How many items the selection holds, once that is known. */
export function sayArea(n) {
  const words = byId("area-words");
  if (words) words.textContent = `${counted(n, "item")} selected on the map`;
}
