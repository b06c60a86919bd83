// The question: the words box, and each part of what is asked as a chip.

import { thumbnail } from "./api.js";
import { button, byId, el, refill } from "./dom.js";
import { hold, listen, pictureOf, refusal } from "./pictures.js";

const WEIGHTS = [0.25, 0.5, 1, 2, 4];
const WEIGHT_WORDS = new Map([[0.25, "×¼"], [0.5, "×½"]]);

/** Connects the words box, the picture button and the keys; gives `render(state)`. */
export function questionView(app) {
  const words = byId("words");
  byId("ask").addEventListener("submit", (event) => {
    event.preventDefault();
    addWords(app, 1);
  });
  byId("less").addEventListener("click", () => addWords(app, -1));
  words.addEventListener("keydown", (event) => {
    if (event.key === "Backspace" && words.value === "" && app.state.terms.length) remove(app, app.state.terms.length - 1);
    if (event.key === "Enter" && event.shiftKey) {
      event.preventDefault();
      addWords(app, -1);
    }
  });
  document.addEventListener("keydown", (event) => {
    const isTyping = event.target.matches?.("input:not([type=checkbox]), select, textarea");
    if (event.key !== "/" || isTyping || event.ctrlKey || event.metaKey || event.altKey || byId("detail").open) return;
    event.preventDefault();
    words.focus();
  });
  listen((files) => addPictures(app, files));
  return { render: (state) => render(app, state) };
}

/** One more part of the question; refused where it has as many as the server takes. */
export function addTerm(app, term) {
  const most = app.about.limits.terms;
  if (app.state.terms.length >= most) return app.notice(`A question has at most ${most} parts; remove one first.`);
  const others = app.state.terms.filter((one) => one.kind !== term.kind || one.value !== term.value);
  return app.go({ terms: [...others, term], open: null });
}

function addWords(app, weight) {
  const words = byId("words");
  const value = words.value.trim();
  const most = app.about.limits.text_chars;
  words.focus();
  if (!value) return app.notice(weight < 0 ? "Write first what the results should be less like." : "Write what to search for, or choose a picture.");
  if (value.length > most) return app.notice(`Words may have ${most} characters; these have ${value.length}.`);
  const backbone = app.backbone();
  if (backbone && !backbone.family_has_text) return offerBackbones(app, { kind: "text", value, weight });
  words.value = "";
  return addTerm(app, { kind: "text", value, weight });
}

/** Words to a backbone that reads none: say which do, and switch on request. */
function offerBackbones(app, term) {
  const able = app.about.backbones.filter((one) => one.family_has_text);
  const said = `${app.backbone().name} has no text tower, so it cannot read words${able.length ? ". These can:" : "; nor can any other backbone here. Search with a picture instead."}`;
  const take = (name) => {
    byId("words").value = "";
    app.go({ backbone: name, terms: [...app.state.terms, term], area: null });
  };
  app.notice(said, ...able.map(({ name }) => button(`Ask ${name}`, () => take(name))));
}

async function addPictures(app, files) {
  if (!files.length) return;
  const refused = refusal(files[0], app.about.limits.upload_bytes);
  if (refused) return app.notice(refused);
  if (app.state.terms.length >= app.about.limits.terms) return addTerm(app, {});
  try {
    const value = await hold(files[0]);
    addTerm(app, { kind: "picture", value, name: pictureOf(value).name, weight: 1 });
  } catch {
    return app.notice(`“${files[0].name}” could not be read from this machine.`);
  }
  if (files.length > 1) app.notice(`Only the first of ${files.length} files was taken; add the others one by one.`);
}

function remove(app, index) {
  byId("words").focus();
  app.go({ terms: app.state.terms.filter((_, other) => other !== index) });
}

function change(app, index, patch) {
  app.go({ terms: app.state.terms.map((term, other) => (other === index ? { ...term, ...patch } : term)) });
}

function render(app, state) {
  const list = byId("terms");
  list.hidden = state.terms.length === 0;
  refill(list, ...state.terms.map((term, index) => chip(app, term, index, state.terms.length)));
  if (state.terms.length) list.append(el("li", {}, button("New question", () => app.fresh(), { class: "plain", "data-key": "new" })));
  byId("words").placeholder = state.terms.length && app.backbone()?.family_has_text !== false ? "more words" : placeholder(app);
  const note = byId("words-note");
  note.textContent = about(app);
  note.hidden = !note.textContent;
}

/** What must be known of the backbone before one asks it; mostly nothing. */
function about(app) {
  const backbone = app.backbone();
  if (backbone && !backbone.family_has_text) {
    const able = app.about.backbones.filter((one) => one.family_has_text).map((one) => one.name);
    return `${backbone.name} sees pictures only. Backbones that read words: ${able.join(", ") || "none here"}.`;
  }
  if (backbone?.status === "loading") return `${backbone.name} is still loading. Items and stored words work at once; other words and pictures wait for it.`;
  if (backbone?.status === "failed") return `${backbone.name} could not be loaded, so that only items and stored words work${backbone.message ? `: ${backbone.message}` : "."}`;
  return "";
}

const placeholder = (app) => {
  const backbone = app.backbone();
  if (backbone && !backbone.family_has_text) return "choose or drop a picture";
  return app.about.examples.length ? `for example: ${app.about.examples[0]}` : "words";
};

function chip(app, term, index, n) {
  const name = term.name ?? term.value;
  const sign = term.weight < 0 ? "−" : "+";
  const size = Math.abs(term.weight);
  return el("li", { class: `chip ${term.weight < 0 ? "minus" : "plus"}`, on: { keydown: (event) => event.key === "Delete" && remove(app, index) } },
    button(sign, () => change(app, index, { weight: -term.weight }), {
      class: "sign", "data-key": `sign ${index}`, "aria-label": `${name}: ${term.weight < 0 ? "less like this, change to more" : "more like this, change to less"}`,
      title: term.weight < 0 ? "less like this" : "more like this",
    }),
    face(app, term, index, name),
    n > 1 && el("select", { "aria-label": `Weight of ${name}`, "data-key": `weight ${index}`, on: { change: (event) => change(app, index, { weight: Math.sign(term.weight) * Number(event.target.value) }) } },
      ...[...new Set([...WEIGHTS, size])].sort((a, b) => a - b).map((one) => el("option", { value: one, selected: one === size }, WEIGHT_WORDS.get(one) ?? `×${one}`))),
    button("×", () => remove(app, index), { class: "remove", "data-key": `remove ${index}`, "aria-label": `Remove ${name} from the question` }),
  );
}

function face(app, term, index, name) {
  if (term.kind === "text") {
    const edit = () => {
      byId("words").value = term.value;
      remove(app, index);
    };
    return button(term.value, edit, { class: "words", title: "change these words", "data-key": `words ${index}` });
  }
  const source = term.kind === "item" ? thumbnail(term.value, 64) : pictureOf(term.value).url;
  return el("span", { class: "face" },
    el("img", { src: source, alt: "", width: 28, height: 28, on: { error: (event) => event.target.classList.add("broken") } }), el("span", { class: "name" }, name));
}
