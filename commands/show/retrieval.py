"""How well features find what belongs together, on a terminal. This is no stage."""

from collections.abc import Collection, Sequence

from deponij.commands.show.tables import Columns, bounded, percent, show_notes, show_table, show_toy_note
from deponij.pipeline.metrics.retrieval import ClassFigures, Figure, RetrievalResult
from deponij.pipeline.reports.provenance import is_toy, marked
from deponij.pipeline.reports.wording import interval_of

# Of the many measures, those that tell classes apart.
_OF_CLASS = ("mAP", "recall@1", "recall@5")
# Which result, the measure's name, and its figures.
_Row = tuple[RetrievalResult, str | None]


def print_retrieval(results: Sequence[RetrievalResult], toys: Collection[str]) -> None:
    """A table over all tasks, the classes of the first, and what must be known of the figures; toys are marked."""
    first = results[0]
    by = marked(first.backbone, is_toy(first.backbone, toys))
    rows: list[_Row] = [(one, name) for one in results for name in one.figures.micro or (None,)]
    columns: Columns[_Row] = {
        "asked": lambda row: row[0].task.replace("-", " ") if _is_first(row) else "",
        "by": lambda row: row[0].column if _is_first(row) else "",
        "measure": lambda row: row[1] or "nothing to find",
        "mean over queries": lambda row: _figure(row[0].figures.micro.get(row[1] or "")),
        "over classes": lambda row: _figure(row[0].figures.macro.get(row[1] or "")),
        "chance": lambda row: percent(row[0].figures.micro[row[1]].chance) if row[1] else "",
        "queries": lambda row: f"{row[0].n_queries:,}" if row[1] and _is_first(row) else "",
    }
    title = f"retrieval with {by}, split {first.split}, part {first.part}; percent [95 %]"
    spare = ("queries", "by", "chance", "over classes")
    show_table(title, columns, rows, section=lambda row: id(row[0]), spare=spare)
    _print_classes(first)
    show_notes(line for one in results for line in (f"{_task(one)}: {one.protocol}.", *one.notes))
    intervals = dict.fromkeys(interval_of(one.figures.n_resampled, one.resampled) for one in results)
    show_notes(
        [
            "recall@k: queries with something relevant among the first k. Chance: of a random order, computed. "
            f"Intervals: {'; '.join(intervals)}."
        ]
    )
    show_toy_note([first.backbone], toys)


def _is_first(row: _Row) -> bool:
    return row[1] is None or row[1] == next(iter(row[0].figures.micro))


def _task(result: RetrievalResult) -> str:
    return f"{result.task.replace('-', ' ')} by {result.column}"


def _print_classes(result: RetrievalResult) -> None:
    columns: Columns[ClassFigures] = {
        "class": lambda one: one.name,
        "queries": lambda one: f"{one.n:,}",
        **{
            name: lambda one, name=name: _figure(one.figures[name])  # type: ignore[misc]
            for name in _OF_CLASS
            if name in result.figures.micro
        },
    }
    ordered = sorted(result.figures.classes, key=lambda one: (-one.figures["mAP"].value, one.name))
    if ordered:
        show_table(f"{_task(result)}, the queries of each class", columns, ordered)


def _figure(figure: Figure | None) -> str:
    return "" if figure is None else bounded(figure.value, figure.interval)
