"""What is reported of retrieval with one backbone: frozen records, and JSON. Ranking lives in `deponij.pipeline.retrieval`.

Shares are fractions of 1. What a random order would reach stands beside every figure.
"""

from collections.abc import Mapping, Sequence
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from deponij.pipeline.metrics.clustered import Estimate, Unit, clustered_means
from deponij.pipeline.metrics.intervals import Interval
from deponij.pipeline.record_lists import Measured, Record, RecordList

Floats = NDArray[np.float64]
Task = Literal["image-to-image", "text-to-image", "image-to-text"]
About = Literal["classes", "captions"]


class Figure(Measured):
    """A mean over queries.

    Attributes:
        interval: at 95 %, see `deponij.pipeline.metrics.clustered`; None for too few photographs or texts.
        chance: what a random order of the same galleries reaches on average, computed.
    """

    value: float
    interval: Interval | None
    chance: float


class ClassFigures(Record):
    """One class's queries.

    Attributes:
        n: queries.
        figures: by measure.
    """

    name: str
    n: int
    figures: dict[str, Figure]


class Figures(Record):
    """One task's figures, by measure: `mAP`, `recall@k`, `precision@k`, `R-precision`.

    Attributes:
        micro: means over queries.
        macro: over classes' means, empty where each class has one query and that would say the same.
        classes: each of them; empty where queries have no class.
        n_resampled: photographs, or texts, that were left out in turn for the intervals.
    """

    micro: dict[str, Figure]
    macro: dict[str, Figure]
    classes: tuple[ClassFigures, ...]
    n_resampled: int


class Hit(Record):
    """One item that was found.

    Attributes:
        score: cosine.
    """

    item_id: str
    label: str
    score: float
    is_relevant: bool


class Example(Record):
    """One query and the first of what it finds.

    Attributes:
        item_id: the query's; empty for a text.
        label: its class, or the text.
    """

    item_id: str
    label: str
    hits: tuple[Hit, ...]


class RetrievalResult(Record):
    """How well one backbone's features find what belongs together, in one way of asking.

    Attributes:
        task: what is asked with, and what is found.
        about: whether relevant is what has the same class, or the very caption.
        column: of the items, which holds class or caption.
        fingerprint, text_fingerprint: of the features, and of the texts where there are any (else empty).
        split, part: whose items ask (or, by text, are asked for).
        n_queries: that the figures are means over.
        n_without: that have nothing to find, and are in no figure.
        n_gallery: items, classes or captions that are ranked, before a query's own photograph is left out.
        resampled: what was left out in turn for the intervals.
        protocol: all that in words.
        notes: what a reader must know besides.
        examples: some queries.
    """

    task: Task
    about: About
    column: str
    backbone: str
    fingerprint: str
    text_fingerprint: str = ""
    split: str
    part: str
    n_queries: int
    n_without: int
    n_gallery: int
    resampled: Unit | Literal["texts"]
    figures: Figures
    protocol: str
    notes: tuple[str, ...] = ()
    examples: tuple[Example, ...] = ()


def figures_of(
    values: Mapping[str, Floats],
    chance: Mapping[str, Floats],
    clusters: ArrayLike,
    classes: Sequence[str] | None,
) -> Figures:
    """Means with intervals of what each query reached.

    Args:
        values, chance: measure -> [n].
        clusters: what each query is left out with, [n].
        classes: name of each query's class; None for none.
    """
    names = list(values)
    if not names or not len(values[names[0]]):
        return Figures(micro={}, macro={}, classes=(), n_resampled=0)
    told = np.array(["" for _ in values[names[0]]] if classes is None else list(classes), dtype=np.str_)
    means = clustered_means(np.column_stack([values[name] for name in names]), clusters, told)
    expected = np.column_stack([chance[name] for name in names])
    known = np.unique(told)
    by_class = np.array([expected[told == name].mean(axis=0) for name in known])
    of_classes = tuple(
        ClassFigures(
            name=str(name),
            n=int((told == name).sum()),
            figures=_figures(names, means.by_class[c], by_class[c]),
        )
        for c, name in enumerate(known)
    )
    macro = _figures(names, means.macro, by_class.mean(axis=0))
    return Figures(
        micro=_figures(names, means.micro, expected.mean(axis=0)),
        macro=macro if classes is not None and len(known) < len(told) else {},
        classes=() if classes is None else of_classes,
        n_resampled=means.n_clusters,
    )


def _figures(names: Sequence[str], means: Sequence[Estimate], chance: Floats) -> dict[str, Figure]:
    return {
        name: Figure(value=mean.value, interval=mean.interval, chance=float(expected))
        for name, mean, expected in zip(names, means, chance, strict=True)
    }


RETRIEVAL = RecordList(RetrievalResult)
