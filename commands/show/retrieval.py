"""How well features find what belongs together, on a terminal. This is no stage."""

from collections.abc import Sequence

from rich.console import Console
from rich.table import Table
from rich.text import Text

from deponij.commands.show.results import stdout
from deponij.pipeline.metrics.retrieval import Figure, RetrievalResult

_WIDEST_CLASS = 28
# Of the many measures, those that tell classes apart.
_OF_CLASS = ("mAP", "recall@1", "recall@5")


def print_retrieval(results: Sequence[RetrievalResult], console: Console = stdout) -> None:
    """A table over all tasks, the classes of the first, and what must be known of the figures."""
    first = results[0]
    table = Table(
        title=f"retrieval with {first.backbone}, split {first.split}, part {first.part}; percent [95 %]",
        title_justify="left",
    )
    for name in ("asked", "by"):
        table.add_column(name)
    table.add_column("measure")
    for name in ("mean over queries", "over classes", "chance", "queries"):
        table.add_column(name, justify="right")
    for result in results:
        _add(table, result)
    console.print(table)
    _print_classes(first, console)
    for result in results:
        console.print(f"{_task(result)}: {result.protocol}.", style="dim", markup=False, soft_wrap=True)
        for note in result.notes:
            console.print(note, style="dim", markup=False, soft_wrap=True)
    console.print(
        "recall@k: queries with something relevant among the first k. Chance: of a random order, computed. Intervals "
        f"resample {' or '.join(dict.fromkeys(one.resampled for one in results))}.",
        style="dim",
        markup=False,
        soft_wrap=True,
    )


def _task(result: RetrievalResult) -> str:
    return f"{result.task.replace('-', ' ')} by {result.column}"


def _add(table: Table, result: RetrievalResult) -> None:
    found = result.figures
    for number, (name, figure) in enumerate(found.micro.items()):
        macro = found.macro.get(name)
        named = (result.task.replace("-", " "), result.column) if number == 0 else ("", "")
        table.add_row(
            *map(Text, named),
            name,
            _figure(figure),
            "" if macro is None else _figure(macro),
            f"{100 * figure.chance:.1f}",
            f"{result.n_queries:,}" if number == 0 else "",
        )
    if not found.micro:
        table.add_row(*map(Text, (result.task.replace("-", " "), result.column, "nothing to find")))
    table.add_section()


def _print_classes(result: RetrievalResult, console: Console) -> None:
    if not result.figures.classes:
        return
    names = [name for name in _OF_CLASS if name in result.figures.micro]
    table = Table(title=f"{_task(result)}, the queries of each class", title_justify="left")
    table.add_column("class", max_width=_WIDEST_CLASS)
    table.add_column("queries", justify="right")
    for name in names:
        table.add_column(name, justify="right")
    for one in sorted(result.figures.classes, key=lambda one: (-one.figures["mAP"].value, one.name)):
        table.add_row(Text(one.name), f"{one.n:,}", *(_figure(one.figures[name]) for name in names))
    console.print(table)


def _figure(figure: Figure) -> str:
    text = f"{100 * figure.value:.1f}"
    if figure.interval is None:
        return text
    return f"{text} \\[{100 * figure.interval[0]:.1f}, {100 * figure.interval[1]:.1f}]"
