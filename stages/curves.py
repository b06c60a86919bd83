"""Stage `curves`: accuracy against labelled items of each class, by the features of each backbone.

python -m deponij.stages.curves
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

from pydantic import Field

from deponij.pipeline.curves import CURVES, HEADS, CurveRow, Head, learning_curve
from deponij.project.frame.console import counted, say
from deponij.project.frame.csv_files import csv_bytes
from deponij.project.frame.harness import for_each, run_stage
from deponij.project.frame.lacking import NeededLabels
from deponij.project.frame.layout import Layout
from deponij.project.frame.settings import OfBackbones, RunOptions, Section, Slug
from deponij.project.learning.results import read_examples, tuned_on
from deponij.store.atomic import write_bytes
from deponij.store.items import Items
from deponij.store.texts import in_percent
from deponij.store.view import View


class CurveParams(Section):
    """Which points a curve has.

    Attributes:
        per_class: items of each class to learn from; all of them always come last.
        tries: how often other items are drawn.
        heads: `logistic` and `centroid`.
    """

    per_class: tuple[Annotated[int, Field(ge=1)], ...] = Field(
        default=(1, 2, 5, 10, 20, 50, 100), min_length=1
    )
    tries: int = Field(default=5, ge=1, le=100)
    heads: tuple[Head, ...] = Field(default=HEADS, min_length=1)


class Params(OfBackbones):
    """The sections of params.yaml that this stage reads; of backbones and splits only their names."""

    splits: dict[Slug, Any]
    labels: NeededLabels
    curves: CurveParams = CurveParams()


def run(
    params: CurveParams, *, features: Path, items: Path, split: Path, labels: str, out: Path | None = None
) -> list[CurveRow]:
    """Learn from more and more items of `train`, choose the penalty on `val`, score on `test`; with a progress bar.

    Args:
        features: a view of kind `embedding`.
        items: the folder of items it was made from.
        split: a table of item_id and part.
        labels: the label column of the items.
        out: JSON file to write; None writes nothing.

    Raises:
        DeponijError: inputs that do not fit together or cannot be learned from; the message says why.
    """
    view = View(features)
    examples, vectors = read_examples(view, Items(items), split, labels)
    with counted(f"curves {view.backbone} {split.stem}/{labels}", None, "fits") as progress:
        points = learning_curve(
            vectors,
            examples.rotations(),
            per_class=params.per_class,
            tries=params.tries,
            heads=params.heads,
            progress=progress,
        )
    rows = [
        CurveRow(
            **point.model_dump(),
            backbone=view.backbone,
            fingerprint=view.fingerprint,
            labels=labels,
            split=split.stem,
        )
        for point in points
    ]
    if out is not None:
        write_bytes(out, CURVES.dump(rows))
    return rows


def _plot(rows: Sequence[CurveRow]) -> bytes:
    """One head's points for `dvc plots`, against how many items a class has on average: some have few."""
    table = []
    for row in rows:
        shares = {"items_per_class": row.n_train / row.n_classes, "top1": row.top1}
        if row.top1_interval is not None:
            shares["low"], shares["high"] = row.top1_interval
        table.append({"n_train": row.n_train} | {name: round(share, 6) for name, share in shares.items()})
    return csv_bytes(table, ("items_per_class", "n_train", "top1", "low", "high"))


def main(params: Params, at: Layout, options: RunOptions) -> None:
    """Every backbone, split and label set of the profile."""

    def draw(backbone: str) -> None:
        rows: list[CurveRow] = []
        if tuned_on([View(at.view(backbone))]):
            say(
                f"curves {backbone}: its features have learned from every training item, so that they show no fewer"
            )
            write_bytes(at.curves(backbone), CURVES.dump(rows))
            return
        for split in params.splits:
            for labels in params.labels:
                points = run(
                    params.curves,
                    features=at.view(backbone),
                    items=at.items,
                    split=at.split(split),
                    labels=labels,
                )
                rows.extend(points)
                first, last = points[0], next(row for row in points if row.per_class is None)
                say(
                    f"curves {backbone} {split}/{labels}: {first.head} top-1 {in_percent(first.top1)} with {first.n_train} "
                    f"items, {in_percent(last.top1)} with {last.n_train}. {last.twice_as_many}"
                )
        write_bytes(at.curves(backbone), CURVES.dump(rows))
        question = (rows[0].split, rows[0].labels, rows[0].head)
        shown = [row for row in rows if (row.split, row.labels, row.head) == question]
        write_bytes(at.plots("curves") / f"{backbone}.csv", _plot(shown))

    for_each(params.backbones, draw)


def _outs(at: Layout) -> list[Path]:
    return [at.curves("any").parent, at.plots("curves")]


if __name__ == "__main__":
    run_stage("curves", Params, main, outs=_outs)
