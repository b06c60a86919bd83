// Colours and shapes that tell classes apart, for eyes that confuse colours too; the same as in the report.
//
// Seven colours (P. Tol, "Colour Schemes", 2021, darker on paper; style.css says which) and eight shapes have
// no common divisor, so that 56 classes in a row are all different.

const N_COLOURS = 7;

const polygon = (r, ...points) => `M${points.map(([x, y]) => `${x * r} ${y * r}`).join("L")}Z`;
const SHAPES = [
  (r) => `M${-r} 0a${r} ${r} 0 1 0 ${2 * r} 0a${r} ${r} 0 1 0 ${-2 * r} 0Z`,
  (r) => polygon(r, [-0.85, -0.85], [0.85, -0.85], [0.85, 0.85], [-0.85, 0.85]),
  (r) => polygon(r, [0, -1.15], [1.1, 0.8], [-1.1, 0.8]),
  (r) => polygon(r, [0, -1.2], [1.2, 0], [0, 1.2], [-1.2, 0]),
  (r) => polygon(r, [0, 1.15], [1.1, -0.8], [-1.1, -0.8]),
  (r) => `M${-0.4 * r} ${-1.15 * r}h${0.8 * r}v${0.75 * r}h${0.75 * r}v${0.8 * r}h${-0.75 * r}v${0.75 * r}h${-0.8 * r}v${-0.75 * r}h${-0.75 * r}v${-0.8 * r}h${0.75 * r}Z`,
  (r) => polygon(r, [-1.25, -0.45], [1.25, -0.45], [1.25, 0.45], [-1.25, 0.45]),
  (r) => polygon(r, [-0.45, -1.25], [0.45, -1.25], [0.45, 1.25], [-0.45, 1.25]),
];

/** Name of a class's colour in the style; `null`: an item without a class. */
export const colourOf = (code) => (code === null ? "--muted" : `--c${code % N_COLOURS}`);

/** Path data around the middle, of a given radius. */
export const shapeOf = (code, radius) => SHAPES[code === null ? 0 : code % SHAPES.length](radius);
