// The page: one state, one way to change it, and the views that follow it.

import * as api from "./api.js";
import { advise, nothingFound, refused, waiting, welcome } from "./advice.js";
import { detailView } from "./detail.js";
import { byId, el } from "./dom.js";
import { filtersView, sayArea } from "./filters.js";
import { labelsView } from "./labels.js";
import { mapView } from "./map.js";
import { pictureOf } from "./pictures.js";
import { questionView } from "./question.js";
import { resultsView } from "./results.js";
import { fromAddress, isBare, NOTHING, questionKey, toAddress } from "./state.js";
import { counted, nameOf } from "./wording.js";

const RETRY_S = 2;
const BUSY_AFTER_MS = 120; // an answer that comes sooner needs no sign of waiting
const PICTURE_CODES = new Set(["not_a_picture", "picture_too_large", "too_large"]);

class App {
  constructor(about) {
    this.about = about;
    this.state = { ...NOTHING };
    this.answer = null;
    this.shownKey = null;
    this.stop = new AbortController();
    this.views = { question: questionView(this), filters: filtersView(this), results: resultsView(this), labels: labelsView(this), map: mapView(this), detail: detailView(this) };
    addEventListener("popstate", () => this.restore());
  }

  /** The backbone that is asked: {name, family_has_text, …}. */
  backbone() {
    const name = this.state.backbone ?? this.about.default_backbone;
    return this.about.backbones.find((one) => one.name === name) ?? null;
  }

  /** The column whose values are called labels; null where there is none. */
  labels() {
    return this.state.labels ?? this.about.label_columns[0] ?? null;
  }

  hits() {
    return this.answer?.hits ?? [];
  }

  /** Change what is asked or shown. `replace`: without a step for the Back button. */
  go(patch, { replace = false } = {}) {
    this.state = { ...this.state, ...patch };
    const opened = !replace && patch.open != null;
    history[replace ? "replaceState" : "pushState"]({ state: this.state, opened: opened || (replace && history.state?.opened) }, "", toAddress(this.state));
    this.notice();
    this.render();
  }

  /** Words alone, as a new question to the same items. */
  ask(words) {
    this.go({ terms: [{ kind: "text", value: words, weight: 1 }], open: null, top: NOTHING.top, ...this.ableTo("text") });
  }

  /** An item alone, as a new question to the same items. */
  moreLike(item) {
    this.go({ terms: [{ kind: "item", value: item.item_id, weight: 1, name: `${nameOf(item)} ${item.item_id}` }], open: null, top: NOTHING.top });
    byId("results").focus({ preventScroll: true });
    byId("ask").scrollIntoView({ block: "nearest" });
  }

  /** The backbone to switch to for words, where the one that is asked reads none. */
  ableTo() {
    if (this.backbone()?.family_has_text) return {};
    const able = this.about.backbones.find((one) => one.family_has_text);
    return able ? { backbone: able.name, area: null } : {};
  }

  /** Another question to the same items. */
  fresh() {
    this.go({ terms: [], open: null, top: NOTHING.top });
    byId("words").focus();
  }

  open(id) {
    this.go({ open: id });
  }

  /** Leave the details; where they were opened from the results, that is one step back. */
  close() {
    if (this.state.open === null) return;
    if (history.state?.opened) history.back();
    else this.go({ open: null }, { replace: true });
  }

  again() {
    this.shownKey = null;
    this.render();
  }

  /** Say something beside the words box; nothing: take it away. */
  notice(text = "", ...actions) {
    const place = byId("notice");
    place.hidden = !text;
    place.replaceChildren(...(text ? [el("span", {}, text), ...actions] : []));
  }

  restore() {
    const kept = history.state?.state;
    const state = kept ?? fromAddress(location.search);
    const terms = state.terms.filter((one) => one.kind !== "picture" || pictureOf(one.value));
    const isHere = this.about.backbones.some((one) => one.name === state.backbone);
    const labels = this.about.label_columns.includes(state.labels) ? state.labels : null;
    this.state = { ...NOTHING, ...state, terms, labels, backbone: isHere ? state.backbone : null };
    if (terms.length < state.terms.length) this.notice("The picture of this question was kept in the tab only and is gone; give it again.");
    else if (state.backbone && !isHere) this.notice(`There is no backbone “${state.backbone}” here; ${this.backbone()?.name} is asked.`);
    else this.notice();
    this.render();
  }

  render() {
    const { state, views } = this;
    for (const view of Object.values(views)) view.render?.(state, this.answer);
    byId("backbone").value = this.backbone()?.name ?? "";
    byId("labels").value = this.labels() ?? "";
    document.title = this.title();
    const key = questionKey(state);
    if (key !== this.shownKey) this.search(key);
  }

