// What is asked, as one value, and as the address of the page: bookmarks and the Back button work on it.
//
// term=0.5*text:a can  where=["category","in",["can"]]  area=["mini-openclip","tsne",0.1,0.2,0.4,0.5]
// Pictures are too large for an address; they are kept in the memory of this tab (pictures.js).

export const TOPS = [24, 60, 120, 240, 500];

/** Nothing asked. */
export const NOTHING = Object.freeze({
  backbone: null, // null: the server's choice
  terms: [], // {kind: "text"|"item"|"picture", value, weight, name?}; a picture's value is its number in this tab
  filters: [], // {column, op, value}
  area: null, // {backbone, layout, box: [x0, y0, x1, y1]} of a map
  top: TOPS[0],
  unique: false,
  labels: null, // column; null: the first
  open: null, // id of the item whose details are shown
});

/** The address that says this question. */
export function toAddress(state) {
  const found = new URLSearchParams();
  for (const { kind, value, weight } of state.terms) {
    if (kind !== "picture") found.append("term", `${weight}*${kind}:${value}`);
  }
  for (const { column, op, value } of state.filters) {
    found.append("where", JSON.stringify(value === undefined ? [column, op] : [column, op, value]));
  }
  if (state.area) found.set("area", JSON.stringify([state.area.backbone, state.area.layout, ...state.area.box]));
  if (state.backbone) found.set("backbone", state.backbone);
  if (state.labels) found.set("labels", state.labels);
  if (state.top !== NOTHING.top) found.set("top", state.top);
  if (state.unique) found.set("unique", "1");
  if (state.open) found.set("open", state.open);
  const query = found.toString();
  return query ? `?${query}` : "/";
}

/** The question that an address says; what is no part of one is passed over. */
export function fromAddress(address) {
  const given = new URLSearchParams(address);
  const top = Number(given.get("top"));
  return {
    ...NOTHING,
    terms: given.getAll("term").map(termOf).filter(Boolean),
    filters: given.getAll("where").map(parsed).map(filterOf).filter(Boolean),
    area: areaOf(parsed(given.get("area"))),
    backbone: given.get("backbone"),
    labels: given.get("labels"),
    top: TOPS.includes(top) ? top : NOTHING.top,
    unique: given.get("unique") === "1",
    open: given.get("open"),
  };
}

function termOf(text) {
  const match = /^(-?\d+(?:\.\d+)?)\*(text|item):(.+)$/s.exec(text);
  return match && Number(match[1]) !== 0 ? { weight: Number(match[1]), kind: match[2], value: match[3] } : null;
}

const isPlain = (value) => ["string", "number", "boolean"].includes(typeof value);
const isPlainList = (value, n) => Array.isArray(value) && value.every(isPlain) && (n === undefined || value.length === n);

function filterOf(given) {
  if (!isPlainList(given?.slice?.(0, 2), 2)) return null;
  const [column, op, value] = given;
  if (["is null", "is not null"].includes(op)) return { column, op };
  const fits = op === "between" ? isPlainList(value, 2) : ["in", "not in"].includes(op) ? isPlainList(value) : isPlain(value);
  return fits ? { column, op, value } : null;
}

function areaOf(given) {
  const isOne = Array.isArray(given) && given.length === 6 && given.slice(2).every(Number.isFinite);
  return isOne ? { backbone: given[0], layout: given[1], box: given.slice(2) } : null;
}

function parsed(text) {
  try {
    return JSON.parse(text);
  } catch {
    return null;
  }
}

/** The parts of the state on which an answer depends; two questions with the same one have the same answer. */
export const questionKey = ({ open, ...asked }) => JSON.stringify(asked);

/** Nothing that narrows or directs the answer. */
export const isBare = (state) => !state.terms.length && !state.filters.length && !state.area;
