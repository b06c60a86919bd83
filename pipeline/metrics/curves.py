"""What is reported of learning curves: the records that a stage writes and pages read. Learning: `pipeline.curves`."""

from typing import Literal

from pydantic import Field

from deponij.pipeline.metrics.evaluation import Grouped
from deponij.pipeline.metrics.intervals import Interval
from deponij.pipeline.record_lists import RecordList

CurveHead = Literal["logistic", "centroid"]


class CurvePoint(Grouped):
    """One head, learned from so many items of each class.

    Attributes:
        head: `logistic` (regression) or `centroid` (nearest class mean).
        per_class: items of each class at most; None for all there are.
        n_train, n_classes: items and classes that were learned from, in every try.
        n_short_classes: classes that have fewer than `per_class` items and gave all they have.
        tries: how often other items were drawn; 1 where all are taken.
        n_test: items that were answered; of classes that training lacks they count as wrong.
        top1, balanced_accuracy: means over tries. top1_std: over tries; None for one try.
        top1_interval, balanced_interval: 95 %, of what the means would be over other groups and, of several tries,
            other draws from the training part; see `deponij.pipeline.metrics.clustered`.
        c: inverse penalty, chosen on validation in the first try; None for a head that has none.
    """

    head: CurveHead
    per_class: int | None
    n_train: int = Field(ge=1)
    n_classes: int
    n_short_classes: int
    tries: int
    n_test: int
    top1: float
    top1_std: float | None
    top1_interval: Interval | None
    balanced_accuracy: float
    balanced_interval: Interval | None
    c: float | None


class CurveRow(CurvePoint):
    """A point, and what it was measured on."""

    backbone: str
    fingerprint: str
    labels: str
    split: str


CURVES = RecordList(CurveRow)