  /** Ask how the models are until none is loading any more. */
  async watch() {
    const isLoading = () => this.about.backbones.some((one) => one.status === "loading");
    while (isLoading()) {
      await new Promise((resolve) => setTimeout(resolve, 1000 * RETRY_S));
      const found = await api.health().catch(() => ({ indexes: [] }));
      for (const { backbone, status, message } of found.indexes) {
        const own = this.about.backbones.find((one) => one.name === backbone);
        if (own) Object.assign(own, { status, message });
      }
      this.views.question.render(this.state);
    }
  }

  title() {
    const words = this.state.terms.map((one) => (one.weight < 0 ? "− " : "") + (one.name ?? one.value));
    return [words.join(", "), this.about.title].filter(Boolean).join(" · ");
  }

  /** What the server is asked. */
  async body() {
    const { backbone, terms, filters, area, top, unique } = this.state;
    const sent = terms.map(({ kind, value, weight, name }) => (kind === "picture" ? { kind, value: pictureOf(value).base64, name, weight } : { kind, value, weight }));
    const ids = area ? await this.views.map.idsWithin(area) : null;
    if (ids) sayArea(ids.length);
    return { backbone, terms: sent, top, filters: ids ? [...filters, { column: "item_id", op: "in", value: ids }] : filters, unique, leave_out_named: true, labels: this.labels() };
  }

  async search(key) {
    this.shownKey = key;
    this.stop.abort();
    this.stop = new AbortController();
    const { signal } = this.stop;
    clearTimeout(this.retry);
    byId("results").setAttribute("aria-busy", "true");
    const late = setTimeout(() => this.busy(), BUSY_AFTER_MS);
    try {
      const body = await this.body();
      const answer = await api.search(body, signal);
      if (!signal.aborted) this.show(body, answer);
    } catch (error) {
      if (error.name === "AbortError" || signal.aborted) return;
      if (!(error instanceof api.ApiError)) throw error;
      this.failed(error);
    } finally {
      clearTimeout(late);
      if (!signal.aborted) byId("results").removeAttribute("aria-busy");
    }
  }

  busy() {
    this.views.results.busy();
    if (!isBare(this.state)) advise();
  }

  show(body, answer) {
    this.answer = answer;
    this.views.results.show(answer);
    this.views.labels.show(answer, this.labels());
    this.views.filters.passing(answer.n_searched);
    this.views.map.mark(answer.hits);
    if (!answer.hits.length) nothingFound(this, body, answer);
    else if (isBare(this.state)) welcome(this);
    else advise();
  }

  failed(error) {
    const { terms } = this.state;
    const last = terms.findLastIndex((one) => one.kind === "picture"); // those before it were accepted
    if (last >= 0 && PICTURE_CODES.has(error.code)) {
      this.go({ terms: terms.toSpliced(last, 1) }, { replace: true });
      return this.notice(`“${terms[last].name}” cannot be searched with. ${error.message}`);
    }
    this.answer = null;
    this.views.results.clear();
    this.views.labels.show(null);
    this.views.map.mark([]);
    if (error.code === "model_loading") {
      waiting(this, error.message);
      this.retry = setTimeout(() => this.again(), 1000 * (error.retryAfterS ?? RETRY_S));
    } else refused(this, error);
    return undefined;
  }
}

function header(app) {
  const { about } = app;
  byId("home").textContent = about.title;
  byId("home").addEventListener("click", (event) => {
    if (event.ctrlKey || event.metaKey || event.shiftKey) return;
    event.preventDefault();
    app.go(NOTHING);
  });
  byId("facts").textContent = counted(about.items, "item");
  choice("backbone", about.backbones.map((one) => [one.name, called(one)]), (backbone) => app.go({ backbone, area: null }));
  choice("labels", about.label_columns.map((name) => [name, name]), (labels) => app.go({ labels }));
}

/** A backbone with what to know before it is asked. */
function called({ name, family_has_text: reads, is_toy: isToy }) {
  const told = [...(isToy ? ["toy"] : []), ...(reads ? [] : ["pictures only"])];
  return told.length ? `${name} (${told.join(", ")})` : name;
}

function choice(id, options, changed) {
  byId(id).replaceChildren(...options.map(([value, words]) => el("option", { value }, words)));
  byId(id).addEventListener("change", (event) => changed(event.target.value));
  byId(`${id}-choice`).hidden = options.length < 2;
}

async function start() {
  try {
    const app = new App(await api.about());
    header(app);
    app.restore();
    app.watch();
  } catch (error) {
    if (!(error instanceof api.ApiError)) throw error;
    advise(el("h3", {}, "The server cannot be asked"), el("p", { role: "alert" }, error.message));
    setTimeout(start, 1000 * RETRY_S);
  }
}

// Folded away where there is little room; what a person folds later stays so.
if (matchMedia("(max-width: 899px)").matches) byId("filters").open = false;
start();
