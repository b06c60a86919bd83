"""Figures of classifiers that answer each class with yes or no: average precision, F1, and how sure they are.

Definitions (scikit-learn's; the tests hold both against each other):

- Average precision of a class: sum over the ranks of (recall gained) x (precision there), items of equal score at once;
  the area under the steps of the precision-recall curve, without interpolation (`average_precision_score`). It needs no
  threshold. mAP is its mean over the classes that have a positive item (macro), or that of all pairs of an item and a
  class at once (micro).
- F1 = 2 TP / (2 TP + FP + FN) of the answers at thresholds: of all pairs (micro), or the mean over the classes that have a
  positive item (macro).
- Jaccard: of an item, classes in both truth and answer over classes in either, 1 where both are empty; its mean.

Intervals come from leaving groups of items out, in at most `MAX_BLOCKS` blocks (the delete-a-group jackknife; P. S. Kott,
Journal of Official Statistics 17 (2001) 521-526), and have the form of `clustered.Estimate`; their coverage is measured in
`benchmarks/multilabel_intervals.py`.

Shape letters: n items, C classes, B blocks.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from deponij.pipeline.metrics.clustered import FEWEST, Estimate, Unit, clustered_means, unit_of
from deponij.pipeline.metrics.evaluation import Grouped
from deponij.pipeline.metrics.intervals import Interval
from deponij.pipeline.record_lists import Measured, Record

Bools = NDArray[np.bool_]
Floats = NDArray[np.float64]
Names = NDArray[np.str_]
# More would cost time and change the variance of the variance little.
MAX_BLOCKS = 60


class ClassFigures(Measured):
    """One class in one part.

    Attributes:
        name: of the class.
        threshold: the probability from which on it is answered.
        support: items that have it.
        n_groups: groups that these are of.
        predicted, correct: answers, and right ones.
        ap, ap_interval: average precision; None without support.
        f1, f1_interval: at the threshold; None without support.
        f1_half: at a probability of one half.
    """

    name: str
    threshold: float
    support: int
    n_groups: int
    predicted: int
    correct: int
    ap: float | None
    ap_interval: Interval | None
    f1: float | None
    f1_interval: Interval | None
    f1_half: float | None

    @property
    def precision(self) -> float | None:
        """Right answers among answers; None without any."""
        return self.correct / self.predicted if self.predicted else None

    @property
    def recall(self) -> float | None:
        """Right answers among the items that have the class; None without any."""
        return self.correct / self.support if self.support else None


class MultilabelScores(Grouped):
    """All classes in one part; intervals at 95 %.

    Attributes:
        n: items.
        n_classes: classes with a positive item here, whose means macro figures are.
        absent: the others.
        labels_per_item: mean number of classes of an item.
        n_empty: items that have none.
        map_macro, map_micro, f1_macro, f1_micro, jaccard: see the module.
        f1_macro_half, f1_micro_half: at a probability of one half for every class.
        exact: share of items whose answer is their truth, no class more or less.
        chance_map: mAP of a random order, the mean share of positive items (for many items).
        chance_f1: micro F1 of answering every class every time.
        by_class: in the order of the classes.
    """

    n: int
    n_classes: int
    absent: tuple[str, ...]
    labels_per_item: float
    n_empty: int
    map_macro: float
    map_macro_interval: Interval | None
    map_micro: float
    map_micro_interval: Interval | None
    f1_macro: float
    f1_macro_interval: Interval | None
    f1_micro: float
    f1_micro_interval: Interval | None
    f1_macro_half: float
    f1_micro_half: float
    jaccard: float
    jaccard_interval: Interval | None
    exact: float
    chance_map: float
    chance_f1: float
    by_class: tuple[ClassFigures, ...]


class Threshold(Record):
    """From which probability on a class is answered, and F1 on the items by which that was chosen."""

    probability: float
    f1: float | None


def average_precision(truth: Bools, scores: Floats, kept: Bools | None = None) -> Floats:
    """Average precision of one class over all items, then over each choice of them.

    Args:
        truth: [n].
        scores: [n], higher is more likely.
        kept: [B, n] items of each further choice.

    Returns:
        [1 + B]; NaN where no positive item is left.
    """
    order = np.argsort(-scores, kind="stable")
    ends = np.flatnonzero(np.append(np.diff(scores[order]) != 0, True))
    positive = truth[order].astype(np.float64)
    weights = [np.ones(len(order)), *(() if kept is None else kept[:, order].astype(np.float64))]
    return np.array([_area(positive * weight, weight, ends) for weight in weights])


def _area(positive: Floats, weight: Floats, ends: NDArray[np.intp]) -> float:
    hits, seen = np.cumsum(positive)[ends], np.cumsum(weight)[ends]
    if not hits[-1]:
        return float("nan")
    gained = np.diff(hits, prepend=0)
    return float((gained * hits / np.maximum(seen, 1)).sum() / hits[-1])


def f1(correct: Floats, predicted: Floats, support: Floats) -> Floats:
    """F1 of counts of any shape; NaN where there is neither an answer nor a positive item."""
    both = np.asarray(predicted + support, np.float64)
    scores: Floats = np.divide(2.0 * correct, both, out=np.full(both.shape, np.nan), where=both > 0)
    return scores


def choose_thresholds(truth: Bools, probs: Floats) -> tuple[Threshold, ...]:
    """For each class the threshold of the highest F1, half way between two probabilities; of equals that nearest to one
    half. A class without positive items keeps one half.

    Args:
        truth, probs: [n, C], of items by which to choose.
    """
    thresholds = []
    for column in range(truth.shape[1]):
        has_class = truth[:, column]
        if not has_class.any():
            thresholds.append(Threshold(probability=0.5, f1=None))
            continue
        values = np.unique(probs[:, column])
        middles = np.concatenate([values[:1] / 2, (values[:-1] + values[1:]) / 2, [0.5]])
        answered = probs[:, column] >= middles[:, None]
        worth = f1(
            (answered & has_class).sum(axis=1), answered.sum(axis=1), np.full(len(middles), has_class.sum())
        )
        best = min(range(len(middles)), key=lambda i: (-round(float(worth[i]), 9), abs(middles[i] - 0.5), i))
        thresholds.append(Threshold(probability=float(middles[best]), f1=float(worth[best])))
    return tuple(thresholds)


def blocks_of(groups: Names, seed: int = 0) -> NDArray[np.intp]:
    """The block [n] of each item: its group, or where there are more than `MAX_BLOCKS` some of them together."""
    _, group_of = np.unique(groups, return_inverse=True)
    n_groups = int(group_of.max()) + 1
    places = np.random.default_rng(seed).permutation(n_groups) % min(n_groups, MAX_BLOCKS)
    return np.asarray(places[group_of], dtype=np.intp)


def jaccard(truth: Bools, answers: Bools) -> Floats:
    """Of each item [n]: classes in both over classes in either; 1 where there are none."""
    both, either = (truth & answers).sum(axis=1), (truth | answers).sum(axis=1)
    return np.where(either > 0, both / np.maximum(either, 1), 1.0)


def score_multilabel(
    truth: Bools,
    probs: Floats,
    thresholds: Floats,
    groups: Names,
    classes: Sequence[str],
    unit: Unit = "photographs",
) -> MultilabelScores:
    """Figures of n >= 1 items from truths and probabilities [n, C] and a threshold for each class [C].

    Args:
        groups: [n]; items of one group are not independent.
        unit: what groups are.

    Raises:
        ValueError: no items, no class with a positive item, or shapes that differ.
    """
    if truth.shape != probs.shape or not len(truth) or not truth.any():
        raise ValueError(
            f"need truths and probabilities [n, C] with a positive among them, got {truth.shape}"
        )
    folded = _Blocks.of(groups)
    answers, half = probs >= thresholds, probs >= 0.5
    ap = np.column_stack(
        [average_precision(truth[:, c], probs[:, c], folded.kept) for c in range(len(classes))]
    )
    ap_micro = average_precision(truth.ravel(), probs.ravel(), folded.kept.repeat(len(classes), axis=1))
    f1_class, f1_all = _f1s(truth, answers, folded.kept)
    half_class, half_all = _f1s(truth, half, folded.kept[:0])
    there: Bools = np.asarray(truth.any(axis=0))
    alike = clustered_means(jaccard(truth, answers)[:, None], groups, np.zeros(len(truth))).micro[0]
    means: dict[str, Estimate] = {
        "map_macro": folded.estimate(_macro(ap, there)),
        "map_micro": folded.estimate(ap_micro),
        "f1_macro": folded.estimate(_macro(f1_class, there)),
        "f1_micro": folded.estimate(f1_all),
        "jaccard": alike,
    }
    fields: dict[str, Any] = {name: one.value for name, one in means.items()}
    fields |= {f"{name}_interval": one.interval for name, one in means.items()}
    n_groups = folded.n_groups
    return MultilabelScores(
        **fields,
        n=len(truth),
        n_classes=int(there.sum()),
        absent=tuple(name for name, is_there in zip(classes, there, strict=True) if not is_there),
        labels_per_item=float(truth.sum(axis=1).mean()),
        n_empty=int((~truth.any(axis=1)).sum()),
        f1_macro_half=float(_macro(half_class, there)[0]),
        f1_micro_half=float(half_all[0]),
        exact=float((truth == answers).all(axis=1).mean()),
        chance_map=float(truth[:, there].mean()),
        chance_f1=float(_f1s(truth, np.ones_like(truth), folded.kept[:0])[1][0]),
        by_class=tuple(
            _class_figures(
                name,
                float(thresholds[c]),
                truth[:, c],
                answers[:, c],
                (ap[:, c], f1_class[:, c]),
                half_class[0, c],
                groups,
                folded,
            )
            for c, name in enumerate(classes)
        ),
        n_groups=n_groups,
        unit=unit_of(unit, n_groups, len(truth)),
        interval_kind="too few" if n_groups < FEWEST else "clustered",
        design_effect=None,
    )


def _class_figures(
    name: str,
    threshold: float,
    truth: Bools,
    answers: Bools,
    figures: tuple[Floats, Floats],
    f1_half: float,
    groups: Names,
    folded: "_Blocks",
) -> ClassFigures:
    """Of truths and answers [n], AP and F1 [1 + B] of all items and without each block."""
    n_groups = len(np.unique(groups[truth]))
    ap, f1_score = (folded.estimate(one, n_groups) if truth.any() else None for one in figures)
    return ClassFigures(
        name=name,
        threshold=threshold,
        support=int(truth.sum()),
        n_groups=n_groups,
        predicted=int(answers.sum()),
        correct=int((answers & truth).sum()),
        ap=None if ap is None else ap.value,
        ap_interval=None if ap is None else ap.interval,
        f1=None if f1_score is None else f1_score.value,
        f1_interval=None if f1_score is None else f1_score.interval,
        f1_half=float(f1_half) if truth.any() else None,
    )


def _f1s(truth: Bools, answers: Bools, kept: Bools) -> tuple[Floats, Floats]:
    """F1 of each class [1 + B, C] and of all pairs [1 + B], over all items and each choice of them."""
    weights = np.vstack([np.ones((1, len(truth))), kept])
    counts = [weights @ one.astype(np.float64) for one in (truth & answers, answers, truth)]
    return f1(*counts), f1(*(one.sum(axis=1) for one in counts))


def _macro(values: Floats, there: Bools) -> Floats:
    """Means [1 + B] over the classes that have positives; one that lost all of them with a block is left out of that."""
    known = np.isfinite(values[:, there])
    sums = np.where(known, values[:, there], 0.0).sum(axis=1)
    n_known = known.sum(axis=1)
    means: Floats = np.divide(sums, n_known, out=np.full(len(values), np.nan), where=n_known > 0)
    return means


@dataclass(frozen=True, slots=True)
class _Blocks:
    """Groups in blocks, each of which is left out in turn; kept: [B, n] what is left."""

    kept: Bools
    n_groups: int

    @classmethod
    def of(cls, groups: Names) -> "_Blocks":
        block_of = blocks_of(groups)
        kept: Bools = block_of != np.arange(int(block_of.max()) + 1)[:, None]
        return cls(kept, len(np.unique(groups)))

    def estimate(self, values: Floats, n_groups: int | None = None) -> Estimate:
        """Of values [1 + B]: the figure, then the same without each block; n_groups: that have a part in it."""
        n, n_blocks = self.n_groups if n_groups is None else n_groups, len(self.kept)
        changes = values[1:] - values[0]
        changes = changes[np.isfinite(changes)]
        variance = (n_blocks - 1) / n_blocks * float((changes**2).sum())
        return Estimate(min(1.0, max(0.0, float(values[0]))), variance, 0.0, n, min(n, n_blocks))
