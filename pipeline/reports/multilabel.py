"""Classifiers with several labels an item: their rows, in the order in which they are shown, and samples of answers.

How they look: `templates/multilabel.html.j2`. Which is chosen: `deponij.pipeline.metrics.choice`, by mAP on validation.
"""

from collections.abc import Sequence, Set
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from deponij.pipeline.metrics.choice import Preference, preference
from deponij.pipeline.metrics.intervals import Interval
from deponij.pipeline.metrics.multilabel import ClassFigures, MultilabelScores, jaccard
from deponij.pipeline.metrics.multilabel_result import MultilabelResult
from deponij.pipeline.reports.provenance import Provenance, is_toy

Bools = NDArray[np.bool_]
Names = NDArray[np.str_]


@dataclass(frozen=True, slots=True)
class MultilabelRow:
    """One classifier on one column and split: figures of the part that is shown, see `MultilabelScores`.

    Attributes:
        folder: its results.
        is_chosen: by mAP on validation (val_map); a toy beside real ones never is.
    """

    folder: str
    backbone: str
    method: str
    labels: str
    split: str
    part: str
    n: int
    n_groups: int
    unit: str
    n_classes: int
    labels_per_item: float
    val_map: float | None
    map_macro: float
    map_macro_interval: Interval | None
    map_micro: float
    f1_macro: float
    f1_micro: float
    f1_micro_interval: Interval | None
    jaccard: float
    exact: float
    chance_map: float
    chance_f1: float
    is_toy: bool
    is_chosen: bool

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        return asdict(self)


def rows_in_order(
    results: Sequence[tuple[str, MultilabelResult]], toys: Set[str]
) -> list[tuple[MultilabelRow, MultilabelResult]]:
    """Rows of results of one column and split, with folders; the one that validation chooses first."""

    def order(result: MultilabelResult) -> Preference:
        n_backbones = result.backbone.count("+") + 1
        return preference(
            is_toy=is_toy(result.backbone, toys), judged_top1=result.val_map, n_backbones=n_backbones
        )

    ranked = sorted(results, key=lambda pair: order(pair[1]))
    ordered = []
    for place, (folder, result) in enumerate(ranked):
        scores: MultilabelScores = result.parts[result.shown]
        shared = {
            name for name in MultilabelRow.__dataclass_fields__ if name in MultilabelScores.model_fields
        }
        row = MultilabelRow(
            folder=folder,
            backbone=result.backbone,
            method=result.title,
            labels=result.labels,
            split=result.split,
            part=result.shown,
            val_map=result.val_map,
            is_toy=is_toy(result.backbone, toys),
            is_chosen=place == 0 and result.val_map is not None,
            **{name: getattr(scores, name) for name in shared},
        )
        ordered.append((row, result))
    return ordered


def groups_in_order(
    results: Sequence[tuple[str, MultilabelResult]], toys: Set[str]
) -> list[list[tuple[MultilabelRow, MultilabelResult]]]:
    """Rows of each column and split."""
    pairs = dict.fromkeys((result.labels, result.split) for _, result in results)
    return [
        rows_in_order([one for one in results if (one[1].labels, one[1].split) == pair], toys)
        for pair in pairs
    ]


@dataclass(frozen=True, slots=True)
class SetSample:
    """One answered item: classes that it has and that were answered, that were missed, and that it has not."""

    item_id: str
    right: tuple[str, ...]
    missed: tuple[str, ...]
    wrong: tuple[str, ...]

    @property
    def is_exact(self) -> bool:
        """Whether the answer is the truth."""
        return not self.missed and not self.wrong

    @property
    def truth(self) -> str:
        """Its classes in words."""
        return ", ".join(sorted((*self.right, *self.missed))) or "none of the classes"


def choose_set_samples(
    ids: Names, truth: Bools, answers: Bools, classes: Sequence[str], n: int, seed: int
) -> tuple[list[SetSample], list[SetSample]]:
    """At most n exact answers and n others: these from the least alike (by Jaccard) on, equal ones at random.

    Args:
        ids: [n_items].
        truth, answers: [n_items, C].
    """
    alike = jaccard(truth, answers)
    order = np.random.default_rng(seed).permutation(len(ids))
    exact = [row for row in order.tolist() if alike[row] == 1][:n]
    others = sorted((row for row in order.tolist() if alike[row] < 1), key=lambda row: alike[row])[:n]
    names = np.asarray(classes, dtype=np.str_)

    def sample(row: int) -> SetSample:
        has, said = truth[row], answers[row]
        return SetSample(
            str(ids[row]),
            *(tuple(names[flags].tolist()) for flags in (has & said, has & ~said, said & ~has)),
        )

    return [sample(row) for row in exact], [sample(row) for row in others]


@dataclass(frozen=True, slots=True)
class MultilabelFacts:
    """All classifiers on one column and split, the first of them in detail.

    Attributes:
        rows: in order.
        classes: the first one's figures, most frequent classes first.
        protocol, notes, thresholds_from: of the first one.
        exact, others: samples of its answers with the data URI of their thumbnail, None where there is none.
        source: of the figures.
    """

    rows: Sequence[MultilabelRow]
    classes: Sequence[ClassFigures]
    protocol: str
    notes: tuple[str, ...]
    thresholds_from: str
    exact: Sequence[tuple[SetSample, str | None]]
    others: Sequence[tuple[SetSample, str | None]]
    source: Provenance

    @property
    def first(self) -> MultilabelRow:
        """The classifier that is shown in detail."""
        return self.rows[0]
