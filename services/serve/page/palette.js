// Colours and shapes that tell classes apart, for eyes that confuse colours too: those of the report, from the one
// file that defines them. Colours come as a style sheet of it, so that light and dark are the browser's choice.

const { n_colours, shapes } = await (await fetch("/static/palette.json")).json();
const paths = shapes.map((path) => new Path2D(path));

const shape = (code) => (code === null ? 0 : code % shapes.length);

/** Name of a class's colour in the style; `null`: an item without a class. */
export const colourOf = (code) => (code === null ? "--muted" : `--c${code % n_colours}`);

/** Path data of radius 1 that begin at the middle. */
export const outlineOf = (code) => `M0 0${shapes[shape(code)]}`;

/** The same to be filled on a canvas. */
export const pathOf = (code) => paths[shape(code)];
