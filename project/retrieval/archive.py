"""The items that are ranked, how rankings are judged, and numbers for DVC: what `images` and `texts` share."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from deponij.pipeline.heads.examples import Examples
from deponij.pipeline.metrics.evaluation import PARTS
from deponij.pipeline.metrics.retrieval import Figures, RetrievalResult, Task, figures_of
from deponij.pipeline.retrieval.evaluation import (
    MEAN_AVERAGE_PRECISION,
    Rankings,
    Side,
    judge_rankings,
    recall_at,
)
from deponij.project.frame.console import bar
from deponij.project.frame.settings import Section
from deponij.project.learning.results import read_examples
from deponij.store.items import Items
from deponij.store.view import View

Vectors = NDArray[np.floating]
Names = NDArray[np.str_]
Count = Annotated[int, Field(ge=1)]
# Of each task, what DVC compares; every number would make a column of its own.
_COMPARED: Mapping[Task, tuple[str, ...]] = {
    "image-to-image": (MEAN_AVERAGE_PRECISION, recall_at(1)),
    "text-to-image": (MEAN_AVERAGE_PRECISION, recall_at(5)),
    "image-to-text": (recall_at(1), recall_at(5)),
}


class RetrievalParams(Section):
    """How retrieval is judged.

    Attributes:
        ks: of recall@k and precision@k.
        templates: use only texts of these templates; None for all that the view of texts has.
        resamples: of an interval.
        n_examples: queries that are kept with what they find; n_hits: of each.
        seed: of the choice of examples and of resampling.
    """

    ks: tuple[Count, ...] = Field(default=(1, 5, 10), min_length=1)
    templates: tuple[str, ...] | None = None
    resamples: int = Field(default=2000, ge=100, le=100_000)
    n_examples: int = Field(default=4, ge=0, le=100)
    n_hits: int = Field(default=5, ge=1, le=100)
    seed: int = Field(default=0, ge=0)


@dataclass(frozen=True, slots=True)
class Archive:
    """Labelled items of a split with features, in item order.

    Attributes:
        examples, vectors: n of them, [n, d]. photos: the photograph that each is of, [n].
        split: its name. part: the part that is judged; rows: its items.
    """

    examples: Examples
    vectors: Vectors
    photos: Names
    split: str
    part: str
    rows: NDArray[np.int64]

    @property
    def labels(self) -> Names:
        """Of all items."""
        return self.examples.labels


def read_archive(view: View, items: Items, split: Path, labels: str) -> Archive:
    """Items of a split that have a label and features; what is judged is `test`, else the last part that has items.

    Raises:
        DeponijError: inputs that do not fit together; the message says why.
    """
    examples, vectors = read_examples(view, items, split, labels)
    part = next(part for part in reversed(PARTS) if len(examples.rows(part)))
    photo_of = dict(zip(items.ids, items.column("image_id"), strict=True))
    # An item without photograph is one by itself.
    photos = [
        item_id if photo_of[item_id] is None else photo_of[item_id] for item_id in examples.ids.tolist()
    ]
    return Archive(examples, vectors, np.array(photos, dtype=np.str_), split.stem, part, examples.rows(part))


def left_out(archive: Archive, column: str) -> tuple[str, ...]:
    """A sentence on items of the split that are in no figure, by reason."""
    counts = (
        (archive.examples.n_without_features, "features"),
        (archive.examples.n_without_label, repr(column)),
    )
    return tuple(
        f"Left out: {n:,} item{'' if n == 1 else 's'} of the split without {what}." for n, what in counts if n
    )


def ranked(queries: Side, gallery: Side, params: RetrievalParams, what: str) -> Rankings:
    """Judge every query's ranking, with a bar."""
    with bar(what, len(queries.vectors), "queries") as advance:
        return judge_rankings(queries, gallery, params.ks, advance)


def figures(found: Rankings, clusters: Names, classes: Names | None, params: RetrievalParams) -> Figures:
    """Means with intervals; `clusters` and `classes` are of all queries, judged or not."""
    return figures_of(
        found.values,
        found.chance,
        clusters[found.asked],
        None if classes is None else classes[found.asked].tolist(),
        n_resamples=params.resamples,
        seed=params.seed,
    )


def choose_examples(names: Names, n: int, seed: int) -> list[int]:
    """n random rows, of one name each before any other has two."""
    order = np.random.default_rng(seed).permutation(len(names))
    turns: dict[str, int] = {}
    placed = []
    for row in order.tolist():
        turn = turns[names[row]] = turns.get(names[row], -1) + 1
        placed.append((turn, row))
    return [row for _, row in sorted(placed, key=lambda pair: pair[0])[:n]]


def compared(results: Sequence[RetrievalResult]) -> dict[str, dict[str, dict[str, dict[str, float]]]]:
    """The few numbers that `dvc metrics` compares, by split, column and task."""
    numbers: dict[str, dict[str, dict[str, dict[str, float]]]] = {}
    for one in results:
        of_column = numbers.setdefault(one.split, {}).setdefault(one.column, {})
        of_column[one.task] = {
            name: one.figures.micro[name].value for name in _COMPARED[one.task] if name in one.figures.micro
        }
    return numbers


def told(result: RetrievalResult) -> str:
    """One line for a person."""
    shown = [
        f"{name} {result.figures.micro[name].value:.1%} (chance {result.figures.micro[name].chance:.1%})"
        for name in _COMPARED[result.task]
        if name in result.figures.micro
    ]
    what = f"{result.task.replace('-', ' ')} {result.backbone} {result.split}/{result.column}"
    return f"{what}: {', '.join(shown) or 'nothing to find'}; {result.n_queries} queries"
