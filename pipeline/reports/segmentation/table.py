"""The table of approaches and that of classes: rows in the order in which they are shown, and both as Markdown.

Which approach is chosen: `deponij.pipeline.metrics.choice`, by mIoU on validation.
"""

from collections.abc import Sequence, Set

from deponij.pipeline.metrics.choice import Preference, preference
from deponij.pipeline.metrics.evaluation import not_a_result
from deponij.pipeline.metrics.intervals import Interval
from deponij.pipeline.metrics.segmentation import ClassIou
from deponij.pipeline.metrics.segmentation_result import SegmentationResult, Windows
from deponij.pipeline.record_lists import Record
from deponij.pipeline.reports.provenance import is_toy, marked
from deponij.pipeline.reports.segmentation.published import PUBLISHED_PROTOCOL, Published, published_for
from deponij.pipeline.reports.wording import bounded, cell, interval_of, percent
from deponij.store.texts import duration

# Of so many approaches classes stand side by side; more are too wide for a page.
SIDE_BY_SIDE = 4


class SegmentationRow(Record):
    """One approach: figures of the part that is shown, see `SegmentationScores`.

    Attributes:
        folder: its results.
        is_chosen: by mIoU on validation (val_miou); a toy beside real ones never is.
    """

    folder: str
    method: str
    backbone: str
    words: str
    n_weights: int
    seconds: float | None
    part: str
    n_pictures: int
    n_groups: int
    unit: str
    val_miou: float | None
    accuracy: float
    accuracy_interval: Interval | None
    mean_accuracy: float
    mean_accuracy_interval: Interval | None
    miou: float
    miou_interval: Interval | None
    boundary_miou: float | None
    boundary_miou_interval: Interval | None
    protocol: str
    windows: Windows
    is_toy: bool
    is_chosen: bool

    @property
    def name(self) -> str:
        """Method, backbone and words in one line."""
        return f"{self.method}, {self.backbone}, {self.words}"


class SegmentationTable(Record):
    """Approaches to the same pictures and classes.

    Attributes:
        part, n_pictures, n_classes, absent: what figures are of; absent classes are in no mean.
        majority, majority_accuracy, majority_miou: of answering the most frequent class everywhere.
        rows: the chosen one first.
        by_class: of each row its classes, in the same order.
        published: figures of others on the same classes.
        notes: what a reader must know.
    """

    part: str
    n_pictures: int
    n_groups: int
    unit: str
    n_classes: int
    absent: tuple[str, ...]
    majority: str
    majority_accuracy: float
    majority_miou: float
    rows: tuple[SegmentationRow, ...]
    by_class: tuple[tuple[ClassIou, ...], ...]
    published: tuple[Published, ...]
    notes: tuple[str, ...]


def segmentation_tables(
    results: Sequence[tuple[str, SegmentationResult]], toys: Set[str], part: str | None = None
) -> list[SegmentationTable]:
    """A table for each set of classes and pictures, from results with their folders.

    Args:
        part: whose figures; by default the one that results are read from. Results without it are left out.
    """
    groups: dict[tuple[object, ...], list[tuple[str, SegmentationResult, str]]] = {}
    for folder, result in results:
        shown = part or result.shown
        if shown in result.parts:
            one = result.parts[shown]
            key = (result.classes, shown, one.n_pictures, one.n_pixels)
            groups.setdefault(key, []).append((folder, result, shown))
    return [_table(group, toys) for group in groups.values()]


def _table(group: Sequence[tuple[str, SegmentationResult, str]], toys: Set[str]) -> SegmentationTable:
    def order(one: tuple[str, SegmentationResult, str]) -> Preference:
        result = one[1]
        return preference(is_toy=is_toy(result.backbone, toys), judged_top1=result.val_miou, n_backbones=1)

    ranked = sorted(group, key=order)
    if ranked[0][1].val_miou is None:
        # Nothing chooses; the order is that of the figures, and none is called the best.
        ranked.sort(key=lambda one: (is_toy(one[1].backbone, toys), -one[1].parts[one[2]].miou))
    rows = [_row(*one, toys, is_first=place == 0) for place, one in enumerate(ranked)]
    _, first, shown = ranked[0]
    scores = first.parts[shown]
    return SegmentationTable(
        **{
            name: getattr(scores, name)
            for name in SegmentationTable.model_fields
            if name in type(scores).model_fields and name != "by_class"
        },
        part=shown,
        rows=tuple(rows),
        by_class=tuple(result.parts[shown].by_class for _, result, _ in ranked),
        published=published_for(first.classes) if shown == "test" else (),
        notes=tuple(_notes(rows, scores.absent)),
    )


