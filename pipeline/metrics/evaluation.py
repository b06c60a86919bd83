"""What is reported of one classifier on one split: the record that stages write and pages read.

Shares are fractions of 1. Chance and majority baselines stand beside them so that they mean something.
"""

from collections.abc import Iterable, Sequence
from typing import Any, Literal

import numpy as np
from pydantic import BaseModel, ConfigDict

from deponij.pipeline.metrics.calibration import Calibration
from deponij.pipeline.metrics.classification import Names, hits
from deponij.pipeline.metrics.clustered import FEWEST, Estimate, Unit, clustered_means, unit_of
from deponij.pipeline.metrics.intervals import Interval
from deponij.pipeline.record_lists import Record

PARTS = ("train", "val", "test")
# The column of a split table that holds folds, and how few there may be: one is tested, one chosen on, one learned from.
FOLD = "fold"
FEWEST_FOLDS = 3


class Grouped(Record):
    """Figures of items that are not all independent; intervals are at 95 %, see `deponij.pipeline.metrics.clustered`.

    Attributes:
        n_groups: groups of items that are not independent, left out in turn.
        unit: what these are.
        interval_kind: `clustered`; `too few` groups, and all intervals are None; or `exact`, computed.
        design_effect: how many times larger groups make the variance of top-1; None where it has none.
    """

    n_groups: int
    unit: Unit
    interval_kind: Literal["clustered", "too few", "exact"]
    design_effect: float | None


def grouped(top1: Estimate, n: int, unit: Unit) -> dict[str, Any]:
    """The fields of `Grouped`, of n items."""
    return {
        "n_groups": top1.n_clusters,
        "unit": unit_of(unit, top1.n_clusters, n),
        "interval_kind": "too few" if top1.n_clusters < FEWEST else "clustered",
        "design_effect": top1.design_effect,
    }


class PartScores(Grouped):
    """Scores on one part of a split.

    Attributes:
        n: items that were answered; shares refer to it.
        top1, top2, top3: share of items whose truth is among the k best answers; k is clamped to
            the number of classes.
        balanced_accuracy, balanced_interval: mean recall over the classes that occur in this part.
        n_classes: classes that occur in this part.
        n_unseen_class: items of classes that the classifier cannot answer; they count as wrong.
        majority: share that the most frequent class of the training part reaches here.
    """

    n: int
    top1: float
    top2: float
    top3: float
    top1_interval: Interval | None
    top2_interval: Interval | None
    top3_interval: Interval | None
    balanced_accuracy: float
    balanced_interval: Interval | None
    n_classes: int
    n_unseen_class: int
    majority: float


class Evaluation(BaseModel):
    """One classifier's record. Unknown fields are ignored, so that a page reads every kind's.

    Attributes:
        method, title: how the classifier learned; the kind of its head and its name for people.
        backbone, fingerprint: whose features, and their identity's fingerprint.
        labels: the label column.
        split: name of the split.
        protocol: in words, what was learned from what and chosen on what.
        n_classes, classes: what the classifier can answer.
        chance: 1 / n_classes.
        majority_class: most frequent class of the training part.
        parts: scores of each part that has items.
        n_folds: of cross-validation, where every item is tested once and no part validates; 0 without.
        calibration: of the part that results are read from (test, else the last one that has items).
        n_items: rows of the items table.
        n_outside_pool: of these, rows that have no part.
        n_without_label: rows that have a part but no label.
        n_without_features: rows that have both but no features (failures).
        n_tuned_on: rows that would test a backbone which was tuned on them, and were left out.
        unseen_classes: classes of the pool that the classifier cannot answer.
        notes: sentences that a reader of the figures must know.
    """

    model_config = ConfigDict(frozen=True, extra="ignore")

    method: str
    title: str
    backbone: str
    labels: str
    split: str
    fingerprint: str
    protocol: str
    n_classes: int
    classes: tuple[str, ...]
    chance: float
    majority_class: str
    parts: dict[str, PartScores]
    n_folds: int = 0
    calibration: Calibration | None = None
    n_items: int
    n_outside_pool: int
    n_without_label: int
    n_without_features: int
    n_tuned_on: int = 0
    unseen_classes: tuple[str, ...]
    notes: tuple[str, ...] = ()


def shown_part(parts: Iterable[str]) -> str:
    """The part that results are read from: test, else the last one that has items."""
    return max(parts, key=PARTS.index)


def not_a_result(part: str) -> str:
    """What must be said of figures that are not of a test part; empty for those that are."""
    if part == "test":
        return ""
    how = "by which the classifiers were chosen" if part == "val" else "from which the classifiers learned"
    return f"There is no test part: these are {part} items, {how}; their figures say little about new ones"


def score_part(
    truth: Names,
    ranked: Names,
    groups: Names,
    classes: Sequence[str],
    majority_class: str,
    unit: Unit = "photographs",
) -> PartScores:
    """Scores of n >= 1 items from truths [n] and the k >= min(3, C) best answers [n, k].

    Args:
        groups: [n]; items of one group are not independent.
        unit: what groups are.

    Raises:
        ValueError: there are no items, or the lengths differ.
    """
    if len(truth) == 0:
        raise ValueError("scores of no items are undefined")
    means = clustered_means(np.column_stack([hits(truth, ranked[:, :k]) for k in (1, 2, 3)]), groups, truth)
    fields: dict[str, Any] = {}
    for k, top in enumerate(means.micro, start=1):
        fields |= {f"top{k}": top.value, f"top{k}_interval": top.interval}
    return PartScores(
        **fields,
        **grouped(means.micro[0], len(truth), unit),
        n=len(truth),
        balanced_accuracy=means.macro[0].value,
        balanced_interval=means.macro[0].interval,
        n_classes=len(means.by_class),
        n_unseen_class=int((~np.isin(truth, np.asarray(classes, dtype=np.str_))).sum()),
        majority=float((truth == majority_class).mean()),
    )
