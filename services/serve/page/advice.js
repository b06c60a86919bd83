// What to do where there is nothing to show: an empty question, nothing found, or a refusal.

import { search } from "./api.js";
import { button, byId, el } from "./dom.js";
import { isBare } from "./state.js";
import { count, counted, filterInWords } from "./wording.js";

/** Show one piece of advice; without parts there is none. */
export function advise(...parts) {
  const place = byId("advice");
  place.hidden = parts.length === 0;
  place.replaceChildren(...parts.filter(Boolean));
}

/** Before anything is asked: what this is, and words to try. */
export function welcome(app) {
  const examples = app.about.examples.slice(0, 8);
  const able = app.about.backbones.some((one) => one.family_has_text);
  const words = able ? "words, with " : "";
  advise(
    el("p", {}, `${counted(app.about.items, "picture")}, found by what is on them. Ask with ${words}a picture of your own, or click a picture below for more like it; + and − combine them.`),
    examples.length > 0 && able && el("p", { class: "examples" }, el("span", {}, "Try "), ...examples.map((words) => button(words, () => app.ask(words), { class: "example" }))),
  );
}

/** Nothing was found: which filter is it that leaves nothing? */
export async function nothingFound(app, body, answer) {
  if (isBare(app.state)) return advise(el("p", {}, "There are no items to search in."));
  if (answer.n_searched > 0) {
    const what = answer.n_searched === 1 ? "The only item that passes the filters is" : `The ${count(answer.n_searched)} items that pass the filters are`;
    return advise(el("h3", {}, "Nothing else to find"), el("p", {}, `${what} what you asked with. Take a filter away to find others like it.`), removal(app));
  }
  const asked = body.filters;
  const single = asked.length < 2;
  const title = el("h3", {}, "Nothing found");
  advise(title, el("p", {}, single ? "No item passes this filter; the question itself was not reached." : "Each filter may be fine, but no item passes all of them."), removal(app));
  const without = await Promise.all(asked.map((_, index) => passing(body, asked.filter((__, other) => other !== index))));
  if (!title.isConnected) return undefined; // another answer has come
  const offers = asked.map((filter, index) => offer(app, filter, index, without[index]));
  return advise(title, el("p", {}, single ? "No item passes this filter:" : "No item passes all of these filters. Without one of them there are:"), el("ul", { class: "offers" }, ...offers), asked.length > 1 && removal(app));
}

function offer(app, filter, index, n) {
  const isArea = index >= app.state.filters.length;
  const words = isArea ? "the selection on the map" : filterInWords(filter);
  const drop = () => app.go(isArea ? { area: null } : { filters: app.state.filters.filter((_, other) => other !== index) });
  return el("li", {}, button(`Remove “${words}”`, drop), el("span", { class: "quiet" }, n == null ? "" : n ? ` leaves ${counted(n, "item")}` : " still leaves nothing"));
}

const removal = (app) => button("Remove all filters", () => app.go({ filters: [], area: null }));

async function passing(body, filters) {
  try {
    return (await search({ ...body, terms: [], filters, top: 1, labels: null })).n_searched;
  } catch {
    return null;
  }
}

/** What the server refused, and ways out of it. */
export function refused(app, error) {
  const ways = [];
  const terms = app.state.terms;
  if (error.code === "no_text_tower" || (terms.some((one) => one.kind === "text") && app.backbone()?.family_has_text === false)) {
    const able = app.about.backbones.filter((one) => one.family_has_text);
    ways.push(...able.map(({ name }) => button(`Ask ${name}`, () => app.go({ backbone: name, area: null }))));
    ways.push(button("Remove the words", () => app.go({ terms: terms.filter((one) => one.kind !== "text") })));
  } else if (error.code === "model_failed") {
    const others = app.about.backbones.filter((one) => one !== app.backbone() && one.status === "ready");
    ways.push(...others.map(({ name }) => button(`Ask ${name}`, () => app.go({ backbone: name, area: null }))), button("New question", () => app.fresh()));
  } else if (error.code === "unreachable" || error.status >= 500 || error.status === 429) {
    ways.push(button("Try again", () => app.again()));
  } else {
    if (app.state.filters.length || app.state.area) ways.push(removal(app));
    if (terms.length) ways.push(button("New question", () => app.fresh()));
  }
  advise(el("h3", {}, "That did not work"), el("p", { role: "alert" }, error.message), el("p", { class: "ways" }, ...ways));
}

/** The model is still loading; the page asks again by itself. */
export function waiting(app, message) {
  advise(el("h3", {}, "The model is still loading"), el("p", {}, message), el("p", { class: "quiet" }, "Words that are stored already, and items, work at once. This page asks again by itself."));
}
