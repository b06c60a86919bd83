"""What is reported of learning curves: the records that a stage writes and pages read. Learning: `pipeline.curves`."""

from typing import Literal

from pydantic import Field

from deponij.pipeline.metrics.evaluation import Interval
from deponij.pipeline.record_lists import Record, RecordList

CurveHead = Literal["logistic", "centroid"]


class CurvePoint(Record):
    """One head, learned from so many items of each class.

    Attributes:
        head: `logistic` (regression) or `centroid` (nearest class mean).
        per_class: items of each class at most; None for all there are.
        n_train, n_classes: items and classes that were learned from, in every try.
        n_short_classes: classes that have fewer than `per_class` items and gave all they have.
        tries: how often other items were drawn; 1 where all are taken.
        n_test: items that were answered; of classes that training lacks they count as wrong.
        top1, balanced_accuracy: means over tries. top1_std: over tries; None for one try.
        top1_interval, interval_kind: 95 %, as `deponij.pipeline.metrics.intervals.seed_mean` gives them.
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
    top1_interval: Interval
    interval_kind: Literal["bootstrap", "wilson"]
    balanced_accuracy: float
    c: float | None


class CurveRow(CurvePoint):
    """A point, and what it was measured on."""

    backbone: str
    fingerprint: str
    labels: str
    split: str


CURVES = RecordList(CurveRow)
