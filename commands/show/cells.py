"""The tables of results on a terminal: models in rows, splits side by side, one table a label set.

Not `show_table`: a cell has up to three lines in styles of their own, and a model's name stands above its heads.
"""

from collections.abc import Sequence, Set

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.measure import Measurement
from rich.padding import Padding
from rich.style import Style
from rich.table import Table
from rich.text import Text

from deponij.commands.show.tables import TOY_NOTE, show_notes, stdout
from deponij.pipeline.reports.cell_tables import (
    CellTable,
    TableRow,
    cell_tables,
    how_to_read,
    mean_and_std,
    published,
)
from deponij.pipeline.reports.cells import BASELINE, Cell
from deponij.pipeline.reports.provenance import marked
from deponij.pipeline.reports.wording import interval, percent
from deponij.store.texts import one_line

# Of every split, in this order; those of least worth go first where a terminal is narrow.
_MEASURES = ("top-1", "top-2", "top-3", "bal.")
_SPARE = ("top-3", "top-2", "bal.")
_NAME = len("  zero-shot (photo)")
_QUIET = Style(bold=False, dim=True, color="default")


def print_cells(cells: Sequence[Cell], console: Console = stdout, *, toys: Set[str] = frozenset()) -> None:
    """Every table, and how to read it; toys are marked."""
    for table in cell_tables(cells, toys):
        shown: Sequence[str] = _MEASURES
        gone: list[str] = []
        while len(shown) > 1 and _least_width(_rich_table(table, shown), console) > console.width:
            gone.append(next(name for name in _SPARE if name in shown))
            shown = tuple(name for name in shown if name not in gone)
        console.print(_rich_table(table, shown))
        if gone:
            show_notes([f" too narrow for {', '.join(gone)}: a wider terminal and --json have more"], console)
    if toys:
        console.print(Padding(Text(TOY_NOTE, style="yellow"), (0, 1)))
    for sentence in how_to_read(cells):
        console.print(Padding(Text(sentence, style="dim"), (0, 1)))


def _least_width(table: Table, console: Console) -> int:
    """With names folded as far as they may be, and figures whole."""
    table.columns[0].width = _NAME
    return Measurement.get(console, console.options.update(max_width=10_000), table).maximum


def _rich_table(table: CellTable, measures: Sequence[str]) -> Table:
    """With these measures of every split."""
    title = Text.assemble((one_line(table.labels), "bold"), f": {table.n_classes} classes")
    shown = Table(title=title, title_justify="left", title_style="", box=SIMPLE_HEAD, padding=(0, 1))
    shown.add_column("\n\nmodel and head", min_width=_NAME)
    for name, n in table.splits:
        shown.add_column(
            Text.assemble((one_line(name), "bold"), f"\nn = {n:,}\ntop-1"), justify="right", no_wrap=True
        )
        for other in measures[1:]:
            shown.add_column(f"\n\n{other}", justify="right", no_wrap=True)
    for row, following in zip(table.rows, [*table.rows[1:], None], strict=True):
        is_toy = table.is_toy(row)
        if row.is_first and not row.is_baseline:
            shown.add_row(Text(marked(one_line(row.model), is_toy), "dim" if is_toy else "bold"))
        shown.add_row(
            _name(row),
            *(text for cell in row.cells for text in _fields(table, cell, measures)),
            style="dim" if row.is_baseline or is_toy else "",
            end_section=following is not None and following.is_first and not following.is_baseline,
        )
    return shown


def _name(row: TableRow) -> Text:
    """The head, and what the lines below its figures are."""
    if row.is_baseline:
        return Text(row.model)
    name = Text.assemble(f"  {row.head}", ("\n    95 %", "dim"))
    if any(cell is not None and cell.reference for cell in row.cells):
        name.append("\n    published", "cyan")
    return name


def _fields(table: CellTable, cell: Cell | None, measures: Sequence[str]) -> list[Text]:
    """Top-1 with its interval and the published figure below it, then top-2, top-3 and balanced accuracy."""
    if cell is None:
        return [Text("")] * len(measures)
    first = Text(mean_and_std(cell.top1, cell.top1_std), "bold green" if table.is_chosen(cell) else "")
    if cell.how != BASELINE:
        first.append(f"\n{interval(cell.top1_interval)}", _QUIET)
    others = [Text(percent(share)) for share in (cell.top2, cell.top3, cell.balanced_accuracy)]
    if cell.how != BASELINE:
        others[2].append(f"\n{interval(cell.balanced_interval)}", _QUIET)
    if known := cell.reference:
        first.append(f"\n{published(known.top1)}", "cyan")
        for text, share in zip(others, (known.top2, known.top3), strict=False):
            text.append(f"\n\n{published(share)}", "cyan")
    by_measure = dict(zip(_MEASURES, [first, *others], strict=True))
    return [by_measure[name] for name in measures]
