// The server's answers. Nothing else on the page fetches.

/** What the server refused, in words for a person. */
export class ApiError extends Error {
  constructor(message, { code = "failed", status = 0, retryAfterS = null } = {}) {
    super(message);
    Object.assign(this, { code, status, retryAfterS });
  }
}

async function ask(url, options = {}) {
  let response;
  try {
    response = await fetch(url, options);
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new ApiError("The server does not answer. Is `deponij serve` still running?", { code: "unreachable" });
  }
  const content = await response.json().catch(() => null);
  if (response.ok && content !== null) return content;
  const { code, message } = content?.error ?? {};
  throw new ApiError(sentence(message ?? `The server answered with status ${response.status}.`), {
    code, status: response.status, retryAfterS: Number(response.headers.get("Retry-After")) || null,
  });
}

/** With a capital, unless it begins with a name such as mini-dinov2, and a full stop. */
const sentence = (text) => text.replace(/^[a-z](?=[a-z]* )/, (letter) => letter.toUpperCase()) + (/[.!?]$/.test(text) ? "" : ".");
const query = (values) => new URLSearchParams(Object.entries(values).filter(([, value]) => value != null)).toString();

export const about = () => ask("/api/about");
export const health = () => ask("/api/health");
export const item = (id, signal) => ask(`/api/item?${query({ id })}`, { signal });
export const map = (backbone, layout, labels) => ask(`/api/map?${query({ backbone, layout, labels })}`);

export const search = (body, signal) =>
  ask("/api/search", { method: "POST", headers: { "Content-Type": "application/json" }, body: JSON.stringify(body), signal });

export const thumbnail = (id, side_px) => `/api/thumbnail?${query({ id, side: side_px })}`;
export const photograph = (id, side_px) => `/api/photograph?${query({ id, side: side_px })}`;
