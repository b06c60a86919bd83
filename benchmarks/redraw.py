"""Makes docs/benchmarks.md and docs/benchmarks.svg of figures.json, in which `all.py` gathers; measures nothing.

    python benchmarks/redraw.py [FIGURES]

Of the page only what stands between its two marks is written anew: reasons and words around it are people's. The drawing
is SVG by hand: one dot a ratio, on a logarithmic axis.
"""

import json
import re
import sys
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from figures import ROOT

from deponij.pipeline.reports.svg import Scale, element, text

FIGURES = ROOT / "benchmarks" / "figures.json"
PAGE, DRAWING = ROOT / "docs" / "benchmarks.md", ROOT / "docs" / "benchmarks.svg"
BEGIN, END = "<!-- figures: written by benchmarks/redraw.py -->", "<!-- end of figures -->"
_LIMIT = re.compile(r"(<|>=) ([\d.e+-]+)")

# In pixels.
WIDTH, LEFT, RIGHT, TOLD, ROW, TOP = 1000, 480, 830, 850, 19, 30
LOWEST, HIGHEST = 0.03, 30.0
TICKS = (0.03, 0.1, 0.3, 1, 3, 10, 30)
STYLE = (
    "text{font:12px system-ui,sans-serif;fill:#222}.head{font-weight:600;font-size:14px}.group{font-weight:600}"
    ".faint{fill:#666}.grid{stroke:#ddd}.one{stroke:#444;stroke-width:1.5}.holds{fill:#0b6fb8}"
    ".missed{fill:#fff;stroke:#c2410c;stroke-width:2.5}.pair{fill:#555}.stem{stroke:#bbb}"
)


@dataclass(frozen=True)
class Dot:
    """One row of the drawing.

    Attributes:
        value: of a judged figure how much of its limit it takes, below 1 where it holds; of a pair its ratio.
        told: what is written beside it.
        holds: None where nothing was wanted.
    """

    group: str
    name: str
    value: float
    told: str
    holds: bool | None


def share_of_limit(line: dict[str, Any]) -> float | None:
    """The figure over a limit that it must stay below, or the limit over a figure that must reach it."""
    found = _LIMIT.fullmatch(line["limit"])
    if found is None or not line["value"]:
        return None
    limit = float(found[2])
    return float(line["value"] / limit if found[1] == "<" else limit / line["value"]) or None


def is_pair(line: dict[str, Any]) -> bool:
    """A ratio of two things that were measured in one run, of which nothing is wanted."""
    return (
        line["holds"] is None
        and line["value"] is not None
        and (line["unit"] == "x" or " over " in line["name"])
    )


def figure(value: float | None, unit: str = "") -> str:
    """Three digits that count."""
    if value is None:
        return "–"
    size = abs(value)
    digits = 0 if size >= 100 or value == int(value) else 1 if size >= 10 else 2 if size >= 1 else 3
    shown = f"{value:,.{digits}f}" if size >= 0.001 or value == 0 else f"{value:.1e}"
    return f"{shown} {unit}".strip()


# ------------------------------------------------------------------ the page


def tables(found: dict[str, Any]) -> Iterator[str]:
    """What stands between the marks."""
    here, entries = found["machine"], found["benchmarks"]
    yield (
        f"Machine: {here['processor']}, {here['cores']} cores, {here['memory_gib']} GiB, {here['system']}; "
        f"Python {here['python']}, torch {here['torch']}."
    )
    busy = [name for name, one in entries.items() if one["was_busy"]]
    quick = [name for name, one in entries.items() if one["form"] == "quick"]
    if busy:
        yield (
            f"**The machine was busy** before {', '.join(busy)}: times are too long, and by how much changes from minute "
            "to minute. Ratios of sides that took turns say something, single times little."
        )
    if quick:
        yield f"In the quick form, with small numbers: {', '.join(quick)}."
    yield from judged(entries)
    yield "## Everything that was measured"
    for name, one in entries.items():
        yield from of_benchmark(name, one)


def judged(entries: dict[str, Any]) -> Iterator[str]:
    rows = [
        (name, line)
        for name, one in entries.items()
        for line in one.get("lines", ())
        if line["holds"] is not None
    ]
    n_held = sum(line["holds"] for _, line in rows)
    yield f"## What is wanted\n\nOf {len(rows)} figures with a target {n_held} hold."
    yield table(
        ("benchmark", "what", "figure", "wanted", "verdict"),
        [
            (name, line["name"], figure(line["value"], line["unit"]), line["limit"], verdict(line["holds"]))
            for name, line in rows
        ],
    )


def verdict(holds: bool | None) -> str:
    return {None: "", True: "holds", False: "**missed**"}[holds]


def of_benchmark(name: str, one: dict[str, Any]) -> Iterator[str]:
    yield f"### {name}: {one['about']}"
    yield (
        f"{one['date']}, {one['form']} form (`benchmarks/{name}.py {one['arguments']}`".rstrip()
        + f"), load {one['load_before']:.1f} before, {one['seconds']:.0f} s."
    )
    if "problem" in one:
        yield f"Not all of it: {one['problem']}."
    if not one.get("lines"):
        return
    yield table(
        ("what", "figure", "wanted", "verdict"),
        [
            (line["name"], figure(line["value"], line["unit"]), line["limit"], verdict(line["holds"]))
            for line in one["lines"]
        ],
    )


