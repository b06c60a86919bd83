"""Learning curves: accuracy on the test part against labelled training items of each class.

Arrays in, records out. Each classifier learns as a head of the same name does, so that the last point, of all items,
is what that head brings out. What twice the items would bring: `forecast`.

Shape letters: n items, d feature width, t test items, S draws.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from statistics import median

import numpy as np
from numpy.typing import NDArray

from deponij.pipeline.forecast import forecast
from deponij.pipeline.heads.centroid import NearestClassMean
from deponij.pipeline.heads.examples import Examples
from deponij.pipeline.heads.few_shot import draw, draw_share
from deponij.pipeline.heads.head import Floats, Names
from deponij.pipeline.heads.logistic import LogisticProbe
from deponij.pipeline.metrics.clustered import mean_of_runs
from deponij.pipeline.metrics.curves import CURVES, CurveHead, CurvePoint, CurveRow, Twice
from deponij.pipeline.metrics.evaluation import grouped
from deponij.store.errors import DataError
from deponij.store.scratch import taken

__all__ = ["CURVES", "HEADS", "CurvePoint", "CurveRow", "Head", "learning_curve"]

Rows = NDArray[np.int64]
Head = CurveHead
HEADS: tuple[Head, ...] = ("logistic", "centroid")
# Of the training items, for the forecast: halves of halves.
SHARES = (1 / 16, 1 / 8, 1 / 4, 1 / 2)
# Below so many items a class, on average, a curve has another shape than above.
FEWEST_PER_CLASS = 2.0
# Rows of the training items to learn from, by the number of the try.
Draw = Callable[[Names, int], Rows]


def learning_curve(
    features: Floats,
    rotations: Sequence[Examples],
    *,
    per_class: Sequence[int],
    tries: int,
    heads: Sequence[Head] = HEADS,
    progress: Callable[[int, int], None] = lambda n_done, n_total: None,
) -> list[CurvePoint]:
    """Points by head and rising number of items; the last one of each head has all, and what twice as many would bring.

    Within a try the items of a size are among those of every larger one. Sizes that take everything are
    left out, for that is what the last point shows. Of several rotations every test item is answered by what was
    learned in its own, and the answers are pooled.

    Args:
        features: [n, d], finite, of the n examples.
        rotations: the same examples with other parts each time; one for an ordinary split.
        per_class: sizes, each at least 1.
        tries: draws of each size; the number of a try is the seed of its draw.
        progress: told how many classifiers have been learned, of how many.

    Raises:
        DataError: no training or test items, one training class only, or constant features.
    """
    for examples in rotations:
        _check_parts(examples)
    curve = _Curve(features, rotations, tries, progress)
    sizes = [n for n in sorted(set(per_class)) if n < curve.most]
    shares = [share for share in SHARES if share * curve.n_train >= FEWEST_PER_CLASS * curve.n_classes]
    curve.n_total = len(heads) * len(rotations) * (tries * (len(sizes) + len(shares)) + 1)
    points = []
    for head in heads:
        points += [curve.point(head, size, curve.pooled(head, partial(_some, size), tries)) for size in sizes]
        whole = curve.pooled(head, _all, 1)
        parts = [curve.pooled(head, partial(_part, share), tries) for share in shares]
        points.append(curve.point(head, None, whole, curve.twice([*parts, whole])))
    return points


def _some(size: int, names: Names, seed: int) -> Rows:
    return draw(names, size, seed)


def _part(share: float, names: Names, seed: int) -> Rows:
    return draw_share(names, share, seed)


def _all(names: Names, seed: int) -> Rows:
    return np.arange(len(names))


def _check_parts(examples: Examples) -> None:
    train, test = examples.rows("train"), examples.rows("test")
    for name, rows in (("train", train), ("test", test)):
        if len(rows) == 0:
            raise DataError(
                f"a learning curve needs train and test items; the split's {name} part has none with a label "
                "and features"
            )
    classes = np.unique(examples.labels[train])
    if len(classes) < 2:
        raise DataError(
            f"all {len(train)} training items have the class {str(classes[0])!r}; a learning curve needs at "
            "least two classes"
        )


@dataclass(frozen=True, slots=True)
class _Pooled:
    """What was learned from so many items, on the test items of all rotations.

    Attributes:
        n_train: items, the mean of the rotations.
        hits: [S, t].
        c: the penalty, of several rotations the middle one; None for a head that has none.
    """

    n_train: float
    hits: NDArray[np.bool_]
    c: float | None


@dataclass(slots=True)
class _Curve:
    """Where all points of a curve come from, and how many classifiers have been learned."""

    features: Floats
    rotations: Sequence[Examples]
    tries: int
    progress: Callable[[int, int], None]
    n_done: int = field(default=0, init=False)
    n_total: int = field(default=0, init=False)

    def counts(self) -> list[NDArray[np.int64]]:
        """Training items of each class that has some, of each rotation."""
        return [np.unique(one.labels[one.rows("train")], return_counts=True)[1] for one in self.rotations]

    @property
    def most(self) -> int:
        """Training items of the largest class, in the rotation where that is smallest."""
        return min(int(counts.max()) for counts in self.counts())

    @property
    def n_train(self) -> float:
        """Training items, the mean of the rotations."""
        return float(np.mean([counts.sum() for counts in self.counts()]))

    @property
    def n_classes(self) -> int:
        """Classes of the training parts."""
        return max(len(counts) for counts in self.counts())

    def pooled(self, head: Head, drawn: Draw, tries: int) -> _Pooled:
        """Learn from some of the training items, tries times in each rotation."""
        hits, sizes, cs = [], [], []
        for examples in self.rotations:
            train, test = examples.rows("train"), examples.rows("test")
            draws = [train[drawn(examples.labels[train], seed)] for seed in range(tries)]
            c = None
            answers = []
            for rows in draws:
                c, predicted = _answers(head, self.features, examples, rows, c)
                answers.append(predicted == examples.labels[test])
                self.n_done += 1
                self.progress(self.n_done, self.n_total)
            hits.append(np.stack(answers))
            sizes.append(len(draws[0]))
            cs.append(c)
        return _Pooled(
            float(np.mean(sizes)),
            np.concatenate(hits, axis=1),
            None if None in cs else median(c for c in cs if c is not None),
        )

    def of_test(self, name: str) -> Names:
        """The test items' `labels` or `groups` [t], in the order of pooled hits."""
        of_rotations: list[Names] = [getattr(one, name)[one.rows("test")] for one in self.rotations]
        return np.concatenate(of_rotations)

    def point(self, head: Head, size: int | None, pooled: _Pooled, twice: Twice | None = None) -> CurvePoint:
        """The record of a size."""
        top1, balanced = mean_of_runs(pooled.hits, self.of_test("groups"), self.of_test("labels"))
        n_test = pooled.hits.shape[1]
        return CurvePoint(
            head=head,
            per_class=size,
            n_train=round(pooled.n_train),
            n_classes=self.n_classes,
            n_short_classes=max(int((counts < size).sum()) for counts in self.counts()) if size else 0,
            tries=len(pooled.hits),
            n_test=n_test,
            **grouped(top1, n_test, self.rotations[0].unit),
            top1=top1.value,
            top1_std=top1.std,
            top1_interval=top1.interval,
            balanced_accuracy=balanced.value,
            balanced_interval=balanced.interval,
            c=pooled.c,
            twice=twice,
        )

    def twice(self, sizes: Sequence[_Pooled]) -> Twice:
        """What twice all these pictures would bring."""
        n_pictures = 2 * len(self.rotations[0].labels)
        ns, hits = [one.n_train for one in sizes], [one.hits for one in sizes]
        return forecast(ns, hits, self.of_test("groups"), n_pictures, len(self.rotations))


def _answers(
    head: Head, features: Floats, examples: Examples, rows: Rows, c: float | None
) -> tuple[float | None, Names]:
    """The penalty, if any, and the answers [t] to the test items, of what learned from these rows.

    Args:
        c: the penalty; None lets the head choose.
    """
    names, train, test = examples.labels[rows], taken(features, rows), taken(features, examples.rows("test"))
    if head == "centroid":
        return None, NearestClassMean().fit(train, names).predict(test)
    if len(rows) < len(examples.rows("train")) and not np.ptp(train, axis=0).any():
        # A few copies of one picture under several labels: each label is as good as another.
        return c, np.full(len(test), np.unique(names)[0])
    if c is not None:
        return c, LogisticProbe(cs=(c,)).fit(train, names).predict(test)
    val = examples.rows("val")
    validation = (taken(features, val), examples.labels[val]) if len(val) else (None, None)
    probe = LogisticProbe().fit(train, names, *validation)
    return probe.c_, probe.predict(test)
