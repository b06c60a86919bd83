"""Learning curves: accuracy on the test part against labelled training items of each class.

Arrays in, records out. The logistic regression that is fitted dozens of times: `softmax_regression`.

Shape letters: n items, d feature width, T tries, t test items.
"""

from collections import Counter
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from deponij.pipeline.heads.centroid import NearestClassMean
from deponij.pipeline.heads.choosing import worth
from deponij.pipeline.heads.examples import Examples
from deponij.pipeline.heads.few_shot import draw
from deponij.pipeline.heads.head import Floats, Names
from deponij.pipeline.heads.softmax_regression import DEFAULT_C, fit_path, standardised
from deponij.pipeline.metrics.clustered import mean_of_runs
from deponij.pipeline.metrics.curves import CURVES, CurveHead, CurvePoint, CurveRow
from deponij.pipeline.metrics.evaluation import grouped
from deponij.store.errors import DataError

__all__ = ["CURVES", "HEADS", "CurvePoint", "CurveRow", "Head", "learning_curve"]

Rows = NDArray[np.int64]
Head = CurveHead
HEADS: tuple[Head, ...] = ("logistic", "centroid")


def learning_curve(
    features: Floats,
    examples: Examples,
    *,
    per_class: Sequence[int],
    tries: int,
    heads: Sequence[Head] = HEADS,
) -> list[CurvePoint]:
    """Points by head and rising number of items; the last one of each head has all.

    Within a try the items of a size are among those of every larger one. Sizes that take everything are
    left out, for that is what the last point shows. Features are standardised by the whole training part,
    labelled or not: labels are scarce, pictures are not.

    Args:
        features: [n, d], finite, of the n examples.
        per_class: sizes, each at least 1.
        tries: draws of each size; the number of a try is the seed of its draw.

    Raises:
        DataError: no training or test items, one training class only, or constant features.
    """
    train, test = examples.rows("train"), examples.rows("test")
    _check_parts(examples, train, test)
    counts = Counter(examples.labels[train].tolist())
    most = max(counts.values())
    sizes = [*(n for n in sorted(set(per_class)) if n < most), None]

    spaces = {"logistic": standardised(features, train), "centroid": features}
    points = []
    for head in heads:
        for size in sizes:
            draws = [_draw(examples.labels, train, size, seed) for seed in range(tries if size else 1)]
            c, answers = _answers(head, spaces[head], examples, draws, test)
            points.append(_point(head, size, examples, draws, test, answers, c, counts))
    return points


def _check_parts(examples: Examples, train: Rows, test: Rows) -> None:
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


def _draw(labels: Names, train: Rows, size: int | None, seed: int) -> Rows:
    """At most `size` rows of each class, in row order."""
    return train if size is None else train[draw(labels[train], size, seed)]


def _answers(
    head: Head, features: Floats, examples: Examples, draws: Sequence[Rows], test: Rows
) -> tuple[float | None, list[Names]]:
    """The penalty, if any, and each draw's answers [t] to the test items."""
    labels = examples.labels
    if head == "centroid":
        fitted = [NearestClassMean().fit(features[rows], labels[rows]) for rows in draws]
        return None, [one.predict(features[test]) for one in fitted]
    c = _choose_c(features, labels, draws[0], examples.rows("val"))
    return c, [next(fit_path(features[rows], labels[rows], [c])).answers(features[test]) for rows in draws]


def _choose_c(features: Floats, labels: Names, rows: Rows, val: Rows) -> float:
    """The penalty with most right answers on validation; ties go to the stronger one."""
    if len(val) == 0:
        return DEFAULT_C
    path = fit_path(features[rows], labels[rows])
    return min((-worth(one.logits(features[val]), one.classes, labels[val])[0], one.c) for one in path)[1]


def _point(
    head: Head,
    size: int | None,
    examples: Examples,
    draws: Sequence[Rows],
    test: Rows,
    answers: Sequence[Names],
    c: float | None,
    counts: Counter[str],
) -> CurvePoint:
    truth = examples.labels[test]
    top1, balanced = mean_of_runs([one == truth for one in answers], examples.groups[test], truth)
    return CurvePoint(
        head=head,
        per_class=size,
        n_train=len(draws[0]),
        n_classes=len(counts),
        n_short_classes=sum(count < size for count in counts.values()) if size else 0,
        tries=len(draws),
        n_test=len(test),
        **grouped(top1, len(test), examples.unit),
        top1=top1.value,
        top1_std=top1.std,
        top1_interval=top1.interval,
        balanced_accuracy=balanced.value,
        balanced_interval=balanced.interval,
        c=c,
    )
