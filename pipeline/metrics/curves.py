"""What is reported of learning curves: the records that a stage writes and pages read. Learning: `pipeline.curves`."""

from typing import Literal

from pydantic import Field

from deponij.pipeline.metrics.evaluation import Grouped
from deponij.pipeline.metrics.intervals import Interval
from deponij.pipeline.record_lists import Measured, RecordList

CurveHead = Literal["logistic", "centroid"]


def _from_to(bounds: Interval, dash: str = "–") -> str:
    # Not -0.
    low, high = (f"{round(100 * bound) + 0:,}".replace("-", "−") for bound in bounds)
    return f"{low}{dash}{high}"


# How often a band of `Twice` holds what it is of.
BAND = 0.8


class Twice(Measured):
    """What twice the pictures would bring, as far as a curve tells; see `deponij.pipeline.forecast`.

    Attributes:
        n_pictures: twice all labelled pictures.
        n_train: twice those that were learned from.
        unknown: why nothing can be told, and all that follows is None; empty where something can.
        top1, band: expected on new pictures, not on these test items; the band is at 80 %.
        gain, gain_band: how much that is above what as many as there are bring.
        floor, exponent: of the power law: the error that no number of pictures takes away, and how fast the rest falls.
    """

    n_pictures: int
    n_train: int
    unknown: str = ""
    top1: float | None = None
    band: Interval | None = None
    gain: float | None = None
    gain_band: Interval | None = None
    floor: float | None = None
    exponent: float | None = None

    def in_words(self, now: float) -> str:
        """One sentence; `now` is what as many pictures as there are bring."""
        of = f"Twice the pictures ({self.n_pictures:,})"
        if self.top1 is None or self.band is None:
            return f"{of}: cannot tell, {self.unknown}."
        told = f"{of}: {_from_to(self.band)} % ({100 * BAND:.0f} % band), from {100 * now:.1f} % now"
        return told + (
            "." if self.gain_band is None else f"; a gain of {_from_to(self.gain_band, ' to ')} points."
        )


class CurvePoint(Grouped):
    """One head, learned from so many items of each class.

    Attributes:
        head: `logistic` (regression) or `centroid` (nearest class mean).
        per_class: items of each class at most; None for all there are.
        n_train, n_classes: items and classes that were learned from, in every try.
        n_short_classes: classes that have fewer than `per_class` items and gave all they have.
        tries: how often other items were drawn; 1 where all are taken.
        n_test: items that were answered; of classes that training lacks they count as wrong.
        top1, balanced_accuracy: means over tries.
        top1_std: over tries; None for one try.
        top1_interval, balanced_interval: 95 %, of what the means would be over other groups and, of several tries,
            other draws from the training part; see `deponij.pipeline.metrics.clustered`.
        c: inverse penalty, chosen in the first try as the head chooses it, of several rotations the middle one; None
            for a head that has none.
        twice: what twice the pictures would bring; of the last point of each head alone.
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
    twice: Twice | None = None

    @property
    def twice_as_many(self) -> str:
        """What twice the pictures would bring, in a sentence; empty of a point that does not know."""
        return "" if self.twice is None else self.twice.in_words(self.top1)


class CurveRow(CurvePoint):
    """A point, and what it was measured on."""

    backbone: str
    fingerprint: str
    labels: str
    split: str


CURVES = RecordList(CurveRow)
