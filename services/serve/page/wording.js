// Numbers and filters in words.

const grouped = new Intl.NumberFormat("en");

/** 1,389 */
export const count = (n) => grouped.format(n);

/** "1 item", "2 items" */
export const counted = (n, what) => `${count(n)} ${what}${n === 1 ? "" : "s"}`;

/** 0.312; nothing for what was not scored. */
export const score = (value) => (value == null ? "" : value.toFixed(3).replace("-", "−"));

/** A value of a table: numbers short, lists with commas, nothing as a dash. */
export function value(given) {
  if (given == null || given === "") return "–";
  if (Array.isArray(given)) return given.length ? given.map(value).join(", ") : "–";
  if (typeof given === "number") return Number.isInteger(given) ? String(given) : String(Number(given.toPrecision(6)));
  if (typeof given === "boolean") return given ? "yes" : "no";
  return typeof given === "object" ? JSON.stringify(given) : String(given);
}

const listed = (values) => {
  const words = values.slice(0, 3).map(value);
  if (values.length > 3) words.push(`${values.length - 3} more`);
  return words.length < 2 ? words.join("") : `${words.slice(0, -1).join(", ")} or ${words.at(-1)}`;
};

const WORDS = {
  "in": (values) => `is ${listed(values)}`,
  "not in": (values) => `is not ${listed(values)}`,
  "=": (one) => `is ${value(one)}`,
  "!=": (one) => `is not ${value(one)}`,
  "between": ([low, high]) => `${value(low)} to ${value(high)}`,
  ">=": (one) => `≥ ${value(one)}`,
  "<=": (one) => `≤ ${value(one)}`,
  ">": (one) => `> ${value(one)}`,
  "<": (one) => `< ${value(one)}`,
  "contains": (one) => `contains “${value(one)}”`,
  "starts with": (one) => `starts with “${value(one)}”`,
  "is null": () => "has no value",
  "is not null": () => "has a value",
};

/** "category is can or cup" */
export const filterInWords = ({ column, op, value: given }) => `${column} ${WORDS[op]?.(given) ?? op}`;

/** What a hit is called: its label, else its id. */
export const nameOf = (hit) => hit.label ?? hit.item_id;
