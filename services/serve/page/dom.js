// Elements from plain values. Text is always text: nothing here, or anywhere on the page, parses HTML.

const SVG = "http://www.w3.org/2000/svg";

/** An element by its id; the page's fixed parts are in index.html. */
export const byId = (id) => document.getElementById(id);

/**
 * An element.
 * @param {string} tag
 * @param {object} given attributes; besides them `on` (listeners by event) and `vars` (custom properties of its style).
 * @param {...(Node|string|number|null|undefined)} children strings become text.
 */
export function el(tag, given = {}, ...children) {
  return filled(document.createElement(tag), given, children);
}

/** The same for SVG. */
export function svg(tag, given = {}, ...children) {
  return filled(document.createElementNS(SVG, tag), given, children);
}

function filled(node, { on = {}, vars = {}, ...attributes }, children) {
  for (const [name, value] of Object.entries(attributes)) {
    if (value === true) node.setAttribute(name, "");
    else if (value !== false && value != null) node.setAttribute(name, value);
  }
  for (const [event, listener] of Object.entries(on)) node.addEventListener(event, listener);
  for (const [name, value] of Object.entries(vars)) node.style.setProperty(name, value);
  node.append(...children.filter((child) => child != null && child !== false).map((child) => (child instanceof Node ? child : String(child))));
  return node;
}

/** Replace what a container holds; the control with the same `data-key` gets the focus again. */
export function refill(container, ...children) {
  const key = container.contains(document.activeElement) ? document.activeElement.dataset.key : undefined;
  container.replaceChildren(...children);
  if (key !== undefined) container.querySelector(`[data-key="${CSS.escape(key)}"]`)?.focus();
}

/** A button. */
export const button = (text, click, given = {}) => el("button", { type: "button", ...given, on: { click } }, text);
