"""The one printer: tables, declared as columns over rows, and lines of text. All that commands show goes through it."""

import re
from collections.abc import Callable, Collection, Hashable, Iterable, Mapping, Sequence
from itertools import pairwise
from typing import Any, TypeVar

from rich.console import Console
from rich.table import Table
from rich.text import Text

from deponij.pipeline.reports.provenance import is_toy
from deponij.pipeline.reports.wording import TOO_FEW
from deponij.store.texts import lines, one_line

T = TypeVar("T")
Columns = dict[str, Callable[[T], Any]]
_FIGURE = re.compile(r"([+-]?[\d,.]+( ?(%|GiB))?(\s(\[|\(|±|of ).*)?)?", re.DOTALL)

# Columns of a terminal in which figures stand beside their intervals.
_WIDE = 110

TOY_NOTE = (
    "toy: learnt from drawn litter only; on other pictures its figures are no measure of what zero-shot, search "
    "or a probe can do"
)

stdout = Console(highlight=False)
if not stdout.is_terminal:
    # A pipe or a log has no width of its own; tables must not be folded to 80 columns there.
    stdout = Console(highlight=False, width=132)


def show_table(
    title: str,
    columns: Columns[T],
    rows: Iterable[T],
    *,
    style: Callable[[T], str] = lambda _: "",
    section: Callable[[T], Hashable] = lambda _: None,
    keep_figures: bool = False,
    console: Console = stdout,
) -> None:
    """A table; columns of figures are set right.

    Args:
        columns: heading -> what stands in it, of one row.
        style: of a row.
        section: rows of unequal values are divided by a line.
        keep_figures: where it is narrow, fold texts alone; intervals stand below their figures then.
    """
    shown = list(rows)
    table = Table(title=Text(lines(title), style="italic"), title_justify="left")
    below = keep_figures and console.width < _WIDE
    cells = [[_cell(value(row), below=below) for row in shown] for value in columns.values()]
    for heading, column in zip(columns, cells, strict=True):
        name = heading.replace(" [", "\n[") if below else heading
        is_figure = any(column) and all(_FIGURE.fullmatch(cell.plain) for cell in column)
        justify: Any = "right" if is_figure else "left"
        table.add_column(
            Text(lines(name)), justify=justify, overflow="fold", no_wrap=is_figure and keep_figures
        )
    ends = [section(a) != section(b) for a, b in pairwise(shown)]
    for row, texts, ends_section in zip(shown, zip(*cells, strict=True), [*ends, False], strict=True):
        table.add_row(*texts, style=style(row), end_section=ends_section)
    console.print(table)


def show_records(title: str, records: Sequence[Mapping[str, Any]], *, console: Console = stdout) -> None:
    """Any list of equal records."""
    names = records[0] if records else ()
    columns: Columns[Mapping[str, Any]] = {
        name.replace("_", " "): lambda record, name=name: record[name]  # type: ignore[misc]
        for name in names
    }
    show_table(title, columns, records, console=console)


def show_lines(*shown: str, style: str = "", console: Console = stdout) -> None:
    """Lines as they are: ids and labels may hold brackets, which rich would read as markup."""
    for line in shown:
        console.print(lines(line), style=style, markup=False, soft_wrap=True)


def show_notes(notes: Iterable[str], console: Console = stdout) -> None:
    """What must be known of figures, below them."""
    show_lines(*notes, style="dim", console=console)


def show_toy_note(backbones: Iterable[str], toys: Collection[str]) -> None:
    """What the figures of a toy are worth, where one of the backbones is one."""
    if any(is_toy(name, toys) for name in backbones):
        show_lines(TOY_NOTE, style="yellow")


def percent(share: float | None) -> str:
    """`61.2`; nothing for nothing."""
    return "" if share is None else f"{100 * share:.1f}"


def bounded(share: float, interval: Sequence[float] | None) -> str:
    """A share with its interval: `61.2 [58.1, 64.0]`, or `61.2 [too few]`."""
    bounds = TOO_FEW if interval is None else f"{percent(interval[0])}, {percent(interval[1])}"
    return f"{percent(share)} [{bounds}]"


def counted(n: int, what: str) -> str:
    """`1 group`, `2 groups`."""
    return f"{n:,} {what}" + ("" if n == 1 else "s")


def _cell(value: Any, *, below: bool = False) -> Text:
    if isinstance(value, Text):
        return value
    text = one_line(plain(value))
    return Text(text.replace(" [", "\n[") if below and _FIGURE.fullmatch(text) else text)


def plain(value: Any) -> str:
    """A value in words."""
    match value:
        case None:
            return ""
        case bool():
            return "yes" if value else "no"
        case list() | tuple():
            return ", ".join(plain(one) for one in value)
        case _:
            return str(value)
