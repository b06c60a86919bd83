// The nearest labels: what the neighbours are called, each with its share of the vote.

import { button, byId, el, refill } from "./dom.js";

const N_SHOWN = 6;
const percent = (share) => (share < 0.001 ? "< 0.1 %" : `${(100 * share).toFixed(1)} %`);

/** Bars of labels and shares. */
export function bars(labels, choose = null) {
  return labels.slice(0, N_SHOWN).map(({ label, share }) =>
    el("li", { vars: { "--share": `${100 * share}%` } },
      choose ? button(label, () => choose(label), { class: "plain label", title: `only ${label}`, "aria-label": `${label}, ${percent(share)}; show only these`, "data-key": label }) : el("span", { class: "label" }, label),
      el("span", { class: "share" }, percent(share)),
      el("span", { class: "track" })));
}

/** Gives `show(answer, column)` for the section beside the results. */
export function labelsView(app) {
  const section = byId("nearest");
  return {
    show(answer, column) {
      const labels = answer?.labels ?? [];
      section.hidden = labels.length === 0;
      const only = (label) => app.go({ filters: [...app.state.filters.filter((one) => one.column !== column), { column, op: "in", value: [label] }] });
      byId("nearest-about").textContent = `Vote of the ${Math.min(20, answer?.n_searched ?? 20)} nearest items by ${column}.`;
      refill(byId("nearest-bars"), ...bars(labels, column ? only : null));
    },
  };
}