def _row(
    folder: str, result: SegmentationResult, shown: str, toys: Set[str], is_first: bool
) -> SegmentationRow:
    scores = result.parts[shown]
    fields = SegmentationRow.model_fields
    shared = {name: getattr(scores, name) for name in fields if name in type(scores).model_fields}
    of_result = {name: getattr(result, name) for name in fields if name in type(result).model_fields}
    return SegmentationRow(
        **shared,
        **of_result,
        folder=folder,
        part=shown,
        val_miou=result.val_miou,
        is_toy=is_toy(result.backbone, toys),
        is_chosen=is_first and result.val_miou is not None,
    )


def _notes(rows: Sequence[SegmentationRow], absent: Sequence[str]) -> list[str]:
    first = rows[0]
    notes = [
        f"intervals: {interval_of(first.n_groups, first.unit)}",
        "in order of mIoU on validation, which chooses the first"
        if first.is_chosen
        else f"no validation part to choose by: the order is that of the {first.part} figures, which flatters the first",
    ]
    if absent:
        notes.append(
            f"no {first.part} picture shows {', '.join(absent)}: in no mean; pixels called so are misses"
        )
    if said := not_a_result(first.part):
        notes.append(said)
    return notes


def tables_markdown(table: SegmentationTable) -> str:
    """Approaches, then classes."""
    figures = ("val. mIoU", "mIoU", "accuracy", "mean accuracy", "boundary mIoU", "weights", "learned in")
    baseline = ["", percent(table.majority_miou), percent(table.majority_accuracy), "", "", "", ""]
    lines = [
        f"{cell(table.part.capitalize())} part, {table.n_pictures:,} pictures, {table.n_classes} classes; shares in "
        f"percent, in brackets {interval_of(table.n_groups, table.unit)}.",
        "",
        f"| approach | backbone | words | {' | '.join(figures)} |",
        f"|---|---|---|{'--:|' * len(figures)}",
        f"| always {cell(table.majority)} | | | {' | '.join(baseline)} |",
        *map(_markdown_row, table.rows),
        *(
            f"| {cell(one.approach)} (published) | | {cell(one.words)} | | {percent(one.miou)} | {percent(one.accuracy)} | "
            f"{percent(one.mean_accuracy)} | – | | |"
            for one in table.published
        ),
        "",
        *_markdown_classes(table),
        "",
        *(f"- {cell(note)}" for note in table.notes),
        *(f"- {cell(row.name)}: {cell(row.protocol)}" for row in table.rows),
    ]
    if table.published:
        lines.append(
            f"- {PUBLISHED_PROTOCOL} ({', '.join(dict.fromkeys(one.source for one in table.published))})"
        )
    return "\n".join(lines) + "\n"


def _markdown_row(row: SegmentationRow) -> str:
    figures = [
        percent(row.val_miou),
        bounded(row.miou, row.miou_interval),
        bounded(row.accuracy, row.accuracy_interval),
        bounded(row.mean_accuracy, row.mean_accuracy_interval),
        "–" if row.boundary_miou is None else bounded(row.boundary_miou, row.boundary_miou_interval),
        f"{row.n_weights:,}",
        "–" if row.seconds is None else duration(row.seconds),
    ]
    names = [cell(row.method), cell(marked(row.backbone, row.is_toy)), cell(row.words)]
    return f"| {' | '.join([*names, *figures])} |"


def _markdown_classes(table: SegmentationTable) -> list[str]:
    columns = class_columns(table)
    head = ["class", "share of pixels", *(cell(name) for name, _ in columns)]
    lines = [f"| {' | '.join(head)} |", "|---|--:|" + "--:|" * len(columns)]
    n_pixels = sum(one.n_pixels for one in table.by_class[0])
    for place, one in enumerate(table.by_class[0]):
        figures = [figures[place] for _, figures in columns]
        lines.append(f"| {cell(one.name)} | {percent(one.n_pixels / n_pixels)} | {' | '.join(figures)} |")
    return lines


def class_columns(table: SegmentationTable) -> list[tuple[str, list[str]]]:
    """Headings, and under each an IoU a class with its interval: the first approaches, then what was published."""
    ours = [
        (row.name, ["–" if one.iou is None else bounded(one.iou, one.iou_interval) for one in classes])
        for row, classes in zip(table.rows[:SIDE_BY_SIDE], table.by_class, strict=False)
    ]
    theirs = [
        (
            f"published: {one.approach}, {one.words}",
            [percent(one.iou.get(each.name)) for each in table.by_class[0]],
        )
        for one in table.published
        if one.iou
    ]
    return [*ours, *theirs]
