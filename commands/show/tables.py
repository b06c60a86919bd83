"""The one printer: tables, declared as columns over rows, and lines of text. All that commands show goes through it."""

import re
from collections.abc import Callable, Collection, Hashable, Iterable, Mapping, Sequence
from itertools import pairwise
from typing import Any, TypeVar

from rich.console import Console
from rich.table import Table
from rich.text import Text

from deponij.commands.show.widths import Column, fits, fits_at_ease, widths
from deponij.pipeline.reports import wording
from deponij.pipeline.reports.provenance import is_toy
from deponij.project.frame.console import at_words
from deponij.store.texts import lines, one_line

T = TypeVar("T")
Columns = dict[str, Callable[[T], Any]]
_FIGURE = re.compile(r"(–|[+-]?[\d,.]+( ?(%|GiB))?(\s(\[|\(|±|of ).*)?)?", re.DOTALL)

bounded, percent = wording.bounded, wording.percent

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
    spare: Sequence[str] = (),
    console: Console = stdout,
) -> None:
    """A table; columns of figures are set right and never folded, texts are folded between words.

    Args:
        columns: heading -> what stands in it, of one row.
        style: of a row.
        section: rows of unequal values are divided by a line.
        spare: headings that may go where the terminal is too narrow for all, those of least worth first. A line
            below says which are left out.
    """
    shown = list(rows)
    cells = {heading: [_cell(value(row)) for row in shown] for heading, value in columns.items()}
    if not fits(_measured(cells), console.width):
        # Intervals below their figures.
        cells = {_below(heading): [_below_figure(text) for text in texts] for heading, texts in cells.items()}
    gone = []
    for heading in map(_below, spare):
        if not fits_at_ease(_measured(cells), console.width) and cells.pop(heading, None) is not None:
            gone.append(heading.partition("\n[")[0].replace("\n", " "))
    table = Table(title=Text(lines(title), style="italic"), title_justify="left")
    measured = _measured(cells)
    for heading, column, width in zip(cells, measured, widths(measured, console.width), strict=True):
        justify: Any = "right" if column.is_rigid else "left"
        table.add_column(Text(lines(heading)), justify=justify, overflow="fold", width=width)
    ends = [section(a) != section(b) for a, b in pairwise(shown)]
    for row, texts, ends_section in zip(
        shown, zip(*cells.values(), strict=True), [*ends, False], strict=True
    ):
        table.add_row(*texts, style=style(row), end_section=ends_section)
    console.print(table)
    if gone:
        show_notes([f"too narrow for {', '.join(gone)}: a wider terminal and --json have more"], console)


def _measured(cells: Mapping[str, Sequence[Text]]) -> list[Column]:
    return [
        Column((lines(heading), *(text.plain for text in texts)), _are_figures(texts))
        for heading, texts in cells.items()
    ]


def _are_figures(texts: Sequence[Text]) -> bool:
    return any(texts) and all(_FIGURE.fullmatch(text.plain) for text in texts)


def _below(heading: str) -> str:
    return heading.replace(" [", "\n[")


def _below_figure(text: Text) -> Text:
    return Text(_below(text.plain)) if _FIGURE.fullmatch(text.plain) else text


def show_records(
    title: str, records: Sequence[Mapping[str, Any]], *, spare: Sequence[str] = (), console: Console = stdout
) -> None:
    """Any list of equal records; `spare` as in `show_table`."""
    names = records[0] if records else ()
    columns: Columns[Mapping[str, Any]] = {
        name.replace("_", " "): lambda record, name=name: record[name]  # type: ignore[misc]
        for name in names
    }
    show_table(title, columns, records, spare=spare, console=console)


def show_lines(*shown: str, style: str = "", is_command: bool = False, console: Console = stdout) -> None:
    """Lines as they are: ids and labels may hold brackets, which rich would read as markup.

    Args:
        is_command: to be copied, so that it is not folded at words.
    """
    for line in map(lines, shown):
        text = line if is_command else at_words(line, console)
        console.print(text, style=style, markup=False, soft_wrap=True)


def show_notes(notes: Iterable[str], console: Console = stdout) -> None:
    """What must be known of figures, below them."""
    show_lines(*notes, style="dim", console=console)


def show_toy_note(backbones: Iterable[str], toys: Collection[str]) -> None:
    """What the figures of a toy are worth, where one of the backbones is one."""
    if any(is_toy(name, toys) for name in backbones):
        show_lines(TOY_NOTE, style="yellow")


def counted(n: int, what: str) -> str:
    """`1 group`, `2 groups`."""
    return f"{n:,} {what}" + ("" if n == 1 else "s")


def _cell(value: Any) -> Text:
    return value if isinstance(value, Text) else Text(one_line(plain(value)))


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
