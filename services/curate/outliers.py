"""Items that are far from all others, or among another class. This is no stage.

    from deponij.services.curate.outliers import find_outliers
    report = find_outliers("runs/sample/views/mini-openclip.h5", "runs/sample/items", labels="category")
    report.items[:10]

The score is the cosine distance to the k-th nearest other; see `deponij.pipeline.likeness.outliers`. What a new batch adds
to an archive is told by `deponij.services.curate.batches`.
"""

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydantic import Field
from threadpoolctl import threadpool_limits

from deponij.pipeline.likeness.outliers import UNLABELLED, Surroundings, look_around, spread_of
from deponij.pipeline.likeness.pairs import codes_of
from deponij.project.frame.console import bar
from deponij.project.frame.settings import Section
from deponij.services.curate.collection import Gathered, SetReport, Where
from deponij.store.errors import UsageError

_NO_PHOTOS = "no items were named: crops of one photograph could not be told from others"


class OutliersParams(Section):
    """What counts as far.

    Attributes:
        k: the distance to the k-th nearest other is the score.
        own_photo: crops of the item's own photograph count as others too. They are alike for a trivial reason.
    """

    k: int = Field(default=10, ge=1, le=1000)
    own_photo: bool = False


class Outlier(Section):
    """One item, and what is around it.

    Attributes:
        score: cosine distance to the k-th nearest other, 0 to 2.
        nearest, nearest_distance: the item nearest to it.
        nearest_label: its label.
        n_same: of the k nearest, those with this item's label; None where it or they lack one.
        nearest_same, nearest_different: distance to the nearest of its own class and of another.
        is_misplaced: none of the k nearest has its label, though others elsewhere have.
    """

    item_id: str
    key: str
    score: float
    nearest: str
    nearest_distance: float
    label: str | None
    nearest_label: str | None
    n_same: int | None
    nearest_same: float | None
    nearest_different: float | None
    is_misplaced: bool


class OutliersReport(SetReport):
    """All items, the farthest first.

    Attributes:
        leaves_out_photo: crops of an item's own photograph did not count as its others.
        quantiles: share of the items (as a string) to the score it does not exceed.
        fence: Tukey's, upper quartile + 1.5 interquartile ranges.
        n_beyond: items beyond it.
    """

    params: OutliersParams
    leaves_out_photo: bool
    quantiles: dict[str, float]
    fence: float
    n_beyond: int
    n_misplaced: int
    items: tuple[Outlier, ...]

    @property
    def misplaced(self) -> list[Outlier]:
        """Items among another class, the deepest first: by how much nearer that is than their own."""
        misplaced = [one for one in self.items if one.is_misplaced]
        return sorted(
            misplaced, key=lambda one: (one.nearest_different or 0) / max(one.nearest_same or 0, 1e-9)
        )

    def first(self, n: int) -> dict[str, Any]:
        """As JSON, with the first n of both lists."""
        return {
            **self.model_dump(mode="json", exclude={"items"}),
            "items": [one.model_dump(mode="json") for one in self.items[:n]],
            "misplaced": [one.model_dump(mode="json") for one in self.misplaced[:n]],
        }


def find_outliers(
    features: str | Path,
    items: str | Path | None = None,
    *,
    labels: str | None = None,
    params: OutliersParams | None = None,
    threads: int = 1,
) -> OutliersReport:
    """The items of a view, the farthest from all others first.

    Args:
        items: folder; without it, photographs and labels are not known.
        labels: column of the items, to see what lies among another class.

    Raises:
        DeponijError: files that are damaged or do not belong together.
    """
    where = Where(features, items, labels=labels)
    return run(params or OutliersParams(), Gathered(where), threads=threads)


def run(params: OutliersParams, gathered: Gathered, *, threads: int = 1) -> OutliersReport:
    """Compare each item with all others, exactly.

    Raises:
        UsageError: no features, or fewer than k others count.
    """
    with threadpool_limits(limits=threads):
        around = surroundings(params, gathered, gathered.labels)
    spread = spread_of(around.scores)
    items = _items(gathered, around)
    return OutliersReport(
        **gathered.facts([_NO_PHOTOS] if gathered.photos is None else []),
        params=params,
        leaves_out_photo=gathered.photos is not None and not params.own_photo,
        quantiles={f"{share:g}": round(value, 6) for share, value in spread.quantiles},
        fence=round(spread.fence, 6),
        n_beyond=spread.n_beyond,
        n_misplaced=sum(one.is_misplaced for one in items),
        items=tuple(items),
    )


def surroundings(
    params: OutliersParams, gathered: Gathered, labels: list[str | None] | None = None
) -> Surroundings:
    """What each item of a set has around it.

    Raises:
        UsageError: no features, or fewer than k others count.
    """
    units = gathered.evidence.units
    if units is None:
        raise UsageError("distances are measured between features; name --features VIEW")
    # A copy says nothing about how much of its kind there is.
    tags = [codes_of(gathered.keys), *([] if params.own_photo else [gathered.photo_codes])]
    with bar("comparing", len(gathered), "items") as advance:
        return look_around(units, params.k, tags, _class_numbers(labels), advance)


def _class_numbers(labels: list[str | None] | None) -> NDArray[np.int32] | None:
    if labels is None:
        return None
    names = sorted({label for label in labels if label is not None})
    number = {name: place for place, name in enumerate(names)}
    return np.array([UNLABELLED if one is None else number[one] for one in labels], np.int32)


def _items(gathered: Gathered, around: Surroundings) -> list[Outlier]:
    labels = gathered.labels or [None] * len(gathered)
    misplaced = around.is_misplaced
    scores, first, gap = around.scores, around.others.rows[:, 0], around.others.distances[:, 0]
    order = np.lexsort((np.array(gathered.ids, np.str_), -scores))
    return [
        Outlier(
            item_id=gathered.ids[row],
            key=gathered.keys[row],
            score=round(float(scores[row]), 6),
            nearest=gathered.ids[first[row]],
            nearest_distance=round(float(gap[row]), 6),
            label=labels[row],
            nearest_label=labels[first[row]],
            n_same=None if around.n_same is None or labels[row] is None else int(around.n_same[row]),
            nearest_same=_finite(around.nearest_same, row),
            nearest_different=_finite(around.nearest_different, row),
            is_misplaced=bool(misplaced[row]),
        )
        for row in order.tolist()
    ]


def _finite(values: NDArray[np.float32] | None, row: int) -> float | None:
    return None if values is None or not np.isfinite(values[row]) else round(float(values[row]), 6)
