"""The items that are ranked, how rankings are judged, and numbers for DVC: what `images` and `texts` share."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from deponij.pipeline.heads.examples import Examples
from deponij.pipeline.metrics.clustered import unit_of
from deponij.pipeline.metrics.evaluation import PARTS
from deponij.pipeline.metrics.retrieval import About, Example, Hit, RetrievalResult, Task, figures_of
from deponij.pipeline.retrieval.evaluation import (
    MEAN_AVERAGE_PRECISION,
    Side,
    judge_rankings,
    nearest,
    recall_at,
)
from deponij.project.frame.console import bar
from deponij.project.frame.settings import Section
from deponij.project.learning.item_columns import photographs
from deponij.project.learning.results import left_out, read_examples
from deponij.store.items import Items
from deponij.store.texts import in_percent
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
        n_examples: queries that are kept with what they find.
        n_hits: of each.
        seed: of the choice of examples.
    """

    ks: tuple[Count, ...] = Field(default=(1, 5, 10), min_length=1)
    templates: tuple[str, ...] | None = None
    n_examples: int = Field(default=4, ge=0, le=100)
    n_hits: int = Field(default=5, ge=1, le=100)
    seed: int = Field(default=0, ge=0)


@dataclass(frozen=True, slots=True)
class Archive:
    """Labelled items of a split with features, in item order.

    Attributes:
        view: their features.
        column: of the items, that holds labels or captions.
        examples, vectors: n of them, [n, d].
        photos: the photograph that each is of, [n].
        split: its name.
        part: the part that is judged.
        rows: its items.
    """

    view: View
    column: str
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


def read_archive(view: View, items: Path, split: Path, column: str) -> Archive:
    """Items of a split that have a label and features; what is judged is `test`, else the last part that has items.

    Raises:
        DeponijError: inputs that do not fit together; the message says why.
    """
    table = Items(items)
    examples, vectors = read_examples(view, table, split, column)
    part = next(part for part in reversed(PARTS) if len(examples.rows(part)))
    photos = photographs(table, examples.ids)
    return Archive(view, column, examples, vectors, photos, split.stem, part, examples.rows(part))


def judged(
    archive: Archive,
    params: RetrievalParams,
    task: Task,
    about: About,
    queries: Side,
    gallery: Side,
    note: Callable[[int], str],
    **facts: Any,
) -> RetrievalResult:
    """Judge every query's ranking of a gallery, with a bar; where items are found, some queries are kept as examples.

    Args:
        queries, gallery: their codes are classes or captions; of pictures as queries, the archive's judged ones.
        note: what must be known, from how many queries have nothing to find; empty for nothing.
        facts: further fields of the result.
    """
    with bar(f"{task.replace('-', ' ')} {archive.view.backbone}", len(queries.vectors), "queries") as advance:
        rankings = judge_rankings(queries, gallery, params.ks, advance)
    by_text = task == "text-to-image"
    names = np.asarray(queries.codes)
    clusters = names if by_text else archive.examples.groups[archive.rows]
    figures = figures_of(
        rankings.values,
        rankings.chance,
        clusters[rankings.asked],
        names[rankings.asked].tolist() if about == "classes" else None,
    )
    unit = unit_of(archive.examples.unit, figures.n_resampled, len(rankings.asked))
    notes = [said] if (said := note(rankings.n_without)) else []
    return RetrievalResult(
        task=task,
        about=about,
        column=archive.column,
        backbone=archive.view.backbone,
        fingerprint=archive.view.fingerprint,
        split=archive.split,
        part=archive.part,
        n_queries=len(rankings.asked),
        n_without=rankings.n_without,
        n_gallery=len(gallery.vectors),
        resampled="texts" if by_text else unit,
        figures=figures,
        notes=(*notes, *left_out(archive.examples, archive.column)),
        examples=() if task == "image-to-text" else _examples(archive, queries, params),
        **facts,
    )


def _examples(archive: Archive, queries: Side, params: RetrievalParams) -> tuple[Example, ...]:
    """Some queries and the pictures they find: texts those that are judged, pictures all of other photographs."""
    ids, labels, rows = archive.examples.ids, archive.labels, archive.rows
    examples = []
    for place in choose_examples(np.asarray(queries.codes), params.n_examples, params.seed):
        label, of_photo = str(queries.codes[place]), queries.groups is not None
        there = (
            archive.photos != archive.photos[rows[place]] if of_photo else np.isin(np.arange(len(ids)), rows)
        )
        hits = [
            Hit(
                item_id=str(ids[row]),
                label=str(labels[row]),
                score=round(score, 6),
                is_relevant=bool(labels[row] == label),
            )
            for row, score in nearest(queries.vectors[place], archive.vectors, params.n_hits, there)
        ]
        own_id = str(ids[rows[place]]) if of_photo else ""
        examples.append(Example(item_id=own_id, label=label, hits=tuple(hits)))
    return tuple(examples)


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
        f"{name} {in_percent(result.figures.micro[name].value)} (chance {in_percent(result.figures.micro[name].chance)})"
        for name in _COMPARED[result.task]
        if name in result.figures.micro
    ]
    what = f"{result.task.replace('-', ' ')} {result.backbone} {result.split}/{result.column}"
    return f"{what}: {', '.join(shown) or 'nothing to find'}; {result.n_queries} queries"
