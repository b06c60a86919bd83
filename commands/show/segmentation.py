"""Tables of segmentation for the command line."""

from collections.abc import Sequence, Set

from rich.console import Console

from deponij.commands.show.tables import (
    Columns,
    bounded,
    percent,
    show_lines,
    show_notes,
    show_table,
    show_toy_note,
    stdout,
)
from deponij.pipeline.metrics.intervals import Interval
from deponij.pipeline.metrics.segmentation_result import SegmentationResult
from deponij.pipeline.reports.provenance import is_toy, marked
from deponij.pipeline.reports.segmentation.published import PUBLISHED_PROTOCOL
from deponij.pipeline.reports.segmentation.table import (
    SIDE_BY_SIDE,
    SegmentationRow,
    SegmentationTable,
    class_columns,
    segmentation_tables,
)
from deponij.pipeline.reports.wording import interval_of, p_value, points
from deponij.project.segmentation.compare import SegmentationComparison
from deponij.store.texts import duration


def print_segmentation(result: SegmentationResult) -> None:
    """One approach that was just learned."""
    print_segmentation_tables(segmentation_tables([("", result)], frozenset()), frozenset())
    show_notes([result.protocol, *result.notes])


def print_segmentation_tables(
    tables: Sequence[SegmentationTable], toys: Set[str], *, classes: bool = True, console: Console = stdout
) -> None:
    """Approaches, and (unless left out) IoU by class."""
    for table in tables:
        _print_approaches(table, console)
        if classes:
            _print_classes(table, console)
        show_notes(table.notes, console)
    show_toy_note([row.backbone for table in tables for row in table.rows], toys)


def _print_approaches(table: SegmentationTable, console: Console) -> None:
    columns: Columns[SegmentationRow] = {
        "approach": lambda row: row.method,
        "backbone": lambda row: marked(row.backbone, row.is_toy),
        "words": lambda row: row.words,
        "val. mIoU": lambda row: percent(row.val_miou),
        "mIoU [95 %]": lambda row: bounded(row.miou, row.miou_interval),
        "acc. [95 %]": lambda row: bounded(row.accuracy, row.accuracy_interval),
        "mean acc. [95 %]": lambda row: bounded(row.mean_accuracy, row.mean_accuracy_interval),
        "bound. mIoU": lambda row: percent(row.boundary_miou),
        "weights": lambda row: f"{row.n_weights:,}",
        "learned in": lambda row: "–" if row.seconds is None else duration(row.seconds),
    }
    show_table(
        f"{table.n_classes} classes, {table.part} part, percent of {table.n_pictures:,} pictures",
        columns,
        table.rows,
        style=lambda row: "bold" if row.is_chosen else "dim" if row.is_toy else "",
        spare=("learned in", "weights", "bound. mIoU", "val. mIoU", "mean acc. [95 %]"),
        console=console,
    )
    show_notes(
        [
            f"always {table.majority}: mIoU {percent(table.majority_miou)}, accuracy {percent(table.majority_accuracy)}",
        ],
        console,
    )
    if table.published:
        show_table(
            f"published ({', '.join(dict.fromkeys(one.source for one in table.published))})",
            {
                "approach": lambda one: one.approach,
                "words": lambda one: one.words,
                "mIoU": lambda one: percent(one.miou),
                "mIoU train": lambda one: percent(one.miou_train),
                "acc.": lambda one: percent(one.accuracy),
                "mean acc.": lambda one: percent(one.mean_accuracy),
            },
            table.published,
            spare=("mIoU train", "mean acc."),
            console=console,
        )
        show_notes([PUBLISHED_PROTOCOL], console)


def _print_classes(table: SegmentationTable, console: Console) -> None:
    columns = class_columns(table)
    letters = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"[: len(columns)]
    n_pixels = sum(one.n_pixels for one in table.by_class[0])
    shown: Columns[int] = {
        "class": lambda place: table.by_class[0][place].name,
        "share": lambda place: percent(table.by_class[0][place].n_pixels / n_pixels),
    }
    for letter, (_, figures) in zip(letters, columns, strict=True):
        heading = f"{letter} [95 %]" if any("[" in figure for figure in figures) else letter
        shown[heading] = lambda place, figures=figures: figures[place]  # type: ignore[misc]
    # The first two and what was published stay.
    spare = ["share", *reversed(list(shown)[4 : 2 + min(len(table.rows), SIDE_BY_SIDE)])]
    show_table(
        "IoU of each class, percent", shown, range(len(table.by_class[0])), spare=spare, console=console
    )
    show_lines(
        *(f"{letter}  {name}" for letter, (name, _) in zip(letters, columns, strict=True)),
        style="dim",
        console=console,
    )


def print_segmentation_comparison(
    comparison: SegmentationComparison, toys: Set[str], n_classes: int = 5
) -> None:
    """Two approaches on the same pictures; of the classes those that gain and lose most."""
    show_table(
        f"{comparison.part} part, {comparison.n_pictures:,} pictures, percent",
        {
            "": lambda row: row[0],
            "approach": lambda row: row[1].method,
            "backbone": lambda row: marked(row[1].backbone, is_toy(row[1].backbone, toys)),
            "words": lambda row: row[1].words,
            "folder": lambda row: row[1].folder,
            "acc.": lambda row: percent(row[1].accuracy),
            "mIoU [95 %]": lambda row: bounded(row[1].miou, row[1].miou_interval),
        },
        [("A", comparison.a), ("B", comparison.b)],
        spare=("folder", "words"),
    )
    show_lines(
        *(
            f"A − B: {points(one.difference)} points of {name}{between(one.interval)}, {p_value(one.p)}"
            for name, one in (("mIoU", comparison.miou), ("accuracy", comparison.accuracy))
        )
    )
    gains = [one for one in comparison.classes if one.difference > 0][:n_classes]
    losses = [one for one in comparison.classes if one.difference < 0][-n_classes:]
    if gains or losses:
        show_table(
            "classes where A gains or loses most, IoU in percent",
            {
                "class": lambda one: one.name,
                "A": lambda one: percent(one.iou_a),
                "B": lambda one: percent(one.iou_b),
                "A − B": lambda one: f"{points(one.difference)}{between(one.interval)}",
            },
            [*gains, *losses],
        )
    show_lines(comparison.verdict, style="bold")
    show_notes(
        [
            f"intervals: {interval_of(comparison.n_groups, comparison.unit)}; p: {comparison.unit} exchanged whole",
            *comparison.notes,
        ]
    )
    show_toy_note([comparison.a.backbone, comparison.b.backbone], toys)


def between(bounds: Interval | None) -> str:
    """The interval of a difference in points, with a space before it; empty for none."""
    return "" if bounds is None else f" [{points(bounds[0])}, {points(bounds[1])}]"