def table(heads: Iterable[str], rows: Iterable[Iterable[str]]) -> str:
    """Markdown; figures to the right."""
    heads = list(heads)
    marks = ["--:" if head == "figure" else "---" for head in heads]
    lines = [heads, marks, *rows]
    return "\n".join("| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |" for line in lines)


def rewritten(page: str, between: str) -> str:
    """The page with other figures.

    Raises:
        SystemExit: its marks are gone.
    """
    if page.count(BEGIN) != 1 or page.count(END) != 1:
        raise SystemExit(f"{PAGE} must have each of these lines once:\n{BEGIN}\n{END}")
    before, rest = page.split(BEGIN)
    return f"{before}{BEGIN}\n\n{between}\n\n{END}{rest.split(END)[1]}"


# ------------------------------------------------------------------ the drawing


def dots(entries: dict[str, Any]) -> tuple[list[Dot], list[Dot]]:
    """Of figures with a target, and of pairs without."""
    wanted, pairs = [], []
    for group, one in entries.items():
        for line in one.get("lines", ()):
            share = share_of_limit(line) if line["holds"] is not None else None
            value, limit = figure(line["value"], line["unit"]), line["limit"]
            if share is not None:
                wanted.append(Dot(group, line["name"], share, f"{value} ({limit})", line["holds"]))
            elif is_pair(line) and line["value"] > 0:
                pairs.append(Dot(group, line["name"], line["value"], value, None))
    return wanted, pairs


def drawn(found: dict[str, Any]) -> str:
    """The whole drawing."""
    wanted, pairs = dots(found["benchmarks"])
    parts, y = [], float(TOP)
    for title, below, some in (
        ("Figures over their targets", "left of 1: holds", wanted),
        ("Ratios of pairs measured in one run", "no target; what counts as better is in the name", pairs),
    ):
        if some:
            panel, y = drawn_panel(title, below, some, y)
            parts += [*panel]
    size = {"width": WIDTH, "height": y, "viewBox": f"0 0 {WIDTH} {y:g}"}
    back = element("rect", width=WIDTH, height=y, fill="#fff")
    style = f"<style>{STYLE}</style>"
    attributes = " ".join(f'{name}="{value}"' for name, value in size.items())
    return f'<svg xmlns="http://www.w3.org/2000/svg" {attributes}>{style}{back}{"".join(parts)}</svg>\n'


def drawn_panel(title: str, below: str, some: list[Dot], y: float) -> tuple[list[str], float]:
    """Marks of one panel that begins at y, and where it ends."""
    scale = Scale(LOWEST, HIGHEST, LEFT, RIGHT, is_log=True)
    head = [text(title, x=12, y=y, class_="head"), text(below, x=LEFT, y=y, class_="faint")]
    top, marks, group = y + 14, [], ""
    y = top + 8
    for dot in some:
        if dot.group != group:
            group = dot.group
            y += 6
            marks.append(text(group, x=12, y=y + 10, class_="group"))
            y += ROW
        marks.append(text(shortened(dot.name), told=dot.name, x=24, y=y + 10))
        marks += drawn_dot(dot, scale, y + 6)
        y += ROW
    grid = []
    for tick in TICKS:
        x = scale.at(tick)
        grid.append(element("line", x1=x, x2=x, y1=top, y2=y + 4, class_="one" if tick == 1 else "grid"))
        grid.append(text(f"{tick:g}", x=x, y=y + 18, text_anchor="middle", class_="faint"))
    return [*head, *grid, *marks], y + 54


def drawn_dot(dot: Dot, scale: Scale, y: float) -> Iterator[str]:
    """A dot, where it is past the axis an arrow at its end, and the figure beside the axis."""
    value = min(max(dot.value, LOWEST), HIGHEST)
    x, class_ = scale.at(value), {None: "pair", True: "holds", False: "missed"}[dot.holds]
    yield element("line", x1=scale.at(1), x2=x, y1=y, y2=y, class_="stem")
    if value == dot.value:
        yield element("circle", cx=x, cy=y, r=5, class_=class_)
    else:
        step = 7 if dot.value > HIGHEST else -7
        yield element("path", d=f"M{x:.1f} {y - 5:g}v10l{step} -5z", class_=class_)
    yield text(dot.told, x=TOLD, y=y + 4, class_="faint")


def shortened(name: str, most: int = 72) -> str:
    return name if len(name) <= most else name[: most - 1] + "…"


def main() -> None:
    """Write both."""
    found = json.loads((Path(sys.argv[1]) if len(sys.argv) > 1 else FIGURES).read_text())
    PAGE.write_text(rewritten(PAGE.read_text(), "\n\n".join(tables(found))))
    DRAWING.write_text(drawn(found))


if __name__ == "__main__":
    main()
